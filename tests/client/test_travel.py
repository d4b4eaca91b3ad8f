"""Sockets that are pickled, or named by a text, open again: in the same process and in every kind of other one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import outgate
from outgate.testing.running import RunningGate
from support import peers
from support.pythons import interpreters

from .conftest import Results, checks_of, go

PROGRAMS = ("travel.py", "travel_files.py", "travel_processes.py")
#: Where outgate lies, and nothing of the client's autoload.
SOURCE = str(Path(outgate.__file__).parents[1])
_SLOW = frozenset({"travel_processes.py"})

SHARE = """\
import pickle, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
file = sock.makefile("r", encoding="utf-8")
sock.sendall("one grüße\\ntwo\\n".encode())
line = file.readline()
with open(sys.argv[3], "wb") as pickled:
    pickle.dump((sock, file, line), pickled, 4)
sys.stdin.read()
"""
OPEN = """\
import pickle, sys
try:
    with open(sys.argv[1], "rb") as pickled:
        sock, file, line = pickle.load(pickled)
except Exception as e:
    sys.exit(type(e).__name__ + ": " + str(e))
assert line == "one grüße\\n", line
assert file.readline() == "two\\n"
sock.sendall(b"three\\n")
assert file.readline() == "three\\n"
assert sock.gettimeout() == 10
print(type(sock).__module__, type(sock).__name__, sock.getpeername()[1])
file.close()
sock.close()
"""


@pytest.mark.parametrize(
    ("how", "program", "check"),
    [
        pytest.param(how, p, check, marks=[pytest.mark.slow] if p in _SLOW else [])
        for p in PROGRAMS
        for check in checks_of(p)
        for how in ("gate", "relay")
    ],
)
def test_a_check_holds(results: Callable[[str, str], Results], program: str, check: str, how: str) -> None:
    """What the check's own docstring says is so, through a gate on either path."""
    error = results(program, how)[check]
    assert error is None, error


@pytest.mark.pythons
@pytest.mark.parametrize("how", ["gate", "relay"])
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("version", interpreters())
def test_every_check_holds_on_other_pythons(
    request: pytest.FixtureRequest, certificates: dict[str, str], version: str, program: str, how: str
) -> None:
    """All checks of a program hold on either path on every Python the client is made for."""
    gate: RunningGate = request.getfixturevalue(how)
    environ = gate.environ({**os.environ, **certificates, "PYTHONDONTWRITEBYTECODE": "1"})
    results = go(program, environ, python=interpreters()[version])
    assert {check: error for check, error in results.items() if error} == {}


@pytest.fixture
def echo() -> Iterator[peers.Peer]:
    """A peer that sends back what comes."""
    with peers.echo() as peer:
        yield peer


@pytest.fixture(params=["gate", "relay"])
def either(request: pytest.FixtureRequest) -> RunningGate:
    """A gate, on each path."""
    gate: RunningGate = request.getfixturevalue(request.param)
    return gate


