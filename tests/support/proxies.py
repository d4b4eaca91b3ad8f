"""Proxies on loopback that follow a script, one step a line: honest ones, and those that lie, stall or end."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable

from support.peers import PATIENCE, bound

#: What a script does with the connection of a client.
Script = Callable[["Client"], object]

GREETED = b"\x05\x00"
REPLIED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Client:
    """One connection to a proxy.

    :ivar heard: what its client has said so far.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.address: tuple[str, int] = sock.getpeername()[:2]

    def hear(self, count: int) -> bytes:
        """Read just so many bytes. Raises ``OSError`` where the client ends before."""
        said = b""
        while len(said) < count:
            piece = self.sock.recv(count - len(said))
            if not piece:
                raise ConnectionResetError("the client has ended")
            said += piece
        self.heard += said
        return said

    def hear_head(self) -> bytes:
        """Read a head of HTTP."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.hear(1)
        return head

    def hear_greeting(self) -> bytes:
        """Read a greeting of SOCKS5."""
        start = self.hear(2)
        return start + self.hear(start[1])

    def hear_request(self) -> tuple[str, int]:
        """Read a request of SOCKS5, and return where to."""
        kind = self.hear(4)[3]
        if kind == 3:
            host = self.hear(self.hear(1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, self.hear(size))
        return host, int.from_bytes(self.hear(2), "big")

    def say(self, *pieces: bytes) -> None:
        """Send these bytes, each piece in a packet of its own."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.sock.sendall(piece)

    def wait_for_end(self) -> bytes:
        """Read until the client ends, and return what it said."""
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(65536):
                said += piece
        self.heard += said
        return said

    def echo(self) -> None:
        """Say what is heard, until the client ends."""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(65536):
                self.sock.sendall(piece)


class Proxy:
    """A listening socket, and a script for what connects to it; ends with the ``with`` block.

    :ivar address: where it listens.
    :ivar clients: those that have come, in order (:meth:`next`).
    """

    def __init__(self, script: Script, host: str = "127.0.0.1") -> None:
        self.script = script
        self.clients: queue.Queue[Client] = queue.Queue()
        self._listener = bound(host)
        self._listener.listen(64)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._open: list[Client] = []
        self._threads: list[threading.Thread] = []

    def url(self, scheme: str) -> str:
        """Return what it is called in a configuration."""
        host, port = self.address
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def next(self) -> Client:
        """Wait for the next client and return it."""
        return self.clients.get(timeout=PATIENCE)

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(PATIENCE)
        for client in self._open:
            with contextlib.suppress(OSError):
                client.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(PATIENCE)
        for sock in (self._listener, *(client.sock for client in self._open)):
            sock.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        self._threads.append(threading.Thread(target=target, args=args))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            client = Client(sock)
            self._open.append(client)
            self.clients.put(client)
            self._start(self._run, client)

    def _run(self, client: Client) -> None:
        with contextlib.suppress(OSError):
            self.script(client)
        with contextlib.suppress(OSError):
            client.sock.shutdown(socket.SHUT_RDWR)


def socks5(early: bytes = b"", behind: Script = Client.echo) -> Script:
    """Return an honest script that connects to nothing but what it does itself.

    :param early: what the far end says first, in the packet of the reply.
    :param behind: what the far end does then.
    """

    def script(client: Client) -> None:
        client.hear_greeting()
        client.say(GREETED)
        client.hear_request()
        client.say(REPLIED + early)
        behind(client)

    return script


def http(early: bytes = b"", behind: Script = Client.echo) -> Script:
    """Return the same for HTTP."""

    def script(client: Client) -> None:
        client.hear_head()
        client.say(CONNECTED + early)
        behind(client)

    return script


def answering(*answers: bytes, stalls: bool = False) -> Script:
    """Return a script that says one answer for each thing it hears, whatever that was, and ends, or stalls.

    :param stalls: whether it says nothing more and does not end.
    """

    def script(client: Client) -> None:
        for answer in answers:
            client.heard += client.sock.recv(65536)
            client.say(answer)
        if stalls:
            client.wait_for_end()

    return script


def secured(script: Script, context: ssl.SSLContext) -> Script:
    """Return a script that agrees on TLS first. Its client's end without TLS's own word for it is a reset."""

    def run(client: Client) -> None:
        client.sock = context.wrap_socket(client.sock, server_side=True, suppress_ragged_eofs=False)
        script(client)
        with contextlib.suppress(OSError, ValueError):  # the word for the end, where the test has not ended it before
            client.sock.unwrap()  # type: ignore[attr-defined]

    return run
