"""Read the meter of every open socket each second, a slice at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Union

from outgate.core import lease as life
from outgate.gate.kernel import meter
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.server import Gate

#: Seconds from the end of a round to the beginning of the next.
INTERVAL = 1.0
#: Sockets read in one turn of the loop, at some 3 µs each.
SLICE = 500


class Rounds:
    """Goes round the meters."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def begin(self) -> None:
        """Read every meter, now."""
        gate = self._gate
        self._timer.cancel()
        self._go_on(chain(tuple(gate.registry.leases.values()), tuple(gate.udp.sockets.values())))

    def _go_on(self, items: Iterator[Union[Lease, Datagrams]]) -> None:
        loop = self._gate.loop
        meters = self._gate.meters
        note = meters.note
        count = 0
        for item in islice(items, SLICE):
            count += 1
            if not isinstance(item, Lease):
                meters.note_datagrams(item)
                continue
            counts = _counts(item)
            if counts is not None:
                note(item, *counts)
        if count == SLICE:
            self._timer = loop.call_soon(self._go_on, items)
        else:
            self._timer = loop.call_later(INTERVAL, self.begin)

    def stop(self) -> None:
        """Read no more."""
        self._timer.cancel()


def _counts(item: Lease) -> tuple[int, int] | None:
    """Return the bytes sent and received; ``None`` where there is no connection to count, or it was counted."""
    if item.state != life.OPEN or item.decision is None:
        return None
    side = item.side
    if side is not None:
        return side.relayed.sent, side.relayed.received
    try:
        # In state CLOSE it was taken apart, by the network or by somebody: what was lost its last reading says.
        return meter.passing(item.sock)
    except OSError:  # its own end will say
        return None
