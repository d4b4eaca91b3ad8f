"""Reach another gate: a connection, by a proxy where the configuration names one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import Any

from outgate.core.fleet import heads, names
from outgate.errors import ProtocolError


async def reach(loop: asyncio.AbstractEventLoop, place: names.Place, proxy: str) -> socket.socket:
    """Return a socket that is connected to a place, and does not block.

    :param proxy: ``HOST:PORT`` of an HTTP proxy, "" for none.
    :raises OSError: nobody is reached there.
    :raises ProtocolError: what is there is no proxy.
    """
    found = await loop.getaddrinfo(*(names.place(proxy) if proxy else place), type=socket.SOCK_STREAM)
    sock = await _dial(loop, found)
    try:
        prepare(sock)
        if proxy:
            await _tunnel(loop, sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _dial(loop: asyncio.AbstractEventLoop, found: list[Any]) -> socket.socket:
    failure: OSError = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    for family, kind, proto, _, address in found:
        sock = socket.socket(family, kind, proto)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, address)
        except OSError as e:
            sock.close()
            failure = e
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


async def _tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, place: names.Place) -> None:
    """Have the proxy connect us (RFC 9110 §9.3.6)."""
    await loop.sock_sendall(sock, heads.tunnel(str(place)))
    head = b""
    while heads.END not in head:
        # A byte more than the head would be TLS's: so none of it is taken.
        piece = await loop.sock_recv(sock, 1)
        if not piece or len(head) > heads.MOST:
            raise ProtocolError("the proxy does not answer as one")
        head += piece
    answer = heads.read_answer(head.removesuffix(heads.END))
    if answer.status != 200:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"the proxy refuses with status {answer.status}")


def prepare(sock: socket.socket) -> None:
    """Have a socket neither block nor wait for more to send."""
    sock.setblocking(False)
    with contextlib.suppress(OSError):  # a Unix socket has no Nagle
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
