"""Append whole lines to a file, and say how many are lost where the disk is full or the reader gone.

Used by the thread of :mod:`outgate.gate.decisionlog.log` alone: a write may take as long as the disk likes.
"""

import contextlib
import os
import select
import stat

__all__ = ["LogFile"]


class LogFile:
    """The file, or open fd, that lines are appended to.

    :ivar path: the file's path; ``None`` for an fd, which cannot be opened again.
    :ivar torn: what is still to be written of a line that was cut short.
    :ivar limit: size in bytes at which a new file is begun; 0 for never.
    :ivar keep: how many earlier ones stay.
    """

    def __init__(self, target: str | int) -> None:
        """Open a path (made with its folders), take standard output for ``"-"``, or an fd, which stays the caller's.

        :raises OSError: the path cannot be opened.
        """
        self.limit = 0
        self.keep = 5
        self.path: str | None = None
        if target == "-":
            target = 1
        if isinstance(target, int):
            self.fd = os.dup(target)  # so that close() here leaves stdout to its owner
        else:
            self.path = target
            self.fd = self._open(target)
        self.torn = b""

    @staticmethod
    def _open(path: str) -> int:
        # A log of root's may be read by the group that the administrator gives it to; a user's log is the user's own.
        mode = 0o640 if os.geteuid() == 0 else 0o600
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, mode=mode | 0o110 if mode == 0o640 else 0o700, exist_ok=True)
        # O_NONBLOCK only for the open: a FIFO without a reader would hold the start for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(path, flags, mode)
        os.set_blocking(fd, True)
        return fd

    def reopen(self) -> None:
        """Open the path again, as after a rotation. Raises ``OSError`` and then keeps the old file."""
        if self.path is not None:
            fresh = self._open(self.path)
            os.close(self.fd)
            self.fd = fresh
            self.torn = b""

    def rotate(self, coming: int) -> bool:
        """Begin a new file if this one would become too large, and tell whether it has.

        The earlier ones become FILE.1, FILE.2 and so on, and those beyond ``keep`` are removed. Where somebody else
        has renamed the file and not told us yet, nothing is done: it is not ours any more, and what has its name now is
        not to be renamed over theirs.

        :param coming: bytes that are about to be written.
        :raises OSError: a file cannot be renamed, or the new one not be made; the old one stays in use, as it was.
        """
        if not self.limit or self.path is None or self.torn:
            return False
        here = os.fstat(self.fd)
        if not stat.S_ISREG(here.st_mode) or not here.st_size or here.st_size + coming <= self.limit:
            return False
        try:
            if not os.path.samestat(here, os.stat(self.path)):
                return False
        except FileNotFoundError:
            return False
        number = self.keep
        while os.path.lexists(f"{self.path}.{number}"):
            os.unlink(f"{self.path}.{number}")
            number += 1
        for number in range(self.keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        os.rename(self.path, f"{self.path}.1")
        try:
            self.reopen()
        except OSError:
            os.rename(f"{self.path}.1", self.path)
            raise
        return True

    def write(self, lines: list[bytes]) -> int:
        """Append lines and return how many of them are lost; a line that is cut short is completed by the next call."""
        data = self.torn + b"".join(lines)
        done = 0
        with contextlib.suppress(OSError):
            while done < len(data):
                try:
                    done += os.write(self.fd, data[done:])
                except BlockingIOError:  # an inherited stdout may be non-blocking
                    waiter = select.poll()  # select() knows no fd above 1023
                    waiter.register(self.fd, select.POLLOUT)
                    waiter.poll()
        if done == len(data):
            self.torn = b""
            return 0
        written, left = data[:done], data[done:]
        if written.endswith(b"\n") or not (written or self.torn):
            self.torn, lost = b"", left
        else:
            rest, _newline, lost = left.partition(b"\n")
            self.torn = rest + b"\n"
        return lost.count(b"\n")

    def close(self) -> None:
        """Give the file back. A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
