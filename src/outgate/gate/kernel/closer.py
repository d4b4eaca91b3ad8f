"""Close what programs can make slow to close, on a thread per app.

The last close of a lingering TCP socket, or of a FUSE file that a program sent us, blocks for as long as its sender
likes. It may hold up the other closes of that app, and nothing else.
"""

from __future__ import annotations

import contextlib
import os
import queue
import struct
import threading
import time
from _socket import SO_LINGER, SOL_SOCKET
from _socket import socket as native
from collections.abc import Callable
from typing import Union

from outgate.gate.kernel import patient

_OFF = struct.pack("ii", 0, 0)
#: Seconds in which closes are gathered after one. Under load that spares a wake-up of the thread each, and the loop the
#: taking of turns with it; a close that comes alone is done at once.
GATHER = 0.001

Closable = Union[native, int]


class Closer:
    """A thread that closes sockets and fds in the order they come, and runs small jobs that may block."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[Closable | Callable[[], None] | None] = queue.SimpleQueue()
        # Held but for the moment in which somebody is in a hurry. An Event would do, but each of its waits is a dozen
        # lines of Python, for which the loop's thread waits in turn.
        self._calm = threading.Lock()
        self._calm.acquire()
        self._thread: threading.Thread | None = None
        #: When it began with what it does (monotonic seconds); 0 while there is nothing to do.
        self._began = 0.0

    def put(self, item: Closable | Callable[[], None], hurry: bool = False) -> None:
        """Close the socket or fd, or run the function, soon; at once if somebody waits for it."""
        self._queue.put(item)
        if hurry:
            self._disturb()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"closer-{self._name}", daemon=True)
            self._thread.start()

    @property
    def waiting(self) -> int:
        """How many things are still to be closed; more than a few where one of them blocks."""
        return self._queue.qsize()

    @property
    def held_for(self) -> float:
        """For how many seconds the thread has been about one thing: long where a program keeps it from coming back."""
        began = self._began
        return time.monotonic() - began if began else 0.0

    def stop(self, limit: float = 2.0) -> None:
        """Close what is queued and end the thread, waiting at most ``limit`` seconds for it."""
        if self._thread is not None:
            self._queue.put(None)
            self._disturb()
            self._thread.join(limit)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            self._began = time.monotonic()
            close_now(item) if isinstance(item, (native, int)) else item()
            self._began = 0.0
            if self._queue.empty():
                self._calm.acquire(timeout=GATHER)

    def _disturb(self) -> None:
        """Have the thread gather no longer."""
        try:
            self._calm.release()
        except RuntimeError:
            pass  # somebody else was in a hurry before it looked


def close_now(item: Closable) -> None:
    """Close, with a positive linger cleared first: it would wait for bytes that the peer need not take.

    Linger zero stays: it means a reset, which the program asked for.
    """
    if isinstance(item, int):
        _close_fd(item)
        return
    try:
        # For this the kernel takes no lock of the socket's, so it is at once there, and C's own method is quicker.
        on, seconds = struct.unpack("ii", item.getsockopt(SOL_SOCKET, SO_LINGER, 8))
        if on and seconds:
            patient.set_option(item.fileno(), SOL_SOCKET, SO_LINGER, _OFF)
        native.close(item)
    except OSError:
        pass  # ECONNRESET from a socket that is gone: closed all the same


def _close_fd(fd: int) -> None:
    """Close what came as an fd, of which nothing is known: a socket's own address is a question that may wait."""
    with contextlib.suppress(OSError):
        on, seconds = struct.unpack("ii", patient.option(fd, SOL_SOCKET, SO_LINGER, 8))
        if on and seconds:
            patient.set_option(fd, SOL_SOCKET, SO_LINGER, _OFF)
    with contextlib.suppress(OSError):
        os.close(fd)
