"""Find open files of other processes, and take duplicates of them (pidfd_getfd(2), Linux 5.6).

The kernel lets a process do that which may trace the other (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS): root with
CAP_SYS_PTRACE, or one user's own programs where Yama does not forbid it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from collections.abc import Collection, Iterable, Iterator

from outgate.gate.kernel import openfiles

#: The same number on every architecture (since 5.0 all of them count alike).
_PIDFD_GETFD = 438
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_libc = ctypes.CDLL(None, use_errno=True)


def find(inodes: Collection[int], pids: Iterable[int] | None = None) -> dict[int, tuple[int, int]]:
    """Return inode → (pid, fd) of a process that holds that socket, this one apart; what nobody holds is left out.

    :param pids: the only processes to look at; all unless given. Those whose files may not be read are not seen.
    """
    wanted = frozenset(inodes)
    found: dict[int, tuple[int, int]] = {}
    own = os.getpid()
    closed: list[int] = []
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()) if pids is None else pids:
        if len(found) == len(wanted):
            break
        if pid != own:
            try:
                _note(found, wanted, pid, _sockets(pid))
            except PermissionError:
                closed.append(pid)
            except OSError:  # ended
                pass
    if closed and len(found) < len(wanted):
        for pid, sockets in openfiles.sockets_of(closed)[0].items():
            _note(found, wanted, pid, sockets)
    return found


def _note(
    found: dict[int, tuple[int, int]], wanted: frozenset[int], pid: int, sockets: Iterable[tuple[int, int]]
) -> None:
    for fd, inode in sockets:
        if inode in wanted:
            found.setdefault(inode, (pid, fd))


def _sockets(pid: int) -> Iterator[tuple[int, int]]:
    """Give fd and inode of each socket of a process. Raises ``OSError``: it hides them, or has ended."""
    folder = f"/proc/{pid}/fd"
    fds = os.listdir(folder)
    for fd in fds:
        with contextlib.suppress(OSError):
            match = _SOCKET.fullmatch(os.readlink(f"{folder}/{fd}"))
            if match is not None:
                yield int(fd), int(match[1])


class Fetcher:
    """Takes duplicates, one process open at a time."""

    def __init__(self) -> None:
        self._pid = 0
        self._pidfd = -1

    def take(self, pid: int, fd: int) -> int:
        """Return a duplicate of an fd of a process: of whatever it is by now, so whoever asks looks what came.

        :raises OSError: it has ended or has closed that fd, the kernel lets us not, or no fd is left.
        """
        if pid != self._pid:
            self.close()
            self._pidfd = os.pidfd_open(pid)
            self._pid = pid
        taken: int = _libc.syscall(_PIDFD_GETFD, self._pidfd, fd, 0)
        if taken < 0:
            number = ctypes.get_errno() or errno.EIO
            raise OSError(number, os.strerror(number))
        return taken  # close-on-exec, says pidfd_getfd(2)

    def close(self) -> None:
        """Let go of the process."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pid, self._pidfd = 0, -1
