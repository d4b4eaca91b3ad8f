"""Ways round a guard, tried for real by an ordinary user: none reaches what is private, and each is stopped as stated.

Listeners that are no part of outgate stand where the attacks aim: traps on private addresses, a daemon on a path and
one on an abstract name of the host, and a sniffer that sees every packet.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support import guarded
from support.fenced import PROGRAMS, SECRET
from support.world import NEAR4, PRIVATE4, PRIVATE6, TRAP_PORT, WWW, World

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks know the calls of x86_64"),
]

_SCRIPT = str(PROGRAMS / "guard_attacks.py")
#: How often a race is run, and how much rubbish there is: as with examples, more of it where there is time.
_ROUNDS = 20_000 if os.environ.get("HYPOTHESIS_PROFILE") == "deep" else 500
#: Attacks of one run of the program.
_AT_ONCE = 8
#: Nobody answers there: a dial stays in progress.
_SILENT = "93.184.215.99"

#: Attack → what came of it.
STOPPED = {
    "io uring": "ENOSYS",
    "numbers of the future": "ENOSYS",
    "numbers of x32": "ENOSYS",
    "calls of i386": "SIGSYS",
    "threads with files of their own": "EINVAL ENOSYS",
    "a filter of its own": "EBUSY EACCES",
    "other kinds of sockets": "EPROTONOSUPPORT EAFNOSUPPORT",
    "a domain with high bits": "EACCES",
    "kernel interfaces": "EPERM",
    "connect to what is denied": "EACCES",
    "addresses in addresses": "EACCES",
    "disconnect and connect anew": "EACCES where it was EISCONN",
    "shut down and connect anew": "done ENETUNREACH EACCES",
    "fast open": "ENOTSUP ENOPROTOOPT",
    "a name to a tcp socket": "EPIPE done",
    "datagrams": "EACCES",
    "datagrams with a route": "ENOPROTOOPT",
    "options that route": "ENOPROTOOPT",
    "listen for others": "EACCES",
    "daemons by path": "ECONNREFUSED",
    "a path that changes": "ECONNREFUSED",
    "the gate by its own channel": "no-app",
    "a socket of the gates by its channel": "EACCES ENOTSUP",
    "abstract names of the host": "ECONNREFUSED",
    "unix datagrams": "EPROTONOSUPPORT",
    "a path for helpers outside": "EACCES",
    "the networks of a socket": "ENOTTY",
    "words for the terminal": "EPERM",
    "memory of others": "EACCES EPERM",
    "files and networks of others": "EACCES EPERM",
    "end the guard": "EPERM",
    "namespaces within": "EAFNOSUPPORT EACCES",
    "a tree of programs": "curl 7",
    "an address that changes": "EACCES done",
    "a file that changes": "refused",
    "a socket by another process": "EACCES done",
    "signals all the time": "some",
    "rubbish": "EACCES",
}


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


@pytest.fixture(scope="module")
def try_all(_make_world: Callable[[], World]) -> Callable[[], dict[str, str]]:
    """Try every attack once, in one guard, and hold that nothing secret was reached."""
    found: dict[str, str] = {}

    def attack() -> dict[str, str]:
        if found:
            return found
        world = _make_world()
        neighbour = subprocess.Popen([*guarded.AS_GUEST, "sleep", "600"])
        try:
            with (
                guarded.log_of(world) as log,
                _daemons(world) as (listeners, where),
                world.watch() as watch,
                world.watch_loopback() as inner,
            ):
                places = {
                    **{"private": PRIVATE4, "private6": PRIVATE6, "open": WWW[0], "open6": WWW[1], "near": NEAR4},
                    **{"silent": _SILENT, "port": TRAP_PORT, "neighbour": neighbour.pid},
                    **{"rounds": _ROUNDS, **where},
                }
                for start in range(0, len(STOPPED), _AT_ONCE):
                    names = list(STOPPED)[start : start + _AT_ONCE]
                    done = guarded.run(world, log, guarded.python(), "-IS", _SCRIPT, json.dumps(places), *names)
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
        return found

    return attack


@pytest.mark.parametrize("name", STOPPED)
def test_an_attack_is_stopped(world: World, try_all: Callable[[], dict[str, str]], name: str) -> None:
    """It reaches nothing, and fails with the errno that is stated for it."""
    assert try_all()[name] == STOPPED[name]


def test_every_attack_is_stated() -> None:
    """What the program can try and what is stated here are the same list."""
    tried = re.findall(
        r"^@attack\ndef (\w+)", (PROGRAMS / "guard_attacks.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {name.replace("_", " ") for name in tried} == set(STOPPED)
