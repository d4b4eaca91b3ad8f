"""Run the command line as a user does: in processes of its own, with a log whose end tells that everything has ended.

The log of :class:`Run` is a pipe that the command, the gate and the program all hold, so reading it to its end waits
for the last of them, and no test has to guess when a gate is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from outgate.gate.seal import cgroup
from outgate.testing.running import wait_for_counts

#: Seconds after which a wait is taken for a hang, in line with the suite's own limit. Nothing is asserted on it.
PATIENCE = 30.0

OUTGATE = (sys.executable, "-m", "outgate")

#: Names that would have a test use the gate of whoever runs the suite.
_NOT_OURS = ("OUTGATE_SOCKET", "OUTGATE_PYCACHE", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "NO_COLOR")


def environment(**changes: str | None) -> dict[str, str]:
    """Return this process's environment without what belongs to a gate around it, and with these changes.

    :param changes: name → value; ``None`` takes the name out.
    """
    environ = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    for name, value in changes.items():
        if value is None:
            environ.pop(name, None)
        else:
            environ[name] = value
    return environ


def outgate(*arguments: object, env: Mapping[str, str] | None = None, **options: Any) -> Any:
    """Run one command to its end and return it with its output as text."""
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(
        [*OUTGATE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment() if env is None else env,
        **options,
    )


class Run:
    """One ``outgate run`` with an embedded gate, started and perhaps not ended.

    :param command: the program and its arguments.
    :param options: what stands before ``--``.
    :param wrapper: what is put in front of the whole, for a shell or another program that starts it.
    """

    def __init__(
        self,
        command: Sequence[str],
        options: Sequence[str] = (),
        *,
        wrapper: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        **popen: Any,
    ) -> None:
        self._log, log = os.pipe()
        popen.setdefault("stdin", subprocess.PIPE)
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        argv = [*wrapper, *OUTGATE, "run", "--log", f"/dev/fd/{log}", *options, "--", *command]
        try:
            self.process = subprocess.Popen(
                argv, text=True, env=environment() if env is None else env, pass_fds=[log, *pass_fds], **popen
            )
        finally:
            os.close(log)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def line(self) -> str:
        """Return the next line of the program's standard output; ``""`` at its end."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline())

    def told(self) -> Any:
        """Return the JSON value on the next line of the program's standard output."""
        line = self.line()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return json.loads(line)

    def end(self) -> tuple[int, str, str]:
        """Close the program's standard input, wait, and return its exit status, the rest of its output, its errors."""
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output or "", errors or ""

    def log(self) -> list[dict[str, Any]]:
        """Wait until command, program and gate have ended, and return the gate's log."""
        chunks = []
        while True:
            ready, _, _ = select.select([self._log], [], [], PATIENCE)
            assert ready, "somebody still holds the log"
            chunk = os.read(self._log, 65536)
            if not chunk:
                break
            chunks.append(chunk)
        return [json.loads(line) for line in b"".join(chunks).splitlines()]

    def stop(self) -> None:
        """End what is left of it."""
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError):
            self.process.communicate(timeout=PATIENCE)
        with contextlib.suppress(OSError):
            os.close(self._log)


#: Python that a program can begin with: ``gate_pid()`` and ``tell(value)``.
PRELUDE = """
import json, os, sys
def gate_pid():
    from _socket import socket, AF_UNIX, SOCK_SEQPACKET, SOL_SOCKET, SO_PEERCRED
    channel = socket(AF_UNIX, SOCK_SEQPACKET)
    channel.connect(os.environ["OUTGATE_SOCKET"])
    pid = int.from_bytes(channel.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)[:4], sys.byteorder)
    channel.close()
    return pid
def tell(value):
    print(json.dumps(value), flush=True)
"""


def python(code: str, *arguments: str) -> list[str]:
    """Return the command of a Python program that begins with :data:`PRELUDE`."""
    return [sys.executable, "-c", PRELUDE + code, *arguments]


def _paths(folder: Path) -> list[str]:
    """Return the options that keep a gate to a folder of the test's own."""
    return [
        *("--socket", str(folder / "gate.sock")),
        *("--log", str(folder / "decisions.jsonl")),
        *("--state", str(folder / "state")),
    ]


class Served:
    """A gate that ``outgate serve`` runs, which is ready.

    :ivar socket: where it listens.
    :ivar log_path: its decision log.
    :ivar said: what it printed until it was ready.
    """

    def __init__(
        self, folder: Path, *options: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.socket = str(folder / "gate.sock")
        self.log_path = folder / "decisions.jsonl"
        self.process = subprocess.Popen(
            [*prefix, *OUTGATE, "serve", *_paths(folder), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() if env is None else env,
            cwd=folder,
        )
        self.said = ""
        while "outgate: ready" not in self.said:
            line = self.line()
            if not line:
                self.process.wait(PATIENCE)
                raise AssertionError(f"the gate did not start: {self.said}")
            self.said += line

    def line(self) -> str:
        """Return the next line it prints on standard error."""
        assert self.process.stderr is not None
        return str(self.process.stderr.readline())

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Tell it to end and return its exit status and what else it printed on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            _, errors = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        return self.process.returncode, errors

    def wait_for_counts(self, app: str, **counts: int) -> None:
        """Ask until the app has these counts: that a program has ended comes to the gate after its parent knows."""

        def ask() -> dict[str, int]:
            return dict(json.loads(outgate("stats", "--json", "--socket", self.socket).stdout)["apps"][app])

        wait_for_counts(ask, counts, PATIENCE)

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of its decision log, complete once it has ended."""
        return [json.loads(line) for line in self.log_path.read_text(encoding="utf-8").splitlines()]


@contextlib.contextmanager
def serving(
    folder: Path, *options: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> Iterator[Served]:
    """Have a gate while the block runs.

    :param prefix: a command that starts it, such as ``setpriv`` and its options.
    """
    gate = Served(folder, *options, env=env, prefix=prefix)
    try:
        yield gate
    finally:
        gate.stop()
        cgroup.forget(gate.socket)  # of a gate that the test has killed
