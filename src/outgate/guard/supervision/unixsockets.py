"""Connect guarded programs to Unix sockets: those of their own network, and the paths that their app may use.

Abstract names are of a network namespace, and theirs is empty. A path is of the file system, and behind it may be a
daemon that would do anything for them (containers, message buses, agents), so only listed ones are connected to. The
guard opens the file as the program would find it, compares what it is, and connects to that very file, whatever its
name leads to by then. The far end sees the guard's credentials (SO_PEERCRED): its user, and not the program's pid.
"""

from __future__ import annotations

import errno
import os
from _socket import socket as native
from collections.abc import Callable, Sequence

from outgate.core.guard import sockaddr

#: What a program hears of a socket that it may not use: glibc takes it for a daemon that does not run, and goes on.
NOT_LISTED = errno.ECONNREFUSED


class UnixSockets:
    """The paths that may be connected to.

    :param paths: absolute ones; each is whatever file is there when somebody connects.
    :param waits: called before we wait for whoever listens, as long as that one likes (unix(7)).
    """

    def __init__(self, paths: Sequence[str], waits: Callable[[], None]) -> None:
        self._paths = tuple(paths)
        self._waits = waits

    def connect(self, thread: int, sock: native, address: sockaddr.Unix) -> int:
        """Connect, and return the answer."""
        self._waits()
        if address.abstract is not None:
            return -sock.connect_ex(b"\0" + address.abstract)
        root = f"/proc/{thread}/root" if address.path.startswith(b"/") else f"/proc/{thread}/cwd/"
        try:
            fd = os.open(os.fsencode(root) + address.path, os.O_PATH | os.O_CLOEXEC)
        except OSError as e:
            return -(e.errno or errno.ENOENT)
        try:
            if not self._is_listed(fd):
                return -NOT_LISTED
            return -sock.connect_ex(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def _is_listed(self, fd: int) -> bool:
        found = os.fstat(fd)
        for path in self._paths:
            try:
                listed = os.stat(path)
            except OSError:  # its daemon does not run
                continue
            if (listed.st_dev, listed.st_ino) == (found.st_dev, found.st_ino):
                return True
        return False
