"""A gate of the host of a world: ``outgate serve`` in ``near``, and programs that reach it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from outgate.testing.running import PATIENCE

if TYPE_CHECKING:
    from support.world import Finished, World

CONFIGURATION = """\
version = 1
[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"
state = "{folder}/state"
[apps.worker]
uid = [{uid}]
billing = true
trusted = {trusted}
path = "{path}"
except = [{rules}]
"""


class Serving:
    """The gate of a host, with one app; a context manager.

    :param folder: where its socket, configuration and decision log lie.
    :param path: how the bytes travel, ``direct`` or ``relay``.
    :param rules: exceptions from the default policy.
    """

    def __init__(self, world: World, folder: Path, path: str, rules: Sequence[str] = ()) -> None:
        self.world = world
        #: The decision log.
        self.log = folder / "decisions.jsonl"
        self._socket = folder / "gate.sock"
        self._configuration = folder / "outgate.toml"
        self._configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                uid=os.getuid(),
                path=path,
                trusted=str(path == "direct").lower(),
                rules=", ".join(f'"{rule}"' for rule in rules),
            )
        )

    def __enter__(self) -> Serving:
        words = (sys.executable, "-m", "outgate", "serve", "--config", str(self._configuration))
        self._gate = subprocess.Popen(
            self.world.near.command(*words), stderr=subprocess.PIPE, text=True, env=self.world.environ()
        )
        assert self._gate.stderr is not None
        said = self._gate.stderr.readline()
        assert "serves" in said or self._socket.exists(), said
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.terminate()
        self._gate.communicate(timeout=PATIENCE)

    def python(self, program: Path | str, *words: str, **more: str) -> Finished:
        """Run a Python program of the app to its end, fenced, each time as a process that shares only that."""
        return self.world.run(*self._command(sys.executable, str(program), *words), environ=self._environ(more))

    def run(self, script: str, *words: str, **more: str) -> Finished:
        """Run a command that a package has installed beside the interpreter, as :meth:`python` does."""
        return self.world.run(*self._command(_beside(script), *words), environ=self._environ(more))

    def start(self, script: str, *words: str, stdout: IO[bytes], **more: str) -> subprocess.Popen[bytes]:
        """Start such a command, with all that it says in a file."""
        return subprocess.Popen(
            self.world.near.command(*self._command(_beside(script), *words)),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self.world.folder,
            env={**self.world.environ(), **self._environ(more)},
        )

    def _environ(self, more: Mapping[str, str]) -> dict[str, str]:
        return {"OUTGATE_SOCKET": str(self._socket), **more}

    @staticmethod
    def _command(*words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "outgate", "run", "-q", "--", *words)


def _beside(script: str) -> str:
    return str(Path(sys.executable).with_name(script))
