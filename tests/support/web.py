"""A web server on loopback that answers byte for byte what a test has written, and keeps what it was asked.

::

    with web.server({"/": web.ok(b"hello"), "/on": web.redirect("/")}) as server:
        ...fetch(server.url("/on"))...
        assert [request.path for request in server.requests] == ["/on", "/"]
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Union

from support import peers
from support.peers import Connection


@dataclass
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """Return a header, "" where it did not come."""
        return next((value for each, value in self.headers if each.lower() == name.lower()), "")


#: The bytes of an answer, or what sends them.
Answer = Union[bytes, Callable[[Connection, Request], object]]


@dataclass
class Server:
    """A server that runs.

    :ivar requests: all that came, in their order.
    """

    scheme: str
    requests: list[Request] = field(default_factory=list)
    peer: peers.Peer = field(init=False)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Return the URL of a path."""
        return f"{self.scheme}://{host}:{self.peer.port}{path}"


def ok(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer that says its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def redirect(where: str, status: str = "302 Found") -> bytes:
    """Return a redirect."""
    return ok(b"", f"Location: {where}", status=status)


def hang(connection: Connection, request: Request) -> None:
    """Say nothing until the other end does, or the server stops."""
    connection.drain()


@contextlib.contextmanager
def server(answers: Mapping[str, Answer], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve these answers by path, one a connection; what has none is 404."""
    made = Server("https" if tls is not None else "http")

    def habit(connection: Connection) -> None:
        if tls is not None:
            connection.socket = tls.wrap_socket(connection.socket, server_side=True)
        request = _read(connection)
        made.requests.append(request)
        answer = answers.get(request.path, ok(b"", status="404 Not Found"))
        if isinstance(answer, bytes):
            connection.send(answer)
        else:
            answer(connection, request)

    with peers.Peer(habit) as made.peer:
        yield made


def _read(connection: Connection) -> Request:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.receive()
        if not more:
            raise ConnectionResetError("no request came")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    request = Request(method, path, pairs, body)
    size = int(request["Content-Length"] or 0)
    while len(request.body) < size:
        request.body += connection.receive()
    return request
