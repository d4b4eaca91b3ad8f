"""Run a console beside a gate, as a process of its own: whatever becomes of it, the gate notices nothing."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from outgate.console import listening
from outgate.console.access import new_token
from outgate.errors import ConfigError

__all__ = ["Beside"]

#: What it needs that the gate does not.
_NEEDED: Final = ("starlette", "jinja2", "uvicorn")
#: Seconds that it has to end when it is told to.
_GRACE: Final = 2.0
#: Seconds in which a console before this one has ended.
_PATIENCE: Final = 10.0
#: What is the gate's own: a word to the service manager, and sockets from it.
_NOT_ITS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Beside:
    """A console that runs beside a gate.

    :param where: where it listens, as :func:`.listening.where` reads it.
    :param follows: whether another console may be there still, which ends with the gate that hands over.
    :raises ConfigError: it cannot listen there, or is not installed.
    """

    def __init__(self, where: str, *, follows: bool = False) -> None:
        for name in _NEEDED:
            if importlib.util.find_spec(name) is None:
                raise ConfigError(f"--console: {name} is not installed here; pip install 'outgate[console]'")
        self._where = where
        # Made now, for what the gate makes once it is sealed takes nothing in.
        self._made = listening.new(where) if follows else None
        self._bound = None if follows else listening.bind(where)
        self._token = new_token()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._is_ending = False

    def start(self, gate: str, config: str, say: Callable[[str], None]) -> None:
        """Start it, on a thread of its own.

        :param gate: path of the gate's socket.
        :param config: path of the gate's configuration, "" for none.
        :param say: is told the address to open, with the token, and if it ends before it is told to.
        """
        threading.Thread(target=self._run, args=(gate, config, say), name="console", daemon=True).start()

    def _run(self, gate: str, config: str, say: Callable[[str], None]) -> None:
        try:
            listener, address = self._bound = self._bound or self._bind()
        except ConfigError as error:
            say(f"{error}; the gate goes on without a console")
            return
        with self._lock:
            if self._is_ending:
                return
            fd = listener.fileno()
            process = self._process = _spawn(fd)
            listener.close()  # so that nobody listens any more when the console has ended
        say(f"console at {address}?token={self._token}")
        assert process.stdin is not None
        # Not as an argument, nor in the environment: others could read it there.
        told = {"fd": fd, "token": self._token, "gate": gate, "config": config}
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            process.stdin.write(json.dumps(told).encode() + b"\n")
            process.stdin.flush()
        status = process.wait()
        if not self._is_ending:
            say(f"the console has ended (status {status}); the gate goes on without it")

    def _bind(self) -> tuple[socket.socket, str]:
        """Listen as soon as the console before has gone. Raises ``ConfigError`` where it does not."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return listening.bind(self._where, self._made)
            except ConfigError:
                if time.monotonic() > until:
                    raise
            time.sleep(0.05)

    def stop(self) -> None:
        """End it: its standard input ends, which it would also see if this process were killed."""
        with self._lock:
            self._is_ending = True
            process = self._process
        if process is not None:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        path, port = listening.where(self._where)
        if port < 0 and self._bound is not None:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _spawn(fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "outgate.console.main"],  # -P: nothing is loaded from the working folder
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # perhaps the decision log's
        pass_fds=[fd],
        env={name: value for name, value in os.environ.items() if name not in _NOT_ITS},
    )
