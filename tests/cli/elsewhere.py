"""Run as a script: be an ordinary user in a user namespace, perhaps one that allows no further one, and run outgate.

    elsewhere.py [--without SETTING] COMMAND ARGUMENT ...

The limits of a user namespace are its own, so a host that permits nothing is had without changing this one.
"""

import os
import sys

from outgate.guard import namespaces

ORDINARY = 4711


def main() -> None:
    """Move, and become ``python -m outgate``."""
    words = sys.argv[1:]
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.NEW_USER)
    for name, text in (("setgroups", "deny"), ("gid_map", f"{ORDINARY} {gid} 1"), ("uid_map", f"{ORDINARY} {uid} 1")):
        with open(f"/proc/self/{name}", "w") as stream:
            stream.write(text)
    if words[:1] == ["--without"]:
        with open(f"/proc/sys/user/{words[1]}", "w") as stream:
            stream.write("0")
        words = words[2:]
    os.execv(sys.executable, [sys.executable, "-m", "outgate", *words])


if __name__ == "__main__":
    main()
