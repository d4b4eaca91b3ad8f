"""Call the C library's socket functions by ctypes, as native code in a program would."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NativeSocket", "address", "call"]

_MSG_FASTOPEN = 0x20000000
_library = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> int:
    """Call a function of the C library that returns a number; numbers are passed as C's ``long``.

    :raises OSError: it returned -1.
    """
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in args]
    result = int(getattr(_library, name)(*words))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def address(family: int, host: str, port: int) -> bytes:
    """Return a ``struct sockaddr_in`` or ``sockaddr_in6`` (ip(7), ipv6(7))."""
    start = struct.pack("=H", family) + port.to_bytes(2, "big")
    packed = socket.inet_pton(family, host)
    if family == socket.AF_INET:
        return start + packed + bytes(8)
    return start + bytes(4) + packed + bytes(4)


class NativeSocket:
    """An fd of a socket, used by the C library alone.

    :param fd: taken over; closed at the end of the block.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def new(cls, family: int, kind: int, protocol: int = 0) -> NativeSocket:
        """Make one natively. Raises ``OSError``."""
        return cls(call("socket", family, kind, protocol))

    def __enter__(self) -> NativeSocket:
        return self

    def __exit__(self, _type: type[BaseException] | None, _: BaseException | None, _tb: TracebackType | None) -> None:
        call("close", self.fd)

    def connect(self, host: str, port: int) -> None:
        """Connect. Raises ``OSError``."""
        packed = address(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
        call("connect", self.fd, packed, len(packed))

    def disconnect(self) -> None:
        """Connect to AF_UNSPEC: the socket has no peer any more, and may be given another (connect(2))."""
        call("connect", self.fd, socket.AF_UNSPEC.to_bytes(2, sys.byteorder) + bytes(14), 16)

    def fast_open(self, data: bytes, host: str, port: int) -> None:
        """Connect and send in one call (tcp(7)). Raises ``OSError``."""
        packed = address(socket.AF_INET, host, port)
        call("sendto", self.fd, data, len(data), _MSG_FASTOPEN, packed, len(packed))

    def send(self, data: bytes) -> None:
        """Send. Raises ``OSError``."""
        call("send", self.fd, data, len(data), socket.MSG_NOSIGNAL)
