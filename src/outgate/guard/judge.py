"""Listen on loopback and tell what arrives: the judge of the proof, who believes no program.

One thread, one selector. Listening sockets are on this host's loopback only. Whatever comes is closed as soon as its
mark is known; what carries no mark of ours is a stray, and counts as well.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Any

from outgate.core.formats import quickjson
from outgate.guard.proof import Round
from outgate.guard.ways.target import V4, V6, Target, command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Judge"]

#: Seconds that all ways together may take; they take about two.
ROUND_LIMIT = 90.0
#: Seconds to wait for what is still on its way through loopback when the program has ended.
_GRACE = 0.1
#: Seconds in which our own last connection must have arrived, since loopback loses nothing.
_SETTLE_LIMIT = 5.0
_END = "end"
_LONGEST = 4096
_TRIES = 20


class Judge:
    """Listens on one port for TCP and UDP, IPv4 and, where the host has it, IPv6.

    :ivar port: that port.
    :ivar ipv6: whether ``::1`` is listened on.
    :raises OSError: this host's loopback cannot be listened on.
    """

    def __init__(self) -> None:
        self.nonce = os.urandom(8).hex()
        self._pattern = re.compile(self.nonce.encode() + rb":([a-z0-9-]+)[^a-z0-9-]")
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        self._arrived: set[str] = set()
        self._strays = 0
        self._open: dict[socket.socket, bytes] = {}
        self.ipv6 = _has_ipv6()
        self.port = self._listen()
        for sock in self._listeners:
            react = self._accept if sock.type == socket.SOCK_STREAM else self._receive
            self._selector.register(sock, selectors.EVENT_READ, react)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every socket."""
        for sock in (*self._listeners, *self._open):
            sock.close()
        self._selector.close()

    def target(self, root: str, only: Sequence[str] = (), bait: int = -1) -> Target:
        """Return what a program is to dial.

        :param root: the folder that outgate is in.
        :param only: the ways; all where it is empty.
        :param bait: an fd of this process's, a socket that is not connected.
        """
        return Target(root, self.port, self.nonce, self.ipv6, tuple(only), os.getpid(), bait)

    def hear(self, before: Sequence[str], root: str, only: Sequence[str] = ()) -> Round:
        """Run the program of all ways, and return what it said and what arrived.

        :param before: the words in front of its command: ``outgate run … --``, or none.
        :param root: the folder that outgate is in.
        :param only: the ways; all where it is empty.
        """
        self._arrived, self._strays = set(), 0
        with socket.socket() as bait, tempfile.TemporaryFile() as errors:
            words = [*before, *command(self.target(root, only, bait.fileno()))]
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
            try:
                ended, said = self._follow(process)
                if ended:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(ROUND_LIMIT)
                    self._settle()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it started and left
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
            errors.seek(0)
            text = errors.read().decode("utf-8", "replace").strip()
        if not ended:
            text += f"\nit did not end within {ROUND_LIMIT:g} s"
        return _round(said, frozenset(self._arrived), self._strays, process.returncode if ended else -1, text.strip())

    # --- listening ----------------------------------------------------------------------------------------------------

    def _listen(self) -> int:
        """Bind the same port for every transport and family; a port that one of them has already is given up."""
        for _ in range(_TRIES):
            port = 0
            try:
                for family, host in ((socket.AF_INET, V4), (socket.AF_INET6, V6))[: 1 + self.ipv6]:
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                        sock = socket.socket(family, kind)
                        self._listeners.append(sock)
                        sock.setblocking(False)
                        sock.bind((host, port))
                        port = sock.getsockname()[1]
                        if kind == socket.SOCK_STREAM:
                            sock.listen(128)
                return port
            except OSError as e:
                while self._listeners:
                    self._listeners.pop().close()
                if e.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no port is free for TCP and UDP alike")

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = listener.accept()
            sock.setblocking(False)
            self._open[sock] = b""
            self._selector.register(sock, selectors.EVENT_READ, self._read)

    def _read(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(_LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._open[sock] += data
        seen = self._open[sock]
        if data and len(seen) < _LONGEST and not self._pattern.search(seen):
            return
        self._note(seen)
        self._selector.unregister(sock)
        del self._open[sock]
        sock.close()

    def _receive(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._note(sock.recv(_LONGEST))

    def _note(self, data: bytes) -> None:
        found = self._pattern.search(data)
        if found:
            self._arrived.add(found[1].decode())
        else:
            self._strays += 1

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _follow(self, process: subprocess.Popen[bytes]) -> tuple[bool, bytes]:
        """Read what the program prints until it ends, and see to what arrives meanwhile."""
        assert process.stdout is not None
        fd = process.stdout.fileno()
        said = bytearray()
        ended = False

        def read(_: object) -> None:
            nonlocal ended
            data = os.read(fd, 65536)
            said.extend(data)
            ended = not data

        self._selector.register(fd, selectors.EVENT_READ, read)
        try:
            self._turn(lambda: ended, ROUND_LIMIT)
        finally:
            self._selector.unregister(fd)
        return ended, bytes(said)

    def _settle(self) -> None:
        """Wait until everything that was sent before now has been seen: our own connection, sent last, tells when."""
        for host in (V4, V6)[: 1 + self.ipv6]:
            self._arrived.discard(_END)
            with socket.create_connection((host, self.port), _SETTLE_LIMIT) as sock:
                sock.sendall(f"{self.nonce}:{_END}\n".encode())
            self._turn(lambda: _END in self._arrived, _SETTLE_LIMIT)
        self._turn(lambda: False, _GRACE)
        for sock in list(self._open):  # connected, and silent to the end
            self._note(self._open.pop(sock))
            self._selector.unregister(sock)
            sock.close()
        self._arrived.discard(_END)

    def _turn(self, is_done: Callable[[], bool], limit: float) -> None:
        deadline = time.monotonic() + limit
        while not is_done() and (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                key.data(key.fileobj)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind((V6, 0))
    except OSError:
        return False
    return True


def _round(said: bytes, arrived: frozenset[str], strays: int, status: int, errors: str) -> Round:
    network, client = "", False
    words: dict[str, dict[str, Any]] = {}
    for line in said.decode("utf-8", "replace").splitlines():
        try:
            value = quickjson.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and "way" in value:
            words[value["way"]] = value
        elif isinstance(value, dict) and "network" in value:
            network, client = value["network"], value["client"]
    return Round(words, arrived, strays, network, client, status, errors)
