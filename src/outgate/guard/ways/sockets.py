"""Dial by Python's own sockets, in all their spellings: what the client sees and the gate judges."""

from __future__ import annotations

import asyncio
import os
import socket
import urllib.request
from typing import TYPE_CHECKING

from outgate.guard.ways.children import in_fork, in_python
from outgate.guard.ways.target import CLIENT, LIMIT, V4, V6, Target, Untried, Way

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS"]

MSG_FASTOPEN = 0x20000000

#: What the C library takes for 127.0.0.1, or the kernel for a connect to this host.
_SPELLINGS = ("127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0.0.0.0", "")


def _stream(host: str, family: int = socket.AF_INET) -> Callable[[Target, bytes], None]:
    def dial(target: Target, mark: bytes) -> None:
        if family == socket.AF_INET6 and not target.ipv6:
            raise Untried("no IPv6 on this host")
        with socket.socket(family) as sock:
            sock.settimeout(LIMIT)
            sock.connect((host, target.port))
            sock.sendall(mark)

    return dial


def _connect_ex(target: Target, mark: bytes) -> None:
    with socket.socket() as sock:
        number = sock.connect_ex((V4, target.port))
        if number:
            raise OSError(number, os.strerror(number))
        sock.sendall(mark)


def _nonblocking(target: Target, mark: bytes) -> None:
    import select

    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            sock.connect((V4, target.port))
        except BlockingIOError:
            select.select([], [sock], [], LIMIT)
        sock.send(mark)


def _name(target: Target, mark: bytes) -> None:
    with socket.create_connection(("localhost", target.port), LIMIT) as sock:
        sock.sendall(mark)


def _asyncio(target: Target, mark: bytes) -> None:
    asyncio.run(_deliver(target, mark))


async def _deliver(target: Target, mark: bytes) -> None:
    _, writer = await asyncio.open_connection(V4, target.port)
    writer.write(mark)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


def _urllib(target: Target, mark: bytes) -> None:
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with without_proxy.open(f"http://127.1:{target.port}/{mark.decode().strip()}", timeout=LIMIT):
        pass


def _fast_open(target: Target, mark: bytes) -> None:
    with socket.socket() as sock:
        sock.sendto(mark, MSG_FASTOPEN, (V4, target.port))


def _udp(target: Target, mark: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(mark, (V4, target.port))


def _duplicate(target: Target, mark: bytes) -> None:
    sock = socket.socket()
    again = os.dup(sock.fileno())
    sock.close()
    with socket.socket(fileno=again) as duplicate:
        duplicate.connect((V4, target.port))
        duplicate.sendall(mark)


def _fork(target: Target, mark: bytes) -> str | None:
    return in_fork(_stream(V4), target, mark)


def _child(target: Target, mark: bytes) -> str | None:
    return in_python(target._replace(only=("connect",)), mark)


WAYS = (
    Way("connect", "socket.connect", CLIENT, _stream(V4)),
    Way("connect-ex", "socket.connect_ex", CLIENT, _connect_ex),
    Way("nonblocking", "a connect that does not block", CLIENT, _nonblocking),
    Way("asyncio", "asyncio.open_connection", CLIENT, _asyncio),
    Way("urllib", "urllib, with a URL", CLIENT, _urllib),
    Way("name", "create_connection to the name localhost", CLIENT, _name),
    *(
        Way(f"spelling-{number}", f"connect to {spelling!r}", CLIENT, _stream(spelling))
        for number, spelling in enumerate(_SPELLINGS, 1)
    ),
    Way("ipv6", "connect to '::1'", CLIENT, _stream(V6, socket.AF_INET6)),
    Way("ipv6-any", "connect to '::'", CLIENT, _stream("::", socket.AF_INET6)),
    Way("mapped", "connect to '::ffff:127.0.0.1'", CLIENT, _stream("::ffff:127.0.0.1", socket.AF_INET6)),
    Way("fast-open", "sendto with MSG_FASTOPEN", CLIENT, _fast_open),
    Way("udp", "a UDP datagram", CLIENT, _udp),
    Way("duplicate", "os.dup, close, socket(fileno=...)", CLIENT, _duplicate),
    Way("fork", "a forked child", CLIENT, _fork),
    Way("child", "a Python that it starts", CLIENT, _child),
)
