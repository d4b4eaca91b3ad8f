"""Open, lock, read and replace the state file, which only its gate may have written and only its gate may read."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from outgate.errors import ConfigError

#: Bytes above which a file is not read: a hundred times what the most leases of a gate come to.
MOST = 1 << 30
#: Seconds that the gate before this one has to be gone, when it has just been killed and is being buried.
PATIENCE = 2.0


class StateFile:
    """The file of one gate.

    :ivar path: where it is; beside it ``PATH.lock`` says whose it is, and ``PATH.new`` is what it is replaced with.
    """

    def __init__(self, path: str, lock: int | None = None) -> None:
        """Make its folder, and make it ours.

        :param lock: an fd that holds the lock already, from the gate whose place this one takes.
        :raises ConfigError: another gate has it.
        :raises OSError: the folder or the lock cannot be made.
        """
        self.path = path
        folder = os.path.dirname(path)
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        self._lock = lock if lock is not None else _locked(path)
        os.set_inheritable(self._lock, False)

    def fileno(self) -> int:
        """Return the fd that holds the lock, for the gate that takes this one's place."""
        return self._lock

    def read(self) -> tuple[bytes, str]:
        """Return what is in the file, and why it is not believed: "" where it is, or is not there."""
        try:
            # O_NONBLOCK: whatever stands there, the start does not wait for it.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return b"", ""
        except OSError as error:
            return b"", f"{self.path}: {error.strerror}"
        try:
            problem = self._doubt(os.fstat(fd))
            if problem:
                return b"", problem
            with open(fd, "rb", closefd=False) as file:
                return file.read(), ""
        except OSError as error:
            return b"", f"{self.path}: {error.strerror}"
        finally:
            os.close(fd)

    def _doubt(self, seen: os.stat_result) -> str:
        """Return why a file is not believed, "" where it is."""
        if not stat.S_ISREG(seen.st_mode):
            return f"{self.path} is not a file"
        if seen.st_uid != os.geteuid() or seen.st_mode & 0o077:
            mode = stat.S_IMODE(seen.st_mode)
            return f"{self.path} is not the gate's alone: its owner is {seen.st_uid}, its mode {mode:04o}"
        return f"{self.path} has {seen.st_size} bytes" if seen.st_size > MOST else ""

    def begin(self) -> int:
        """Return an fd of a fresh, empty file, which :meth:`replace` puts in the place of the one that is there.

        :raises OSError: it cannot be made.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._new)
        return os.open(self._new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def replace(self) -> None:
        """Put the fresh file in place. Raises ``OSError``."""
        os.rename(self._new, self.path)

    def give_up(self) -> None:
        """Remove the fresh file."""
        with contextlib.suppress(OSError):
            os.unlink(self._new)

    def remove(self) -> None:
        """Remove the file and its lock: there is nothing to tell the next gate."""
        for path in (self._new, self.path, _lock_path(self.path)):
            with contextlib.suppress(OSError):
                os.unlink(path)

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def _new(self) -> str:
        return self.path + ".new"


def _lock_path(path: str) -> str:
    return path + ".lock"


def _locked(path: str) -> int:
    deadline = time.monotonic() + PATIENCE
    name = _lock_path(path)
    while True:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(fd, name):
                return fd
            os.close(fd)  # its gate has removed it meanwhile, and another may have made it anew
        except BlockingIOError:
            os.close(fd)
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"gate.state: another gate says in {path} what it has open; stop it, or name another folder"
                ) from None
            time.sleep(0.02)  # flock(2) that waits cannot be given up
        except BaseException:
            os.close(fd)
            raise


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False
