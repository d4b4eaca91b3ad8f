"""A Redis or Valkey of a test's own, at a Unix socket: it can be killed, held, and started again with nothing in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.proxies import Client, Proxy

__all__ = ["SERVERS", "Cable", "KeyValue"]

_CHOSEN = os.environ.get("OUTGATE_STATE_SERVER", "")
#: Programs of which one is as good as another, as far as they are installed: tests of what the server itself does run
#: with each, the others with the first. ``OUTGATE_STATE_SERVER=valkey-server``, or a path, has all run with that one.
SERVERS = (_CHOSEN,) if _CHOSEN else tuple(filter(shutil.which, ("redis-server", "valkey-server")))


class KeyValue:
    """Runs with the ``with`` block, in memory alone.

    :ivar url: what ``fleet.state`` says for it.
    """

    def __init__(self, program: str = "") -> None:
        """Make one that does not run yet.

        :param program: one of :data:`SERVERS`; by default the first.
        """
        self.program = program or SERVERS[0]
        self.folder = tempfile.mkdtemp(prefix="outgate-state-")
        self.path = str(Path(self.folder, "state.sock"))
        self.url = f"unix://{self.path}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> KeyValue:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder)

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        place = ["--port", "0", "--unixsocket", self.path, "--dir", self.folder]
        command = [self.program, *place, "--save", "", "--appendonly", "no", *options]
        with Path(self.folder, "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while not self._answers():
            assert self._process.poll() is None, Path(self.folder, "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)  # it does not say when it listens

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(self.path)
            except OSError:
                return False
            sock.sendall(b"PING\r\n")
            return bool(sock.recv(16))

    def client(self) -> redis.Redis:
        """Return a client of its own."""
        return redis.Redis(unix_socket_path=self.path, retry=Retry(NoBackoff(), 0), protocol=2)

    def settle(self) -> None:
        """Let the gates believe that what is in it is all there ever was, so that nobody waits for others to say."""
        with self.client() as client:
            client.set("outgate:born", "test")
            client.delete("outgate:young")

    def kill(self) -> None:
        """End it without a word to anybody."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)
        self._process = None
        Path(self.path).unlink(missing_ok=True)

    def hold(self) -> None:
        """Have it hang: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


class Cable:
    """Another way to one, by an address of the loopback, that can be cut; ends with the ``with`` block.

    :ivar is_cut: whether what goes over it is lost, and nobody is told.
    :ivar url: what ``fleet.state`` says for it.
    """

    def __init__(self, state: KeyValue) -> None:
        self.is_cut = False
        self._path = state.path
        self._proxy = Proxy(self._script)
        self.url = self._proxy.url("redis")

    def __enter__(self) -> Cable:
        self._proxy.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._proxy.__exit__(*error)

    def _script(self, client: Client) -> None:
        with socket.socket(socket.AF_UNIX) as far:
            far.connect(self._path)
            back = threading.Thread(target=self._carry, args=(far, client.sock))
            back.start()
            self._carry(client.sock, far)
            back.join()

    def _carry(self, source: socket.socket, drain: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.is_cut:
                    drain.sendall(data)
        except OSError:
            pass
        for sock in (source, drain):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
