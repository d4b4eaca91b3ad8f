"""Reset a connection that a program holds, through the duplicate that the gate has of it."""

from __future__ import annotations

import ctypes
import os
from _socket import AF_UNSPEC
from _socket import socket as native

#: struct sockaddr with nothing but its family (connect(2): AF_UNSPEC dissolves the association).
_NOBODY = AF_UNSPEC.to_bytes(2, "little") + bytes(14)
_libc = ctypes.CDLL(None, use_errno=True)


def reset(sock: native) -> None:
    """Reset a TCP connection at once: the peer gets a reset, and whoever holds the socket ECONNRESET, then EPIPE.

    Never a clean end of file, which inside a transfer would look like success. The kernel's counters are zero
    afterwards: read them before.

    :raises OSError: what connect(2) says.
    """
    if _libc.connect(sock.fileno(), _NOBODY, len(_NOBODY)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
