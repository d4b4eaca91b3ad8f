"""What a guarded program is told as an errno alone is explained from outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import guarded
from support.guarded import GUEST
from support.world import PRIVATE4, World

_REFUSED = """
import os, socket, sys
with socket.socket() as sock:
    for call, words in ((sock.connect, (sys.argv[1], 80)), (sock.bind, ("0.0.0.0", 8080)), (sock.listen, 1)):
        try:
            call(words)
        except PermissionError:
            print(os.getpid(), flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def log(world: World) -> Iterator[Path]:
    """Return where the guest's decision log goes."""
    with guarded.log_of(world) as path:
        yield path


@contextlib.contextmanager
def _running(world: World, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Have a program of the guest's run."""
    process = subprocess.Popen(
        world.near.command(*guarded.AS_GUEST, guarded.python(), *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**world.environ(), **guarded.environ()},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _line(stream: object) -> str:
    return stream.readline()  # type: ignore[attr-defined, no-any-return]


def test_a_refusal_is_explained_from_outside(world: World, log: Path) -> None:
    """The gate remembers a connect that it refused, and what the guard has refused by itself."""
    folder, config = log.parent, log.parent / "outgate.toml"
    config.write_text(
        f'version = 1\n[gate]\nsocket = "{folder}/gate.sock"\nlog = "{log}"\nstate = "{folder}/state"\n'
        f"[apps.guest]\nuid = [{GUEST}]\nbilling = true\n"
    )
    at = ("--socket", f"{folder}/gate.sock")
    said, pid = [], ""
    program = ("-m", "outgate", "run", "--guard", *at, "--", guarded.python(), "-IS", "-c", _REFUSED, PRIVATE4)
    with _running(world, "-m", "outgate", "serve", "--config", str(config)) as gate:
        assert "ready" in _line(gate.stderr)
        with _running(world, *program) as process:
            assert process.stdin is not None
            for _ in range(3):
                pid = _line(process.stdout).strip()
                asking = ("-m", "outgate", "why", "--last", "--json", "--pid", pid, *at)
                done = world.run(*guarded.AS_GUEST, guarded.python(), *asking, environ=guarded.environ())
                assert done.returncode == 1, done.stderr
                found = json.loads(done.stdout)
                said.append([found[key] for key in ("pid", "call", "errno", "host", "port", "code", "rule")])
                process.stdin.write("\n")
                process.stdin.flush()
    world.near.wait_empty()
    assert said == [
        [int(pid), "connect", "EACCES", PRIVATE4, 80, "policy-denied", "non-public"],
        [int(pid), "bind", "EACCES", "0.0.0.0", 8080, "bind", ""],
        [int(pid), "listen", "EACCES", "", 0, "listen", ""],
    ]
