"""Make a cgroup for the gate, and be in it: every socket that the gate makes from then on is marked with it."""

from __future__ import annotations

import contextlib
import os
import time
import zlib

from outgate.core.seal.cgroups import folder_of, name_of

_PROCESSES = "cgroup.procs"
#: Seconds for which an empty one may be that of a gate that is just starting; it takes a second.
_STARTING = 60.0


def own_folder() -> str:
    """Return the folder of the cgroup (v2) that this process is in, ``""`` where there is none."""
    try:
        return folder_of(_read("/proc/self/cgroup"), _read("/proc/self/mountinfo"))
    except OSError:
        return ""


def make(around: str, socket: str, is_kept: bool) -> str:
    """Return the folder of the gate's own cgroup, which is there now.

    :param around: the folder of the one that it lies in.
    :param socket: the path at which the gate listens.
    :param is_kept: whether the next gate there is to find it, and the sockets that this one leaves.
    :raises OSError: it cannot be made there.
    """
    name = _name(socket, is_kept)
    folder = around if os.path.basename(around) == name else os.path.join(around, name)
    _sweep(around)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o755)
    return folder


def enter(folder: str) -> None:
    """Move this process into a cgroup, with all its threads.

    :raises OSError: it is not there, or its ``cgroup.procs`` may not be written.
    """
    with open(os.path.join(folder, _PROCESSES), "w", encoding="ascii") as processes:
        processes.write(f"{os.getpid()}\n")


def try_to_enter(folder: str) -> None:
    """Enter a cgroup and go back. Raises ``OSError`` where this process may not."""
    home = own_folder()
    enter(folder)
    if home:
        enter(home)


def forget(socket: str) -> None:
    """Remove the cgroup that was kept for the next gate at a path: none will come."""
    remove(os.path.join(own_folder(), _name(socket, is_kept=True)))


def remove(folder: str) -> None:
    """Remove a cgroup in which nobody is any more. What is attached to it goes on for the sockets that it marks."""
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def number(folder: str) -> int:
    """Return what the kernel calls a cgroup (bpf_get_current_cgroup_id)."""
    return os.stat(folder).st_ino


def _name(socket: str, is_kept: bool) -> str:
    return name_of(zlib.crc32(os.fsencode(socket)), is_kept)


def _sweep(around: str) -> None:
    """Remove what gates that were killed have left: one that somebody is in cannot be removed."""
    with contextlib.suppress(OSError), os.scandir(around) as entries:
        for entry in entries:
            if entry.name.startswith("outgate-run-") and time.time() - entry.stat().st_mtime > _STARTING:
                remove(entry.path)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
