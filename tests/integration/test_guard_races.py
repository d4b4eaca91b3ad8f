"""Races with a guard, rubbish thrown at it, and its sudden end: whatever comes of a call, nothing private is reached.

Each runs for a second or two, and for as long as the full ones say with ``make check-full``. What would be reached has
sockets in the kernel that get every packet to it (raw(7)), however many there are.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.guard.supervision import tasks
from support import guarded
from support.fenced import PROGRAMS
from support.guarded import GUEST
from support.waiting import wait_until
from support.world import FORBIDDEN, NEAR4, PRIVATE4, PRIVATE6, TRAP_PORT, WWW, World

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the program knows the calls of x86_64"),
]

_SCRIPT = str(PROGRAMS / "guarded/races.py")
#: What may come of a connect that is none of ours: no port is left, the app's quota is used up, and a program that has
#: had 4,000 sockets since the gate last looked which it has closed is told that it has too many.
_SPENT = {"EADDRNOTAVAIL", "EDQUOT", "EMFILE"}


def _for(*seconds: float) -> pytest.MarkDecorator:
    """Run a test for the first of these times, and with ``make check-full`` for the other as well."""
    short, long = seconds
    marks = (pytest.mark.full, pytest.mark.timeout(long * 3 + 60))
    return pytest.mark.parametrize(
        "seconds", [pytest.param(short, id="short"), pytest.param(long, id="long", marks=marks)]
    )


@pytest.fixture
def log(world: World) -> Iterator[Path]:
    """Return where the guest's decision log goes."""
    with guarded.log_of(world) as path:
        yield path


@pytest.fixture
def nothing_private(world: World) -> Iterator[None]:
    """Hold that no packet of TCP or UDP comes to a private address."""
    with contextlib.ExitStack() as stack:
        ears = []
        for address in FORBIDDEN:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
                ear = stack.enter_context(world.far.socket(family, socket.SOCK_RAW, protocol))
                ear.bind((address, 0))
                ear.setblocking(False)
                ears.append(ear)
        with world.near.socket(kind=socket.SOCK_DGRAM) as sock:
            sock.sendto(b"heard", (PRIVATE4, 9))
        hears = next(each for each in ears if each.getsockname()[0] == PRIVATE4 and each.proto == socket.IPPROTO_UDP)
        packet = b""
        while not packet.endswith(b"heard"):
            assert select.select([hears], [], [], 10)[0], "it would not be heard"
            packet = hears.recv(65536)
        # Until it was bound each of them heard what came to any address: ends of what the servers' start had tried.
        _drain(ears)
        yield
        assert _drain(ears) == [], "a packet came to a private address"


def _drain(ears: Iterable[socket.socket]) -> list[str]:
    """Return what has come, and forget it."""
    came = []
    for ear in ears:
        with contextlib.suppress(BlockingIOError):
            while True:
                came.append(f"{ear.getsockname()[0]}: {ear.recv(65536).hex()}")
    return came


def _where(**more: object) -> str:
    places = {"open": WWW[0], "private": PRIVATE4, "private6": PRIVATE6, "near": NEAR4, "port": TRAP_PORT}
    return json.dumps({**places, **more})


def _race(world: World, log: Path, what: str, seconds: float, **more: object) -> dict[str, Any]:
    """Run a race to its end, and return what it has counted."""
    words = (guarded.python(), "-IS", _SCRIPT, what, str(seconds), _where(**more))
    with guarded.started(world, log, *words) as process:
        assert process.stdout is not None
        text = process.stdout.read()
        assert process.wait() == 0
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.usefixtures("nothing_private")
@_for(1.5, 30)
def test_an_address_that_changes_is_read_once(world: World, log: Path, seconds: float) -> None:
    """While another process rewrites it, a connect goes to the one or is refused the other, and never elsewhere."""
    found = _race(world, log, "addresses", seconds)
    assert found.keys() == {"AF_INET SOCK_STREAM", "AF_INET6 SOCK_STREAM", "AF_INET SOCK_DGRAM"}
    for said in found.values():
        assert said.keys() - _SPENT <= {"done", "EACCES"}, found
    assert found["AF_INET SOCK_STREAM"].keys() >= {"done", "EACCES"}, found
    assert found["AF_INET SOCK_DGRAM"].keys() >= {"done", "EACCES"}, found


@pytest.mark.usefixtures("nothing_private")
@_for(1.5, 30)
def test_a_file_that_changes_is_taken_once(world: World, log: Path, seconds: float) -> None:
    """While a thread puts other files under a socket's number, what is denied is denied on each of them."""
    found = _race(world, log, "files", seconds)
    assert found["turns"].keys() == {"nothing else was reached"}, found
    assert found["calls"].keys() >= {"done", "EACCES", "ENOTSOCK"}, found


