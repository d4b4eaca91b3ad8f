"""Read the meter of every open socket each second, a slice at a time."""

from __future__ import annotations

import asyncio
import time
from _socket import IPPROTO_TCP
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.gate.kernel import meter
from outgate.gate.kernel.aside import Aside
from outgate.gate.registry import NOTHING_BEFORE

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import Lease
    from outgate.gate.server import Gate

#: Seconds from the end of a round to the beginning of the next.
INTERVAL = 1.0
#: Seconds of the loop that one turn takes, at some 2 µs a socket.
BUDGET = 0.001
#: Sockets whose growth is passed on together, and between two looks at the clock.
SLICE = 100


class Rounds:
    """Goes round the meters."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def begin(self) -> None:
        """Read every meter, now."""
        gate = self._gate
        self._timer.cancel()
        gate.meters.begin_round()
        gate.aside.notice()
        self._go_on(iter(tuple(gate.registry.leases.values())), iter(tuple(gate.udp.sockets.values())), [])

    def _go_on(self, leases: Iterator[Lease], sockets: Iterator[Datagrams], aside: list[Lease]) -> None:
        meters, loop = self._gate.meters, self._gate.loop
        until = time.perf_counter() + BUDGET
        while True:
            slice_ = tuple(islice(leases, SLICE))
            meters.note_all(_readings(slice_, time.monotonic(), aside))
            made = () if slice_ else tuple(islice(sockets, SLICE))
            for each in made:
                meters.note_datagrams(each)
            if not slice_ and not made:
                break
            if time.perf_counter() >= until:
                self._timer = loop.call_soon(self._go_on, leases, sockets, aside)
                return
        self._gate.aside.read(aside, self._note)
        self._timer = loop.call_later(INTERVAL, self.begin)

    def _note(self, leases: tuple[Lease, ...]) -> None:
        self._gate.meters.note_all(_readings(leases, time.monotonic(), None))

    def stop(self) -> None:
        """Read no more."""
        self._timer.cancel()


def _readings(items: Iterable[Lease], now: float, aside: list[Lease] | None) -> list[tuple[Lease, int, int]]:
    """Return the bytes sent and received of the sockets whose counters have moved; note which have sent just now.

    This is most of what a gate does that has thousands of busy sockets, so that of :func:`.meter.parse` is written out
    here what an established connection needs.

    :param now: monotonic seconds.
    :param aside: where to put those that are read aside; ``None`` if that has been done.
    """
    found: list[tuple[Lease, int, int]] = []
    unpack, size, parameter, is_established = meter.PASSING.unpack, meter.SIZE, meter.TCP_INFO, meter.ESTABLISHED
    is_open, nothing = life.OPEN, NOTHING_BEFORE
    for item in items:
        if item.state != is_open or item.decision is None:
            continue
        if item.side is not None:
            relayed = item.side.relayed
            found.append((item, relayed.sent, relayed.received))
            continue
        sock = item.sock
        if aside is not None and isinstance(sock, Aside):
            aside.append(item)
            continue
        try:
            info = sock.getsockopt(IPPROTO_TCP, parameter, size)
        except OSError:  # its own end will say
            continue
        state, received, notsent, sent, again = unpack(info)
        if state == is_established:
            sent += notsent - again
        else:
            reading = meter.parse(info)
            if reading.state == meter.CLOSE:
                continue  # it was taken apart, by the network or by somebody: what was lost its last reading says
            sent, received = reading.sent, reading.received
        if item.before is not nothing:
            sent, received = sent - item.before[0], received - item.before[1]
        if sent > item.noted_sent:
            item.sent_at = now
        elif sent == item.noted_sent and received == item.noted_received:
            continue
        found.append((item, sent, received))
    return found
