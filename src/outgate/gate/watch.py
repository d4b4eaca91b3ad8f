"""Wait for dials to end, on an epoll of our own.

Not on the loop's: libuv sets O_NONBLOCK on every fd it polls, and that flag belongs to the open file which the program
shares. Its blocking connect() would fail with EALREADY.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

from outgate.gate.registry import Lease


class Watch:
    """The leases whose dial goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ended: Callable[[Lease], None]) -> None:
        self._loop = loop
        self._ended = ended
        self._epoll = select.epoll()
        self._leases: dict[int, Lease] = {}
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add(self, lease: Lease) -> None:
        """Call ``ended`` when the socket is connected or its dial has failed."""
        fd = lease.sock.fileno()
        self._leases[fd] = lease
        self._epoll.register(fd, select.EPOLLOUT | select.EPOLLONESHOT)

    def discard(self, lease: Lease) -> None:
        """Wait no more. Must come before the gate closes its duplicate: epoll keeps the file, not the fd."""
        if not self._leases:
            return
        fd = lease.sock.fileno()
        if self._leases.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def _on_ready(self) -> None:
        for fd, _ in self._epoll.poll(0, 64):
            lease = self._leases.get(fd)
            if lease is not None:
                self.discard(lease)
                self._ended(lease)

    def close(self) -> None:
        """Stop waiting for all of them."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
