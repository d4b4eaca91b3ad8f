"""Ask the kernel for the meter of a TCP socket that we do not hold (sock_diag(7), inet_diag version 2).

No privilege is needed, and only the sockets of our own network namespace are seen: those in use, not those that were
never connected or have been reset (net/ipv4/inet_diag.c walks the tables of connected and listening sockets). The
kernel finds a single socket by its addresses, and a cookie beside them must match (``sock_diag_check_cookie``); by the
cookie alone there is no way but to list them all once. Measured: some 8 µs a socket of a list, 4 µs one of a batch of
exact questions.
"""

from __future__ import annotations

import contextlib
import struct
from _socket import AF_INET, AF_INET6, AF_NETLINK, MSG_DONTWAIT, SOCK_RAW, SOL_SOCKET, inet_ntop
from _socket import socket as native
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from outgate.core.netlink import BY_FAMILY, HEADER, INFO, SOCK_DIAG, attributes
from outgate.gate.kernel import meter

_SO_RCVTIMEO = 20
_IPPROTO_TCP = 6
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
#: ``struct inet_diag_req_v2`` up to its ``struct inet_diag_sockid``: family, protocol, extensions, states.
_ASK = struct.Struct("=BBBxI")
_ALL_STATES = 0xFFFFFFFF
#: As an extension an attribute is asked for by its bit, less one.
_WITH_INFO = 1 << (INFO - 1)
#: ``struct inet_diag_sockid``: ports, source, destination, interface, cookie. It is told back as it is.
_ID_SIZE = 48
#: ``struct inet_diag_msg``: family, state, timer, retransmissions; the id; expires, queues, uid, inode.
_MESSAGE_SIZE = 4 + _ID_SIZE + 20
#: What stands for the timer of one in TIME_WAIT.
_WAITS = 3
_COOKIE = struct.Struct("=Q")
_INODE = struct.Struct("=I")
_FAMILIES = {AF_INET, AF_INET6}
#: Bytes of one receive: a list comes in pieces of at most 32 KiB.
_ROOM = 65536
#: Exact questions in one packet: the answers must fit the receive buffer, at some 400 bytes each.
BATCH = 100
#: ``struct timeval``: the kernel answers at once, or not at all.
_LIMIT = struct.pack("@ll", 2, 0)


class Seen(NamedTuple):
    """A TCP socket as the kernel lists it.

    :ivar key: what finds it again: family and ``inet_diag_sockid``, its cookie included.
    :ivar inode: what the lists of open files call it; 0 where no process holds it any more.
    """

    key: tuple[int, bytes]
    cookie: int
    inode: int
    local: tuple[str, int]
    reading: meter.Reading


class Diag:
    """A socket to the kernel's diagnosis of sockets.

    :raises OSError: the kernel has no sock_diag, or this process may have no netlink socket.
    """

    def __init__(self) -> None:
        self._sock = native(AF_NETLINK, SOCK_RAW, SOCK_DIAG)
        # Not settimeout(): Python would wait where MSG_DONTWAIT says not to.
        self._sock.settimeout(None)
        self._sock.setsockopt(SOL_SOCKET, _SO_RCVTIMEO, _LIMIT)
        self._number = 0

    def close(self) -> None:
        """Give the socket back."""
        self._sock.close()

    def listed(self) -> Iterator[tuple[int, tuple[int, bytes]]]:
        """Give cookie and :attr:`Seen.key` of every TCP socket of this network namespace that is in use.

        Nobody's meter is asked for: the kernel would wait for the lock of each, and its holder can keep it.

        :raises OSError: the kernel refuses, or answers nothing.
        """
        for family in (AF_INET, AF_INET6):
            self._send([_question(family, bytes(_ID_SIZE), 0)], _REQUEST | _DUMP)
            for body in self._answers(None):
                # What only waits (TIME_WAIT) has no meter any more: inet_twsk_diag_fill() marks it by its timer.
                if body is not None and len(body) >= _MESSAGE_SIZE and body[2] != _WAITS:
                    id = body[4 : 4 + _ID_SIZE]
                    yield _COOKIE.unpack_from(id, 40)[0], (body[0], id)

    def look(self, keys: Iterable[tuple[int, bytes]]) -> list[Seen | None]:
        """Return these sockets as they stand, ``None`` for each that is no more. Waits for who keeps the lock of one.

        :param keys: at most :data:`BATCH`, of :attr:`Seen.key`.
        :raises OSError: the kernel refuses, or answers nothing.
        """
        asked = [_question(family, id, _WITH_INFO) for family, id in keys]
        self._send(asked, _REQUEST)
        return [None if body is None else parse(body) for body in self._answers(len(asked))]

    def _send(self, questions: list[bytes], flags: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._sock.recv(_ROOM, MSG_DONTWAIT):  # of a question that was given up
                pass
        self._number += 1
        packet = b"".join(
            HEADER.pack(HEADER.size + len(each), BY_FAMILY, flags, self._number, 0) + each for each in questions
        )
        self._sock.send(packet)

    def _answers(self, count: int | None) -> Iterator[bytes | None]:
        """Give the answers to the last question: so many, or all up to the end of a list."""
        while count is None or count:
            packet = self._sock.recv(_ROOM)
            start = 0
            while start + HEADER.size <= len(packet):
                length, kind, _flags, number, _port = HEADER.unpack_from(packet, start)
                body = packet[start + HEADER.size : start + length]
                start += (length + 3) & ~3
                if number != self._number:
                    continue
                if kind == _DONE:
                    return
                if count is not None:
                    count -= 1
                if kind == BY_FAMILY:
                    yield body
                elif kind == _ERROR and count is None:
                    raise OSError(-_INODE.unpack_from(body)[0] & 0xFFFFFFFF, "the kernel lists no sockets")
                else:
                    yield None


def _question(family: int, id: bytes, extensions: int) -> bytes:
    return _ASK.pack(family, _IPPROTO_TCP, extensions, _ALL_STATES) + id


def parse(body: bytes) -> Seen | None:
    """Return the socket in an answer (``struct inet_diag_msg`` and attributes), ``None`` without a ``tcp_info``. Pure.

    What has none is no whole socket any more: in TIME_WAIT, or a request that waits for its handshake. A kernel that is
    older says less at the end of one: that counts as zero.
    """
    if len(body) < _MESSAGE_SIZE or body[0] not in _FAMILIES:
        return None
    id = body[4 : 4 + _ID_SIZE]
    for kind, value in attributes(body, _MESSAGE_SIZE):
        if kind == INFO:
            local = inet_ntop(body[0], id[4 : 8 if body[0] == AF_INET else 20])
            return Seen(
                (body[0], id),
                _COOKIE.unpack_from(id, 40)[0],
                _INODE.unpack_from(body, _MESSAGE_SIZE - 4)[0],
                (local, int.from_bytes(id[:2], "big")),
                meter.parse(value.ljust(meter.SIZE, b"\0")),
            )
    return None
