"""Make the sockets that programs will hold."""

from __future__ import annotations

import os
import socket
import sys

_TCP_FASTOPEN_NO_COOKIE = 34
_SO_COOKIE = 57
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def make(family: int, owner: tuple[int, int] | None = None) -> tuple[socket.socket, int]:
    """Return a fresh, unconnected TCP socket and its cookie.

    :param family: 4 or 6.
    :param owner: (uid, gid) to give it to, so that firewall rules by owner see the app and not the gate; root only.
    :raises OSError: EMFILE or ENFILE if no fd is left.
    """
    sock = socket.socket(_FAMILIES[family], socket.SOCK_STREAM)
    try:
        # Cannot be set once connecting; it only lets our zero-length dial carry the MSG_FASTOPEN flag without a cookie.
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_NO_COOKIE, 1)
        if owner is not None:
            os.fchown(sock.fileno(), *owner)
        return sock, int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
    except BaseException:
        sock.close()
        raise
