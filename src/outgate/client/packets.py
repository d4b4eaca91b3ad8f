"""Move packets, and the fds in them, over one connected channel.

Nothing here may import :mod:`socket`: this module is what ``socket`` will be built on.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from _socket import CMSG_SPACE
from _socket import socket as _native
from fcntl import F_DUPFD_CLOEXEC, fcntl
from posix import close as close_natively  # os.close looks for the program's sockets

from outgate.client.constants import (
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_PEEK,
    SCM_RIGHTS,
    SO_COOKIE,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_CLOEXEC,
    SOCK_SEQPACKET,
    SOL_SOCKET,
)
from outgate.core.formats import messages

_MSG_CMSG_CLOEXEC = 0x40000000
_ANCILLARY = CMSG_SPACE(messages.MAX_BORN * 4)
#: Unread one-way packets wait in the kernel; a gate that is hung must not hang close() for longer than this.
ONE_WAY_LIMIT = 5.0


class _Quiet(_native):
    """A native socket whose end, when the interpreter shuts down, is no leak to warn the program about."""

    __slots__ = ()

    def __del__(self) -> None:
        self.close()


class Gone(Exception):
    """The other end of a channel has ended; the request was not, or may not have been, carried out."""

    def __init__(self, sent: bool) -> None:
        self.sent = sent


class Channel:
    """One connected channel, parked at a high number where programs do not look."""

    __slots__ = ("_cookie", "greeted", "limit", "sock")

    def __init__(self, path: str) -> None:
        sock = _Quiet(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        sock.settimeout(None)  # undo socket.setdefaulttimeout(), which C applies to every new socket
        sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _timeval(ONE_WAY_LIMIT))
        sock.connect(path)
        self.sock = park(sock)
        self._cookie = self.sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8)
        self.greeted = False
        self.limit = 0.0

    def is_ours(self) -> bool:
        """Tell whether our fd number still is our channel: ``closerange`` and daemonising give it to the program."""
        try:
            return self.sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8) == self._cookie  # half the price of fstat()
        except OSError:
            return False

    def has_ended(self) -> bool:
        """Tell whether the gate has closed it, without waiting and without taking a packet."""
        try:
            return not self.sock.recv(1, MSG_PEEK | MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def drop(self) -> None:
        """Close the channel, or let go of its number if the program uses that for something else by now."""
        if self.is_ours():
            self.sock.close()
        else:
            self.sock.detach()

    def __del__(self) -> None:
        # The last reference goes without drop() where a signal handler raised, and when the interpreter ends.
        try:
            if self.sock.fileno() >= 0:
                self.drop()
        except Exception:  # not even connected, or the interpreter has taken our modules down before us
            pass

    def send(self, packet: bytes) -> None:
        """Send one packet. Raises :class:`Gone` if the gate has closed the channel."""
        try:
            self.sock.send(packet)
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
            raise Gone(sent=False) from None

    def send_fd(self, packet: bytes, fd: int) -> None:
        """Send one packet and an fd with it. Raises :class:`Gone` if the gate has closed the channel."""
        try:
            self.sock.sendmsg([packet], [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))])
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
            raise Gone(sent=False) from None

    def send_fds(self, packet: bytes, fds: list[int]) -> None:
        """Send one packet with fds, or none, without waiting. Raises :class:`Gone` if the gate has closed it."""
        data = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
        try:
            self.sock.sendmsg([packet], [(SOL_SOCKET, SCM_RIGHTS, data)] if fds else [], MSG_DONTWAIT)
        except (BrokenPipeError, ConnectionResetError, ConnectionRefusedError):
            raise Gone(sent=False) from None

    def receive(self, op: str) -> bytes:
        """Wait for one packet without fds. Raises :class:`Gone`, or ``BlockingIOError`` at the operation's limit."""
        self._set_limit(op)
        try:
            packet = self.sock.recv(messages.MAX_PACKET)
        except ConnectionResetError:
            raise Gone(sent=True) from None
        if not packet:
            raise Gone(sent=True)
        return packet

    def receive_fds(self) -> tuple[bytes, list[int]]:
        """Read one packet and the fds in it, with signals blocked: a handler that raises would lose them.

        Raises :class:`Gone`, or ``BlockingIOError`` if it is not there yet.
        """
        try:
            packet, ancillary, _, _ = self.sock.recvmsg(
                messages.MAX_PACKET, _ANCILLARY, _MSG_CMSG_CLOEXEC | MSG_DONTWAIT
            )
        except ConnectionResetError:
            raise Gone(sent=True) from None
        fds = [
            int.from_bytes(data[start : start + 4], sys.byteorder)
            for level, kind, data in ancillary
            if level == SOL_SOCKET and kind == SCM_RIGHTS
            for start in range(0, len(data) - len(data) % 4, 4)
        ]
        if not packet:
            raise Gone(sent=True)
        return packet, fds

    def wait(self, op: str) -> None:
        """Wait until there is a reply to read. Raises ``BlockingIOError`` at the operation's limit."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        if not poll.poll(messages.LIMITS[op] * 1000):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _set_limit(self, op: str) -> None:
        limit = messages.LIMITS[op]
        if limit != self.limit:
            self.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _timeval(limit))
            self.limit = limit


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return whole.to_bytes(8, sys.byteorder) + int((seconds - whole) * 1e6).to_bytes(8, sys.byteorder)


def high() -> int:
    """Return the fd number above which programs do not look."""
    soft = min(os.sysconf("SC_OPEN_MAX"), 4096)
    return soft - min(soft // 4, 128)


def park(sock: _native) -> _native:
    """Move a native socket to a high fd number, so that the program's own fds keep the numbers they would have."""
    low = sock.fileno()
    moved = park_fd(low, high())
    if moved == low:
        return sock
    sock.detach()
    parked = _Quiet(sock.family, sock.type, sock.proto, moved)
    parked.settimeout(None)
    return parked


def park_fd(fd: int, high: int) -> int:
    """Move an fd to a number of at least ``high`` and return it; near the limit of fds it stays where it is."""
    try:
        moved = fcntl(fd, F_DUPFD_CLOEXEC, high)
    except OSError:
        return fd
    close_natively(fd)
    return int(moved)