def _files_of(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/fd"))


@contextlib.contextmanager
def _daemon(world: World) -> Iterator[str]:
    """Listen where any program of this host could connect to, and hold that none does."""
    path = str(world.folder / "daemon.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.setblocking(False)
        listener.listen()
        try:
            yield path
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            os.unlink(path)


@pytest.mark.usefixtures("nothing_private")
@_for(2, 60)
def test_rubbish_reaches_nothing(world: World, log: Path, seconds: float) -> None:
    """Calls with anything in them open nothing that is denied; guard and gate go on, and keep nothing of it."""
    code = f"""
import json, runpy, socket, sys
script, host, denied, *sys.argv[1:] = sys.argv[1:]
for line in sys.stdin:
    if line == "throw\\n":
        runpy.run_path(script, run_name="__main__")
        continue
    sock = socket.create_connection((host, {TRAP_PORT}), timeout=10)
    sock.sendall(b"GET /hello HTTP/1.0\\r\\n\\r\\n")
    said = [sock.recv(8).decode()]
    try:
        socket.create_connection((denied, {TRAP_PORT}), timeout=10)
    except OSError as e:
        said.append(e.errno)
    print(json.dumps(said), flush=True)
"""
    with _daemon(world) as daemon:
        words = (_SCRIPT, WWW[0], PRIVATE4, "rubbish", str(seconds), _where(daemon=daemon))
        with guarded.started(world, log, guarded.python(), "-ISc", code, *words) as process:

            def tell(word: str) -> Any:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(word + "\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            assert tell("try") == ["HTTP/1.1", 13]
            guard = guarded.guard_of(world)
            before = _files_of(guard)
            found = tell("throw")
            assert tell("try") == ["HTTP/1.1", 13]
            # It keeps channels and born sockets for later, and knows threads that it has seen.
            wait_until(lambda: _files_of(guard) <= before + tasks.KEPT + 32, limit=20)
    assert "ended 0" in found, found
    for name in ("socket", "connect", "bind", "listen", "sendto", "sendmsg"):
        assert any(each.startswith(f"{name} ") for each in found), found
    assert {"socket done", "connect done", "connect EACCES", "listen EACCES", "bind EACCES"} <= found.keys(), found


@pytest.mark.usefixtures("nothing_private")
@_for(1.5, 30)
def test_a_connect_that_signals_interrupt_happens_once(world: World, log: Path, seconds: float) -> None:
    """Under two thousand signals a second no call is done that said EINTR, and no file of it stays behind."""
    with _counting(world) as (port, count):
        found = _race(world, log, "signals", seconds, listener=port)
        done = found["turns"].get("done EACCES", 0)
        assert done > 20, found
        assert {each.split()[0] for each in found["turns"]} <= {"done", *_SPENT}, found
        assert {each.split()[1] for each in found["turns"]} <= {"EACCES", *_SPENT}, found
        connected = sum(number for each, number in found["turns"].items() if each.startswith("done"))
        wait_until(lambda: count[0] >= connected, limit=20)
        assert count[0] == connected
    assert found["leaked"] == 0


@contextlib.contextmanager
def _counting(world: World) -> Iterator[tuple[int, list[int]]]:
    """Accept at a public address, and count."""
    count = [0]
    with world.far.socket() as listener:
        listener.bind((WWW[0], 0))
        listener.listen(4096)

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                sock.close()
                count[0] += 1

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], count
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# --- what is killed ---------------------------------------------------------------------------------------------------


def _kill(process: int) -> None:
    pidfd = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    select.select([pidfd], [], [])
    os.close(pidfd)


@pytest.mark.usefixtures("nothing_private")
def test_a_guard_that_is_killed_amid_connects(world: World, log: Path) -> None:
    """No call hangs, each that comes then fails, and nothing is reached that was not allowed."""
    words = (guarded.python(), "-IS", _SCRIPT, "storm", "0", _where())
    with guarded.started(world, log, *words) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        _kill(guarded.guard_of(world))
        process.stdin.write("\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()).keys() == {"open ENOSYS", "private ENOSYS"}


@pytest.mark.usefixtures("nothing_private")
def test_a_gate_that_is_killed_amid_connects(world: World, log: Path) -> None:
    """Its guard answers on: ENETDOWN to all; and with the next gate each gets what the policy says."""
    folder = log.parent
    config = folder / "outgate.toml"
    config.write_text(
        f'version = 1\n[gate]\nsocket = "{folder}/gate.sock"\nlog = "{log}"\nstate = "{folder}/state"\n'
        f"[apps.guest]\nuid = [{GUEST}]\nbilling = true\n"
    )
    words = (guarded.python(), "-IS", _SCRIPT, "storm", "0", _where())
    options = ("--guard", "--socket", f"{folder}/gate.sock")
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(guarded.gate(world, config))
        process = stack.enter_context(guarded.started(world, None, *words, options=options))
        assert process.stdout is not None

        def since() -> set[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return set(json.loads(process.stdout.readline()))

        assert process.stdout.readline() == "ready\n"
        assert since() == {"open done", "private EACCES"}
        _kill(gate.pid)
        gate.wait()
        assert since() == {"open ENETDOWN", "private ENETDOWN"}
        stack.enter_context(guarded.gate(world, config))
        assert since() == {"open done", "private EACCES"}
        stack.callback(process.kill)
