"""Find and end processes that instances have left behind, daemons among them.

Orphans become children of the nearest ancestor that has asked for them (prctl(2), PR_SET_CHILD_SUBREAPER), so none is
out of sight.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

__all__ = ["adopt", "children", "end"]

_PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Have orphans of our descendants be our children from now on."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """Return the pids of our children, of all threads, those that have ended and were not waited for among them."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/children", encoding="ascii") as file:
            found.update(map(int, file.read().split()))
    return found


def end(spared: frozenset[int]) -> None:
    """Kill all children but these, and theirs as they become ours, until none is left; wait for each."""
    while left := children() - spared:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
