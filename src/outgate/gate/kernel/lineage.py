"""Know by the kernel which processes a process descends from, and when each was started.

Times are clock ticks since boot, as /proc/PID/stat has them in its field 22 (proc_pid_stat(5)). A pid and its start
name one process for good; a pid alone is given to others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

#: A chain longer than this is not followed: whoever makes one only hides from limits it has from its own parents.
_LONGEST = 64
_TICKS: int = os.sysconf("SC_CLK_TCK")


class Being(NamedTuple):
    """One process: its pid, and when it was started."""

    pid: int
    start: int


def being(pid: int) -> Being | None:
    """Return a process that lives, ``None`` for one that does not, or whose facts may not be read (``hidepid``)."""
    seen = _stat(pid)
    return None if seen is None else Being(pid, seen[1])


def ancestry(pid: int) -> Iterator[Being]:
    """Give a process, its parent, that one's parent, and so on, as far as they live."""
    for _ in range(_LONGEST):
        seen = _stat(pid)
        if seen is None:
            return
        yield Being(pid, seen[1])
        pid = seen[0]


def now() -> int:
    """Return the time in the same ticks."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * _TICKS // 1_000_000_000


def _stat(pid: int) -> tuple[int, int] | None:
    """Return (parent's pid, start) of a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name is in brackets and may hold anything, brackets and spaces too.
            fields = file.read().rpartition(b")")[2].split()
        return int(fields[1]), int(fields[19])
    except (OSError, IndexError, ValueError):
        return None
