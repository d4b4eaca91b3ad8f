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

from outgate.core.folding import Folding
from outgate.errors import ConfigError
from outgate.gate.decisionlog import lines
from outgate.gate.decisionlog.journal import JOURNALD, Journal
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
#: Seconds between attempts to rotate where that fails.
ROTATE_AGAIN: Final = 10.0
#: Seconds close() waits for a disk or a reader that does not take what is left.
CLOSE_LIMIT: Final = 3.0
#: Events that programs bring about, as often as they like.
_DRIVEN: Final = frozenset(
    (
        "channel-ended",
        "fault",
        "meter-tampered",
        "held-up",
        "held-up-ended",
        "narrowed",
        "narrowing-unreadable",
        "wrong-token",
    )
)


class DecisionLog:
    """The decision log of one gate. Every method may be called from any thread.

    :param target: a path (made with its folders, appended to), ``"-"`` for standard output, ``"journald"``, or an open
        fd, which stays the caller's.
    :param queue_limit: lines that may wait; what comes above is counted and dropped.
    :raises ConfigError: the path cannot be opened.
    """

    def __init__(self, target: str | int, queue_limit: int = QUEUE_LIMIT) -> None:
        try:
            self._target: Journal | LogFile = Journal() if target == JOURNALD else LogFile(target)
        except (OSError, ValueError) as error:  # ValueError: a path with a NUL
            why = getattr(error, "strerror", None) or str(error)
            raise ConfigError(
                f'gate.log: {target} cannot be opened: {why}; name a file this gate may write, or "-" for stdout'
            ) from None
        self._folding = Folding(0)
        self._limit = queue_limit
        self._queue: deque[bytes | threading.Event] = deque()
        self._lock = threading.Lock()  # for the counters and flags that are not on the usual path
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._dropped = self._lost = 0
        self._reopen = False
        self._rotate_at = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outgate-log", daemon=True)
        self._thread.start()
        _LOGS.add(self)

    def configure(self, rotate: int = 0, keep: int = 5, rate: float = 0) -> None:
        """Keep it so from now on.

        :param rotate: size in bytes at which a new file is begun, 0 for never; only where a path is written to.
        :param keep: how many earlier files stay.
        :param rate: lines a second of one app (:mod:`outgate.core.folding`), 0 for any number.
        """
        self._target.limit, self._target.keep = rotate, keep
        with self._lock:
            self._folding.rate = rate

    def admits(self, app: str, kind: str) -> bool:
        """Tell whether there is room for one more line about an app; if not it is counted, and told of later.

        :param kind: ``allowed``, ``denied``, ``ended`` or ``others``.
        """
        if not self._folding.rate:
            return True
        with self._lock:
            admitted, is_first = self._folding.admits(app, kind, time.monotonic())
        if is_first:
            self._wake.set()  # the thread has a time to keep from now on
        return admitted

    @property
    def folded(self) -> int:
        """How many lines have been folded since the start."""
        return self._folding.total

    @property
    def is_crowded(self) -> bool:
        """Whether so many lines wait for the disk that who can wait should."""
        return len(self._queue) > self._limit // 2

    def event(self, name: str, /, **fields: Any) -> None:
        """Log ``start``, ``reload`` or the like, with fields of its own. Never waits and never raises."""
        if name in _DRIVEN and not self.admits(str(fields.get("app") or ""), "others"):
            return
        self.write(lines.event(name, time.time(), fields))

    def write(self, line: Any) -> None:
        """Log a line of :mod:`outgate.gate.decisionlog.lines`, encoded or not. Never waits and never raises."""
        if self._closed:
            return
        packed = None
        try:
            if len(self._queue) < self._limit:
                packed = (line if type(line) is bytes else lines.encode(line)) + b"\n"
        except Exception:  # whatever is in it, the program goes on
            pass
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

    @property
    def lost(self) -> int:
        """How many lines have been lost since the start, reported or not."""
        return self._lost + self._dropped

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

    def mark(self, reached: threading.Event) -> None:
        """Have an event set when what was logged before is written or lost."""
        if self._closed:
            reached.set()
            return
        self._queue.append(reached)
        self._wake.set()

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
            self._wake.wait(self._patience())
            if not self._closed:
                self._hurry.wait(GATHER)
            self._hurry.clear()
            self._wake.clear()
            if self._reopen:
                self._reopen = False
                self._open_again()
            self._tell_folded()
            self._drain()
            if self._closed and not self._queue:
                break
        self._target.close()

    def _patience(self) -> "float | None":
        """Return for how long there is nothing to do but to wait for a line."""
        with self._lock:
            wait = self._folding.wait(time.monotonic())
        if self._dropped or self._target.torn:
            return RETRY if wait is None else min(RETRY, wait)
        return wait

    def _tell_folded(self) -> None:
        """Put the lines that tell of folded ones into the queue, whatever waits there: there are few of them."""
        with self._lock:
            found = self._folding.take(time.monotonic(), everything=self._closed)
        for each in found:
            fields = {"app": each.app, **each.counts, "seconds": each.seconds}
            self._queue.append(lines.encode(lines.event("log-folded", time.time(), fields)) + b"\n")

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
            self._rotate(sum(map(len, chunk)))
            lost = self._target.write(chunk)
            with self._lock:
                if lost < len(chunk):  # the first line, which reports the losses, is written
                    self._dropped += lost - reported
                    self._lost += reported
                else:
                    self._dropped += lost - (1 if reported else 0)
            for mark in marks:
                mark.set()
            if (lost or self._target.torn) and not self._queue:
                break  # tried again in a second

    def _rotate(self, coming: int) -> None:
        now = time.monotonic()
        if now < self._rotate_at:
            return
        try:
            if self._target.rotate(coming):
                self._rotate_at = 0.0
        except OSError as error:
            if not self._rotate_at:  # said once
                self.event("log-rotate", reason=f"{self._target.path}: {error.strerror}; it grows on")
            self._rotate_at = now + ROTATE_AGAIN

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
