"""Be the far end: take connections as fast as the kernel gives them, echo, swallow, send, count, and answer requests.

Started by :mod:`bench.world` as a process of its own, ``target.py ADDRESS CERTIFICATE``; prints its ports as one JSON
line and ends with its standard input. Taking a connection costs two system calls and no epoll registration, so that
opens are never bound by this process: a connection is kept until enough younger ones have come, and reset without
having been read if the other end has closed it.

A reset leaves nobody in TIME_WAIT: who has closed first waits for our FIN until then, and has its port back at once.
After a FIN it could not have it for a minute. Proxies that bind before they connect (dante does) have each port only
once then, whatever the destination, and not those with which anybody else is in TIME_WAIT: at a quick machine's rate
none was left, and they refused.
"""

import json
import resource
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from os import close

#: Connections that stay open on the listeners for opens: of most the client has long closed when their turn comes.
_KEPT = 1024
#: The same for connections that are held: the kernel looks long for a free port where half of them are taken.
_HOLD_PORTS = 8
#: Of its descriptors, those that are not for sockets which a client holds.
_OTHERS = 1500
#: Listeners for opens: each has all ephemeral ports, so that a fast client does not look long for a free one.
_OPEN_PORTS = 8
_BUFFER = 1 << 20
#: For SO_LINGER: close() resets.
_RESET = struct.pack("ii", 1, 0)


_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n"
_BODY = b"\r\n" + bytes(1024)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind((sys.argv[1], 0))
    listener.listen(4096)
    return listener


def _echo(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := sock.recv(65536):
        sock.sendall(data)


def _sink(sock: socket.socket) -> None:
    buffer = bytearray(_BUFFER)
    while sock.recv_into(buffer):
        pass
    sock.sendall(b".")


def _source(sock: socket.socket) -> None:
    left = int.from_bytes(sock.recv(8), "big")
    data = memoryview(bytes(_BUFFER))
    while left > 0:
        sock.sendall(data[:left])
        left -= _BUFFER


def _http(sock: socket.socket) -> None:
    """Answer requests without a body, until the client or a request ends the connection."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    read = b""
    while data := sock.recv(65536):
        read += data
        while b"\r\n\r\n" in read:
            head, _, read = read.partition(b"\r\n\r\n")
            is_last = b"\r\nconnection: close" in head.lower()
            sock.sendall(_HEAD + (b"Connection: close\r\n" if is_last else b"") + _BODY)
            if is_last:
                return


def _tls(certificate: str) -> "Callable[[socket.socket], None]":
    """Take TLS handshakes, each in full: no ticket goes out to go on with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.num_tickets = 0

    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as wrapped:
            wrapped.recv(1)

    return talk


def _udp(buffer: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.bind((sys.argv[1], 0))
    return sock


def _udp_echo(sock: socket.socket) -> None:
    while True:
        data, address = sock.recvfrom(2048)
        sock.sendto(data, address)


class _Counter:
    """Counts datagrams, and says so to whoever asks over TCP: how many, and when the last came (monotonic ns)."""

    def __init__(self) -> None:
        self.sock = _udp(4 * _BUFFER)
        self.count = self.last = 0

    def take(self) -> None:
        receive, clock, buffer = self.sock.recv_into, time.monotonic_ns, bytearray(2048)
        while True:
            receive(buffer)
            self.last = clock()
            self.count += 1

    def tell(self, sock: socket.socket) -> None:
        while sock.recv(1):
            sock.sendall(self.count.to_bytes(8, "big") + self.last.to_bytes(8, "big"))


def _serve(listener: socket.socket, talk: object) -> None:
    def one(sock: socket.socket) -> None:
        with sock:
            try:
                talk(sock)  # type: ignore[operator]
            except OSError:
                pass  # the client has gone

    while True:
        sock, _ = listener.accept()
        threading.Thread(target=one, args=(sock,), daemon=True).start()


def _take(listeners: "dict[int, tuple[socket.socket, deque[int], int]]") -> None:
    """Accept and drop connections until standard input ends."""
    epoll = select.epoll()
    epoll.register(sys.stdin.fileno(), select.EPOLLIN)
    for fd, (listener, _, _) in listeners.items():
        listener.setblocking(False)
        epoll.register(fd, select.EPOLLIN)
    while True:
        for fd, _ in epoll.poll():
            if fd not in listeners:
                return
            listener, kept, most = listeners[fd]
            accept = listener._accept  # type: ignore[attr-defined]  # no socket object for each
            try:
                while True:
                    kept.append(accept()[0])
                    if len(kept) > most:
                        _drop(kept, most // 2)
            except OSError:  # all taken
                pass


def _drop(kept: "deque[int]", count: int) -> None:
    """Close the oldest that the other end has closed, of so many; where there is none, the oldest."""
    oldest = [kept.popleft() for _ in range(count)]
    poll = select.poll()
    for fd in oldest:
        poll.register(fd, select.POLLRDHUP)
    ended = {fd for fd, _ in poll.poll(0)} or {oldest[0]}
    for fd in ended:
        close(fd)
    kept.extendleft(fd for fd in reversed(oldest) if fd not in ended)


def main() -> None:
    """Serve until standard input ends."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    counter = _Counter()
    echo = _udp(_BUFFER)
    talking = {
        "echo": _echo,
        "sink": _sink,
        "source": _source,
        "http": _http,
        "tls": _tls(sys.argv[2]),
        "udp_control": counter.tell,
    }
    ports: dict[str, list[int]] = {}
    for name, talk in talking.items():
        listener = _listener()
        ports[name] = [listener.getsockname()[1]]
        threading.Thread(target=_serve, args=(listener, talk), daemon=True).start()
    ports["udp_sink"], ports["udp_echo"] = [counter.sock.getsockname()[1]], [echo.getsockname()[1]]
    threading.Thread(target=counter.take, daemon=True).start()
    threading.Thread(target=_udp_echo, args=(echo,), daemon=True).start()
    taken = {}
    for name, count, most in (
        ("open", _OPEN_PORTS, _KEPT // _OPEN_PORTS),
        ("hold", _HOLD_PORTS, (hard - _OTHERS) // _HOLD_PORTS),
    ):
        ports[name] = []
        for _ in range(count):
            listener = _listener()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # what it accepts inherits that
            ports[name].append(listener.getsockname()[1])
            taken[listener.fileno()] = (listener, deque(), most)
    print(json.dumps(ports), flush=True)
    _take(taken)


if __name__ == "__main__":
    main()
