"""Hold the quotas of one app together: what a call uses counts in each of them, or in none.

A book is plain data and decisions: the gate tells it the time, stores what :meth:`Book.kept` returns and gives it back
when it starts again. Nothing of one app's book is in another's.
"""

from datetime import tzinfo
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Tuple

from outgate.core.quota.account import Account, Kept, Standing
from outgate.core.quota.pool import Pool
from outgate.core.quota.quotas import CUT, WARN, Quota
from outgate.core.quota.shared import SharedAccount

__all__ = ["Book", "Plan", "Purse", "charge"]

#: What something costs: (account, how much) pairs.
Plan = Tuple[Tuple[Account, int], ...]

_NONE: Tuple[Account, ...] = ()


def charge(plan: Plan, now: float) -> Optional[Account]:
    """Use all of a plan, each part whole, or nothing of it; return ``None``, or the account that refuses.

    :param now: seconds since 1970.
    """
    for number, (account, count) in enumerate(plan):
        if account.start <= now < account.end and count <= account.limit - account.used and now >= account.last:
            account.used += count  # as Account.reserve does, without a call
            account.last = now
            continue
        given = account.reserve(count, now)
        if given < count:
            account.give_back(given, account.start)
            for other, back in plan[:number]:
                other.give_back(back, other.start)
            account.refuse()
            if account.is_short:  # who waits for the answer is to need no other one
                for other, wanted in plan[number + 1 :]:
                    other.lack(wanted, now)
            return account
    return None


class Book:
    """The quotas of one app.

    :ivar app: its name.
    """

    __slots__ = ("_by_resource", "_kept", "_pool", "_shelf", "_zone", "app")

    def __init__(
        self,
        app: str,
        quotas: Iterable[Quota],
        zone: tzinfo,
        kept: Iterable[Kept] = (),
        pool: Optional[Pool[SharedAccount]] = None,
    ) -> None:
        """Open a book.

        :param zone: whose days count.
        :param kept: what was stored of an earlier one.
        :param pool: what it shares with the books of other gates; ``None``: nothing.
        """
        self._pool = pool
        self.app = app
        self._kept: Dict[Tuple[str, str], List[Kept]] = {}
        for each in kept:
            self._kept.setdefault((each.resource, each.per), []).append(each)
        self._zone = zone
        #: Every account there ever was: a quota that is taken away and put back goes on where it was.
        self._shelf: Dict[Tuple[str, str], Account] = {}
        self._by_resource: Mapping[str, Tuple[Account, ...]] = {}
        self.adopt(quotas, zone)

    def adopt(self, quotas: Iterable[Quota], zone: tzinfo) -> None:
        """Go on with other limits or another zone, from the next use on. What was used stays used."""
        found: Dict[str, List[Account]] = {}
        for quota in quotas:
            key = quota.resource, quota.per
            account = self._shelf.get(key)
            if account is None:
                account = self._shelf[key] = self._open(quota, zone, self._kept.pop(key, ()))
            else:
                account.adopt(quota, zone)
            found.setdefault(quota.resource, []).append(account)
        self._by_resource = {resource: tuple(accounts) for resource, accounts in found.items()}

    def _open(self, quota: Quota, zone: tzinfo, kept: Iterable[Kept]) -> Account:
        return Account(quota, zone, kept) if self._pool is None else SharedAccount(quota, zone, kept, self._pool)

    def __iter__(self) -> Iterator[Account]:
        for accounts in self._by_resource.values():
            yield from accounts

    def of(self, resource: str) -> Tuple[Account, ...]:
        """Return the accounts of a resource: none, or one for each kind of window."""
        return self._by_resource.get(resource, _NONE)

    def reserve(self, resource: str, count: int, now: float) -> Tuple[int, Optional[Account]]:
        """Use up to ``count`` of a resource, and return how much was granted, and who granted the least if not all.

        :param now: seconds since 1970.
        """
        granted, least = count, None
        taken: List[Tuple[Account, int]] = []
        for account in self._by_resource.get(resource, _NONE):
            given = account.reserve(granted, now)
            taken.append((account, given))
            if given < granted:
                granted, least = given, account
        if least is not None:
            for account, given in taken:
                account.give_back(given - granted, account.start)
        return granted, least

    def plan(self, uses: Iterable[Tuple[str, int]]) -> Plan:
        """Return which accounts these uses concern; good until the book adopts other quotas.

        :param uses: (resource, how many).
        """
        return tuple((account, count) for resource, count in uses for account in self._by_resource.get(resource, _NONE))

    def charge(self, uses: Iterable[Tuple[str, int]], now: float) -> Optional[Account]:
        """Use all of these, each whole, or none of them; return ``None``, or the account that refuses."""
        return charge(self.plan(uses), now)

    def count(self, resource: str, count: int, now: float) -> None:
        """Count what has been used already, whatever the limits."""
        for account in self._by_resource.get(resource, _NONE):
            account.count(count, now)

    def lacking(self, uses: Iterable[Tuple[str, int]], now: float) -> Optional[Account]:
        """Return the account that would refuse these uses just now, or ``None``: to tell of it, not to go by it."""
        for resource, count in uses:
            for account in self._by_resource.get(resource, _NONE):
                if account.quota.over != WARN and account.left(now) < count:
                    return account
        return None

    def spent(self, resources: Iterable[str], now: float) -> Optional[Account]:
        """Return an account of these resources that cuts and has nothing left, or ``None``."""
        for resource in resources:
            for account in self._by_resource.get(resource, _NONE):
                if account.quota.over == CUT and account.is_spent(now):
                    return account
        return None

    def standings(self, now: float) -> List[Standing]:
        """Return how every quota stands, in the order they were given."""
        return [account.standing(now) for account in self]

    def kept(self, exact: bool = False) -> List[Kept]:
        """Return what has changed and is to be stored; see :meth:`Account.keep`."""
        found = (account.keep(exact) for account in self._shelf.values())
        return [each for each in found if each is not None]


class Purse:
    """What an app has reserved of a resource and not used yet: granted in batches, spent in small pieces.

    A carrier of bytes asks for each piece; a purse answers most of the time without a look at the accounts. All
    carriers of an app share it, so that no more than one batch lies idle.

    :ivar refused: the account that granted nothing, the last time that there was nothing.
    """

    __slots__ = ("_batch", "_book", "_resource", "_until", "_windows", "left", "refused")

    def __init__(self, book: Book, resource: str, batch: int) -> None:
        self._book = book
        self._resource = resource
        self._batch = batch
        self._until = 0.0
        self._windows: Tuple[Tuple[Account, int], ...] = ()
        self.left = 0
        self.refused: Optional[Account] = None

    def room(self, now: float) -> int:
        """Return how much may be spent: what is left of the batch, or a new one. 0: :attr:`refused` says who."""
        if self.left > 0 and now < self._until:
            return self.left
        self.empty()
        granted, self.refused = self._book.reserve(self._resource, self._batch, now)
        accounts = self._book.of(self._resource)
        self._windows = tuple((account, account.start) for account in accounts)
        self._until = min((account.end for account in accounts), default=float("inf"))
        self.left = granted
        return granted

    def spend(self, count: int) -> None:
        """Spend some of what there was room for."""
        self.left -= count

    def empty(self) -> None:
        """Give back what is left."""
        left, self.left = self.left, 0
        if left > 0:
            for account, start in self._windows:
                account.give_back(left, start)
