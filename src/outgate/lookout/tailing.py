"""Read a growing file line by line, and go on with the next one when it is rotated.

A file is rotated by a rename, after which its writer still writes to the old one until it is told to open the path
again, or by truncating it in place. Both are noticed; of the second what was written and cut off between two looks is
gone, as it is for everybody.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import stat
import time
from collections.abc import Iterator

from outgate.errors import systems

__all__ = ["LONGEST", "Tail"]

#: Bytes of the longest line; what is longer is no line of a log. The gate's own have two kilobytes at most.
LONGEST = 1 << 20
_CHUNK = 1 << 18

# sys/inotify.h
_NONBLOCK, _CLOEXEC = 0o4000, 0o2000000
_OF_FILE = 0x2 | 0x4 | 0x400 | 0x800  # IN_MODIFY, IN_ATTRIB (the last link gone), IN_DELETE_SELF, IN_MOVE_SELF
_OF_FOLDER = 0x80 | 0x100  # IN_MOVED_TO, IN_CREATE
#: Seconds between looks in any case: some file systems do not tell of what another host writes.
_LOOK = 2.0
#: Seconds between looks where the kernel gives us no watch.
_POLL = 0.25

# A FIFO without a writer would hold the open, and one with none any more every read: neither is a log's file. Windows
# has none of these flags but the last, without which it would read text that ends at the first Ctrl-Z.
_FLAGS = ("O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK", "O_BINARY")
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in _FLAGS)


class Tail:
    """The lines of a file, from its beginning or its last part to whatever is appended to it.

    :param path: of the file; ``-`` is standard input.
    :param last: begin with the first whole line in so many bytes before the end; the beginning where ``None``.
    :ivar torn: how many pieces were no whole line: cut short by a full disk, or longer than :data:`LONGEST`.
    :raises OSError: the file cannot be opened.
    """

    def __init__(self, path: str, last: int | None = None) -> None:
        self._path = path
        self._fd = os.dup(0) if path == "-" else _open(path)
        self._watch: _Watch | None = None
        self._piece = b""
        self._skipping = False
        self.torn = 0
        if last is not None and self.is_file:
            begin = max(0, os.fstat(self._fd).st_size - last)
            os.lseek(self._fd, max(0, begin - 1), os.SEEK_SET)
            self._skipping = begin > 0  # to the end of the line that we are in; none where one ends just there

    @property
    def is_file(self) -> bool:
        """Whether it is a file that may be appended to, and not a pipe that ends."""
        return stat.S_ISREG(os.fstat(self._fd).st_mode)

    @property
    def place(self) -> int:
        """Offset in the file of what :meth:`lines` has not given yet."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) - len(self._piece)

    def lines(self) -> Iterator[bytes]:
        """Give the whole lines from here to the end of the file as it is now, without their line ends."""
        while chunk := os.read(self._fd, _CHUNK):
            *whole, rest = chunk.split(b"\n")
            if whole:
                whole[0] = self._piece + whole[0]
                self._piece = b""
                if self._skipping:
                    del whole[0]
                    self._skipping = False
                yield from whole
            if not self._skipping:
                self._piece += rest
                if len(self._piece) > LONGEST:
                    self._drop_piece()
                    self._skipping = True

    def rest(self) -> bytes:
        """Return what stands behind the last line end, and forget it."""
        piece, self._piece = self._piece, b""
        return piece

    def follow(self) -> Iterator[bytes | None]:
        """Give lines for ever, of this file and those that come in its place; ``None`` where it waits for more."""
        self._watch = _Watch(self._path, self._fd)
        while True:
            self._watch.clear()
            yield from self.lines()
            if self._next():
                continue
            yield None
            self._watch.wait()

    def come(self) -> Iterator[bytes]:
        """Give the lines that have come by now, of this file and those that came in its place, and wait for none."""
        yield from self.lines()
        while self._next():
            yield from self.lines()

    def _next(self) -> bool:
        """Go on with the file that is there now, if it is another one or begins anew; tell whether it is."""
        here = os.fstat(self._fd)
        try:
            there = os.stat(self._path)
        except OSError:  # renamed, and the next is not there yet
            return False
        if os.path.samestat(here, there):
            if there.st_size >= os.lseek(self._fd, 0, os.SEEK_CUR):
                return False
            os.lseek(self._fd, 0, os.SEEK_SET)
        else:
            if not there.st_size:
                return False  # made for the writer, which has not come over yet
            # It has: what it wrote to the old one before that is all there, but perhaps not all read.
            if os.lseek(self._fd, 0, os.SEEK_CUR) < os.fstat(self._fd).st_size:
                return True
            try:
                fd = _open(self._path)
            except OSError:
                return False  # gone again, or not for us
            os.close(self._fd)
            self._fd = fd
            if self._watch is not None:
                self._watch.add(fd)
        self._drop_piece()
        self._skipping = False
        return True

    def _drop_piece(self) -> None:
        if self._piece:
            self.torn += 1
            self._piece = b""

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)
        if self._watch is not None:
            self._watch.close()


def _open(path: str) -> int:
    fd = os.open(path, _READ)
    if hasattr(os, "O_NONBLOCK"):
        os.set_blocking(fd, True)
    return fd


class _Watch:
    """Wakes when a file grows or its name gets another one, by inotify(7); by looking again where there is none."""

    def __init__(self, path: str, fd: int) -> None:
        self._fd = -1
        if not systems.foreign():
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.inotify_init1(_NONBLOCK | _CLOEXEC)  # -1: the user has too many
        if self._fd >= 0:
            self._libc.inotify_add_watch(self._fd, os.fsencode(os.path.dirname(os.path.abspath(path))), _OF_FOLDER)
            self.add(fd)

    def add(self, fd: int) -> None:
        """Watch the file that is open here, whatever its name will be."""
        if self._fd >= 0:
            self._libc.inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), _OF_FILE)

    def clear(self) -> None:
        """Forget what has happened so far; to be called before the look that sees it."""
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0:
                os.read(self._fd, 1 << 16)

    def wait(self) -> None:
        """Wait until something has happened since :meth:`clear`, or it is time for a look anyway."""
        if self._fd < 0:
            time.sleep(_POLL)
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(_LOOK * 1000)

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
