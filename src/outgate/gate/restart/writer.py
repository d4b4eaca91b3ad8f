"""Write the records of a gate on a thread of its own: the loop only ever puts them into a queue.

Lines are made of them on the thread, several at a time: made one by one, between the kernel's work for two connections,
they cost the loop four times what they do in a row, for the processor's caches know nothing of them then.

Records are appended with plain write(2). They live in the kernel's page cache, which survives the death of the gate
(and not that of the host, which no socket survives either), so nothing is synced. When the file has grown too far, or
could not be written, the loop says all of it anew and it is replaced in one piece.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Final, NamedTuple, Union

import msgspec

from outgate.gate.restart import records
from outgate.gate.restart.statefile import StateFile

#: Seconds in which records are gathered after a write. One that comes alone is written at once: what is not written
#: when the gate dies is not known to the next one.
GATHER: Final = 0.001
#: Records that wait, of a disk that takes none. A whole snapshot must fit beside them.
MOST_WAITING: Final = 200_000
#: Seconds that :meth:`Writer.close` waits for a disk.
CLOSE_LIMIT: Final = 3.0


class Fresh(NamedTuple):
    """A piece of the file that takes the place of the one there is."""

    data: bytes


class Begin(NamedTuple):
    """From here on the file is said anew."""


class Commit(NamedTuple):
    """All of it has been said."""


#: What the thread is given; bytes are lines already, and ``None`` is nothing but a reason to look.
Item = Union[bytes, records.Record, Fresh, Begin, Commit, None]


class Writer:
    """The thread that writes.

    :ivar size: bytes of the file, as far as the loop is concerned.
    :ivar failed: why the file is not written just now, "" where it is; it is replaced when that is over.
    :param marks: puts an event into the log's queue, which is set when the lines before it are written, or lost.
    :param tell: called on the thread when the file has failed, or is whole again.
    """

    def __init__(
        self, file: StateFile, marks: Callable[[threading.Event], object], tell: Callable[[str], object]
    ) -> None:
        self.size = 0
        self.failed = ""
        self._file = file
        self._marks = marks
        self._tell = tell
        self._fd = -1
        self._fresh = -1
        self._queue: queue.SimpleQueue[Item] = queue.SimpleQueue()
        # Held but when the thread is to gather no longer: an Event's wait is a dozen lines of Python.
        self._calm = threading.Lock()
        self._calm.acquire()
        self._is_closing = False
        self._unlogged: list[tuple[int, int]] = []
        self._mark: _Mark | None = None
        self._marked: list[tuple[int, int]] = []
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outgate-state", daemon=True)
        self._thread.start()

    # --- on the loop --------------------------------------------------------------------------------------------------

    def put(self, item: Item) -> None:
        """Write something soon. Never waits and never raises."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(item)
        else:
            self.failed = self.failed or "the disk takes nothing"

    def hold(self, limit: float = CLOSE_LIMIT) -> bool:
        """Write nothing from now on, once what is being written is: another gate is about to say it all anew."""
        return self._writing.acquire(timeout=limit)

    def release(self) -> None:
        """Write on after all."""
        self._writing.release()

    def close(self) -> None:
        """Write what waits, and end the thread. The log must have been closed before."""
        if not self._is_closing:
            self._is_closing = True
            self._calm.release()
            self._queue.put(None)
        self._thread.join(CLOSE_LIMIT)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._is_closing and self._queue.empty()):
            item = self._queue.get()
            with self._writing:
                self._drain(item)
            if not self._is_closing:
                self._calm.acquire(timeout=GATHER)
        with self._writing:
            if self._unlogged or self._marked:
                self._append(records.line(records.Logged(self._marked + self._unlogged)))
        for fd in (self._fd, self._fresh):
            if fd >= 0:
                os.close(fd)

    def _drain(self, item: Item) -> None:
        """Write an item and whatever waits behind it."""
        both: list[bytes] = []
        waiting = self._queue
        while True:
            if isinstance(item, bytes):
                both.append(item)
            elif isinstance(item, msgspec.Struct):
                both.append(records.line(item))
                if isinstance(item, records.Ended):
                    self._unlogged.append((item.id, item.serial))
            elif item is not None:
                self._append(b"".join(both))
                both.clear()
                self._replace(item)
            if waiting.empty():
                break
            item = waiting.get()
        if self._mark is not None and self._mark.is_set():
            both.append(records.line(records.Logged(self._marked)))
            self._mark, self._marked = None, []
        self._append(b"".join(both))
        if self._unlogged and self._mark is None and not self._is_closing:
            self._marked, self._unlogged = self._unlogged, []
            self._mark = _Mark(self._queue)
            self._marks(self._mark)

    def _replace(self, step: Fresh | Begin | Commit) -> None:
        """Take a step towards the file that takes the place of the one there is."""
        if isinstance(step, Fresh):
            self._write_fresh(step.data)
        elif isinstance(step, Begin):
            self._begin()
        else:
            self._commit()

    def _append(self, data: bytes) -> None:
        """Add records to the file, and to the one that is to take its place."""
        if not data:
            return
        self.size += len(data)
        if self._fresh >= 0:
            self._write_fresh(data)
        if self._fd >= 0 and not self.failed:
            problem = _write(self._fd, data)
            if problem:
                self._fail(problem)

    def _write_fresh(self, data: bytes) -> None:
        if self._fresh < 0:
            return
        problem = _write(self._fresh, data)
        if problem:
            self._drop_fresh()
            self._fail(problem)

    def _begin(self) -> None:
        self._drop_fresh()
        try:
            self._fresh = self._file.begin()
        except OSError as error:
            self._fail(error.strerror or str(error))

    def _commit(self) -> None:
        if self._fresh < 0:
            return
        if self._marked or self._unlogged:  # their ends are in the old file alone: let the log have them first
            logged = threading.Event()
            self._marks(logged)
            logged.wait(CLOSE_LIMIT)
        try:
            self._file.replace()
        except OSError as error:
            self._drop_fresh()
            self._fail(error.strerror or str(error))
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._fresh = self._fresh, -1
        self.size = os.fstat(self._fd).st_size
        was, self.failed = self.failed, ""
        if was:
            self._tell("")

    def _drop_fresh(self) -> None:
        if self._fresh >= 0:
            os.close(self._fresh)
            self._fresh = -1
            self._file.give_up()

    def _fail(self, problem: str) -> None:
        """Leave the file as it is: what stands in it is not all, but still true of what it names."""
        was, self.failed = self.failed, problem
        if not was:
            self._tell(problem)


class _Mark(threading.Event):
    """Set by the thread of the log, when the lines before it are written; wakes the one of the records."""

    def __init__(self, waiting: queue.SimpleQueue[Item]) -> None:
        super().__init__()
        self._waiting = waiting

    def set(self) -> None:
        """Note that the log has come so far."""
        super().set()
        self._waiting.put(None)


def _write(fd: int, data: bytes) -> str:
    """Append, and return what went wrong, "" for nothing; a line that was cut short is ended, if that can be done."""
    done = 0
    try:
        while done < len(data):
            done += os.write(fd, data[done:])
    except OSError as error:
        if done:
            with contextlib.suppress(OSError):
                os.write(fd, b"\n")
        return error.strerror or str(error)
    return ""
