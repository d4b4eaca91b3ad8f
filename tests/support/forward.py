"""Carry connections and datagrams from one network namespace into another."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def forwarded(connect: Callable[[], socket.socket], listener: socket.socket | None = None) -> Iterator[int]:
    """Listen on a free port of loopback, and return it; each connection goes on in one that ``connect`` makes.

    :param listener: what listens already, instead; it is closed at the end.
    """
    with listener or socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, connect))
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


@contextmanager
def forwarded_datagrams(sock: socket.socket, make: Callable[[], socket.socket]) -> Iterator[None]:
    """Send each datagram that a socket takes on by one that ``make`` makes, connected, and the answer back.

    :param sock: bound; it is closed at the end, and so are the others.
    """
    made: list[socket.socket] = []

    def serve() -> None:
        while True:
            payload, source = sock.recvfrom(65536)
            if not payload:
                return
            made.append(make())
            made[-1].send(payload)
            with suppress(OSError):  # no answer
                sock.sendto(made[-1].recv(65536), source)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RD)  # an unconnected one wakes up all the same
        thread.join()
        for each in (sock, *made):
            each.close()


def _accept(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    opened: list[socket.socket] = []
    carrying: list[threading.Thread] = []
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # it is over
            break
        far = connect()
        far.settimeout(None)
        opened += [near, far]
        for pair in ((near, far), (far, near)):
            carrying.append(threading.Thread(target=carry, args=pair))
            carrying[-1].start()
    for sock in opened:
        _end(sock)
    for thread in carrying:
        thread.join()
    for sock in opened:
        sock.close()


def carry(source: socket.socket, drain: socket.socket) -> None:
    """Carry bytes one way until their end, and the end as well."""
    try:
        while data := source.recv(65536):
            drain.sendall(data)
        drain.shutdown(socket.SHUT_WR)
    except OSError:
        _end(source)
        _end(drain)


def _end(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # it has ended, or is closed
        pass
