"""Run ``outgate dev`` as a developer does, read what it prints, and ask it over HTTP."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.commands import OUTGATE, environment

#: Seconds after which a wait is taken for a hang. Nothing is asserted on it.
PATIENCE = 30.0


class Answer:
    """What came back: status, headers in lower case, and the body as text."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.text = response.read().decode()


class DevServer:
    """One ``outgate dev`` on a free port, that has said where it serves.

    :param prefix: what is put in front of the command, as for another network.
    :ivar port: where.
    """

    def __init__(self, folder: Path, *arguments: str, prefix: Sequence[str] = (), **changes: str | None) -> None:
        self.process = subprocess.Popen(
            [*prefix, *OUTGATE, "dev", "--port", "0", *arguments],
            cwd=folder,
            env=environment(**changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        self.port = int(self.wait_for(r"^outgate +\| \S+: http://\S+?:(\d+)/")[1])

    def __enter__(self) -> DevServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _follow(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def mark(self) -> int:
        """How many lines there are, for ``since``."""
        return len(self._lines)

    @property
    def printed(self) -> str:
        """Everything it has printed."""
        return "\n".join(self._lines)

    def wait_for(self, pattern: str, *, since: int = 0, count: int = 1) -> re.Match[str]:
        """Return the match of the n-th line in which the pattern is found, waiting until it is printed."""
        deadline = time.monotonic() + PATIENCE
        seen, found = since, 0
        with self._changed:
            while True:
                for line in self._lines[seen:]:
                    seen += 1
                    match = re.search(pattern, line)
                    found += match is not None
                    if match is not None and found == count:
                        return match
                if self._ended or not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no line with {pattern!r}:\n{self.printed}")

    def ask(
        self,
        path: str = "/",
        *,
        host: str = "localhost",
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request and return its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Host": f"{host}:{self.port}", **(headers or {})})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def descendants(self) -> set[int]:
        """Return the pids of all that it has started, directly or not."""
        found: set[int] = set()
        new = {self.process.pid}
        while new:
            found |= new
            new = {child for pid in new for child in _children(pid)} - found
        return found - {self.process.pid}

    def stop(self, number: int = signal.SIGINT) -> int:
        """End it by a signal, wait until all that it printed is here, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end:\n{self.printed}") from None
        self._thread.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.returncode


def _children(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found.update(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    except OSError:  # it has ended meanwhile
        pass
    return found


def wait_until_ended(pids: set[int]) -> None:
    """Wait until none of these processes is left (a zombie has ended)."""
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            import select

            assert select.select([fd], [], [], PATIENCE)[0], f"process {pid} goes on: {_command(pid)}"
        finally:
            os.close(fd)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
