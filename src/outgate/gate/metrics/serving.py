"""Serve the metrics over HTTP, on the gate's loop, so that no scraper can hold it.

What a scraper can cost is bounded: the page is written a slice a turn of the loop, by one at a time for all who ask,
and no more often than leaves the loop nine tenths of its time; few connections, the oldest of which goes when there is
one too many; a short request, and a limit of time for it and for its answer. A thread would write faster, and take the
interpreter's lock from the loop for five milliseconds at a time meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from outgate.errors import ConfigError
from outgate.gate.kernel.listening import listen
from outgate.gate.metrics import gathering
from outgate.gate.metrics.lag import Lag

if TYPE_CHECKING:
    from outgate.gate.server import Gate

__all__ = ["Serving"]

#: Connections at one time. With one more the oldest is closed: who means well has long been answered.
MOST = 16
#: Bytes of the longest request.
LONGEST = 8192
#: Seconds in which a request must be there, and in which its answer must be taken.
REQUEST_LIMIT = 5.0
ANSWER_LIMIT = 20.0
#: Seconds for which a page is given out again; more where it took more than a tenth of that to write.
FRESH = 1.0
SHARE = 0.1
#: Seconds between attempts to listen, where another process, perhaps the gate before this one, is there still.
RETRY = 1.0
#: Of a Unix socket. Who else is to read it may be given a folder that sets its group.
MODE = 0o660

_TEXT: Final = "text/plain; charset=utf-8"
_GUIDE: Final = b"outgate: the metrics are at /metrics\n"


class Serving:
    """The place where metrics are fetched.

    :param address: ``host:port`` with a numeric host, in brackets if it has colons, or the absolute path of a socket.
    :ivar address: where it listens, once it does; port 0 has become a number.
    """

    def __init__(self, gate: Gate, address: str) -> None:
        self._gate = gate
        self._wanted = address
        self.address = ""
        #: Made before the gate enters the cgroup of its seal: nothing comes in on a socket that is made there.
        self._made = None if address.startswith("/") else _unbound(address)
        self._listener: socket.socket | None = None
        self._connections: dict[asyncio.Task[None], None] = {}
        self._timer: asyncio.Handle | None = None
        self._said = ""
        self._page = b""
        self._fresh_until = 0.0
        self._writing: asyncio.Task[bytes] | None = None
        self._lag = Lag(gate.loop, gate.counts.lag)

    def start(self) -> None:
        """Listen now, or as soon as nobody else does. A gate without metrics is better than none."""
        self._lag.start()
        self._listen()

    def _listen(self) -> None:
        gate = self._gate
        try:
            listener = _listener(self._wanted, self._made)
        except (OSError, ConfigError) as e:
            why = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            if why != self._said:  # once, and not every second
                self._said = why
                gate.log.event("metrics-failed", address=self._wanted, reason=f"{why}; it is tried again")
            self._timer = gate.loop.call_later(RETRY, self._listen)
            return
        self._listener = listener
        name = listener.getsockname()
        if listener.family == socket.AF_UNIX:
            self.address = self._wanted
        else:
            self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        gate.loop.add_reader(listener.fileno(), self._accept)
        gate.log.event("metrics", address=self.address)

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(MOST):
            try:
                sock, _peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:  # EMFILE: programs' sockets come first, and level-triggered readiness would spin
                self._gate.loop.remove_reader(self._listener.fileno())
                self._timer = self._gate.loop.call_later(RETRY, self._accept_again)
                return
            sock.setblocking(False)
            if len(self._connections) >= MOST:
                next(iter(self._connections)).cancel()
            task = self._gate.loop.create_task(self._serve(sock))
            self._connections[task] = None
            self._gate.tasks.add(task)
            task.add_done_callback(partial(self._ended, sock))

    def _accept_again(self) -> None:
        if self._listener is not None:
            self._gate.loop.add_reader(self._listener.fileno(), self._accept)

    def _ended(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        self._gate.tasks.discard(task)
        sock.close()  # without linger it waits for nobody
        if not task.cancelled() and task.exception() is not None:
            self._gate.fault(task.exception() or RuntimeError(), self)

    async def _serve(self, sock: socket.socket) -> None:
        loop = self._gate.loop
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(REQUEST_LIMIT):
                head = await _request(loop, sock)
            async with asyncio.timeout(ANSWER_LIMIT):
                for part in await self._answer(head):  # the page is not copied for each who takes it slowly
                    await loop.sock_sendall(sock, part)
                sock.shutdown(socket.SHUT_WR)
                # What is closed with something unread is reset, and takes along what was not delivered yet.
                while await loop.sock_recv(sock, LONGEST):
                    pass

    async def _answer(self, head: bytes) -> tuple[bytes, bytes]:
        line, _, _ = head.partition(b"\r\n")
        words = line.split(b" ")
        if not head.endswith(b"\r\n\r\n"):
            return _response("431 Request Header Fields Too Large" if len(head) >= LONGEST else "400 Bad Request")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request")
        method, target, _version = words
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", extra="Allow: GET, HEAD\r\n")
        path = target.partition(b"?")[0]
        if path == b"/":
            return _response("200 OK", _GUIDE, is_head=method == b"HEAD")
        if path != b"/metrics":
            return _response("404 Not Found", _GUIDE, is_head=method == b"HEAD")
        return _response("200 OK", await self._current(), gathering.CONTENT_TYPE, is_head=method == b"HEAD")

    async def _current(self) -> bytes:
        """Return the page: that of a moment ago, or the one that is being written, or a new one."""
        if time.monotonic() < self._fresh_until:
            return self._page
        if self._writing is None:
            self._writing = self._gate.loop.create_task(self._write())
            self._gate.tasks.add(self._writing)
            self._writing.add_done_callback(self._gate.tasks.discard)
        return await asyncio.shield(self._writing)

    async def _write(self) -> bytes:
        try:
            pieces: list[bytes] = []
            busy = 0.0
            began = time.perf_counter()
            for piece in gathering.pages(self._gate):
                pieces.append(piece)
                busy += time.perf_counter() - began
                await asyncio.sleep(0)
                began = time.perf_counter()
            pieces.append(await self._gate.loop.run_in_executor(None, gathering.process_page))
            self._page = b"".join(pieces)
            self._fresh_until = time.monotonic() + max(FRESH, busy / SHARE)
            return self._page
        finally:
            self._writing = None

    def stop(self) -> None:
        """Listen no more; requests at work end with the gate's other tasks."""
        self._lag.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            self._gate.loop.remove_reader(self._listener.fileno())
            if self._listener.family == socket.AF_UNIX:
                with contextlib.suppress(OSError):
                    os.unlink(self._wanted)
            self._listener.close()
            self._listener = None
        elif self._made is not None:
            self._made.close()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _unbound(address: str) -> socket.socket:
    """Return the socket that will listen at ``host:port``."""
    host, _ = _place(address)
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the gate before may linger
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setblocking(False)
    return sock


