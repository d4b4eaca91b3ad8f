"""Run one server in a namespace: start, wait until it answers, stop, show its log when something is wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Callable

from support.namespaces import Namespace

#: Seconds until a server that does not answer is given up.
PATIENCE = 30.0


class ServerFailed(RuntimeError):
    """A server did not start; the text ends with the last lines of its log."""


class Server:
    """One server process and what it started, in a process group of its own.

    :param name: a word for messages and for the log's file name.
    :param namespace: where it listens.
    :param folder: where its log goes.
    :param command: how to start it in the foreground.
    :param environ: its environment; nothing is inherited, so that no proxy setting of the host reaches it.
    :param end: the signal that ends it.
    """

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        folder: Path,
        command: list[str],
        environ: dict[str, str] | None = None,
        end: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self._end = end
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                namespace.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(environ or {})},
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Server {self.name} pid={self.pid}>"

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group: ``ip netns exec`` becomes the program."""
        return self._process.pid

    def wait_until(self, answers: Callable[[], object]) -> None:
        """Ask until the question no longer raises ``OSError``. Raises :class:`ServerFailed` if it ends or stays silent.

        Between two tries this waits for the process to end, so a server that cannot start is noticed at once.
        """
        limit = time.monotonic() + PATIENCE
        while True:
            try:
                answers()
                return
            except OSError as error:
                last = error
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                if time.monotonic() < limit:
                    continue
                raise ServerFailed(f"{self.name} does not answer: {last}\n{self.tail()}") from last
            raise ServerFailed(f"{self.name} ended with status {self._process.returncode}\n{self.tail()}") from last

    def tail(self, lines: int = 30) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """End it, and what it started, without a word to anybody."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(5)

    def stop(self) -> None:
        """End it by its signal, and by SIGKILL what is left of its group then or after five seconds."""
        for number in (self._end, signal.SIGKILL):
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass
            try:
                self._process.wait(5)
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def run(namespace: Namespace, words: list[str], environ: dict[str, str], stdin: bytes = b"") -> bytes:
    """Run a tool of a server in its namespace and return its output. Raises :class:`ServerFailed` when it fails."""
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environ}
    done = subprocess.run(namespace.command(*words), input=stdin, capture_output=True, env=environ, timeout=60)
    if done.returncode:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise ServerFailed(f"{' '.join(words)}: status {done.returncode}\n{output}")
    return done.stdout
