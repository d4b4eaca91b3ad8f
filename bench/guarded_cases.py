"""Measure programs under a guard beside the same programs natively: sockets, connects, a stream, starting, memory.

Root cannot be guarded, so where this is root all of it, the gate too, is done as the user "nobody". The programs load
no client: what is measured is what the guard answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.rows import Beside, Result, ratio_row, row
from bench.world import CLIENT, ROOT, SOURCE, Failed, World, native_environment

_GUEST = 65534
_THREADS, _PROCESSES = 4, 8
_MIB = 1 << 20
_AGAIN = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import uvloop, msgspec'], check=True)"


class _Guest(NamedTuple):
    """Who may be guarded.

    :ivar before: words before a command that make it this user's.
    :ivar python: an interpreter that it may run.
    :ivar environment: with which that finds outgate and its libraries.
    """

    before: tuple[str, ...]
    python: str
    environment: dict[str, str]


def guarded(world: World) -> Iterator[Result]:
    """What a guarded program waits for: its sockets, its connects, its start; and what its guard takes."""
    guest = _guest()
    if guest is None:
        world.leave_out(f"guarded programs: there is no Python here that another user (uid {_GUEST}) may run")
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="outgate-bench-guarded-"))
        if guest.before:
            os.chown(folder, _GUEST, _GUEST)
        path = f"{folder}/gate.sock"
        stack.enter_context(_gate(guest, path))
        run = (*guest.before, guest.python, "-m", "outgate", "run", "-q", "--socket", path)
        there = (*run, "--guard", "--")
        tried = subprocess.run([*there, "true"], env=guest.environment, capture_output=True, text=True, check=False)
        if tried.returncode:
            world.leave_out(f"guarded programs: {tried.stderr.strip()}")
            return
        yield from _figures(world, guest, {"native": guest.before, "guarded": there})
        yield _starting(world, guest, [*run, "--", "true"], [*there, "true"])
        yield _memory(world, guest, there, path)


def _guest() -> _Guest | None:
    environ = native_environment()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        before = ("setpriv", f"--reuid={_GUEST}", f"--regid={_GUEST}", "--clear-groups")
    environ["PYTHONPATH"] = os.pathsep.join((str(SOURCE), sysconfig.get_path("purelib")))
    for python in (sys.executable, shutil.which(version, path="/usr/local/bin:/usr/bin")):
        if python is None:
            continue
        # Again, by itself: setpriv still has root's rights when it execs, and so starts what the guest may not.
        words = [*before, python, "-c", _AGAIN]
        if subprocess.run(words, env=environ, cwd=ROOT, capture_output=True, check=False).returncode == 0:
            return _Guest(before, python, environ)
    return None


@contextlib.contextmanager
def _gate(guest: _Guest, path: str) -> Iterator[None]:
    pidfd = os.pidfd_open(os.getpid())
    argv = [*guest.before, guest.python, "-m", "bench.gate", str(pidfd), path, "direct"]
    options: dict[str, Any] = {"cwd": ROOT, "env": guest.environment, "pass_fds": (pidfd,), "start_new_session": True}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, **options) as process:
        os.close(pidfd)
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise Failed("the gate for guarded programs did not start")
            yield
        finally:
            process.terminate()


def _client(guest: _Guest, way: tuple[str, ...], case: str, parameters: dict[str, Any]) -> list[str]:
    # -E and -S: no client, which would ask the gate itself.
    return [*way, guest.python, "-E", "-S", CLIENT, case, json.dumps(parameters)]


def _ask(guest: _Guest, way: tuple[str, ...], case: str, **parameters: Any) -> dict[str, Any]:
    argv = _client(guest, way, case, parameters)
    done = subprocess.run(argv, env=guest.environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Failed(f"client {case} ended with status {done.returncode}: {done.stderr.strip()}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _figures(world: World, guest: _Guest, ways: dict[str, tuple[str, ...]]) -> Iterator[Result]:
    count = 300 if world.quick else 1000
    opens = world.ports["open"]
    size = (192 if world.quick else 768) * _MIB
    seconds = 0.3 if world.quick else 0.5
    cases: dict[str, tuple[str, str, dict[str, Any], tuple[str, float] | None]] = {
        "socket()": ("us", "births", {"count": count}, ("<=", 25.0)),
        f"connect, {_THREADS} threads": (
            "us",
            "connects",
            {"ports": opens, "count": count // 2, "threads": _THREADS},
            ("<=", 6.0),
        ),
        "connect": ("us", "connects", {"ports": opens, "count": count, "threads": 1}, None),
        f"opens per second, {_PROCESSES} processes": (
            "1/s",
            "rate",
            {"ports": opens, "seconds": seconds, "processes": _PROCESSES, "threads": 1},
            (">=", 0.5),
        ),
        "send 1 MiB": ("GB/s", "send", {"port": world.ports["sink"][0], "size": size}, (">=", 0.97)),
    }
    for name, (unit, case, parameters, target) in cases.items():
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(world.rounds):
            for way, before in ways.items():
                figures = _ask(guest, before, case, **parameters)
                figure = (
                    figures["rate"] / (1e9 if unit == "GB/s" else 1) if "rate" in figures else median(figures["times"])
                )
                taken[way].append(figure)
        yield Beside(f"guarded, {name}", unit, taken)
        if case == "births":
            yield row(f"guarded, {name}", unit, taken["native"], taken["guarded"], taken["guarded"], unit, target)
        else:
            yield ratio_row(f"guarded, {name}", unit, taken["native"], taken["guarded"], target)


def _starting(world: World, guest: _Guest, plain: list[str], through: list[str]) -> Result:
    count = 3 if world.quick else 10
    world.seconds(through, guest.environment)  # compiles what is not compiled yet
    without, with_guard, more = [], [], []
    for _ in range(world.rounds):
        pairs = [
            (1000 * world.seconds(plain, guest.environment), 1000 * world.seconds(through, guest.environment))
            for _ in range(count)
        ]
        without.append(median(one for one, _ in pairs))
        with_guard.append(median(other for _, other in pairs))
        more.append(median(other - one for one, other in pairs))
    return row("run --guard -- true", "ms", without, with_guard, more, "ms", ("<=", 60.0), "base: run -- true")


def _memory(world: World, guest: _Guest, there: tuple[str, ...], path: str) -> Result:
    """Measure the guard of a program that holds some connections."""
    argv = _client(guest, there, "hold", {"ports": world.ports["hold"], "counts": [100]})
    found = []
    for _ in range(world.few):
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(argv, env=guest.environment, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            process.stdout.readline()
            status = Path(f"/proc/{_guard(path)}/status").read_text()
            found.append(int(status.partition("VmRSS:")[2].split()[0]) / 1e3)
            process.stdin.close()
    return row("guard memory, 100 held", "MB", [], found, found, "MB", ("<=", 25.0))


def _guard(path: str) -> int:
    """Return the guard of the one program that is guarded by a gate: it has the listener of a filter."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_ours = path.encode() in (folder / "cmdline").read_bytes()
            if is_ours and any(os.readlink(fd) == "anon_inode:seccomp notify" for fd in (folder / "fd").iterdir()):
                return int(folder.name)
    raise Failed("there is no guard")
