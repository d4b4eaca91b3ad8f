"""Find the processes that were given this gate's socket: programs that ``outgate run`` started, and their children.

A child that a program leaves behind may make its first socket only later, so no channel tells of it yet. What it has
is the environment it was started with (proc(5), ``/proc/PID/environ``); a fork keeps its parent's.
"""

from __future__ import annotations

import os

from outgate.core.paths import SOCKET_VARIABLE


def find(path: str) -> set[int]:
    """Return the pids of the processes whose environment names the socket at this path, this one apart.

    Processes whose environment may not be read, or that have overwritten it, are not seen.
    """
    wanted = b"\0" + os.fsencode(f"{SOCKET_VARIABLE}={path}") + b"\0"
    own = str(os.getpid())
    found = set()
    for pid in os.listdir("/proc"):
        if not pid.isdigit() or pid == own:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in b"\0" + file.read() + b"\0":
                    found.add(int(pid))
        except OSError:  # ended, or not ours to read
            continue
    return found
