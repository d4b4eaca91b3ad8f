"""Count bytes for the ledger on the gate's loop, and hand them to its writer every few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from outgate.core.bill.steady import Steady
from outgate.core.bill.tally import Account, Counts, Tally
from outgate.core.bill.windows import WINDOW, start_of
from outgate.gate.ledger.batch import NOTHING, Begun, Key, OnWire, Totals
from outgate.gate.ledger.trailing import Trailing
from outgate.gate.ledger.writer import Writer

__all__ = ["FLUSH", "Ledger", "Metered", "Share"]

#: Seconds between batches: what a gate that is killed may lose of sockets that nobody sees again.
FLUSH: Final = 5.0
#: Batches between looks at what open connections have put on the wire, and connections of one look in one turn.
_LOOK: Final = 12
_SLICE: Final = 500
#: Seconds a gate that ends waits for its database.
CLOSE_LIMIT: Final = 5.0


#: Of what one connection has moved, what is booked to one account.
Share = tuple[Account, Counts]


class Metered(Protocol):
    """A socket whose bytes the meters have noted, since its connection was begun."""

    id: int
    noted_sent: int
    noted_received: int


_Source = TypeVar("_Source", bound=Metered)


class _Item:
    """A connection that is counted.

    :ivar wire: reads what it has put on the wire; ``sent`` and ``received`` is how much of that is counted, and
        ``exact`` how much of both is no estimate.
    :ivar due_sent: what it has moved in a ``window`` and is not in the tally yet; likewise ``due_received``.
    :ivar is_stored: whether the store knows how far it is counted.
    """

    __slots__ = (
        *("account", "due_received", "due_sent", "exact", "is_stored", "key", "received", "sent", "source"),
        *("window", "wire"),
    )

    def __init__(self, key: Key, source: Metered, account: Account, wire: Callable[[], OnWire]) -> None:
        self.key, self.source, self.account, self.wire = key, source, account, wire
        self.sent = self.received = self.exact = self.due_sent = self.due_received = self.window = 0
        self.is_stored = False


class Ledger:
    """The ledger of one gate. Every method is called on its loop.

    :param grace: seconds for which sockets are opened while the database does not take anything.
    :param is_strict: whether none are opened after that.
    :param clock: of the wall, in seconds since the epoch.
    :ivar carried_sent: how much more is counted in this run than it was told of, or less: what a gate before this one
        had noted and not counted, or counted and not noted; likewise ``carried_received``.
    """

    def __init__(
        self,
        writer: Writer,
        grace: float = 3600.0,
        is_strict: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._grace, self._is_strict = grace, is_strict
        self._clock, self._monotonic = clock, monotonic
        self.carried_sent = self.carried_received = 0
        self._tally = Tally()
        self._steady = Steady()
        self._items: dict[int, _Item] = {}
        #: What has moved something since the last batch; and how far those are counted that are in the tally with it.
        self._changed: dict[int, _Item] = {}
        self._open: dict[Key, Totals] = {}
        #: The window that it is now.
        self._window = self._until = 0
        self._ended: set[Key] = set()
        self._forget: set[Key] = set()
        #: What the gate before had open and had ended, ``None`` where that is not known.
        self._found: dict[Key, Totals] | None = None
        self._closed: frozenset[Key] = frozenset()
        #: What connections had moved when they were entered, while it is not known how far that is counted, and whose.
        self._past: dict[Key, tuple[Account, int, int]] = {}
        self._sealed = 0
        self._trailing = Trailing(self._add_wire)
        self._rounds = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None

    # --- beginning and end --------------------------------------------------------------------------------------------

    def begin(self, limit: float) -> Begun | None:
        """Wait for the database, and return what was found there; ``None`` where it does not answer yet.

        :param limit: seconds.
        :raises ConfigError: this ledger cannot be used.
        """
        begun = self._writer.wait(limit)
        if begun is not None:
            self._learn(begun)
        return begun

    def _learn(self, begun: Begun) -> None:
        """Take note of how far gates before this one have counted, and count what is missing of what was entered."""
        self._found, self._closed = dict(begun.open), begun.ended
        self._sealed = max(self._sealed, begun.sealed)
        for key, (account, sent, received) in self._past.items():
            if key in self._closed:
                continue
            counted = self._found.pop(key, NOTHING)
            sent, received = max(0, sent - counted.sent), max(0, received - counted.received)
            self.carried_sent += sent
            self.carried_received += received
            self._tally.add(self._clock(), account, sent, received)
            item = self._items.get(key.id)
            if item is not None and item.key == key:
                self._changed[key.id] = item  # so that the store knows it, and forgets it at its end
            else:
                self._forget.add(key)
        self._past.clear()

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand over what was counted every few seconds from now on."""
        self._loop = loop
        self._timer = loop.call_later(FLUSH, self._on_timer)
        self._trailing.run(loop)

    def go_on(self, writer: Writer, loop: asyncio.AbstractEventLoop) -> None:
        """Go on after :meth:`close`, in a new run."""
        self._writer = writer
        self.carried_sent = self.carried_received = 0
        self.run(loop)

    def _on_timer(self) -> None:
        self._rounds += 1
        if self._rounds % _LOOK == 0:
            self._look(iter(tuple(self._items.values())))
        self._gather(iter(tuple(self._changed.values())))

    def _gather(self, items: Iterator[_Item]) -> None:
        """Add up what has changed, a slice in each turn of the loop, and hand it over."""
        assert self._loop is not None
        count = 0
        for item in islice(items, _SLICE):
            count += 1
            if self._changed.get(item.key.id) is item:
                del self._changed[item.key.id]
                self._add_up(item)
        if count == _SLICE:
            self._timer = self._loop.call_soon(self._gather, items)
        else:
            self.flush()
            self._timer = self._loop.call_later(FLUSH, self._on_timer)

    def _add_up(self, item: _Item) -> None:
        """Take what a connection has moved into the tally, and note how far it is counted with that."""
        self._settle(item)
        source = item.source
        self._open[item.key] = Totals(source.noted_sent, source.noted_received, item.sent, item.received, item.exact)
        item.is_stored = True

    def _settle(self, item: _Item) -> None:
        if item.due_sent or item.due_received:
            self._tally.add(item.window, item.account, item.due_sent, item.due_received)
            item.due_sent = item.due_received = 0

    def _look(self, items: Iterator[_Item]) -> None:
        count = 0
        for item in islice(items, _SLICE):
            count += 1
            self._count_wire(item)
        if count == _SLICE and self._loop is not None:
            self._loop.call_soon(self._look, items)

    def close(self, how: str = "stopped", limit: float = CLOSE_LIMIT) -> bool:
        """Hand over what is left and end the run; return whether the database has taken it all.

        What it has not taken is in the spool, for the next gate.

        :param how: ``stopped``; ``handed-over`` to a gate that has every socket now; ``finished`` where no gate of this
            name will come again, so that everything is sealed.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._trailing.stop()
        self.flush(is_last=how == "finished")
        return self._writer.close(how, limit)

    # --- counting -----------------------------------------------------------------------------------------------------

    def add(self, grown: Iterable[tuple[_Source, int, int]]) -> list[tuple[_Source, int, int]]:
        """Count what connections have moved since they were counted last, sent and received.

        This is called for all that is busy, each second, so that most is left to the next batch.

        :returns: those that were not entered, or with another source.
        """
        now = self._clock()
        if not self._window <= now < self._until:
            self._window = start_of(now)
            self._until = self._window + WINDOW
        items, changed, window = self._items, self._changed, self._window
        unknown: list[tuple[_Source, int, int]] = []
        for growth in grown:
            source, sent, received = growth
            id = source.id
            item = items.get(id)
            if item is None or item.source is not source:
                unknown.append(growth)
                continue
            if item.window != window:
                self._settle(item)
                item.window = window
            item.due_sent += sent
            item.due_received += received
            changed[id] = item
        return unknown

    def add_shares(self, id: int, sent: int, received: int, shares: Iterable[Share]) -> None:
        """Count what a connection has moved that several accounts have a share in, and which was entered.

        :param sent: since it was counted last; likewise ``received``. What no share says is its own account's.
        """
        item = self._items[id]
        now = self._clock()
        for account, (out, back, wire_out, wire_back, _exact) in shares:
            # No more than there is: another gate may have booked some of it.
            out, back = min(out, sent), min(back, received)
            sent, received = sent - out, received - back
            self._tally.add(now, account, out, back, wire_out, wire_back)
            item.sent, item.received = item.sent + wire_out, item.received + wire_back
        if sent or received:
            self._tally.add(now, item.account, sent, received)
        self._changed[id] = item

    def enter(
        self,
        key: Key,
        source: Metered,
        account: Account,
        wire: Callable[[], OnWire],
        sent: int = 0,
        received: int = 0,
        shares: Iterable[Share] = (),
    ) -> None:
        """Take a connection in, and count what it has moved that is not counted yet.

        A gate before this one may have counted some of it: what the store says of that is believed, and not how far
        the gate's own notes go.

        :param account: who is charged.
        :param wire: reads what it has put on the wire; may raise ``OSError``.
        :param sent: how much of what the source has noted is new, and so not counted by any gate before.
        :param received: the same, the other way.
        :param shares: of other accounts in it.
        """
        before = self._items.get(key.id)
        if before is not None:
            self._settle(before)
        item = self._items[key.id] = _Item(key, source, account, wire)
        if before is not None and before.key == key:  # the same connection, come back
            item.sent, item.received, item.exact = before.sent, before.received, before.exact
            item.is_stored = before.is_stored
        elif self._found is not None and key not in self._closed:
            counted = self._found.pop(key, None)
            if counted is not None:
                item.is_stored = True
                _, _, item.sent, item.received, item.exact = counted
            due_sent = max(0, source.noted_sent - (counted.sent if counted else 0))
            due_received = max(0, source.noted_received - (counted.received if counted else 0))
            self.carried_sent += due_sent - sent
            self.carried_received += due_received - received
            sent, received = due_sent, due_received
        elif self._found is None and (source.noted_sent > sent or source.noted_received > received):
            self._past[key] = account, source.noted_sent - sent, source.noted_received - received
        if sent or received:
            self.add_shares(key.id, sent, received, shares)

    def knows(self, id: int) -> bool:
        """Tell whether a connection was entered, and has not ended."""
        return id in self._items

    def end(self, id: int) -> None:
        """Count no more of a connection: it has ended. What it has put on the wire is read now, and once more later."""
        item = self._items.pop(id)
        self._settle(item)
        if self._count_wire(item):
            self._trailing.put(item)
        self._changed.pop(id, None)
        self._open.pop(item.key, None)
        self._ended.add(item.key)
        if item.is_stored:
            self._forget.add(item.key)

    def _count_wire(self, item: _Item) -> bool:
        """Count what a connection has put on the wire since it was looked at last; return whether more may come."""
        try:
            wire = item.wire()
        except OSError:  # closed already
            wire = OnWire(0, 0)
        sent, received = wire.sent, wire.received
        if not wire.is_exact:  # what it carried has been on the wire at least
            sent, received = max(sent, item.source.noted_sent), max(received, item.source.noted_received)
        if self._add_wire(item, wire._replace(sent=sent, received=received)):
            self._changed[item.key.id] = item
        return wire.grows

    def _add_wire(self, item: _Item, wire: OnWire) -> bool:
        more = max(0, wire.sent - item.sent), max(0, wire.received - item.received)
        if more == (0, 0):
            return False
        exact = sum(more) if wire.is_exact else 0
        item.sent, item.received, item.exact = item.sent + more[0], item.received + more[1], item.exact + exact
        self._tally.add(self._clock(), item.account, 0, 0, *more, exact)
        return True

    def flush(self, *, is_last: bool = False) -> None:
        """Hand over what has been counted so far, and have the windows sealed that are over, or all of them."""
        if self._found is None and self._writer.begun is not None:
            self._learn(self._writer.begun)
        now = self._clock()
        seal = min(self._steady.see(now, self._monotonic()), start_of(now))
        for item in self._changed.values():
            self._add_up(item)
        self._changed.clear()
        if is_last:
            seal = max(self._tally.last, self._sealed, start_of(now)) + WINDOW
        if not self._tally.size and not self._open and not self._ended and seal <= self._sealed:
            return
        open, ended, forget = self._open, self._ended, self._forget
        self._open, self._ended, self._forget = {}, set(), set()
        self._sealed = max(self._sealed, seal)
        self._writer.put(now, self._sealed, self._tally.take(), open, ended, forget)
        self._tally.waiting = self._writer.waiting

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Forget what gates before this one had open, but for these: the others have ended.

        What has ended since is forgotten with the batch that says so. Until then another start may have to ask again.
        """
        kept = frozenset(keys) | self._ended
        if self._found is not None:
            self._found = {key: totals for key, totals in self._found.items() if key in kept}
        self._writer.keep_only(kept)

    # --- what others ask ----------------------------------------------------------------------------------------------

    @property
    def refuses(self) -> bool:
        """Whether no socket may be opened, because the database has been away for longer than the grace."""
        failing = self._writer.failing
        return self._is_strict and failing is not None and self._monotonic() - failing > self._grace

    @property
    def why(self) -> str:
        """What the database said when it last took nothing; "" while all is well."""
        return self._writer.why

    def statistics(self) -> dict[str, Any]:
        """Return what ``outgate status`` shows of it."""
        writer = self._writer
        return {
            "run": writer.run,
            "sealed": writer.sealed,
            "waiting": writer.waiting + self._tally.size,
            "failing": None if writer.failing is None else round(self._monotonic() - writer.failing, 1),
            "why": writer.why,
        }
