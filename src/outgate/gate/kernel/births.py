"""Make the sockets that programs will hold, and those that take nothing but bytes from them."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    IPPROTO_TCP,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    SCM_RIGHTS,
    SO_OOBINLINE,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_SNDTIMEO,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)

# C's own class: the one of the socket module takes three times as long to make, for enums that nobody here asks for.
from _socket import socket as native
from collections.abc import Callable
from typing import NamedTuple

from outgate.gate.kernel.patient import FAMILIES, SO_COOKIE

_TCP_FASTOPEN_NO_COOKIE = 34
_SO_PASSRIGHTS = 83
#: SCM_MAX_FD of the kernel: no packet carries more.
_ROOM_FOR_FDS = CMSG_SPACE(253 * 4)
#: Options of a program's end of a pair, and their sizes (:data:`outgate.core.options.INSIDE` and ``KEPT``).
_ON_ITS_OWN_END = ((SO_REUSEADDR, 4), (SO_OOBINLINE, 4), (SO_RCVLOWAT, 4), (SO_RCVTIMEO, 16), (SO_SNDTIMEO, 16))


class Born(NamedTuple):
    """A socket on its way to a program: what both sides call it, and the fd that goes out."""

    id: int
    cookie: int
    fd: int


def make(
    family: int, owner: tuple[int, int] | None = None, new: Callable[[int, int], native] = native
) -> tuple[native, int]:
    """Return a fresh, unconnected TCP socket and its cookie.

    :param family: 4 or 6.
    :param owner: (uid, gid) to give it to, so that firewall rules by owner see the app and not the gate; root only.
    :param new: makes a socket of a family and type.
    :raises OSError: EMFILE or ENFILE if no fd is left.
    """
    sock = new(FAMILIES[family], SOCK_STREAM)
    try:
        # Cannot be set once connecting; it only lets our zero-length dial carry the MSG_FASTOPEN flag without a cookie.
        native.setsockopt(sock, IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE, 1)  # at once: nobody else has it yet
    except BaseException:
        sock.close()
        raise
    return _owned(sock, owner)


def make_own(family: int, owner: tuple[int, int] | None = None) -> tuple[native, int]:
    """Return one that the gate alone will ever hold: it never waits, so that it is dialled by a plain ``connect(2)``.

    Parameters and errors as :func:`make`.
    """
    return _owned(native(FAMILIES[family], SOCK_STREAM | SOCK_NONBLOCK), owner)


def _owned(sock: native, owner: tuple[int, int] | None) -> tuple[native, int]:
    try:
        if owner is not None:
            os.fchown(sock.fileno(), *owner)
        return sock, cookie_of(sock)
    except BaseException:
        sock.close()
        raise


def cookie_of(sock: native) -> int:
    """Return what the kernel knows a socket by, whoever holds it (SO_COOKIE)."""
    return int.from_bytes(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


def end_of(fd: int, cookie: int) -> native | None:
    """Return the end of a pair of streams that an fd is, if it is the one with that cookie."""
    try:
        sock = native(AF_UNIX, SOCK_STREAM, 0, fd)
    except OSError:
        return None
    try:
        if cookie_of(sock) == cookie:
            return sock
    except OSError:
        pass
    sock.detach()
    return None


def take_no_fds(sock: native) -> bool:
    """Make the kernel refuse fds at the sender (Linux 6.16); accepted channels inherit it from the listener."""
    try:
        sock.setsockopt(SOL_SOCKET, _SO_PASSRIGHTS, 0)
    except OSError:
        return False
    return True


def receiver(sock: native, dispose: Callable[[int], object]) -> Callable[[int], bytes]:
    """Return what receives packets of at most so many bytes, and nothing else.

    :param dispose: closes an fd that came along, where the kernel cannot refuse it; the packet counts as an end then.
    """
    if take_no_fds(sock):
        return sock.recv  # without room for any

    def receive(size: int) -> bytes:
        packet, ancillary, _, _ = sock.recvmsg(size, _ROOM_FOR_FDS, MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
                for fd in array.array("i", data[: len(data) - len(data) % 4]):
                    dispose(fd)
                return b""
        return packet

    return receive


def copy_options(one: native, other: native) -> None:
    """Give a program's end of a pair what programs set on it themselves: whether, and how long, it waits, and for what.

    The rest that may be set is kept there for nothing but to be read again.
    """
    fcntl.fcntl(other, fcntl.F_SETFL, fcntl.fcntl(one, fcntl.F_GETFL))
    for number, size in _ON_ITS_OWN_END:
        with contextlib.suppress(OSError):
            other.setsockopt(SOL_SOCKET, number, one.getsockopt(SOL_SOCKET, number, size))


def has_ended_sending(inside: native) -> bool:
    """Tell whether the other end of a pair has been shut down for sending."""
    waiting = select.poll()
    waiting.register(inside, select.POLLRDHUP)
    return bool(waiting.poll(0))


def take_out(end: native) -> bytes:
    """Return the bytes that lie unread in one end of a pair of streams, and take them out."""
    parts = []
    with contextlib.suppress(OSError):
        while True:
            parts.append(end.recv(1 << 18, MSG_DONTWAIT))
            if not parts[-1]:
                break
    return b"".join(parts)


def take_fds(sock: native) -> None:
    """Undo :func:`take_no_fds`, where it was possible."""
    with contextlib.suppress(OSError):
        sock.setsockopt(SOL_SOCKET, _SO_PASSRIGHTS, 1)


def inode_of(sock: native) -> int:
    """Return what the lists of open files in /proc call a socket."""
    return os.fstat(sock.fileno()).st_ino
