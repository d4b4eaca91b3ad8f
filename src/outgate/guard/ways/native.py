"""Dial round the client: by the C library, by interpreters without it, by other programs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING

from outgate.guard.ways.children import in_program, in_python
from outgate.guard.ways.libc import NativeSocket
from outgate.guard.ways.target import CLIENT, FENCE, V4, V6, Target, Untried, Way

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WAYS"]

_MPTCP = 262


def _stream(host: str = V4, protocol: int = 0) -> Callable[[Target, bytes], None]:
    def dial(target: Target, mark: bytes) -> None:
        family = socket.AF_INET if host == V4 else socket.AF_INET6
        if family == socket.AF_INET6 and not target.ipv6:
            raise Untried("no IPv6 on this host")
        with NativeSocket.new(family, socket.SOCK_STREAM, protocol) as sock:
            sock.connect(host, target.port)
            sock.send(mark)

    return dial


def _fast_open(target: Target, mark: bytes) -> None:
    with NativeSocket.new(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.fast_open(mark, V4, target.port)


def _datagram(host: str) -> Callable[[Target, bytes], None]:
    def dial(target: Target, mark: bytes) -> None:
        family = socket.AF_INET if host == V4 else socket.AF_INET6
        if family == socket.AF_INET6 and not target.ipv6:
            raise Untried("no IPv6 on this host")
        with NativeSocket.new(family, socket.SOCK_DGRAM) as sock:
            sock.connect(host, target.port)
            sock.send(mark)

    return dial


def _c_class(target: Target, mark: bytes) -> None:
    """The class at the bottom of every socket class is C's own, whatever stands above it."""
    native = [each for each in socket.socket.__mro__ if each.__module__ == "_socket"][-1]
    sock = native(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.connect((V4, target.port))
        sock.send(mark)
    finally:
        sock.close()


def _wrapped(target: Target, mark: bytes) -> None:
    native = NativeSocket.new(socket.AF_INET, socket.SOCK_STREAM)
    with socket.socket(fileno=native.fd) as sock:
        sock.connect((V4, target.port))
        sock.sendall(mark)


def _isolated(target: Target, mark: bytes) -> str | None:
    return in_python(target._replace(only=("connect",)), mark, ["-I"])


def _bare(target: Target, mark: bytes) -> str | None:
    return in_python(target._replace(only=("connect",)), mark, environ={"PATH": os.environ.get("PATH", os.defpath)})


def _uvloop(target: Target, mark: bytes) -> None:
    try:
        import uvloop
    except ImportError:
        raise Untried(f"there is no uvloop for {sys.executable}") from None

    async def deliver() -> None:
        _, writer = await asyncio.open_connection(V4, target.port)
        writer.write(mark)
        await writer.drain()
        writer.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(deliver())
    finally:
        loop.close()


def _curl(target: Target, mark: bytes) -> str:
    url = f"http://{V4}:{target.port}/{mark.decode().strip()}"
    return in_program(["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "4", url])


def _bash(target: Target, mark: bytes) -> str:
    return in_program(["bash", "-c", f"echo {mark.decode().strip()} >/dev/tcp/{V4}/{target.port}"])


def _nc(target: Target, mark: bytes) -> str:
    return in_program(["nc", "-w", "2", V4, str(target.port)], mark)


def _perl(target: Target, mark: bytes) -> str:
    code = "use IO::Socket::INET; my $s = IO::Socket::INET->new($ARGV[0]) or die $@; print $s $ARGV[1], qq{\\n}"
    return in_program(["perl", "-e", code, f"{V4}:{target.port}", mark.decode().strip()])


WAYS = (
    Way("ctypes", "the C library's connect", FENCE, _stream()),
    Way("ctypes-ipv6", "the C library's connect, IPv6", FENCE, _stream(V6)),
    Way("ctypes-mapped", "the C library's connect, v4-mapped", FENCE, _stream("::ffff:127.0.0.1")),
    Way("ctypes-fast-open", "the C library's sendto with MSG_FASTOPEN", FENCE, _fast_open),
    Way("ctypes-mptcp", "the C library's connect, MPTCP", FENCE, _stream(protocol=_MPTCP)),
    Way("ctypes-udp", "the C library's UDP datagram", FENCE, _datagram(V4)),
    Way("ctypes-udp-ipv6", "the C library's UDP datagram, IPv6", FENCE, _datagram(V6)),
    Way("c-class", "the C class beneath socket.socket", FENCE, _c_class),
    Way("fileno", "socket(fileno=...) of a native fd", FENCE, _wrapped),
    Way("isolated", "python -I", FENCE, _isolated),
    Way("environment", "a Python started with an empty environment", FENCE, _bare),
    Way("uvloop", "an event loop of uvloop", CLIENT, _uvloop),
    Way("curl", "curl", FENCE, _curl),
    Way("bash", "bash's /dev/tcp", FENCE, _bash),
    Way("nc", "nc", FENCE, _nc),
    Way("perl", "perl", FENCE, _perl),
)
