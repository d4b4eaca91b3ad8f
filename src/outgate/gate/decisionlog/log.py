"""Write the decision log: JSON lines, from a bounded queue on a thread of its own.

One line when a connection is decided and one when it ends, joined by the lease; :mod:`outgate.gate.decisionlog.lines`
says what stands in them. The event loop only ever puts a line into a queue: a slow, full or broken disk costs lines,
which are counted and reported in a ``log-dropped`` line as soon as writing works again, and never time. Whoever logs
makes the line: on the thread, Python code would take turns with the loop's and cost it more.
"""

import os
import threading
import time
import weakref
from collections import deque
from typing import Any, Final

from outgate.errors import ConfigError
from outgate.gate.decisionlog import lines
from outgate.gate.decisionlog.logfile import LogFile

__all__ = ["DecisionLog"]

#: Lines that wait for the disk. At the worst case of a kilobyte and a half a line this is 12 MiB.
QUEUE_LIMIT: Final = 8192
#: Lines of one write: 200 KiB at the worst case.
CHUNK: Final = 128
#: Seconds the writer gathers lines after the first of a batch, so that a busy gate wakes it 50 times a second at most.
GATHER: Final = 0.02
#: Seconds between attempts while lines are being lost.
RETRY: Final = 1.0
#: Seconds close() waits for a disk or a reader that does not take what is left.
CLOSE_LIMIT: Final = 3.0


class DecisionLog:
    """The decision log of one gate. Every method may be called from any thread.

    :param target: a path (made with its folders, appended to), ``"-"`` for standard output, or an open fd, which stays
        the caller's.
    :param queue_limit: lines that may wait; what comes above is counted and dropped.
    :raises ConfigError: the path cannot be opened.
    """

    def __init__(self, target: str | int, queue_limit: int = QUEUE_LIMIT) -> None:
        try:
            self._target = LogFile(target)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f'gate.log: {target} cannot be opened: {why}; name a file this gate may write, or "-" for stdout'
            ) from None
        self._limit = queue_limit
        self._queue: deque[bytes | threading.Event] = deque()
        self._lock = threading.Lock()  # for the counters and flags that are not on the usual path
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._dropped = 0
        self._reopen = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outgate-log", daemon=True)
        self._thread.start()
        _LOGS.add(self)

    def event(self, name: str, /, **fields: Any) -> None:
        """Log ``start``, ``reload`` or the like, with fields of its own. Never waits and never raises."""
        self.write(lines.event(name, time.time(), fields))

    def write(self, line: Any) -> None:
        """Log a line of :mod:`outgate.gate.decisionlog.lines`. Never waits and never raises."""
        if self._closed:
            return
        try:
            packed = lines.encode(line) + b"\n" if len(self._queue) < self._limit else None
        except Exception:  # whatever is in it, the program goes on
            packed = None
        if packed is None:
            with self._lock:
                self._dropped += 1
            return
        self._queue.append(packed)
        if not self._wake.is_set():
            self._wake.set()

    @property
    def dropped(self) -> int:
        """How many lines are lost and not yet reported in the log."""
        return self._dropped

    def reopen(self) -> None:
        """Open the path again before the next line (logrotate, SIGHUP); an fd or stdout stays as it is.

        Where that fails the old file stays in use and a line ``log-reopen`` in it says why.
        """
        self._reopen = True
        self._wake.set()

    def flush(self, limit: float = CLOSE_LIMIT) -> bool:
        """Wait, at most ``limit`` seconds, until what was logged before is written or lost; say whether it is."""
        if self._closed:
            return True
        reached = threading.Event()
        self._queue.append(reached)
        self._hurry.set()
        self._wake.set()
        return reached.wait(limit)

    def close(self, limit: float = CLOSE_LIMIT) -> int:
        """Write what is left, give the file back, and return how many lines are lost. A second call does nothing.

        :param limit: seconds for a disk or reader that takes nothing; what it has not taken by then is lost.
        """
        with self._lock:
            self._closed = True
        self._hurry.set()
        self._wake.set()
        self._thread.join(limit)
        _LOGS.discard(self)
        # Where the thread hangs in a write, the fd stays its own and ends with the process.
        return self._dropped + len(self._queue)

    def _run(self) -> None:
        while True:
            self._wake.wait(RETRY if self._dropped or self._target.torn else None)
            if not self._closed:
                self._hurry.wait(GATHER)
            self._hurry.clear()
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                self._open_again()
            self._drain()
            if self._closed and not self._queue:
                break
        self._target.close()

    def _open_again(self) -> None:
        try:
            self._target.reopen()
        except OSError as error:
            self.event("log-reopen", reason=f"{self._target.path}: {error.strerror}; the old file stays in use")

    def _drain(self) -> None:
        """Write everything that waits, a chunk at a time; at least once where losses are still to be reported."""
        while self._queue or self._dropped or self._target.torn:
            reported = self._dropped
            chunk = [_losses(reported)] if reported else []
            marks: list[threading.Event] = []
            while self._queue and len(chunk) < CHUNK:
                item = self._queue.popleft()
                if isinstance(item, threading.Event):
                    marks.append(item)
                else:
                    chunk.append(item)
            lost = self._target.write(chunk)
            with self._lock:
                if lost < len(chunk):  # the first line, which reports the losses, is written
                    self._dropped += lost - reported
                else:
                    self._dropped += lost - (1 if reported else 0)
            for mark in marks:
                mark.set()
            if (lost or self._target.torn) and not self._queue:
                break  # tried again in a second

    def _forked(self) -> None:
        """In a forked child: the lines that wait, and the thread, are the parent's; this log is closed."""
        self._closed = True
        # The parent's threads may have held any of these.
        self._lock, self._wake, self._hurry = threading.Lock(), threading.Event(), threading.Event()
        self._queue.clear()
        self._dropped = 0
        self._target.close()


def _losses(count: int) -> bytes:
    return lines.encode(lines.event("log-dropped", time.time(), {"count": count})) + b"\n"


_LOGS: "weakref.WeakSet[DecisionLog]" = weakref.WeakSet()


def _after_fork() -> None:
    for log in list(_LOGS):
        log._forked()


os.register_at_fork(after_in_child=_after_fork)
