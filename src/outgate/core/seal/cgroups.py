"""Find where a process's cgroup lies in the file system, from the texts of /proc. Pure: reads nothing.

Source: cgroups(7), and proc_pid_mountinfo(5). A host in hybrid mode has version 2 beside the older hierarchies; the
seal needs nothing but version 2.
"""

from __future__ import annotations

import re

__all__ = ["folder_of", "mounts", "name_of"]


def mounts(mountinfo: str) -> list[tuple[str, str]]:
    """Return where cgroup v2 is mounted, by ``/proc/self/mountinfo``: (which part of it, where)."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if after.split(" ", 1)[0] == "cgroup2" and len(fields) >= 5:
            found.append((_plain(fields[3]), _plain(fields[4])))
    return found


def folder_of(membership: str, mountinfo: str) -> str:
    """Return the folder of the cgroup (v2) that a process is in, ``""`` where it has none or cannot see it.

    :param membership: the text of ``/proc/PID/cgroup``.
    :param mountinfo: the text of ``/proc/self/mountinfo``.
    """
    own = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), "")
    if not own or own.startswith("/.."):  # outside of this cgroup namespace
        return ""
    for root, folder in mounts(mountinfo):
        if root == "/":
            return (folder + own).rstrip("/")
        if own == root or own.startswith(root + "/"):
            return folder + own[len(root) :]
    return ""


def name_of(checksum: int, is_kept: bool) -> str:
    """Return what the gate's own cgroup is called: one that outlives the gate has the same name at the next start.

    :param checksum: of the path at which the gate listens.
    """
    return f"outgate-{'gate' if is_kept else 'run'}-{checksum:08x}"


def _plain(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
