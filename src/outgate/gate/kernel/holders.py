"""Find out which processes hold a socket, as the kernel shows it in /proc.

While the gate keeps its duplicate, nothing tells whether anybody else still has the socket: not inet_diag (the
duplicate is a holder too), not the socket itself. The fd lists of the processes do, for unconnected sockets as well,
and the duplicate stays in place for an exact last reading.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping

from outgate.gate.kernel import openfiles


def can_read(pid: int) -> bool:
    """Tell whether a process lives and its list of open files is ours to read."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        return openfiles.can_list(pid)
    except OSError:
        return False
    return True


def find(
    inodes: Collection[int],
    own: int | None = None,
    pids: Collection[int] | None = None,
    owners: Mapping[int, int] | None = None,
) -> dict[int, set[int]]:
    """Return inode → pids of the processes that hold it, this one apart.

    Processes whose fds may not be read (another user's, or not dumpable) are not seen.

    :param inodes: socket inodes (``st_ino``) to look for.
    :param own: the pid to leave out; the caller's unless given.
    :param pids: the only processes to look at; all unless given.
    :param owners: inode → user whose program it was given to. A process of theirs that keeps us waiting counts as a
        holder: else its sockets would be let go of while it has them.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[int]] = {inode: set() for inode in inodes}
    if not wanted:
        return found
    skip = str(own if own is not None else os.getpid())
    closed: list[int] = []
    for pid in os.listdir("/proc") if pids is None else map(str, pids):
        if not pid.isdigit() or pid == skip:
            continue
        folder = f"/proc/{pid}/fd"
        try:
            fds = os.listdir(folder)
        except PermissionError:
            closed.append(int(pid))
            continue
        except OSError:  # ended
            continue
        for fd in fds:
            try:
                inode = wanted.get(os.readlink(f"{folder}/{fd}"))
            except OSError:
                continue
            if inode is not None:
                found[inode].add(int(pid))
    if closed:
        seen, hidden = openfiles.sockets_of(closed)
        for holder, sockets in seen.items():
            for _fd, held in sockets:
                if held in found:
                    found[held].add(holder)
        for holder, uid in hidden.items():
            for held, owner in (owners or {}).items():
                if owner == uid and held in found:
                    found[held].add(holder)
    return found
