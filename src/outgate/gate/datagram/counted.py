"""Count what a UDP socket moves: in all, and what each of its destinations has moved that is not booked yet.

The first is what meters and the log say, the second is where the ledger has the destinations from. Both grow with each
datagram.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from outgate.gate.datagram.destination import Destination

__all__ = ["MOST_MOVED", "Counted", "Share"]

#: Destinations of one socket that wait to be booked; with one more none waits for the next round of the meters. So a
#: socket that goes through ever new destinations keeps no more than these beside those in its table.
MOST_MOVED: Final = 64


class Share(NamedTuple):
    """What of a socket's traffic was with one destination: bytes of the application, and datagrams.

    :ivar name: that it is judged as; "" for an address alone.
    """

    name: str
    address: str
    port: int
    sent: int
    received: int
    sent_datagrams: int
    received_datagrams: int


class Counted:
    """The counters of a UDP socket.

    :ivar shares: while growth of it is passed on (:mod:`outgate.gate.metering`), whose that growth is.
    """

    __slots__ = (
        *("_moved", "noted_received", "noted_sent", "received", "received_datagrams"),
        *("sent", "sent_datagrams", "shares"),
    )

    def __init__(self) -> None:
        self.sent = self.sent_datagrams = self.received = self.received_datagrams = 0
        #: Bytes of these that have been counted (:mod:`outgate.gate.metering`).
        self.noted_sent = self.noted_received = 0
        #: Destinations with something to book, be they in the socket's table still or not.
        self._moved: list[Destination] = []
        self.shares: list[Share] = []

    def count_sent(self, destination: Destination, size: int) -> None:
        """Count a datagram of the program's that has gone."""
        self.sent += size
        self.sent_datagrams += 1
        destination.sent += size
        destination.sent_datagrams += 1
        if not destination.has_moved:
            self._has_moved(destination)

    def count_received(self, destination: Destination, size: int) -> None:
        """Count a datagram that the program has got, or will find in its pair."""
        self.received += size
        self.received_datagrams += 1
        destination.received += size
        destination.received_datagrams += 1
        if not destination.has_moved:
            self._has_moved(destination)

    def _has_moved(self, destination: Destination) -> None:
        destination.has_moved = True
        self._moved.append(destination)
        if len(self._moved) > MOST_MOVED:
            self.book()

    def book(self) -> None:
        """Have what has gathered be noted and booked now."""
        raise NotImplementedError

    def take_shares(self) -> list[Share]:
        """Return whose all growth since the last time is, and begin anew."""
        if not self._moved:
            return []
        moved, self._moved = self._moved, []
        shares = []
        for each in moved:
            address, port = each.target[:2]
            counts = each.sent, each.received, each.sent_datagrams, each.received_datagrams
            shares.append(Share(each.decision.name, address, port, *counts))
            each.has_moved = False
            each.sent = each.received = each.sent_datagrams = each.received_datagrams = 0
        return shares
