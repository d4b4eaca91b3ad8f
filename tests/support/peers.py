"""Small TCP peers on loopback, each with one habit: echo, sink, source, silent, slow, resetting, half-closing.

A peer is a context manager with an accept thread and one thread per connection, and it ends without leaving any. Tests
wait for what happened (:meth:`Peer.accepted`, :meth:`Connection.wait`), never for time to pass. ::

    with peers.echo() as peer:
        client.connect(peer.address)
        connection = peer.accepted()
        ...
        assert connection.wait().received == 5
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from typing import Callable, Iterator

#: Seconds after which a wait is taken for a hang, in line with the suite's own limit. Nothing is asserted on it.
PATIENCE = 20.0
_CHUNK = 65536
#: Ports that peers of this process have had.
_used: set[int] = set()


def bound(host: str) -> socket.socket:
    """Return a TCP socket bound to a port that no peer of this process has had before.

    Tests find their lines in a gate's log by the port, and the kernel may choose one again that an earlier test had.
    """
    with contextlib.ExitStack() as kept:  # until the end, so that another one comes next
        while True:
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            sock.bind((host, 0))
            port: int = sock.getsockname()[1]
            if port not in _used:
                _used.add(port)
                return sock
            kept.enter_context(sock)


class Stopped(Exception):
    """The peer was told to stop while one of its connections was waiting."""


class Connection:
    """One accepted connection: its socket, what it counted, and how it ended.

    :ivar client: address of the other end.
    :ivar received: bytes read from it.
    :ivar sent: bytes written to it.
    :ivar data: the first 64 KiB of what was read.
    :ivar saw_end: the other end sent a clean end of file.
    :ivar error: the ``OSError`` that ended it, if one did.
    """

    def __init__(self, sock: socket.socket, client: tuple[str, int], peer: Peer) -> None:
        self.socket = sock
        self.client = client
        self.received = 0
        self.sent = 0
        self.data = b""
        self.saw_end = False
        self.error: OSError | None = None
        self._peer = peer
        self._done = threading.Event()
        self._credit = threading.Condition()
        self._allowed = 0

    def __repr__(self) -> str:
        return f"<Connection from {self.client[0]}:{self.client[1]} received={self.received} sent={self.sent}>"

    def receive(self, size: int = _CHUNK) -> bytes:
        """Read once and count; an empty answer is the other end's end of file."""
        data = self.socket.recv(size)
        self.received += len(data)
        self.saw_end = self.saw_end or not data
        self.data += data[: _CHUNK - len(self.data)]
        return data

    def send(self, data: bytes) -> None:
        """Write all of it and count."""
        view = memoryview(data)
        while view:
            count = self.socket.send(view[:_CHUNK])
            self.sent += count
            view = view[count:]

    def drain(self) -> None:
        """Read until the other end's end of file."""
        while self.receive():
            pass

    def allow(self, count: int) -> None:
        """Let a :func:`slow` peer read this many bytes more."""
        with self._credit:
            self._allowed += count
            self._credit.notify_all()

    def take_credit(self) -> int:
        """Wait until some bytes are allowed and return how many. Raises :class:`Stopped` when the peer stops."""
        with self._credit:
            self._credit.wait_for(lambda: self._allowed or self._peer.stopping.is_set())
            if not self._allowed:
                raise Stopped
            count, self._allowed = self._allowed, 0
            return count

    def wait(self) -> Connection:
        """Wait until this connection has ended and return it. Raises ``TimeoutError`` when it hangs."""
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{self!r} did not end")
        return self

    def wake(self) -> None:
        """End whatever its thread is waiting for; the peer's stop uses it."""
        with self._credit:
            self._credit.notify_all()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def run(self, habit: Callable[[Connection], None]) -> None:
        """Live by the habit, note how it ended, and close."""
        try:
            habit(self)
        except Stopped:
            pass
        except OSError as error:
            self.error = error
        finally:
            self.socket.close()
            self._done.set()


