"""Take what is idle from apps that say ``idle_reclaim = "always"``, as App Engine did.

Traffic is seen by the kernel's clocks. What moves no byte the client says (:mod:`outgate.gate.reclaim.renewing`), a
call that waits for one socket among it. Event loops wait for many, mostly in C: what a process has registered in an
epoll is waited for, as the kernel shows it, and looked for only when it would be due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from outgate.core import idle
from outgate.gate.kernel import epolls
from outgate.gate.onloop import call_on
from outgate.gate.reclaim import clocks

if TYPE_CHECKING:
    from outgate.gate.reclaim.clocks import Idling
    from outgate.gate.server import Gate

#: Sockets looked at in one turn of the loop, at some 1 to 3 µs each, and reclaimed, at some 40.
SLICE = 500
RECLAIMED = 50


class Always:
    """Looks at the sockets of apps that keep none idle. Where there is no such app it does nothing."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._timer: asyncio.Handle | None = None
        #: The shortest limit of any such app; 0 where there is none.
        self._shortest = 0.0
        #: Seconds until the first socket is due, of those looked at so far.
        self._nearest: float | None = None

    def follow(self) -> None:
        """Begin to look, or look anew, as the configuration says now."""
        limits = [
            app.settings.idle_timeout
            for app in self._gate.registry.apps.values()
            if app.settings.idle_reclaim == idle.ALWAYS
        ]
        self.stop()
        self._shortest = min(limits, default=0.0)
        self._rest()

    def begin(self) -> None:
        """Look at every socket, a slice at a time."""
        self._nearest = None
        registry = self._gate.registry
        items: Iterator[Idling] = chain(tuple(registry.leases.values()), tuple(self._gate.udp.sockets.values()))
        self._look(items, [])

    def _look(self, items: Iterator[Idling], due: list[Idling]) -> None:
        count = 0
        now = time.monotonic()
        for item in islice(items, SLICE):
            count += 1
            if self._is_due(item, now):
                due.append(item)
        if count == SLICE:
            self._timer = self._gate.loop.call_soon(self._look, items, due)
        elif due:
            apps = {item.process.app for item in due}
            processes = self._gate.registry.processes.values()
            pids = {process.pid for process in processes if process.app in apps and process.channels}
            self._timer = None
            self._gate.looker.put(partial(self._find, due, pids), hurry=True)
        else:
            self._rest()

    def _is_due(self, item: Idling, now: float) -> bool:
        settings = item.process.app.settings
        if settings.idle_reclaim != idle.ALWAYS:
            return False
        timeout = settings.idle_timeout
        seconds = now - max(item.begun, item.renewed)
        if seconds >= timeout:
            if not clocks.is_open(item):
                return False  # when it is opened its time begins
            seconds = self._idle_for(item)
            if seconds >= timeout:
                return self._is_over(item, seconds)
            item.renewed = now - seconds  # so that the kernel need not be asked again before it may be due
        if self._nearest is None or timeout - seconds < self._nearest:
            self._nearest = timeout - seconds
        return False

    def _idle_for(self, item: Idling) -> float:
        seconds = clocks.idle_for(item)
        loan = self._gate.sharing.loans.get(item.id)
        return seconds if loan is None else min(seconds, time.monotonic() - loan.since)

    def _is_over(self, item: Idling, seconds: float) -> bool:
        """Tell whether a socket that has been idle for so long goes by what those know who have it."""
        sharing = self._gate.sharing
        loan = sharing.loans.get(item.id)
        who = {item.process} if loan is None else {item.process, *loan.holders}
        told = (each.told_idle for each in who if each.channels)
        limit = idle.limit_for(item.process.app.settings.idle_timeout, told)
        return limit is not None and seconds >= limit and not sharing.is_parked(item)

    def _find(self, due: list[Idling], pids: set[int]) -> None:
        awaited, hidden = epolls.registered({item.inode for item in due}, pids)
        call_on(self._gate.loop, self._reclaim, iter(due), awaited, hidden)

    def _reclaim(self, due: Iterator[Idling], awaited: set[int], hidden: set[int]) -> None:
        gate = self._gate
        slice_ = tuple(islice(due, RECLAIMED))
        for item in slice_:
            gate.aside.first(item, self._take, item, awaited, hidden)
        if slice_:
            self._timer = gate.loop.call_soon(self._reclaim, due, awaited, hidden)
        else:
            self._rest()

    def _take(self, item: Idling, awaited: set[int], hidden: set[int]) -> None:
        gate, now = self._gate, time.monotonic()
        if not self._is_due(item, now):  # any more
            return
        if item.inode in awaited or gate.waits.has(item.id) or clocks.is_sending(item):
            item.renewed = now
        elif item.process.pid in hidden and item.process.channels and not item.process.door:
            item.renewed = now  # it may wait, where we cannot see
        else:
            gate.ending.reclaim(item, clocks.idle_for(item))

    def _rest(self) -> None:
        self.stop()  # a look that was under way when the configuration was read again ends here too
        if self._shortest:
            self._timer = self._gate.loop.call_later(idle.next_look(self._nearest, self._shortest), self.begin)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
