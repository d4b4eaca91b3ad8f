"""Add bytes up in memory, window by window, in a bounded number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Dict, Final, List, NamedTuple, Set, Tuple

from outgate.core.address.destination import in_words
from outgate.core.bill.labels import OTHER_LABELS
from outgate.core.bill.windows import WINDOW, start_of

__all__ = [
    "MOST_DESTINATIONS",
    "MOST_LABELS",
    "MOST_OF_APP",
    "MOST_ROWS",
    "OTHER",
    "Account",
    "Counts",
    "Destination",
    "Rows",
    "Tally",
    "add_up",
    "merge",
]

#: Of one app in one window; what comes above is booked under :data:`OTHER` and
#: :data:`~outgate.core.bill.labels.OTHER_LABELS`, so that no byte goes uncounted and no scan fills the memory.
MOST_DESTINATIONS: Final = 1000
MOST_LABELS: Final = 250
#: Rows of one app in one window, above which both are booked so.
MOST_OF_APP: Final = 4000
#: Rows that wait for the store in all, above which every new row is booked so. At some 500 bytes each.
MOST_ROWS: Final = 200_000


class Destination(NamedTuple):
    """Where bytes went.

    :ivar transport: ``tcp`` or ``udp``.
    :ivar host: canonical name that it was judged as; "" where no name was known.
    :ivar address: that was dialled.
    """

    transport: str
    host: str
    port: int
    address: str

    def __str__(self) -> str:
        return in_words(self.transport, self.host or self.address, self.port) if self.transport else f"({self.host})"


#: Where the bytes of destinations went that were too many to be kept apart.
OTHER: Final = Destination("", "other", 0, "")

#: Who is charged for what: app, labels, destination.
Account = Tuple[str, str, Destination]
#: Window → account → [sent, received, wire sent, wire received, exact], as of :class:`Counts`.
Rows = Dict[int, Dict[Account, List[int]]]


class Counts(NamedTuple):
    """Bytes: of the application, and on the wire.

    :ivar wire_exact: how many of those on the wire, both ways together, were counted packet by packet; the others are
        estimated.
    """

    sent: int
    received: int
    wire_sent: int
    wire_received: int
    wire_exact: int = 0


class _Known:
    """What an app has been booked under in the window: destinations, sets of labels, and how many pairs of them."""

    __slots__ = ("destinations", "labels", "pairs")

    def __init__(self) -> None:
        self.destinations: Set[Destination] = set()
        self.labels: Set[str] = set()
        self.pairs: Set[Tuple[str, Destination]] = set()


class Tally:
    """What has been counted and not yet taken to the store.

    :ivar waiting: how many rows that were taken still wait for the store.
    """

    __slots__ = ("_known", "_of_window", "_rows", "_size", "_until", "_window", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._rows: Rows = {}
        #: Of the window in which something was last added.
        self._window = self._until = 0
        self._of_window: Dict[Account, List[int]] = {}
        self._known: Dict[str, _Known] = {}
        self._size = 0

    def add(
        self,
        now: float,
        account: Account,
        sent: int,
        received: int,
        wire_sent: int = 0,
        wire_received: int = 0,
        wire_exact: int = 0,
    ) -> None:
        """Count bytes in the window of a moment, as of :class:`Counts`.

        :param now: seconds since the epoch.
        """
        if not self._window <= now < self._until:
            self._turn(start_of(now))
        row = self._of_window.get(account)
        if row is None:
            row = self._open(account)
        row[0] += sent
        row[1] += received
        row[2] += wire_sent
        row[3] += wire_received
        row[4] += wire_exact

    def _turn(self, window: int) -> None:
        self._window, self._until = window, window + WINDOW
        self._of_window = self._rows.setdefault(window, {})
        self._known = {}
        for account in self._of_window:
            self._know(account)

    def _know(self, account: Account) -> None:
        app, labels, destination = account
        known = self._known.setdefault(app, _Known())
        known.destinations.add(destination)
        known.labels.add(labels)
        known.pairs.add((labels, destination))

    def _open(self, account: Account) -> List[int]:
        account = self._within_limits(account)
        row = self._of_window.get(account)
        if row is None:
            self._know(account)
            row = self._of_window[account] = [0, 0, 0, 0, 0]
            self._size += 1
        return row

    def _within_limits(self, account: Account) -> Account:
        app, labels, destination = account
        known = self._known.get(app)
        if known is None:
            known = self._known[app] = _Known()
        if (labels, destination) in known.pairs:
            return account
        if self._size + self.waiting >= MOST_ROWS or len(known.pairs) >= MOST_OF_APP:
            return app, OTHER_LABELS if labels else "", OTHER
        if destination not in known.destinations and len(known.destinations) >= MOST_DESTINATIONS:
            destination = OTHER
        if labels and labels not in known.labels and len(known.labels) >= MOST_LABELS:
            labels = OTHER_LABELS
        return app, labels, destination

    @property
    def last(self) -> int:
        """The window in which something was last added."""
        return self._window

    @property
    def size(self) -> int:
        """How many rows there are."""
        return self._size

    def take(self) -> Rows:
        """Return the rows and begin anew; what is known of the apps in this window stays known, for its limits."""
        rows = {window: of for window, of in self._rows.items() if of}
        self._of_window = {}
        self._rows = {self._window: self._of_window}
        self._size = 0
        return rows


def merge(into: Rows, rows: Rows) -> None:
    """Add rows to others, which take them over."""
    for window, of in rows.items():
        known = into.setdefault(window, {})
        for account, counts in of.items():
            before = known.get(account)
            known[account] = counts if before is None else [a + b for a, b in zip(before, counts)]


def add_up(rows: Iterable[Counts]) -> Counts:
    """Return the sums."""
    sums = [0] * len(Counts._fields)
    for row in rows:
        for place, count in enumerate(row):
            sums[place] += count
    return Counts(*sums)
