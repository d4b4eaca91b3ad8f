"""uvloop, whose sockets are made in C, sees through a gate what it sees natively, and goes round no gate."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import outgate
from outgate.testing.running import RunningGate

from .conftest import Results, checks_of

pytest.importorskip("uvloop")

PROGRAM = "loops.py"
SRC = Path(outgate.__file__).parents[1]


@pytest.mark.parametrize("how", ["native", "gate", pytest.param("relay", marks=pytest.mark.slow)])
@pytest.mark.parametrize("check", checks_of(PROGRAM))
def test_a_check_holds_natively_and_through_a_gate(
    results: Callable[[str, str], Results], check: str, how: str
) -> None:
    """What the check's own docstring says is so, in a program that imports nothing of outgate."""
    error = results(PROGRAM, how)[check]
    assert error is None, error


# --- nothing goes round the gate --------------------------------------------------------------------------------------

#: Each way out, with an address where somebody listens; natively all of them get there.
WAYS = {
    "create_connection": "await loop.create_connection(asyncio.Protocol, *address)",
    "create_connection TLS": "await loop.create_connection(asyncio.Protocol, *address, ssl=True, server_hostname='x')",
    "create_connection by name": "await loop.create_connection(asyncio.Protocol, 'near.test', address[1])",
    "create_connection of the class": "await uvloop.Loop.create_connection(loop, asyncio.Protocol, *address)",
    "create_connection of uvloop.loop": "await uvloop.loop.Loop.create_connection(loop, asyncio.Protocol, *address)",
    "sock_connect": "s = socket.socket(); s.setblocking(False); await loop.sock_connect(s, address)",
    "endpoint that is connected": "await loop.create_datagram_endpoint(Told, remote_addr=address)",
    "endpoint that sends": (
        "t, p = await loop.create_datagram_endpoint(Told, family=socket.AF_INET)\n"
        "t.sendto(b'x', address)\n"
        "raise await p.told"
    ),
    "endpoint on a socket": (
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "t, p = await loop.create_datagram_endpoint(Told, sock=s)\n"
        "t.sendto(b'x', address)\n"
        "raise await p.told"
    ),
    "getaddrinfo": "await loop.getaddrinfo('near.test', 80)",
    "create_server": "await loop.create_server(asyncio.Protocol, '127.0.0.1', 0)",
    "create_server on a socket": "await loop.create_server(asyncio.Protocol, sock=socket.socket())",
}
DENIED = """
import asyncio, json, os, socket, sys
import uvloop
address = ("127.0.0.1", int(sys.argv[1]))
class Told(asyncio.DatagramProtocol):
    def __init__(self):
        self.told = asyncio.get_running_loop().create_future()
    def error_received(self, error):
        self.told.set_result(error)
async def main():
    loop = asyncio.get_running_loop()
    ends = {}
    for name, way in json.loads(sys.argv[2]).items():
        space = {}
        exec("async def go():\\n    " + way.replace("\\n", "\\n    "), {**globals(), "loop": loop}, space)
        try:
            await space["go"]()
            ends[name] = "reached"
        except OSError as error:
            ends[name] = type(error).__name__
    print(json.dumps(ends))
uvloop.run(main())
"""


@pytest.fixture(scope="module")
def strict_gate() -> Iterator[RunningGate]:
    """A gate with the default policy, which denies loopback and lets nobody listen."""
    with RunningGate(dev=False, names={"near.test": ["127.0.0.1"], "many.test": ["10.0.0.5", "127.0.0.1"]}) as gate:
        yield gate
        assert gate.faults == []


def test_no_way_of_uvloop_leads_past_the_policy(strict_gate: RunningGate) -> None:
    """Each way to connect, send, look up or listen is refused with its class, and nobody hears of it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(server.getsockname())
        program = strict_gate.program("-c", DENIED, str(server.getsockname()[1]), json.dumps(WAYS))
        said, complained = program.communicate(timeout=30)
        assert program.returncode == 0, complained
        special = {"getaddrinfo": "LookUpDenied", "create_connection by name": "LookUpDenied"}
        special |= dict.fromkeys(("create_server", "create_server on a socket"), "OutboundOnly")
        assert json.loads(said) == {way: special.get(way, "PolicyDenied") for way in WAYS}
        for sock in (server, datagrams):
            sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
        with pytest.raises(BlockingIOError):
            datagrams.recv(10)


BOTH = """
import asyncio, socket, sys, uvloop
port = int(sys.argv[1])
async def main():
    loop = asyncio.get_running_loop()
    async def two(*args, **kwargs):
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", ("10.0.0.5", port)), (socket.AF_INET, kind, 6, "", ("127.0.0.1", port))]
    uvloop.Loop.getaddrinfo = two
    try:
        _, writer = await asyncio.open_connection("several.test", port)
    except OSError as error:
        cause = error.__cause__
        print(type(error).__name__, error.args[0].startswith("Multiple exceptions: "), type(cause).__name__)
        return
    print("connected", *writer.get_extra_info("peername"))
    writer.close()
