"""Ask the kernel about a socket that may keep it waiting, and let Python's other threads run meanwhile.

CPython keeps the interpreter's lock in ``getsockopt``, in ``setsockopt``, and in ``getsockname`` as it makes a socket
of an fd. A socket's own lock is kept by whoever sends on it, receives or sets an option, for as long as a page of that
program's memory does not come (tcp_sendmsg() copies with the lock held); that may be for ever. So even a thread that
may wait asks by these.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _socket import AF_INET, AF_INET6, SO_TYPE, SOCK_STREAM, SOL_SOCKET
from _socket import socket as native
from collections.abc import Callable
from typing import Final, TypeVar

SO_COOKIE: Final = 57
SO_DOMAIN: Final = 39
FAMILIES: Final = {4: AF_INET, 6: AF_INET6}
# ctypes lets other threads run during a call of a CDLL.
_libc = ctypes.CDLL(None, use_errno=True)
Sock = TypeVar("Sock", bound=native)


def option(fd: int, level: int, number: int, size: int) -> bytes:
    """Return an option of a socket (getsockopt(2)). Raises ``OSError``; ENOTSOCK where it is none."""
    room, length = ctypes.create_string_buffer(size), ctypes.c_uint(size)
    if _libc.getsockopt(fd, level, number, room, ctypes.byref(length)) != 0:
        raise _error()
    return room.raw[: length.value]


def set_option(fd: int, level: int, number: int, value: bytes) -> None:
    """Set an option of a socket (setsockopt(2)). Raises ``OSError``."""
    if _libc.setsockopt(fd, level, number, value, len(value)) != 0:
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def cookie(fd: int) -> int:
    """Return what the kernel knows a socket by (SO_COOKIE, for which it takes no lock), 0 of any other file."""
    try:
        return int.from_bytes(option(fd, SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
    except OSError:
        return 0


def is_tcp(fd: int, family: int) -> bool:
    """Tell whether an fd is a stream socket of a family, without waiting for its lock.

    :param family: 4 or 6.
    """
    try:
        found = [option(fd, SOL_SOCKET, each, 4) for each in (SO_DOMAIN, SO_TYPE)]
    except OSError:
        return False
    return [int.from_bytes(each, sys.byteorder) for each in found] == [FAMILIES[family], SOCK_STREAM]


def take(fd: int, family: int, new: Callable[[int, int], Sock]) -> Sock:
    """Return an object for a TCP socket that a program may hold, and close the fd it came as.

    The object is made of a fresh socket whose number is then given to that one: dup2(2) asks it nothing.

    :param family: 4 or 6.
    :param new: makes a socket of a family and type.
    :raises OSError: no fd is left; the fd is closed all the same.
    """
    try:
        sock = new(FAMILIES[family], SOCK_STREAM)
        os.dup2(fd, sock.fileno(), inheritable=False)
    finally:
        os.close(fd)
    return sock
