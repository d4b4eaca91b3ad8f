"""Stand between one app and its book: charge its requests, and say to each of its carriers how much may go."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from outgate.core.quota.account import Account
from outgate.core.quota.book import Book, Plan, Purse, charge
from outgate.core.quota.quotas import BYTES, CUT, WARN
from outgate.core.quota.shared import SharedAccount
from outgate.gate.quota.costs import FIRST_USES, LOOK_UP, USES
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.registry import Lease

#: Bytes that the relayed sockets of an app reserve at a time; of a quota that other gates share no more than a part of
#: the limit, for it is theirs as well, but so much at least.
BATCH: Final = 256 * 1024
_LEAST_BATCH: Final = 16 * 1024
_PARTS: Final = 64
_OF_DATAGRAMS: Final = ("send", "receive", *BYTES)


class Short(dict[str, Any]):
    """A refusal that an answer of the fleet's pool may turn: who is refused waits for it, and is decided on again."""


class AppQuotas:
    """The quotas of one app at work.

    :ivar book: what decides.
    :ivar has_bytes: whether there is a quota of bytes, and so anything to carry by.
    :ivar has_datagrams: whether there is one that concerns datagrams.
    :ivar has_binds: whether there is one of binds.
    :ivar uses: what is done with a socket → what it costs; ``first_uses``: where it is its first use.
    :ivar look_up: what a look-up costs.
    :ivar waits_out: relayed leases that wait for room to send, by id; ``waits_in``: those that wait to receive.
    :ivar busy: direct leases that have sent since they were looked at, ``busy_before``: since the time before that.
    :ivar looked_at: when that was (the loop's seconds).
    :ivar closed: direct leases whose windows are held shut → what they were bounded by before.
    :ivar paces: direct leases → bytes a second that they may send; ``None``: any.
    :ivar is_short: whether the pool may have what the last datagram did not get.
    :ivar later: has something done after the pool's next answer.
    """

    __slots__ = (
        *("_clock", "_cutting", "_datagrams", "back", "book", "busy", "busy_before"),
        *("closed", "first_uses", "has_binds", "has_bytes", "has_datagrams", "is_short", "later", "look_up"),
        *("looked_at", "out", "paces", "uses", "waits_in", "waits_out"),
    )

    def __init__(
        self, book: Book, clock: Callable[[], float], later: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self._clock = clock
        self.book = book
        self.later = later
        self.is_short = False
        self.out = self._purse("bytes_sent")
        self.back = self._purse("bytes_received")
        self.waits_out: dict[int, Lease] = {}
        self.waits_in: dict[int, Lease] = {}
        self.busy: set[Lease] = set()
        self.busy_before: set[Lease] = set()
        self.looked_at = 0.0
        self.closed: dict[Lease, int] = {}
        self.paces: dict[Lease, int | None] = {}
        self.has_binds = self.has_bytes = self.has_datagrams = False
        self.uses: dict[tuple[str, ...], Plan] = {}
        self.first_uses: dict[tuple[str, ...], Plan] = {}
        self.look_up: Plan = ()
        self._cutting: tuple[Account, ...] = ()
        #: What a datagram costs each way: itself, and the accounts of its bytes.
        self._datagrams: dict[str, tuple[Plan, tuple[Account, ...]]] = {}
        self.look_again()

    def look_again(self) -> None:
        """Note what kinds of quotas there are, after the book has changed."""
        self.empty()
        self.out, self.back = self._purse("bytes_sent"), self._purse("bytes_received")
        self.has_binds = bool(self.book.of("bind"))
        self.first_uses = {done: self.book.plan(uses) for done, uses in FIRST_USES.items()}
        self.uses = {done: self.book.plan(uses) for done, uses in USES.items()}
        self.look_up = self.book.plan(LOOK_UP)
        self._datagrams = {
            way: (self.book.plan(((way, 1),)), self.book.of(volume))
            for way, volume in (("send", "bytes_sent"), ("receive", "bytes_received"))
        }
        self._cutting = tuple(each for name in BYTES for each in self.book.of(name) if each.quota.over == CUT)
        self.has_bytes = any(self.book.of(resource) for resource in BYTES)
        self.has_datagrams = any(self.book.of(resource) for resource in _OF_DATAGRAMS)

    def _purse(self, resource: str) -> Purse:
        accounts = [each for each in self.book.of(resource) if isinstance(each, SharedAccount)]
        most = [max(_LEAST_BATCH, each.quota.limit // _PARTS) for each in accounts if each.quota.over != WARN]
        return Purse(self.book, resource, min([BATCH, *most]))

    def spent(self, now: float) -> Account | None:
        """Return the account of bytes that cuts and is used up, or ``None``; what is reserved is not used."""
        for account in self._cutting:
            if account.used >= account.limit and account.is_spent(now):
                break
        else:
            return None
        self.empty()
        return self.book.spent(BYTES, now)

    def grants(self, way: str, size: int) -> bool:
        """Use the quotas for a datagram, or tell that one of them has not enough.

        :param way: ``send`` or ``receive``.
        """
        now = self._clock()
        calls, volumes = self._datagrams[way]
        plan = (*calls, *[(account, size) for account in volumes])
        if self.out.left or self.back.left:  # relayed sockets have reserved some of it
            for account, count in plan:
                if account.at_hand(now) < count:
                    self.empty()
        refused = charge(plan, now)
        self.is_short = refused is not None and refused.is_short
        return refused is None

    def refusal(self, account: Account, now: float) -> Reply:
        """Return the reply that says which quota, what was used of it, and when it begins anew."""
        code = "look-ups-exceeded" if account.quota.resource == "look_ups" else "quota-exceeded"
        reply = refusal(code, **account.facts(self.book.app, now))
        return Short(reply) if account.is_short else reply

    def empty(self) -> None:
        """Give back what relayed sockets have reserved and not used."""
        self.out.empty()
        self.back.empty()

    def may_go(self) -> dict[int, Lease]:
        """Return the relayed leases that waited for what there is room for now; they wait no more."""
        now = self._clock()
        found: dict[int, Lease] = {}
        if self.waits_out and self.out.room(now):
            found |= self.waits_out
            self.waits_out = {}
        if self.waits_in and self.back.room(now):
            found |= self.waits_in
            self.waits_in = {}
        return found


class RelayLimit:
    """What the quotas of an app say to one relayed socket: a :class:`outgate.gate.relay.carry.Limit`."""

    __slots__ = ("_app", "_clock", "_cut", "_lease")

    def __init__(self, app: AppQuotas, lease: Lease, clock: Callable[[], float], cut: Callable[[Lease], Any]) -> None:
        """Make one.

        :param cut: called where a quota that cuts is used up; it must not cut there and then.
        """
        self._app = app
        self._lease = lease
        self._clock = clock
        self._cut = cut

    def room(self, out: bool) -> int:
        """Return how many bytes may go now; where none may, it is cut, or waits until the next window."""
        app = self._app
        purse = app.out if out else app.back
        room = purse.room(self._clock())
        if not room:
            refused = purse.refused
            if refused is not None and refused.quota.over == CUT and refused.is_spent(self._clock()):
                self._cut(self._lease)
            else:
                (app.waits_out if out else app.waits_in)[self._lease.id] = self._lease
        return room

    def moved(self, out: bool, count: int) -> None:
        """Take note of bytes that have gone."""
        app = self._app
        (app.out if out else app.back).spend(count)


class DatagramLimit:
    """What the quotas of an app say to one UDP socket: a datagram goes as a whole, or not at all."""

    __slots__ = ("_app", "_clock", "_is_told", "_refused")

    def __init__(self, app: AppQuotas, clock: Callable[[], float]) -> None:
        self._app = app
        self._clock = clock
        #: Bytes of the datagram that was refused last; -1 where the last one went.
        self._refused = -1
        self._is_told = False

    def may_send(self, size: int) -> bool:
        """Use the quotas for a datagram of the program's, or return ``False``."""
        is_granted = self._app.grants("send", size)
        self._refused = -1 if is_granted else size
        return is_granted

    def may_receive(self, size: int) -> bool:
        """Use the quotas for a datagram from outside, or return ``False``."""
        return self._app.grants("receive", size)

    @property
    def is_short(self) -> bool:
        """Whether the fleet's pool may have what the last one did not get."""
        return self._app.is_short

    def later(self, function: Callable[[], None]) -> None:
        """Have something done after the pool's next answer."""
        assert self._app.later is not None
        self._app.later(function)

    def tells(self) -> bool:
        """Whether the program is to hear that one was refused: once, until it asks why."""
        is_told, self._is_told = self._is_told, True
        return not is_told

    def refusal(self) -> Reply | None:
        """Return why the last datagram did not go, or ``None`` where it went, or would go now."""
        self._is_told = False
        if self._refused < 0:
            return None
        now = self._clock()
        account = self._app.book.lacking((("send", 1), ("bytes_sent", self._refused)), now)
        return None if account is None else self._app.refusal(account, now)
