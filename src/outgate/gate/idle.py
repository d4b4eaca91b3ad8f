"""Take idle sockets from apps that come near their limit, the longest idle first, and never one with unread bytes."""

from __future__ import annotations

import array
import asyncio
import fcntl
import termios
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from outgate.core import idle
from outgate.core import lease as life
from outgate.gate.kernel import meter
from outgate.gate.registry import App, Lease

if TYPE_CHECKING:
    from outgate.gate.server import Gate

#: Seconds between looks.
INTERVAL = 5.0
#: Leases looked at in one turn of the loop, at some 3 µs each.
SLICE = 500


class Idle:
    """Looks at apps that are pressed."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def begin(self) -> None:
        """Look for apps that are near their limit."""
        gate = self._gate
        pressed = [app for app in gate.registry.apps.values() if idle.is_pressed(app.open, gate.limit(app))]
        self._next(iter(pressed))

    def _next(self, apps: Iterator[App]) -> None:
        app = next(apps, None)
        if app is None:
            self._timer = self._gate.loop.call_later(INTERVAL, self.begin)
            return
        leases = [lease for lease in self._gate.registry.leases.values() if lease.process.app is app]
        self._look(app, iter(leases), [], apps)

    def _look(self, app: App, leases: Iterator[Lease], seen: list[tuple[Lease, float]], apps: Iterator[App]) -> None:
        slice_ = list(islice(leases, SLICE))
        seen += [(lease, idle_for(lease)) for lease in slice_ if lease.state == life.OPEN and not has_unread(lease)]
        loop = self._gate.loop
        if slice_:
            self._timer = loop.call_soon(self._look, app, leases, seen, apps)
            return
        for lease in idle.to_reclaim(seen, app.settings.idle_timeout, app.open, self._gate.limit(app)):
            # Once more, for bytes that have come since the look.
            if lease.state == life.OPEN and not has_unread(lease):
                self._gate.ending.reclaim(lease, idle_for(lease))
        self._timer = loop.call_soon(self._next, apps)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


def idle_for(lease: Lease) -> float:
    """Return for how many seconds nothing has moved on a connection, by the kernel's clocks where it carries."""
    now = time.monotonic()
    since = now - lease.begun
    if lease.side is not None:
        return min(since, now - lease.side.relayed.active)
    return min(since, meter.idle(lease.sock))


def has_unread(lease: Lease) -> bool:
    """Tell whether bytes from outside wait for the program: they are never thrown away."""
    if lease.side is None:
        return _queued(lease.sock.fileno(), termios.FIONREAD) > 0
    relayed = lease.side.relayed
    if relayed.is_over:
        return False
    # In the program's queue, which the gate's end counts as not taken yet, and in the socket outside.
    return _queued(relayed.inside.fileno(), termios.TIOCOUTQ) > 0 or _queued(lease.sock.fileno(), termios.FIONREAD) > 0


def _queued(fd: int, what: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, what, count)
    return count[0]
