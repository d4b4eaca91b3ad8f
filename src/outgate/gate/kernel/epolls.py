"""See which sockets processes have registered in an epoll: their event loops wait for them (proc(5), fdinfo)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection

from outgate.gate.kernel import peruser

_EPOLL = "anon_inode:[eventpoll]"
_TARGET = re.compile(r"^tfd:.* ino:([0-9a-f]+) ", re.MULTILINE)


def registered(inodes: Collection[int], pids: Collection[int]) -> tuple[set[int], set[int]]:
    """Return those of the socket inodes that one of these processes has in an epoll, and who could not be asked.

    It tells of every event loop, also of those that wait in C.

    :param inodes: ``st_ino`` of sockets.
    :return: inodes, and the pids of processes that have ended, whose files are not ours to read, or that keep us
        waiting.
    """
    seen, _ = peruser.look(pids, _awaited_by)
    found = set().union(*seen.values())
    return found.intersection(inodes), set(pids) - seen.keys()


def _awaited_by(pid: int) -> set[int]:
    """Return the inodes of what a process has in its epolls. Raises ``OSError``."""
    found: set[int] = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == _EPOLL:
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    found.update(int(ino, 16) for ino in _TARGET.findall(file.read()))
    return found