def _listener(address: str, made: socket.socket | None) -> socket.socket:
    """Return a listening socket. Raises ``OSError`` or ``ConfigError`` where there can be none now.

    :param made: the one to use; without it, one at a path is made.
    """
    if made is None:
        made = listen(address, MODE, "gate.metrics", socket.SOCK_STREAM)
        made.setblocking(False)
        return made
    if not made.getsockname()[1]:  # as it is where only listen(2) found the port taken
        made.bind(_place(address))
    made.listen(MOST)
    return made


async def _request(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    """Return what stands before a request's body, or as much of it as comes. Raises ``OSError`` where it is nothing."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST:
        piece = await loop.sock_recv(sock, LONGEST - len(head))
        if not piece:
            break
        head += piece
    if not head:
        raise ConnectionResetError(errno.ECONNRESET, "no request")
    end = head.find(b"\r\n\r\n")
    return head if end < 0 else head[: end + 4]


def _response(
    status: str, body: bytes = b"", kind: str = _TEXT, *, extra: str = "", is_head: bool = False
) -> tuple[bytes, bytes]:
    """Return head and body of an HTTP/1.1 response (RFC 9112) after which the connection ends."""
    body = body or (status + "\n").encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n"
    )
    return head.encode(), b"" if is_head else body
