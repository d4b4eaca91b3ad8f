"""Carry connections from this host's loopback into a network namespace, for a browser that runs here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def forwarded(connect: Callable[[], socket.socket]) -> Iterator[int]:
    """Listen on a free port of loopback, and return it; each connection goes on in one that ``connect`` makes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, connect))
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


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
            carrying.append(threading.Thread(target=_carry, args=pair))
            carrying[-1].start()
    for sock in opened:
        _end(sock)
    for thread in carrying:
        thread.join()
    for sock in opened:
        sock.close()


def _carry(source: socket.socket, drain: socket.socket) -> None:
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
