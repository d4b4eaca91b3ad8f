"""Ways round a guard, tried for real by an ordinary user: none reaches what is private, and each is stopped as stated.

Listeners that are no part of outgate stand where the attacks aim: traps on private addresses, a daemon on a path and
one on an abstract name of the host, and a sniffer that sees every packet.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outgate.gate.seal import cgroup
from support import attacks, guarded
from support.fenced import PROGRAMS, SECRET
from support.world import NEAR4, PRIVATE4, PRIVATE6, TRAP_PORT, WWW, World

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),  # the first test of a level tries all of them
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks know the calls of x86_64"),
]

_SCRIPT = str(PROGRAMS / "guard_attacks.py")
#: How often a race is run, and how much rubbish there is: as with examples, more of it where there is time.
_ROUNDS = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 500
#: Attacks of one run of the program.
_AT_ONCE = 8
#: Nobody answers there: a dial stays in progress.
_SILENT = "93.184.215.99"

_CONFIGURATION = """\
version = 1
[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"
state = "{folder}/state"
seal = "require"
[apps.guest]
uid = [{uid}]
billing = true
"""


@contextlib.contextmanager
def _daemons(world: World) -> Iterator[tuple[list[socket.socket], dict[str, str]]]:
    """Listen on a path that everybody may write to, and on an abstract name of the host's network."""
    path, name = str(world.folder / "daemon.sock"), f"guard-attack-{os.getpid()}"
    by_path = socket.socket(socket.AF_UNIX)
    by_name = world.near.call(lambda: socket.socket(socket.AF_UNIX))
    with by_path, by_name:
        by_path.bind(path)
        os.chmod(path, 0o666)
        by_name.bind("\0" + name)
        for each in (by_path, by_name):
            each.setblocking(False)
            each.listen()
        try:
            yield [by_path, by_name], {"daemon": path, "abstract": name}
        finally:
            os.unlink(path)


@contextlib.contextmanager
def _at(world: World, level: str) -> Iterator[tuple[str, ...]]:
    """Give the options that guard a program at a level: with a gate of its own, or one of root's that seals."""
    if level == attacks.WITHOUT:
        with guarded.log_of(world) as log:
            yield ("--guard", "--log", str(log))
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=world.folder))
        os.chmod(folder, 0o755)
        stack.callback(cgroup.forget, f"{folder}/gate.sock")
        config = Path(folder, "outgate.toml")
        config.write_text(_CONFIGURATION.format(folder=folder, uid=guarded.GUEST))
        words = (sys.executable, "-m", "outgate", "serve", "--config", str(config))
        gate = stack.enter_context(
            subprocess.Popen(
                world.near.command(*words), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                env=world.environ(),
            )
        )  # fmt: skip
        stack.callback(gate.terminate)
        assert gate.stderr is not None
        said = gate.stderr.readline()
        assert "ready" in said, said + gate.stderr.read()
        yield ("--guard", "--socket", f"{folder}/gate.sock")


@pytest.fixture(scope="module")
def try_all(_make_world: Callable[[], World]) -> Callable[[str], dict[str, str]]:
    """Try every attack once at a level, and hold that nothing secret was reached."""

    @functools.cache
    def attack(level: str) -> dict[str, str]:
        found: dict[str, str] = {}
        world = _make_world()
        neighbour = subprocess.Popen([*guarded.AS_GUEST, "sleep", "600"])
        try:
            with (
                _at(world, level) as options,
                _daemons(world) as (listeners, where),
                world.watch() as watch,
                world.watch_loopback() as inner,
            ):
                places = {
                    **{"private": PRIVATE4, "private6": PRIVATE6, "open": WWW[0], "open6": WWW[1], "near": NEAR4},
                    **{"silent": _SILENT, "port": TRAP_PORT, "neighbour": neighbour.pid},
                    **{"rounds": _ROUNDS, **where},
                }
                names = list(attacks.ATTACKS)
                for start in range(0, len(names), _AT_ONCE):
                    words = (guarded.python(), "-IS", _SCRIPT, json.dumps(places), *names[start : start + _AT_ONCE])
                    run = (*guarded.AS_GUEST, guarded.python(), "-m", "outgate", "run", *options, "--", *words)
                    done = world.run(*run, environ=guarded.environ())
                    assert done.returncode == 0, done.stderr
                    found.update(json.loads(done.stdout))
                assert watch.to(*SECRET) == []
                assert [packet for packet in inner.openings() if packet.protocol == "tcp"] == []
                for listener in listeners:
                    with pytest.raises(BlockingIOError):
                        listener.accept()
        finally:
            neighbour.kill()
            neighbour.wait()
        world.near.wait_empty()
        attacks.record(level, found)
        return found

    return attack


@pytest.mark.parametrize("level", attacks.LEVELS)
@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_an_attack_is_stopped(world: World, try_all: Callable[[str], dict[str, str]], name: str, level: str) -> None:
    """It reaches nothing, and fails with the errno that is stated for it, whether the gate seals its sockets or not."""
    assert try_all(level)[name] == attacks.ATTACKS[name].expected(level)


def test_every_attack_is_stated() -> None:
    """What the program can try and what is stated here are the same list."""
    tried = re.findall(
        r"^@attack\ndef (\w+)", (PROGRAMS / "guard_attacks.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name.replace("_", " ") for name in tried} == set(attacks.ATTACKS)
