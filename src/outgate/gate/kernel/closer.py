"""Close what programs can make slow to close, on a thread per app.

The last close of a lingering TCP socket, or of a FUSE file that a program sent us, blocks for as long as its sender
likes. It may hold up the other closes of that app, and nothing else.
"""

from __future__ import annotations

import os
import queue
import struct
import threading
from _socket import SO_LINGER, SOL_SOCKET
from _socket import socket as native
from collections.abc import Callable
from typing import Union

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

    def stop(self, limit: float = 2.0) -> None:
        """Close what is queued and end the thread, waiting at most ``limit`` seconds for it."""
        if self._thread is not None:
            self._queue.put(None)
            self._disturb()
            self._thread.join(limit)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            close_now(item) if isinstance(item, (native, int)) else item()
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
    try:
        if isinstance(item, int):
            fd = item
            try:
                item = native(fileno=fd)
            except OSError:  # no socket
                os.close(fd)
                return
        on, seconds = struct.unpack("ii", item.getsockopt(SOL_SOCKET, SO_LINGER, 8))
        if on and seconds:
            item.setsockopt(SOL_SOCKET, SO_LINGER, _OFF)
        item.close()
    except OSError:
        pass  # ECONNRESET from a socket that is gone: closed all the same
