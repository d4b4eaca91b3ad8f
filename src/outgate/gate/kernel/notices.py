"""Be told by the kernel of TCP sockets that are no more, with their last counters (:mod:`outgate.core.notices`).

All sockets of the network namespace are told of, whosever they are, at some 2 µs each for who reads it. So we are a
member of the kernel's groups only while something is awaited.
"""

from __future__ import annotations

import contextlib
import errno
from _socket import AF_NETLINK, MSG_DONTWAIT, SO_RCVBUF, SOCK_RAW, SOL_SOCKET
from _socket import socket as native

from outgate.core import netlink, notices

_SO_RCVBUFFORCE = 33
#: Bytes of notices that may wait for us, in the kernel's way of counting (some 1,300 a notice); as much of it as
#: ``net.core.rmem_max`` grants to who has no CAP_NET_ADMIN when it is asked for.
_BUFFER = 4 << 20


class Notices:
    """A socket to the kernel's notices.

    :ivar why: why the kernel tells us nothing, ``""`` where it does.
    """

    def __init__(self) -> None:
        self.why = ""
        self._sock: native | None = None
        try:
            self._sock = _open()
        except OSError as e:
            self.why = f"the kernel does not tell of sockets that are no more ({e.strerror})"

    def fileno(self) -> int:
        """Return what is readable when something is told."""
        return self._sock.fileno() if self._sock is not None else -1

    def join(self) -> bool:
        """Be told from now on; tell whether we are."""
        if self._sock is None:
            return False
        try:
            for group in notices.TCP:
                self._sock.setsockopt(netlink.SOL_NETLINK, netlink.ADD_MEMBERSHIP, group)
        except OSError as e:
            self.why = f"the kernel tells us no more of sockets that are no more ({e.strerror})"
            self.close()
        return self._sock is not None

    def leave(self) -> None:
        """Be told no more; what has been told already can still be read."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                for group in notices.TCP:
                    self._sock.setsockopt(netlink.SOL_NETLINK, netlink.DROP_MEMBERSHIP, group)

    def take(self, most: int) -> tuple[list[bytes], bool]:
        """Return what has been told, at most so many packets; and whether something was lost in between."""
        packets: list[bytes] = []
        lost = False
        while self._sock is not None and len(packets) < most:
            try:
                packets.append(self._sock.recv(notices.ROOM, MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno != errno.ENOBUFS:
                    raise
                lost = True
        return packets, lost

    def close(self) -> None:
        """Give the socket back."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _open() -> native:
    sock = native(AF_NETLINK, SOCK_RAW, netlink.SOCK_DIAG)
    try:
        sock.bind((0, 0))  # who has no number of its own there is told nothing
        for option in (netlink.ADD_MEMBERSHIP, netlink.DROP_MEMBERSHIP):  # whether we may
            for group in notices.TCP:
                sock.setsockopt(netlink.SOL_NETLINK, option, group)
        try:
            sock.setsockopt(SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except PermissionError:
            sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
    except BaseException:
        sock.close()
        raise
    return sock