class Peer:
    """A listening socket and a habit for what connects to it.

    :param habit: called with each :class:`Connection` on a thread of its own; the connection is closed when it returns.
    :param host: loopback address to listen on, ``"::1"`` for IPv6.
    :param listener: a socket that is bound already, for instance in another network namespace; then ``host`` is unused.
    """

    def __init__(
        self,
        habit: Callable[[Connection], None],
        host: str = "127.0.0.1",
        listener: socket.socket | None = None,
    ) -> None:
        if listener is None:
            listener = bound(host)
        listener.listen(128)
        self._listener = listener
        self._habit = habit
        self._accepted: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.connections: list[Connection] = []
        self.stopping = threading.Event()
        self.host: str = listener.getsockname()[0]
        self.port: int = listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"peer {self.port}", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as ``connect`` takes them."""
        return self.host, self.port

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def accepted(self) -> Connection:
        """Return the next connection in order of arrival, waiting for it. Raises ``queue.Empty`` when none comes."""
        return self._accepted.get(timeout=PATIENCE)

    def stop(self) -> None:
        """Stop listening, end every connection, and join every thread. May be called twice."""
        if self.stopping.is_set():
            return
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
        self._acceptor.join(PATIENCE)
        self._listener.close()
        with self._lock:
            threads, connections = list(self._threads), list(self.connections)
        for connection in connections:
            connection.wake()
        for thread in threads:
            thread.join(PATIENCE)
            if thread.is_alive():
                raise RuntimeError(f"{thread.name} did not end")

    def _accept(self) -> None:
        while True:
            try:
                sock, client = self._listener.accept()
            except OSError:
                return
            connection = Connection(sock, client[:2], self)
            thread = threading.Thread(target=connection.run, args=(self._habit,), name=f"peer of {client}", daemon=True)
            with self._lock:
                self.connections.append(connection)
                self._threads.append(thread)
            thread.start()
            self._accepted.put(connection)


def echo(host: str = "127.0.0.1", listener: socket.socket | None = None) -> Peer:
    """Send back whatever comes, until the end of file."""

    def habit(connection: Connection) -> None:
        while data := connection.receive():
            connection.send(data)

    return Peer(habit, host, listener)


def sink(host: str = "127.0.0.1", listener: socket.socket | None = None) -> Peer:
    """Read and count until the end of file, and send nothing."""
    return Peer(Connection.drain, host, listener)


def source(data: bytes, host: str = "127.0.0.1", listener: socket.socket | None = None) -> Peer:
    """Send these bytes and an end of file at once, then read until the other end's."""

    def habit(connection: Connection) -> None:
        connection.send(data)
        connection.socket.shutdown(socket.SHUT_WR)
        connection.drain()

    return Peer(habit, host, listener)


def half_closing(greeting: bytes = b"bye\r\n", host: str = "127.0.0.1") -> Peer:
    """Send a greeting and an end of file, and go on reading: half of the connection stays open."""
    return source(greeting, host)


def silent(host: str = "127.0.0.1") -> Peer:
    """Accept, and neither read nor write nor close until the peer stops."""

    def habit(connection: Connection) -> None:
        connection.take_credit()

    return Peer(habit, host)


def slow(host: str = "127.0.0.1", buffer: int = 4096) -> Peer:
    """Read only as many bytes as :meth:`Connection.allow` was given, out of a small buffer: the sender gets stuck.

    :param buffer: SO_RCVBUF of the connection in bytes; the kernel doubles it (socket(7)).
    """
    listener = bound(host)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

    def habit(connection: Connection) -> None:
        while True:
            left = connection.take_credit()
            while left:
                data = connection.receive(min(left, _CHUNK))
                if not data:
                    return
                left -= len(data)

    return Peer(habit, host, listener)


def resetting(after: int = 0, host: str = "127.0.0.1") -> Peer:
    """Read this many bytes, then reset the connection; with 0 the other side's connect may already see it.

    Linger of zero seconds makes close() send a RST in place of a FIN (socket(7), SO_LINGER).
    """

    def habit(connection: Connection) -> None:
        while connection.received < after and connection.receive(after - connection.received):
            pass
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return Peer(habit, host)


@contextlib.contextmanager
def refusing(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Give an address where nothing listens and, as the port is held, nothing can: connect gets ECONNREFUSED."""
    with bound(host) as holder:
        yield holder.getsockname()[:2]


@contextlib.contextmanager
def pair(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Make a connection: the end that dialled, and the other."""
    with bound(host) as listener:
        listener.listen()
        one = socket.create_connection(listener.getsockname()[:2])
        other, _ = listener.accept()
    with one, other:
        yield one, other


@contextlib.contextmanager
def hanging(host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """Give an address whose queue is full: a connect there stays in progress for as long as this is open."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(bound(host))
        listener.listen(0)
        # A backlog of 0 still takes one connection (listen(2) compares with "greater than"); the next SYN is dropped.
        first = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        first.setblocking(False)
        yield listener.getsockname()[:2]
