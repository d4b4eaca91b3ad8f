"""Know the processes of the guarded tree, and what each has from the gate."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator

from outgate.core import paths
from outgate.core.formats import messages
from outgate.guard.supervision.loop import Loop
from outgate.guard.supervision.member import Member

#: A chain of parents longer than this is not followed.
_LONGEST = 64


class Tree:
    """The processes that have asked for a socket, as members of the gate's.

    :param path: of the gate's socket.
    :param waits: called before somebody waits for the gate.
    """

    def __init__(self, loop: Loop, path: str, waits: Callable[[], None]) -> None:
        self._loop = loop
        self._path = path
        self._waits = waits
        self._members: dict[int, Member] = {}
        self._lock = threading.Lock()

    def member(self, process: int) -> Member:
        """Return a process that lives. Raises ``OSError`` where it does not."""
        known = self._members.get(process)
        if known is not None and not known.has_ended:
            return known
        with self._lock:
            known = self._members.get(process)
            if known is not None and not known.has_ended:
                return known
            pidfd = os.pidfd_open(process)
            made = Member(self._path, process, self._tokens(process), _name(process), _labels(process), self._waits)
            self._members[process] = made
        self._loop.watch(pidfd, select.EPOLLIN, lambda: self._ended(made, pidfd))
        return made

    def _tokens(self, process: int) -> tuple[str, ...]:
        """Return the tokens of those that a process descends from, the next first."""
        for pid in _ancestors(process):
            known = self._members.get(pid)
            if known is not None:
                return (known.token, *known.parents)
        return ()

    def _ended(self, member: Member, pidfd: int) -> None:
        self._loop.forget(pidfd)
        os.close(pidfd)
        if self._members.get(member.process) is member:
            del self._members[member.process]
        member.end()


def _name(process: int) -> str:
    try:
        with open(f"/proc/{process}/comm", encoding="ascii", errors="backslashreplace") as file:
            return file.read().rstrip("\n")[:200]
    except OSError:
        return "?"


def _labels(process: int) -> str:
    """Return the labels that a process's bytes are booked under, from the environment it was started with."""
    name = f"{paths.LABELS_VARIABLE}=".encode()
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return ""
    found = next((entry[len(name) :] for entry in entries if entry.startswith(name)), b"")
    return found.decode("ascii", "replace")[: messages.MAX_LABELS]


def _ancestors(process: int) -> Iterator[int]:
    for _ in range(_LONGEST):
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                process = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return
        if process <= 1:
            return
        yield process
