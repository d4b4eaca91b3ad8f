"""A gate that runs as root and seals its sockets, and programs of ordinary users that hold them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outgate.gate.seal import cgroup
from outgate.testing.running import PATIENCE
from support.world import World

#: Users of two apps, neither of which is trusted unless it is said so.
USER, OTHER = 1001, 1002
CONFIGURATION = """\
version = 1
[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"
state = "{folder}/state"
seal = "{seal}"
[apps.guest]
uid = [{uid}]
billing = true
trusted = {trusted}
path = "{path}"
[apps.other]
uid = [{other}]
billing = true
"""
_SOURCE = Path(__file__).parents[2] / "src"


def _as_user(uid: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs")


def _readable(python: Path) -> bool:
    """Tell whether everybody may run an interpreter: pyenv keeps root's in root's home."""
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (python, *python.parents))


#: What the ordinary user runs; Debian has one.
_PYTHON = sys.executable if _readable(Path(sys.executable).resolve()) else "/usr/bin/python3"


class Host:
    """A gate that root runs in ``near``, and programs of an ordinary user."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.log = folder / "decisions.jsonl"
        self._started = contextlib.ExitStack()
        self.environ = {**world.environ(), "OUTGATE_SOCKET": f"{folder}/gate.sock", "HOME": "/"}

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def configure(self, seal: str = "require", trusted: bool = False, path: str = "auto", ledger: str = "") -> None:
        """Write the configuration."""
        text = CONFIGURATION.format(
            folder=self.folder, seal=seal, uid=USER, other=OTHER, trusted=str(trusted).lower(), path=path
        )
        if ledger:
            text += f'[ledger]\nurl = "{ledger}"\n'
        (self.folder / "outgate.toml").write_text(text)

    def serve(self, *options: str) -> subprocess.Popen[str]:
        """Start a gate, and wait until it is ready."""
        words = (sys.executable, "-m", "outgate", "serve", "--config", str(self.folder / "outgate.toml"), *options)
        gate = subprocess.Popen(self.world.near.command(*words), stderr=subprocess.PIPE, text=True, env=self.environ)
        self._started.callback(_end, gate)
        assert gate.stderr is not None
        said = gate.stderr.readline()
        assert "ready" in said, said + gate.stderr.read()
        return gate

    @contextlib.contextmanager
    def serving(self) -> Iterator[subprocess.Popen[str]]:
        """Have a gate while the block runs."""
        gate = self.serve()
        try:
            yield gate
        finally:
            end(gate)

    def start(self, *words: str, options: tuple[str, ...] = (), uid: int = USER) -> subprocess.Popen[str]:
        """Start a Python program of an ordinary user under ``outgate run``."""
        command = (*_as_user(uid), _PYTHON, "-m", "outgate", "run", "-q", *options, "--", _PYTHON, *words)
        program = subprocess.Popen(
            self.world.near.command(*command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**self.environ, "PYTHONPATH": str(_SOURCE)},
            cwd="/",
        )
        self._started.callback(_end, program)
        return program

    def status(self) -> dict[str, Any]:
        """Return what ``outgate status --json`` says."""
        done = self.world.run(sys.executable, "-m", "outgate", "status", "--json", environ=self.environ)
        return dict(json.loads(done.stdout))


def end(gate: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """End a gate and wait for it."""
    gate.send_signal(number)
    gate.communicate(timeout=PATIENCE)


def _end(process: subprocess.Popen[str]) -> None:
    """End what a test that failed has left."""
    if process.poll() is None:
        process.kill()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.wait()


@contextlib.contextmanager
def hosting(world: World) -> Iterator[Host]:
    """Have such a host, with the seal required."""
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        os.chmod(folder, 0o755)
        with Host(world, Path(folder)) as made:
            made.configure()
            yield made
        cgroup.forget(f"{folder}/gate.sock")  # of a gate that was killed
