"""A gate with doors for tests, and a client of SOCKS5 and CONNECT that says exactly what a test wants said."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import os
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.testing.running import RunningGate

#: Two apps with tokens of which one may do less, and one that has none. Tests add keys.
CONFIG = """
version = 1
[gate]
socks = ["127.0.0.1:0", "[::1]:0"]
http_connect = ["127.0.0.1:0"]
[apps.blog]
token_file = "{folder}/blog.token"
billing = true
reasons = "full"
except = ["127.0.0.1", "::1"]
{blog}
[apps.shop]
token_file = "{folder}/shop.token"
billing = true
[apps.local]
uid = [{uid}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""
PATIENCE = 10.0


class Doors:
    """A gate that runs, with doors.

    :ivar tokens: app → token.
    """

    def __init__(self, gate: RunningGate, tokens: dict[str, str]) -> None:
        self.gate = gate
        self.tokens = tokens

    def address(self, kind: str, family: int = socket.AF_INET) -> tuple[str, int]:
        """Return where a door is."""
        for door in self.all():
            host, _, port = door["address"].rpartition(":")
            if door["kind"] == kind and (":" in host) == (family == socket.AF_INET6):
                return host.strip("[]"), int(port)
        raise LookupError(kind)

    def all(self) -> list[dict[str, Any]]:
        """Return what ``outgate status`` shows of the doors."""
        found: list[dict[str, Any]] = ask.request(self.gate.socket, {"op": messages.STAT})["answer"]["doors"]
        return found

    def url(self, kind: str, app: str = "blog") -> str:
        """Return the URL of a door, for clients that take one."""
        host, port = self.address(kind)
        scheme = "socks5h" if kind == "socks5" else "http"
        return f"{scheme}://{app}:{self.tokens[app]}@{host}:{port}"

    def dial(self, kind: str, family: int = socket.AF_INET) -> socket.socket:
        """Return a connection to a door on which nothing was said."""
        sock = socket.create_connection(self.address(kind, family), PATIENCE)
        sock.settimeout(PATIENCE)
        return sock

    def greet(self, app: str = "blog", family: int = socket.AF_INET) -> socket.socket:
        """Return a connection to the SOCKS5 door that was let in."""
        sock = self.dial("socks5", family)
        sock.sendall(greeting(app, self.tokens[app]))
        assert read(sock, 4) == b"\x05\x02\x01\x00"
        return sock

    def connect(self, host: str, port: int, app: str = "blog") -> socket.socket:
        """Return a connection to a destination, by SOCKS5. Raises ``ConnectionError`` with the reply field."""
        sock = self.greet(app)
        try:
            sock.sendall(request(1, host, port))
            answer(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def tunnel(self, host: str, port: int, app: str = "blog") -> tuple[socket.socket, str]:
        """Return a connection that was asked for by CONNECT, and the answer."""
        sock = self.dial("http")
        login = base64.b64encode(f"{app}:{self.tokens[app]}".encode()).decode()
        sock.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\nProxy-Authorization: Basic {login}\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said:
            piece = sock.recv(1)
            assert piece, said
            said += piece
        text = said.decode()
        length = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Content-Length")), 0)
        return sock, text + read(sock, length).decode()


@contextlib.contextmanager
def running(folder: Path, blog: str = "", **options: Any) -> Iterator[Doors]:
    """Run a gate with :data:`CONFIG`.

    :param blog: further keys of the app ``blog``.
    :param options: of :class:`RunningGate`.
    """
    with RunningGate(config=configuration(folder, blog), **options) as gate:
        yield Doors(gate, {app: (folder / f"{app}.token").read_text().strip() for app in ("blog", "shop")})


def configuration(folder: Path, blog: str = "") -> str:
    """Make the tokens, and return the text of :data:`CONFIG`."""
    for app in ("blog", "shop"):
        file = folder / f"{app}.token"
        if not file.exists():
            file.touch(0o600)
            file.write_text(secrets.token_urlsafe(32) + "\n")
    return CONFIG.format(folder=folder, blog=blog, uid=os.getuid())


def greeting(app: str, token: str) -> bytes:
    """Return what a client of SOCKS5 says of itself."""
    return b"\x05\x01\x02\x01" + bytes((len(app),)) + app.encode() + bytes((len(token),)) + token.encode()


def packed(host: str, port: int) -> bytes:
    """Return an address as SOCKS5 has it: a number where it is one, else a name."""
    try:
        number = ipaddress.ip_address(host).packed
    except ValueError:
        return bytes((3, len(host))) + host.encode() + struct.pack(">H", port)
    return bytes((1 if len(number) == 4 else 4,)) + number + struct.pack(">H", port)


def request(command: int, host: str, port: int) -> bytes:
    """Return a request of SOCKS5."""
    return bytes((5, command, 0)) + packed(host, port)


def answer(sock: socket.socket) -> tuple[str, int]:
    """Return the address in a reply of SOCKS5. Raises ``ConnectionError`` with its number where it is no success."""
    head = read(sock, 4)
    address = ipaddress.ip_address(read(sock, 4 if head[3] == 1 else 16))
    (port,) = struct.unpack(">H", read(sock, 2))
    if head[1]:
        raise ConnectionError(head[1])
    return str(address), port


def read(sock: socket.socket, count: int) -> bytes:
    """Return so many bytes, or fewer where the other end has ended before."""
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data
