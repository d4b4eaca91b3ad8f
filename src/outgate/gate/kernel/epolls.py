"""See which sockets processes have registered in an epoll: their event loops wait for them (proc(5), fdinfo)."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

_EPOLL = "anon_inode:[eventpoll]"
_TARGET = re.compile(r"^tfd:.* ino:([0-9a-f]+) ", re.MULTILINE)


def registered(inodes: Collection[int], pids: Collection[int]) -> tuple[set[int], set[int]]:
    """Return those of the socket inodes that one of these processes has in an epoll, and who could not be asked.

    It tells of every event loop, also of those that wait in C.

    :param inodes: ``st_ino`` of sockets.
    :return: inodes, and the pids of processes that have ended, or whose files are not ours to read.
    """
    wanted = frozenset(inodes)
    found: set[int] = set()
    hidden: set[int] = set()
    for pid in pids:
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            hidden.add(pid)
            continue
        for fd in fds:
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") != _EPOLL:
                    continue
                with open(f"/proc/{pid}/fdinfo/{fd}") as file:
                    text = file.read()
            except OSError:
                continue
            found.update(wanted.intersection(int(ino, 16) for ino in _TARGET.findall(text)))
    return found, hidden
