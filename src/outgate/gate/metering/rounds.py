"""Read the meter of every open socket each second, a slice at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Union

from outgate.core import lease as life
from outgate.gate.kernel import meter
from outgate.gate.kernel.aside import Aside
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.server import Gate

#: Seconds from the end of a round to the beginning of the next.
INTERVAL = 1.0
#: Seconds of the loop that one turn takes, at some 3 µs a socket.
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
        gate.aside.notice()
        self._go_on(chain(tuple(gate.registry.leases.values()), tuple(gate.udp.sockets.values())), [])

    def _go_on(self, items: Iterator[Union[Lease, Datagrams]], aside: list[Lease]) -> None:
        meters, loop = self._gate.meters, self._gate.loop
        until = time.perf_counter() + BUDGET
        while slice_ := tuple(islice(items, SLICE)):
            meters.note_all(_readings(slice_, aside))
            for item in slice_:
                if not isinstance(item, Lease):
                    meters.note_datagrams(item)
            if time.perf_counter() >= until:
                self._timer = loop.call_soon(self._go_on, items, aside)
                return
        self._gate.aside.read(aside, self._note)
        self._timer = loop.call_later(INTERVAL, self.begin)

    def _note(self, leases: tuple[Lease, ...]) -> None:
        self._gate.meters.note_all(_readings(leases, None))

    def stop(self) -> None:
        """Read no more."""
        self._timer.cancel()


def _readings(items: Iterable[Union[Lease, Datagrams]], aside: list[Lease] | None) -> Iterator[tuple[Lease, int, int]]:
    """Give the bytes sent and received of TCP sockets, but of those that have nothing to count, or were counted.

    :param aside: where to put those that are read aside; ``None`` if that has been done.
    """
    passing, is_open = meter.passing, life.OPEN
    for item in items:
        if not isinstance(item, Lease) or item.state != is_open or item.decision is None:
            continue
        side = item.side
        if side is not None:
            yield item, side.relayed.sent, side.relayed.received
            continue
        if aside is not None and isinstance(item.sock, Aside):
            aside.append(item)
            continue
        try:
            # In state CLOSE it was taken apart, by the network or by somebody: what was lost its last reading says.
            counts = passing(item.sock)
        except OSError:  # its own end will say
            continue
        if counts is not None:
            yield item, counts[0], counts[1]
