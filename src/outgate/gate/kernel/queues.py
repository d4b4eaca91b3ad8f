"""Ask the kernel how many bytes lie in a socket's queues (tcp(7), unix(7): SIOCINQ and SIOCOUTQ)."""

from __future__ import annotations

import struct
import termios
from fcntl import ioctl

_INT = struct.Struct("=i")
_NONE = bytes(_INT.size)


def unread(fd: int) -> int:
    """Return the bytes that have come and were not read; of a socket that keeps packets apart, those of the next."""
    return _ask(fd, termios.FIONREAD)


def unsent(fd: int) -> int:
    """Return the bytes that were sent and that the other end has not taken: acknowledged over TCP, else read.

    Of a Unix socket the kernel counts the memory that they take (``sk_wmem_alloc``), which is more.
    """
    return _ask(fd, termios.TIOCOUTQ)


def _ask(fd: int, what: int) -> int:
    count: int = _INT.unpack(ioctl(fd, what, _NONE))[0]
    return count
