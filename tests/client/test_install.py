"""``outgate.install()`` takes a running program's sockets through the gate, whatever it had imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import outgate
from outgate.testing.running import RunningGate
from support.pythons import interpreters

SRC = Path(outgate.__file__).parents[1]

#: What a program has done before it calls install().
BEFORE = {
    "nothing": "",
    "socket": "import socket",
    "ssl and http.client": "import ssl, http.client",
    "asyncio": "import asyncio, selectors, multiprocessing",
    "names taken by value": "from socket import *; from socket import socket as taken, create_connection, getaddrinfo",
    "names taken from C": "from _socket import *; import socket",
    "a subclass": "import socket\nclass Mine(socket.socket): pass",
    "install() itself": "import socket, outgate; outgate.install()",
    "odd modules": (
        "import socket, types\n"
        "class Odd:\n    def __hash__(self): raise RuntimeError\n    def __eq__(self, other): raise RuntimeError\n"
        "odd = types.ModuleType('odd'); odd.thing = Odd(); odd.__name__ = 5; sys.modules['odd'] = odd\n"
        "class Lazy(types.ModuleType):\n    def __getattr__(self, name): raise RuntimeError(name)\n"
        "sys.modules['lazy'] = Lazy('lazy'); sys.modules['none'] = None"
    ),
}
#: Every way to a connection; each must be known to the gate.
PROGRAM = """
import sys
{before}
import outgate
missed = outgate.install()
import asyncio, http.client, json, socket, ssl
address = ("127.0.0.1", {port})

class After(socket.socket):
    pass

async def stream():
    (await asyncio.open_connection(*address))[1].close()

socket.create_connection(address).close()
socket.create_connection(("localhost", {port})).close()
http.client.HTTPConnection(*address).connect()
asyncio.run(stream())
sock = After(); sock.connect(address); sock.close()
sock = ssl.create_default_context().wrap_socket(socket.socket(), do_handshake_on_connect=False, server_hostname="x")
sock.connect(address); sock.close()
sock = socket.socket(); copy = sock.dup(); sock.close(); copy.connect(address); copy.close()
assert socket.getaddrinfo("localhost", 1)
with sock: pass
left, right = socket.socketpair(); left.send(b"x"); assert right.recv(1) == b"x"
print(json.dumps(missed))
"""
OPENS = 7


@pytest.fixture(scope="module")
def own_gate() -> Iterator[RunningGate]:
    """A gate whose counts nobody else changes."""
    with RunningGate() as gate:
        yield gate
        assert gate.faults == []


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where somebody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        yield server.getsockname()[1]


def run(code: str, gate: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run a program that has outgate on its path, and is not started by ``outgate run``."""
    environ = {**os.environ, "OUTGATE_SOCKET": gate, "PYTHONPATH": str(SRC)}
    return subprocess.run([python, "-c", code], env=environ, capture_output=True, text=True, timeout=30)


def missed_by(done: subprocess.CompletedProcess[str]) -> Any:
    """Return what install() said it could not reach."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("before", BEFORE)
def test_everything_is_reached(own_gate: RunningGate, port: int, before: str) -> None:
    """All later connections go through the gate, nothing is said to be missed, and nothing is printed."""
    counted = own_gate.app()["connects"]
    done = run(PROGRAM.format(before=BEFORE[before], port=port), own_gate.socket)
    assert missed_by(done) == []
    assert "RuntimeWarning" not in done.stderr
    assert own_gate.app()["connects"] - counted == OPENS


@pytest.mark.pythons
@pytest.mark.parametrize("before", ["nothing", "socket", "names taken by value"])
@pytest.mark.parametrize("version", interpreters())
def test_everything_is_reached_on_other_pythons(own_gate: RunningGate, port: int, version: str, before: str) -> None:
    """The same holds on every Python the client is made for."""
    counted = own_gate.app()["connects"]
    done = run(PROGRAM.format(before=BEFORE[before], port=port), own_gate.socket, interpreters()[version])
    assert missed_by(done) == []
    assert own_gate.app()["connects"] - counted == OPENS


def test_what_is_not_reached_is_said(own_gate: RunningGate, port: int) -> None:
    """A class built on C's own socket is named, in what is returned and in a warning."""
    before = "import socket, _socket\nclass Native(_socket.socket): pass"
    done = run(PROGRAM.format(before=before, port=port), own_gate.socket)
    (sentence,) = missed_by(done)
    assert "__main__.Native" in sentence
    assert "RuntimeWarning: outgate: " + sentence in done.stderr


def test_a_connection_that_exists_goes_on(own_gate: RunningGate, port: int) -> None:
    """A socket connected before install() stays what it was: it is native, works, closes, and is not the gate's."""
    code = """
import socket, outgate
with socket.create_server(("127.0.0.1", 0)) as server:
    old = socket.create_connection(server.getsockname())
    peer = server.accept()[0]
    outgate.install()
    old.sendall(b"x")
    assert peer.recv(1) == b"x"
    old.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"12345678")
    old.close()
    assert peer.recv(1) == b""
"""
    counted = own_gate.app()["sockets"]
    done = run(code, own_gate.socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert own_gate.app()["sockets"] == counted


def test_a_socket_of_C_itself_is_ours_too(own_gate: RunningGate, port: int) -> None:
    """What is built on ``_socket.socket`` after install(), as gevent is, goes through the gate."""
    for before in ("", "import socket"):
        counted = own_gate.app()["connects"]
        code = f"{before}\nimport outgate; outgate.install()\nimport _socket\nclass Mine(_socket.socket): pass\n"
        code += f"Mine().connect(('127.0.0.1', {port})); _socket.socket().connect(('127.0.0.1', {port}))"
        done = run(code, own_gate.socket)
        assert done.returncode == 0, done.stderr
        assert own_gate.app()["connects"] - counted == 2


@pytest.mark.parametrize("before", ["", "import socket"])
def test_without_a_gate_it_says_where_it_looked(before: str) -> None:
    """Without a gate creating a socket and looking up a name raise GateUnavailable with the path and the cure."""
    code = f"""
{before}
import outgate; outgate.install()
import socket, errno
from outgate.errors import GateUnavailable
for call in (socket.socket, lambda: socket.create_connection(("127.0.0.1", 9)), lambda: socket.gethostbyname("x.test")):
    try:
        call()
    except GateUnavailable as e:
        assert isinstance(e, ConnectionError)
        assert e.errno == errno.ENETDOWN
        assert "/nowhere/gate.sock" in str(e) and "outgate serve" in e.cure, e
    else:
        raise AssertionError(call)
socket.socket(socket.AF_UNIX).close()
[s.close() for s in socket.socketpair()]
assert socket.getaddrinfo("127.0.0.1", 9)
"""
    done = run(code, "/nowhere/gate.sock")
    assert (done.returncode, done.stderr) == (0, "")
