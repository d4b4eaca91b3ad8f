"""Look who has a UDP port in the network of a guarded tree, as /proc shows it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

#: A line of /proc/PID/net/udp (proc_pid_net(5)): local port, and inode.
_SOCKET = re.compile(rb"^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) (?:\S+\s+){7}(\d+) ", re.MULTILINE)


class Holder(NamedTuple):
    """Who has a port.

    :ivar process: one that has a socket there.
    :ivar inodes: of all sockets there.
    """

    process: int
    inodes: set[int]


class Network:
    """The network namespace of one tree.

    :param process: one that is in it, or was.
    :param identity: device and inode of its file in /proc.
    """

    def __init__(self, process: int, identity: tuple[int, int]) -> None:
        self._process = process
        self._identity = identity

    def inodes(self) -> set[int]:
        """Return those of the sockets that are bound to a port."""
        return {inode for _, inode in self._sockets()}

    def holder(self, port: int) -> Holder | None:
        """Return who has a socket at a port, ``None`` where nobody has."""
        inodes = {inode for number, inode in self._sockets() if number == port}
        links = {f"socket:[{inode}]" for inode in inodes}
        for process in self._processes() if links else ():
            folder = f"/proc/{process}/fd"
            try:
                for fd in os.listdir(folder):
                    if os.readlink(f"{folder}/{fd}") in links:
                        return Holder(process, inodes)
            except OSError:  # ended, or closed
                continue
        return None

    def _sockets(self) -> Iterator[tuple[int, int]]:
        for name in ("udp", "udp6"):
            for port, inode in _SOCKET.findall(self._read(name)):
                yield int(port, 16), int(inode)

    def _read(self, name: str) -> bytes:
        for _ in range(2):
            try:
                with open(f"/proc/{self._process}/net/{name}", "rb") as file:
                    return file.read()
            except FileNotFoundError:
                if os.path.exists(f"/proc/{self._process}/net"):
                    return b""  # no IPv6
            except OSError:
                pass
            self._process = next(self._processes(), self._process)
        return b""

    def _processes(self) -> Iterator[int]:
        """Give the processes that are in it."""
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    seen = os.stat(f"/proc/{name}/ns/net")
                except OSError:  # ended, or not ours to see
                    continue
                if (seen.st_dev, seen.st_ino) == self._identity:
                    yield int(name)