uvloop.run(main())
"""


def test_a_refused_address_falls_to_the_next(gate: RunningGate) -> None:
    """Where the policy refuses the first address that a name has, the connection goes to the second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = gate.program("-c", BOTH, str(port))
        said, complained = program.communicate(timeout=30)
        assert said.split() == ["connected", "127.0.0.1", str(port)], complained


def test_a_refusal_is_the_cause_where_several_addresses_failed(strict_gate: RunningGate) -> None:
    """Of several addresses that are refused, each for its own reason, the first refusal is the error's cause."""
    program = strict_gate.program("-c", BOTH, "80")
    said, complained = program.communicate(timeout=30)
    assert said.split() == ["OSError", "True", "PolicyDenied"], complained


SERVES = """
import asyncio, socket, sys, uvloop
listening = socket.socket(fileno=int(sys.argv[1]))
async def main():
    async def greet(reader, writer):
        writer.write(b"hello " + await reader.readexactly(3))
        writer.close()
        served.set()
    served = asyncio.Event()
    server = await asyncio.start_server(greet, sock=listening)
    await served.wait()
    server.close()
    await server.wait_closed()
uvloop.run(main())
"""


def test_a_server_on_an_inherited_socket_is_native(strict_gate: RunningGate) -> None:
    """As web servers' workers do, uvloop serves on a socket that it got listening, though nobody may listen."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = str(server.fileno())
        command = [sys.executable, "-c", SERVES, number]
        with subprocess.Popen(command, env=strict_gate.environ(), pass_fds=[server.fileno()]) as program:
            with socket.create_connection(server.getsockname(), timeout=20) as client:
                client.sendall(b"you")
                assert client.recv(100) == b"hello you"
            assert program.wait(20) == 0


# --- how it gets there ------------------------------------------------------------------------------------------------

#: What a program has done before it calls install().
BEFORE = {
    "nothing": "",
    "uvloop": "import uvloop",
    "a class of its own": "import uvloop\nclass Mine(uvloop.Loop): pass\nuvloop.new_event_loop = Mine",
    "a loop": "import uvloop\nloop = uvloop.new_event_loop()\nuvloop.new_event_loop = lambda: loop",
    "by its class": "from uvloop import Loop; import uvloop; uvloop.new_event_loop = Loop",
}
INSTALLS = """
import sys
{before}
import outgate
missed = outgate.install()
import asyncio, uvloop
async def main():
    _, writer = await asyncio.open_connection("localhost", {port})
    writer.close()
    await writer.wait_closed()
with asyncio.Runner(loop_factory=lambda: uvloop.new_event_loop()) as runner:
    runner.run(main())
print(missed)
"""


@pytest.mark.parametrize("before", BEFORE)
def test_install_reaches_loops(gate: RunningGate, before: str) -> None:
    """After ``outgate.install()`` connections of every loop are the gate's, whatever had been imported or made."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        environ = {**os.environ, "OUTGATE_SOCKET": gate.socket, "PYTHONPATH": str(SRC)}
        code = INSTALLS.format(before=BEFORE[before], port=port)
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("[]\n", "")
        # By its transport, too: a port that an earlier test had for datagrams may be this one's now.
        assert gate.wait_for(event="end", transport="tcp", port=port)["connected"]


def told(gate: RunningGate, code: str) -> Any:
    """Run a program through a gate and return the JSON it printed."""
    done = subprocess.run([sys.executable, "-c", code], env=gate.environ(), capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_nothing_of_it_is_loaded_without_uvloop(gate: RunningGate) -> None:
    """A program that does not import uvloop loads neither the methods for it nor asyncio."""
    code = "import json, socket, sys; print(json.dumps([name for name in sys.modules if name.endswith('loops')]))"
    assert told(gate, code) == []
    assert not told(gate, "import json, socket, sys; print(json.dumps('asyncio' in sys.modules))")


def test_the_import_leaves_no_trace(gate: RunningGate) -> None:
    """uvloop's modules have the loader that the interpreter gave them."""
    code = (
        "import json, uvloop, uvloop.loop\n"
        "found = [type(each.__spec__.loader).__name__ for each in (uvloop, uvloop.loop)]\n"
        "print(json.dumps([*found, uvloop.loop.__loader__ is uvloop.loop.__spec__.loader]))"
    )
    assert told(gate, code) == ["SourceFileLoader", "ExtensionFileLoader", True]
