"""Hold the sockets whose bytes the kernel carries to the quotas of their app: pace what they send, shut their windows.

What they send is paced from the first byte on. What they receive cannot be: the far end sends as fast as it was told it
may, and a window that is shut is told only with the next acknowledgement. So the windows are shut when the quota is
used up, and opened again when the next one begins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from outgate.core.quota.pace import LEAST_CHANGE, UNPACED, Pace, pace
from outgate.core.quota.quotas import DELAY, WARN
from outgate.gate.kernel import pacing
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.quota.app import AppQuotas

#: Seconds for which a socket counts as busy at least.
LOOK: Final = 0.5
#: Sockets that are set in one turn of the loop, at some 2 µs each.
SLICE: Final = 1000


class Pacer:
    """Sets paces, a slice at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def begin(self, app: AppQuotas, lease: Lease, now: float) -> None:
        """Pace a socket that is about to be dialled: it counts as one that has not sent yet."""
        self._set(app, lease, decide(app, len(app.busy), lease.process.app.open + 1 - len(app.busy), now).idle)

    def round(self, app: AppQuotas, leases: Sequence[Lease], now: float) -> None:
        """Set the paces of all direct sockets of an app anew.

        :param leases: those that are open.
        """
        busy = app.busy | app.busy_before
        if self._loop.time() - app.looked_at >= LOOK:
            app.looked_at = self._loop.time()
            app.busy, app.busy_before = set(), app.busy
        known = set(leases)
        for table in (app.paces, app.closed):
            for lease in [lease for lease in table if lease not in known]:
                if lease.decision is None:  # ended; one that is being dialled keeps its pace
                    del table[lease]
        if not leases:
            return
        busy &= known
        wanted = decide(app, len(busy), len(leases) - len(busy), now)
        self._go_on(app, iter(leases), busy, wanted, is_full(app, now))

    def _go_on(self, app: AppQuotas, leases: Iterator[Lease], busy: set[Lease], wanted: Pace, shut: bool) -> None:
        count = 0
        for lease in islice(leases, SLICE):
            count += 1
            self._set(app, lease, wanted.busy if lease in busy else wanted.idle)
            if shut != (lease in app.closed):
                (_shut if shut else _open)(app, lease)
        if count == SLICE:
            self._loop.call_soon(self._go_on, app, leases, busy, wanted, shut)

    def _set(self, app: AppQuotas, lease: Lease, rate: float) -> None:
        if lease not in app.paces:  # new, or another gate's, which may have left a pace
            app.paces[lease] = _read(lease)
            if _is_shut(lease):
                app.closed.setdefault(lease, 0)
        known = app.paces[lease]
        if rate >= UNPACED:
            if known is not None:
                app.paces[lease] = None
                _apply(lease, None)
        elif known is None or abs(rate - known) > LEAST_CHANGE * known:
            app.paces[lease] = int(rate)
            _apply(lease, int(rate))

    def stop(self, apps: Iterable[AppQuotas]) -> None:
        """Let every socket go."""
        for app in apps:
            for lease, rate in app.paces.items():
                if rate is not None:
                    _apply(lease, None)
            app.paces.clear()
            for lease in list(app.closed):
                _open(app, lease)


def decide(app: AppQuotas, busy: int, idle: int, now: float) -> Pace:
    """Return the slowest of the paces that the app's quotas of bytes sent require; any pace where there is none."""
    found = Pace(UNPACED, UNPACED)
    for account in app.book.of("bytes_sent"):
        if account.quota.over != WARN:
            left = account.left(now)
            wanted = pace(account.quota.limit, left, account.end - now, busy, idle)
            found = Pace(min(found.busy, wanted.busy), min(found.idle, wanted.idle))
    return found


def is_full(app: AppQuotas, now: float) -> bool:
    """Tell whether the app may receive nothing more in this window, and waits for the next."""
    accounts = app.book.of("bytes_received")
    return any(account.quota.over == DELAY and not account.left(now) for account in accounts)


def _shut(app: AppQuotas, lease: Lease) -> None:
    with contextlib.suppress(OSError):
        app.closed[lease] = pacing.hold(lease.sock)


def _open(app: AppQuotas, lease: Lease) -> None:
    window = app.closed.pop(lease)
    with contextlib.suppress(OSError):
        pacing.release(lease.sock, window)


def _is_shut(lease: Lease) -> bool:
    try:
        return pacing.held(lease.sock)
    except OSError:
        return False


def _read(lease: Lease) -> int | None:
    try:
        return pacing.paced(lease.sock)
    except OSError:
        return None


def _apply(lease: Lease, rate: int | None) -> None:
    with contextlib.suppress(OSError):  # its own end will say
        pacing.pace(lease.sock, rate)