class _Shared:
    """A process that has pickled a connection, and stays until it is told to end."""

    def __init__(self, gate: RunningGate, port: int, path: Path, python: str = sys.executable) -> None:
        self.path = path
        words = [python, "-W", "ignore", "-c", SHARE, "127.0.0.1", str(port), str(path)]
        environ = gate.environ({**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"})
        self.process = subprocess.Popen(words, env=environ, stdin=subprocess.PIPE)

    def end(self) -> None:
        """Let it end, its pickle written."""
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0


def _open(path: Path, environ: dict[str, str], python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environ = {**environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"}
    words = [python, "-W", "error", "-c", OPEN, str(path)]
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=30)


def _bare(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **more}


def test_a_process_without_the_client_opens_a_pickle(either: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """Where outgate can be imported and is not at work, the socket has a class of its own; its close ends the lease."""
    shared = _Shared(either, echo.port, tmp_path / "pickle")
    shared.end()
    since = len(either.log)
    done = _open(shared.path, _bare(PYTHONPATH=SOURCE, OUTGATE_SOCKET=either.socket))
    assert (done.stdout, done.stderr) == (f"outgate.client.travel.sockets Socket {echo.port}\n", "")
    either.wait_for(event="end", port=echo.port, since=since)


def test_its_other_sockets_stay_native(either: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """A process that opens a pickle and does no more with outgate makes its own sockets as before."""
    before = len(either.log.all(event="decision", port=echo.port))  # another peer may have had that port
    shared = _Shared(either, echo.port, tmp_path / "pickle")
    shared.end()
    code = (
        "import pickle, socket, sys\n"
        "before = vars(socket.socket).copy(), sys.modules['_socket']\n"
        "sock, file, line = pickle.load(sys.stdin.buffer)\n"
        "file.close(); sock.close()\n"
        "assert before == (vars(socket.socket).copy(), sys.modules['_socket'])\n"
        f"own = socket.create_connection(('127.0.0.1', {echo.port}))\n"
        "assert type(own) is socket.socket\n"
        "own.sendall(b'x'); assert own.recv(1) == b'x'; own.close()\n"
    )
    environ = _bare(PYTHONPATH=SOURCE, OUTGATE_SOCKET=either.socket, PYTHONDONTWRITEBYTECODE="1")
    with open(shared.path, "rb") as pickled:
        words = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(words, env=environ, stdin=pickled, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(either.log.all(event="decision", port=echo.port)) == before + 1


def test_a_process_that_cannot_import_outgate(gate: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """What pickle says there names what is to be installed, on each Python."""
    shared = _Shared(gate, echo.port, tmp_path / "pickle")
    shared.end()
    for python in (sys.executable, *interpreters().values()):
        environ = _bare(OUTGATE_SOCKET=gate.socket)
        words = [python, "-I", "-S", "-c", OPEN, str(shared.path)]
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=30)
        assert done.stderr.strip() == "ModuleNotFoundError: No module named 'outgate'"


def test_a_process_that_finds_no_gate(gate: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """Where no gate answers, the error has the path that was tried and says how to start one."""
    shared = _Shared(gate, echo.port, tmp_path / "pickle")
    shared.end()
    path = str(tmp_path / "nothing.sock")
    done = _open(shared.path, _bare(PYTHONPATH=SOURCE, OUTGATE_SOCKET=path))
    assert done.stderr.startswith("GateUnavailable: ")
    assert path in done.stderr
    assert "outgate serve" in done.stderr


def test_a_pickle_of_another_gate(gate: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """A gate that has not made the descriptor knows nothing of it."""
    shared = _Shared(gate, echo.port, tmp_path / "pickle")
    shared.end()
    with RunningGate() as other:
        done = _open(shared.path, other.environ())
    assert done.stderr.startswith("UnknownDescriptor: ")


@pytest.mark.pythons
@pytest.mark.parametrize("opens", interpreters())
@pytest.mark.parametrize("shares", interpreters())
def test_pickles_go_from_python_to_python(
    either: RunningGate, echo: peers.Peer, tmp_path: Path, shares: str, opens: str
) -> None:
    """A pickle made on one version is opened on another, while its maker lives, and the connection goes on."""
    shared = _Shared(either, echo.port, tmp_path / "pickle", interpreters()[shares])
    shared.end()
    done = _open(shared.path, either.environ(), interpreters()[opens])
    assert (done.stdout, done.stderr) == (f"socket socket {echo.port}\n", "")


def test_a_pickle_names_only_what_stays(gate: RunningGate, echo: peers.Peer, tmp_path: Path) -> None:
    """All that a pickle of a socket and its file asks for is in ``outgate.pickles``."""
    import pickletools

    shared = _Shared(gate, echo.port, tmp_path / "pickle")
    shared.end()
    data = shared.path.read_bytes()
    texts = [argument for op, argument, _ in pickletools.genops(data) if isinstance(argument, str)]
    assert {text for text in texts if text.startswith("outgate.")} == {"outgate.pickles"}
    from outgate import pickles

    assert {"raw", "reader", "socket", "text"} <= set(texts)
    assert {"raw", "reader", "socket", "text"} <= set(pickles.__all__)
    assert pickle.PROTO in data
