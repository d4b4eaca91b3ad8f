"""Threads, processes, signals and endings: what a program sees natively, it sees through a gate, on both paths."""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from outgate.gate.names import resolver
from outgate.testing.running import RunningGate, ThreadGate
from support.pythons import interpreters
from support.waiting import wait_until

from .conftest import Results, checks_of, go

#: Each starts hundreds of threads or dozens of processes.
PROGRAMS = ("threads.py", "children.py", "interruptions.py", "lifetimes.py")
#: Raises at each of hundreds of moments; a process for each check, which takes seconds.
MOMENTS = "moments.py"
PATHS = ("gate", "relay")
#: Natively it hangs once in some hundred times: a lock of the C library's resolver is left held in the child.
NOT_NATIVE = frozenset({"check_fork_among_busy_threads"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "check", "how"),
    [
        (program, check, how)
        for program in PROGRAMS
        for check in checks_of(program)
        for how in ("native", *PATHS)
        if how != "native" or check not in NOT_NATIVE
    ],
)
def test_a_check_holds_natively_and_on_both_paths(
    results: Callable[[str, str], Results], program: str, check: str, how: str
) -> None:
    """What the check's own docstring says is so, in a program that imports nothing of outgate."""
    error = results(program, how)[check]
    assert error is None, error


@pytest.fixture
def environ(request: pytest.FixtureRequest) -> Callable[[str], dict[str, str]]:
    """Return a function that gives the environment of a program: ``"native"``, of the ``"gate"`` or the ``"relay"``."""

    @functools.cache
    def of(how: str) -> dict[str, str]:
        plain = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if how == "native":
            return plain
        through: RunningGate = request.getfixturevalue(how)
        return through.environ(plain)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gate", *(pytest.param(how, marks=pytest.mark.full) for how in ("native", "relay"))])
@pytest.mark.parametrize("check", checks_of(MOMENTS))
def test_a_handler_may_raise_at_any_moment(environ: Callable[[str], dict[str, str]], check: str, how: str) -> None:
    """Whatever is cut off by a handler that raises, no connection and no fd is left of it, and the next call works."""
    assert go(MOMENTS, environ(how), only=[check]) == {check: None}


@pytest.mark.pythons
@pytest.mark.full
@pytest.mark.parametrize("how", PATHS)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("version", interpreters())
def test_every_check_holds_on_other_pythons(
    environ: Callable[[str], dict[str, str]], version: str, program: str, how: str
) -> None:
    """All checks of a program hold on both paths on every Python the client is made for."""
    results = go(program, environ(how), python=interpreters()[version])
    assert {check: error for check, error in results.items() if error} == {}


@pytest.mark.pythons
@pytest.mark.full
@pytest.mark.parametrize("how", PATHS)
@pytest.mark.parametrize("version", interpreters())
def test_a_handler_may_raise_at_any_moment_on_other_pythons(
    environ: Callable[[str], dict[str, str]], version: str, how: str
) -> None:
    """An open and a close cut off at every step of another Python leave nothing."""
    check = "check_cut_while_it_opens"
    assert go(MOMENTS, environ(how), python=interpreters()[version], only=[check]) == {check: None}


# --- what the gate sees -----------------------------------------------------------------------------------------------

MANY = """
import socket, sys, threading
COUNT = 300
everybody = threading.Barrier(COUNT)
def work():
    everybody.wait(20)
    socket.getaddrinfo("localhost", 80)
threading.stack_size(256 * 1024)
threads = [threading.Thread(target=work) for _ in range(COUNT)]
for thread in threads: thread.start()
for thread in threads: thread.join()
socket.getaddrinfo("localhost", 80)
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_free_channels_are_bounded() -> None:
    """After hundreds of requests at once a process keeps its anchor and a few channels, and the gate knows no more."""
    with RunningGate() as gate:
        program = gate.program("-c", MANY)
        assert program.stdout is not None
        assert program.stdout.readline() == "done\n", program.communicate()
        most = 1 + 16
        wait_until(lambda: gate.stats()["channels"] <= most + 1, limit=20)
        assert program.communicate("") == ("", "")
        gate.wait_for_counts(processes=0)
        assert gate.faults == []


class SlowNames:
    """A resolver that answers when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = threading.Semaphore(0)
        self.answer = threading.Semaphore(0)
        monkeypatch.setitem(resolver.CALLS, "getaddrinfo", self._getaddrinfo)

    def _getaddrinfo(self, host: str, port: int, *args: int) -> list[object]:
        self.asked.release()
        assert self.answer.acquire(timeout=20)
        return list(socket.getaddrinfo("127.0.0.1", port, *args))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowNames]:
    """A gate's resolver made slow."""
    slow = SlowNames(monkeypatch)
    yield slow
    slow.answer.release(100)


LOOK_UP = """
import signal, socket, sys
calls = {
    "getaddrinfo": lambda: socket.getaddrinfo("slow.test", 80, socket.AF_INET, socket.SOCK_STREAM)[0][4],
    "connect": lambda: socket.create_connection(("slow.test", int(sys.argv[2]))).getpeername(),
}
seen = []
class Interrupted(Exception): pass
def handler(number, frame):
    seen.append(number)
    if len(seen) == 5:
        print("interrupted", flush=True)
        if sys.argv[3] == "raises":
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
try:
    print(calls[sys.argv[1]](), flush=True)
except Interrupted:
    print(socket.getaddrinfo("localhost", 7, socket.AF_INET, socket.SOCK_STREAM)[0][4], flush=True)
"""


@pytest.mark.parametrize("call", ["getaddrinfo", "connect"])
@pytest.mark.parametrize("handler", ["returns", "raises"])
def test_a_look_up_that_waits_is_interrupted(names: SlowNames, call: str, handler: str) -> None:
    """A wait for a name goes on after handlers that return, and ends with one that raises; then the next one works."""
    with ThreadGate() as gate, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", LOOK_UP, call, str(port), handler]
        with subprocess.Popen(command, env=gate.environ(), stdout=pipe, stderr=pipe, text=True) as program:
            assert names.asked.acquire(timeout=20)
            assert program.stdout is not None
            assert program.stdout.readline() == "interrupted\n"
            assert not select.select([program.stdout], [], [], 0)[0] or handler == "raises"
            names.answer.release(10)
            said, complained = program.communicate(timeout=20)
        answers = {"getaddrinfo": ("127.0.0.1", 80), "connect": ("127.0.0.1", port)}
        assert (said, complained) == (f"{answers[call] if handler == 'returns' else ('127.0.0.1', 7)}\n", "")
        gate.wait_for_counts(open=0, processes=0)
        assert gate.faults == []
