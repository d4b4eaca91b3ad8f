"""Wait for files and for time, on one thread; the others answer calls meanwhile."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable


class Loop:
    """What the guard waits for beside calls. Files may be added from any thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._on: dict[int, Callable[[], None]] = {}
        self._alarm = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._timed: list[Callable[[], float | None]] = []
        self.watch(self._alarm, select.EPOLLIN, self._wake)

    def watch(self, fd: int, events: int, function: Callable[[], None]) -> None:
        """Call a function whenever something of a file is so; its end is always told."""
        self._on[fd] = function
        self._epoll.register(fd, events)

    def forget(self, fd: int) -> None:
        """Watch a file no more, before it is closed."""
        if self._on.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def look(self, function: Callable[[], float | None]) -> None:
        """Call a function at least when the seconds have gone by that its last call returned; ``None`` is any time."""
        self._timed.append(function)

    def hurry(self) -> None:
        """Have the functions of :meth:`look` called now: there is something new."""
        os.eventfd_write(self._alarm, 1)

    def _wake(self) -> None:
        os.eventfd_read(self._alarm)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Wait and call, as long as that goes on."""
        while goes_on():
            seconds = [each for function in self._timed if (each := function()) is not None]
            for fd, _ in self._epoll.poll(max(0.0, min(seconds)) if seconds else -1):
                function_of = self._on.get(fd)
                if function_of is not None:
                    function_of()


def seconds_until(when: float) -> float:
    """Return the seconds until a time (monotonic), 0 where it has come."""
    return max(0.0, when - time.monotonic())
