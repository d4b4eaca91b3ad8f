"""Take idle sockets from apps that come near their limit, the longest idle first, and never one with unread bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from outgate.core import idle
from outgate.gate.reclaim import clocks
from outgate.gate.registry import App

if TYPE_CHECKING:
    from outgate.gate.reclaim.clocks import Idling
    from outgate.gate.server import Gate

#: Seconds between looks.
INTERVAL = 5.0
#: Leases looked at in one turn of the loop, at some 3 µs each, and reclaimed, at some 40.
SLICE = 500
RECLAIMED = 50


class Idle:
    """Looks at apps that are pressed."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.begin)

    def begin(self) -> None:
        """Look for apps that are near their limit."""
        gate = self._gate
        pressed = [app for app in gate.registry.apps.values() if idle.is_pressed(app.open, gate.limits.open(app))]
        self._next(iter(pressed))

    def _next(self, apps: Iterator[App]) -> None:
        app = next(apps, None)
        if app is None:
            self._timer = self._gate.loop.call_later(INTERVAL, self.begin)
            return
        gate = self._gate
        items: list[Idling] = [lease for lease in gate.registry.leases.values() if lease.process.app is app]
        items += [made for made in gate.udp.sockets.values() if made.process.app is app]
        self._look(app, iter(items), [], apps)

    def _look(self, app: App, items: Iterator[Idling], seen: list[tuple[Idling, float]], apps: Iterator[App]) -> None:
        slice_ = list(islice(items, SLICE))
        seen += [(item, clocks.idle_for(item)) for item in slice_ if _may_go(item)]
        if slice_:
            self._timer = self._gate.loop.call_soon(self._look, app, items, seen, apps)
            return
        due = idle.to_reclaim(seen, app.settings.idle_timeout, app.open, self._gate.limits.open(app))
        self._reclaim(iter(due), apps)

    def _reclaim(self, due: Iterator[Idling], apps: Iterator[App]) -> None:
        slice_ = list(islice(due, RECLAIMED))
        for item in slice_:
            self._gate.aside.first(item, self._take, item)
        loop = self._gate.loop
        self._timer = loop.call_soon(self._reclaim, due, apps) if slice_ else loop.call_soon(self._next, apps)

    def _take(self, item: Idling) -> None:
        """Reclaim one, unless bytes have come since the look."""
        if _may_go(item) and (seconds := clocks.idle_for(item)) >= item.process.app.settings.idle_timeout:
            self._gate.ending.reclaim(item, seconds)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()


def _may_go(item: Idling) -> bool:
    return clocks.is_open(item) and not clocks.has_unread(item)
