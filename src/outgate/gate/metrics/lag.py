"""Sample how late the gate's loop comes to what is due: the time for which something held it."""

from __future__ import annotations

import asyncio
import time

from outgate.gate.metrics.histogram import Histogram

#: Seconds between samples: what holds the loop for a quarter of a second is always seen, less by its share of time.
INTERVAL = 0.25


class Lag:
    """Puts a sample into a histogram four times a second.

    :param seen: takes the samples. The loops' timers have a grain of a millisecond, so that much means nothing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seen: Histogram) -> None:
        self._loop = loop
        self._seen = seen
        self._due = 0.0
        self._timer: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin to sample."""
        self._due = time.monotonic() + INTERVAL  # not the loop's own clock, which stands still while it is held
        self._timer = self._loop.call_later(INTERVAL, self._sample)

    def _sample(self) -> None:
        self._seen.observe(time.monotonic() - self._due)
        self.start()

    def stop(self) -> None:
        """Sample no more."""
        if self._timer is not None:
            self._timer.cancel()
