"""Have one thread at a time take calls, and go on taking them as long as none has to wait for somebody.

Threads that all wait for calls are woken in turn by the kernel, each beside the one that still has something to do for
the call before, and in Python they then take the interpreter from one another at every system call: 15 times for one
``socket()``. So who takes a call keeps the turn; before it waits, for the gate or for a connection, it gives that up
to a thread that stands ready.
"""

from __future__ import annotations

from _thread import allocate_lock, get_ident
from collections.abc import Callable

#: Threads at most: the gate may take its time over an answer.
MOST = 32


class Turns:
    """Whose turn it is.

    :param start: starts another thread that takes turns.
    """

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self._turn = allocate_lock()
        self._counts = allocate_lock()
        self._whose = 0
        self._ready = 0
        self._count = 0

    def take(self) -> None:
        """Wait for the turn, unless this thread has it."""
        if self._whose == get_ident():
            return
        with self._counts:
            self._ready += 1
        self._turn.acquire()
        self._whose = get_ident()
        with self._counts:
            self._ready -= 1

    def give_up(self) -> None:
        """Let another thread take the next call, if this one has the turn: it may have to wait."""
        if self._whose != get_ident():
            return
        self._whose = 0
        self._turn.release()
        with self._counts:
            is_short = not self._ready and self._count < MOST
        if is_short:
            self.add()

    def add(self) -> None:
        """Start a thread."""
        with self._counts:
            self._count += 1
        self._start()
