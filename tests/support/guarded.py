"""Run programs under a guard in a world, as an ordinary user: root of the host is refused."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import outgate

if TYPE_CHECKING:
    from support.world import Finished, World

#: "nobody": a user that every Debian has, and that owns nothing.
GUEST = 65534
AS_GUEST = ("setpriv", f"--reuid={GUEST}", f"--regid={GUEST}", "--clear-groups")
_AGAIN = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
_SOURCE = Path(outgate.__file__).parents[1]


@functools.cache
def python() -> str:
    """Return a Python of our version that the guest may run: ours, or the host's where ours is in root's own folder."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        # Again, by itself: setpriv still has root's rights when it execs, and so starts what the guest may not.
        if path is not None and subprocess.run([*AS_GUEST, path, "-c", _AGAIN], capture_output=True).returncode == 0:
            return path
    pytest.skip(f"no {version} that uid {GUEST} may run")


def environ() -> dict[str, str]:
    """Return what the guest's Python needs to find outgate and the libraries of ours."""
    return {"PYTHONPATH": f"{_SOURCE}{os.pathsep}{sysconfig.get_path('purelib')}"}


@contextlib.contextmanager
def log_of(world: World) -> Iterator[Path]:
    """Give the guest a decision log of its own, and remove it."""
    folder = world.folder / "guest"
    folder.mkdir()
    os.chown(folder, GUEST, GUEST)
    try:
        yield folder / "decisions.jsonl"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def datagram_echo(world: World, host: str, port: int = 0) -> Iterator[int]:
    """Answer datagrams at an address of the far side with what they say, and give the port.

    :param port: 0 for one that is free.
    """
    with world.far.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, port))
        address = sock.getsockname()[:2]

        def serve() -> None:
            while True:
                payload, source = sock.recvfrom(65536)
                if payload == b"end":
                    return
                sock.sendto(payload, source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield address[1]
        finally:
            with world.far.socket(sock.family, socket.SOCK_DGRAM) as other:
                other.sendto(b"end", address)
            thread.join()


def command(log: Path | None, *words: str, options: tuple[str, ...] = ("--guard",)) -> tuple[str, ...]:
    """Return the command that runs these words under a guard, as the guest.

    :param log: of a gate of the program's own; ``None`` where the options name a gate.
    """
    logs = ("--log", str(log)) if log is not None else ()
    return (*AS_GUEST, python(), "-m", "outgate", "run", *logs, *options, "--", *words)


def run(world: World, log: Path, *words: str, options: tuple[str, ...] = ("--guard",)) -> Finished:
    """Run a program under a guard to its end, and to the end of its gate, whose log is then whole."""
    done = world.run(*command(log, *words, options=options), environ=environ())
    world.near.wait_empty()
    return done


@contextlib.contextmanager
def started(
    world: World, log: Path | None, *words: str, options: tuple[str, ...] = ("--guard",)
) -> Iterator[subprocess.Popen[str]]:
    """Start a program under a guard that says something when it is ready and goes on when it reads a line."""
    process = subprocess.Popen(
        world.near.command(*command(log, *words, options=options)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=world.folder,
        env={**world.environ(), **environ()},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        world.near.wait_empty()


def guard_of(world: World) -> int:
    """Return the pid of the one guard in a world: it has the seccomp listener of its program."""
    for pid in world.near.pids():
        with contextlib.suppress(OSError):
            if any(os.readlink(fd) == "anon_inode:seccomp notify" for fd in Path(f"/proc/{pid}/fd").iterdir()):
                return pid
    raise AssertionError("no guard")


@contextlib.contextmanager
def gate(world: World, config: Path) -> Iterator[subprocess.Popen[str]]:
    """Have a gate of the guest's run."""
    words = (*AS_GUEST, python(), "-m", "outgate", "serve", "--config", str(config))
    variables = {**world.environ(), **environ()}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(world.near.command(*words), text=True, env=variables, **pipes) as process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            yield process
        finally:
            process.kill()
