"""Wait for connects in progress in the place of the programs that block in them.

The kernel lets a notified call be interrupted by nothing but a kill (SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV), or
signals would take calls back whose effect has happened. So what natively ends the wait is looked for here: the
connection's end, SO_SNDTIMEO, and a signal with a handler, which gives EINTR within :data:`STEP`.
"""

from __future__ import annotations

import errno
import select
import threading
import time
from _socket import socket as native
from collections.abc import Callable
from typing import NamedTuple

from outgate.guard.supervision import tasks
from outgate.guard.supervision.loop import Loop
from outgate.guard.supervision.notify import Call, Listener

#: Seconds between looks for signals, and for callers that were killed.
STEP = 0.05


class Wait(NamedTuple):
    """One caller that waits.

    :ivar sock: a duplicate, the wait's own.
    :ivar deadline: when SO_SNDTIMEO ends it (monotonic seconds), ``None`` for never.
    :ivar harvest: returns how the connect has ended, as an answer.
    """

    call: Call
    sock: native
    deadline: float | None
    harvest: Callable[[native], int]


class Waiting:
    """All of them."""

    def __init__(self, loop: Loop, listener: Listener) -> None:
        self._loop = loop
        self._listener = listener
        self._waits: dict[int, Wait] = {}
        self._lock = threading.Lock()
        loop.look(self.look)

    def add(self, wait: Wait) -> None:
        """Answer a call when its connect has ended."""
        fd = wait.sock.fileno()
        with self._lock:
            self._waits[fd] = wait
        self._loop.watch(fd, select.EPOLLOUT, lambda: self._ended(fd))
        if len(self._waits) == 1:
            self._loop.hurry()

    def _ended(self, fd: int) -> None:
        wait = self._take(fd)
        if wait is not None:
            self._listener.answer(wait.call.id, wait.harvest(wait.sock))
            wait.sock.close()

    def _take(self, fd: int) -> Wait | None:
        with self._lock:
            wait = self._waits.pop(fd, None)
        if wait is not None:
            self._loop.forget(fd)
        return wait

    def look(self) -> float | None:
        """End the waits that natively would end by now."""
        now = time.monotonic()
        for fd, wait in list(self._waits.items()):
            if wait.deadline is not None and now >= wait.deadline:
                answer = -errno.EINPROGRESS
            elif tasks.has_signal(wait.call.thread):
                answer = -errno.EINTR
            elif self._listener.is_valid(wait.call.id):
                continue
            else:
                answer = 0  # to nobody
            if self._take(fd) is not None:
                self._listener.answer(wait.call.id, answer)
                wait.sock.close()
        return STEP if self._waits else None
