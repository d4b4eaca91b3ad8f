"""Turn counters that only grow into growth that is passed on once, to everything that counts bytes.

A socket's counter is read many times: each second, at its end, before it is cut. What it has grown by since the last
time goes to the counts of its app, so that each byte is counted once, whoever reads it and however often.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import App, Lease

    Metered = Union[Lease, Datagrams]

    #: What is told of growth: sockets, and the bytes that each has sent and received since it was last told. Many at
    #: once, for each second all that is busy is told, and a call for each would cost more than what is done with it.
    Growth = Sequence[tuple[Metered, int, int]]
    Listener = Callable[[Growth], object]


class Meters:
    """The meters of a gate.

    :ivar listeners: told of each growth, in order, on the loop; at most one of its two numbers is 0. A UDP socket comes
        alone.
    :ivar sent: what all sockets have sent since the gate began; likewise ``received``.
    :ivar since: when the last round of readings but one began (monotonic seconds); each socket was read since.
    """

    def __init__(self, tampered: Callable[[Metered, int, int], object]) -> None:
        """Make the meters.

        :param tampered: told when a counter has gone down, with how far: ``connect(AF_UNSPEC)`` by whoever holds the
            socket zeroes the kernel's (tcp_disconnect()). The gate's own calls read before.
        """
        self.listeners: list[Listener] = []
        self.sent = self.received = 0
        self.since = self._began = time.monotonic()
        self._tampered = tampered

    def begin_round(self) -> None:
        """Note that every socket is read once more, from now on."""
        self.since, self._began = self._began, time.monotonic()

    def note(self, item: Metered, sent: int, received: int) -> None:
        """Take the counters of a socket as they stand now.

        :param sent: application bytes since its connection was begun.
        :param received: the same, the other way.
        """
        if sent != item.noted_sent or received != item.noted_received:
            self.note_all(((item, sent, received),))

    def note_all(self, readings: Iterable[tuple[Metered, int, int]]) -> None:
        """Take the counters of several sockets, each as of :meth:`note`."""
        grown: list[tuple[Metered, int, int]] = []
        app: App | None = None
        all_sent = all_received = 0  # of what follows one another and is the same app's
        for item, sent, received in readings:
            out, back = sent - item.noted_sent, received - item.noted_received
            if not (out or back):
                continue
            item.noted_sent, item.noted_received = sent, received
            if out < 0 or back < 0:
                self._tampered(item, max(-out, 0), max(-back, 0))
                out, back = max(out, 0), max(back, 0)
                if not (out or back):
                    continue
            if item.process.app is not app:
                if app is not None:
                    self._add(app, all_sent, all_received)
                app, all_sent, all_received = item.process.app, 0, 0
            all_sent += out
            all_received += back
            grown.append((item, out, back))
        if app is not None:
            self._add(app, all_sent, all_received)
            for listener in self.listeners:
                listener(grown)

    def _add(self, app: App, sent: int, received: int) -> None:
        app.sent += sent
        app.received += received
        self.sent += sent
        self.received += received

    def note_datagrams(self, made: Datagrams) -> None:
        """Take the counters of a UDP socket as they stand now; listeners find whose the growth is in its ``shares``."""
        made.shares = made.take_shares()
        self.note(made, made.sent, made.received)
        made.shares = []
