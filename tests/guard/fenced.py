"""Run as a script: become somebody, enter the fence, and go on as a program or as a piece of Python.

    fenced.py [--uid N] [--gid N] [--groups N,N] [--before CODE] (--python CODE | -- PROGRAM ARGUMENT …)

``CODE`` sees every name of this module. A refusal of the fence is printed as JSON and ends with status 77. Everything
is imported before the uid changes, since an ordinary user may not be able to read this interpreter's files.
"""

import argparse
import ctypes
import errno
import fcntl
import json
import os
import socket
import sys
import threading

from outgate.guard import fence, inherited, namespaces, obstacles

REFUSED = 77
_PR_SET_DUMPABLE = 4

__all__ = ["ctypes", "errno", "fcntl", "inherited", "obstacles", "socket", "threading"]


def libc() -> ctypes.CDLL:
    """Return the C library with errno kept."""
    return ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int, groups: list[int]) -> None:
    """Change to another user for good, and be what a process is that was *started* as that user."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    dumpable(True)  # a change of uid clears it, an exec would set it again


def dumpable(flag: bool) -> None:
    """Set or clear this process's dumpable attribute (prctl(2))."""
    if libc().prctl(_PR_SET_DUMPABLE, int(flag), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def nest(uid: int, setting: str) -> None:
    """As root, move into a user namespace of our own as ``uid`` and set one of *its* limits to 0; the host's stay."""
    namespaces.unshare(namespaces.NEW_USER)
    with open("/proc/self/setgroups", "w") as stream:
        stream.write("deny")
    with open("/proc/self/gid_map", "w") as stream:
        stream.write(f"{uid} 0 1")
    with open("/proc/self/uid_map", "w") as stream:
        stream.write(f"{uid} 0 1")
    with open(f"/proc/sys/user/{setting}", "w") as stream:
        stream.write("0")


def attempt(call: object, *arguments: object) -> str:
    """Return what became of a call: ``ok`` or the name of its errno."""
    try:
        call(*arguments)  # type: ignore[operator]
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    return "ok"


def show(value: object) -> None:
    """Print one JSON value for the test to read."""
    print(json.dumps(value), flush=True)


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--groups", default="")
    parser.add_argument("--before", default="")
    parser.add_argument("--python")
    parser.add_argument("program", nargs="*")
    options = parser.parse_args()
    if options.uid is not None:
        gid = options.uid if options.gid is None else options.gid
        become(options.uid, gid, [int(each) for each in options.groups.split(",") if each])
    exec(options.before, globals())
    try:
        fence.enter()
    except fence.FenceUnavailable as refusal:
        show({"reason": refusal.reason, "cure": refusal.cure, "altered": refusal.altered})
        sys.exit(REFUSED)
    if options.python is not None:
        exec(options.python, globals())
    else:
        os.execvp(options.program[0], options.program)


if __name__ == "__main__":
    main()
