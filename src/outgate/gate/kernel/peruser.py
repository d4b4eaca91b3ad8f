"""Look into processes on a thread for each user, for a process can keep who looks waiting.

To read what ``/proc`` says of an open file the kernel may take a lock of that file: of an epoll its mutex
(fs/eventpoll.c, ``ep_show_fdinfo()``), which is held while events are copied to the memory of whoever waits there, for
as long as that page does not come (a FUSE file, NFS). Nothing takes such a reader back, not even SIGKILL. So a program
holds up the thread of its own user, and who has asked goes on without: those processes are *hidden*.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

__all__ = ["look"]

#: Seconds for one process; and for those of a user who has kept somebody waiting in the last :data:`REMEMBERED` ones.
LIMIT: Final = 1.0
_SHORT, REMEMBERED = 0.05, 60.0
_UID: Final = re.compile(rb"^Uid:\t(\d+)", re.MULTILINE)
Found = TypeVar("Found")


class _Look(Generic[Found]):
    """One look at the processes of a user."""

    def __init__(self, pids: list[int], function: Callable[[int], Found]) -> None:
        self.found: dict[int, Found] = {}
        self.is_over = threading.Event()
        self._pids, self._function = pids, function
        self._began = time.monotonic()
        self._is_given_up = False

    def run(self) -> None:
        for pid in self._pids:
            if self._is_given_up:
                break
            self._began = time.monotonic()
            with contextlib.suppress(OSError):  # it has ended
                self.found[pid] = self._function(pid)
        self.is_over.set()

    def wait(self, limit: float) -> bool:
        """Wait until it is over, or has been about one process for too long; tell whether it is over."""
        while not self.is_over.wait(min(limit, 0.05)):
            if time.monotonic() - self._began >= limit:
                self._is_given_up = not self.is_over.is_set()
                break
        return self.is_over.is_set()


#: By user: a look that was given up and may not be back, and when that was (monotonic seconds).
_held: dict[int, tuple[_Look[Any], float]] = {}


def look(pids: Iterable[int], function: Callable[[int], Found]) -> tuple[dict[int, Found], dict[int, int]]:
    """Return what a function returns of each process, and pid → uid of those that are hidden.

    What has ended is left out.

    :param function: called on a thread; an ``OSError`` of its is taken for the process's end.
    """
    hidden: dict[int, int] = {}
    looks: list[tuple[int, list[int], _Look[Found]]] = []
    for uid, some in _by_user(pids).items():
        known = _held.get(uid)
        if known is not None and not known[0].is_over.is_set():
            hidden.update(dict.fromkeys(some, uid))
            continue
        made = _Look(some, function)
        looks.append((uid, some, made))
        threading.Thread(target=made.run, name=f"look-{uid}", daemon=True).start()
    found: dict[int, Found] = {}
    for uid, some, made in looks:
        known = _held.get(uid)
        is_known = known is not None and time.monotonic() - known[1] < REMEMBERED
        if made.wait(_SHORT if is_known else LIMIT):
            found |= made.found
        else:
            _held[uid] = made, time.monotonic()
            found |= (seen := dict(made.found))
            hidden.update({pid: uid for pid in some if pid not in seen})
    return found, hidden


def _by_user(pids: Iterable[int]) -> dict[int, list[int]]:
    """Return real uid → its processes. A file's owner would be root where a process hides its memory (prctl(2))."""
    found: dict[int, list[int]] = {}
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            match = _UID.search(file.read(4096))
            if match is not None:
                found.setdefault(int(match[1]), []).append(pid)
    return found
