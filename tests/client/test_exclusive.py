"""``outgate.adopt(text, exclusive=True)`` in programs: the others are cut off, or it is refused, each with a reason."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from outgate.testing.running import RunningGate
from support import peers

OWNER = """
import outgate, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
if len(sys.argv) > 3:
    def told():
        said = []
        for use in (lambda: sock.recv(1), lambda: sock.recv(1), lambda: sock.recv_into(bytearray(1)),
                    lambda: sock.send(b"x"), sock.getpeername, lambda: outgate.descriptor(sock)):
            try:
                said.append(repr(use()))
            except outgate.errors.ConnectionCut as e:
                said.append(e.code)
            except OSError as e:
                said.append(repr(e))
        return " ".join(said)
import outgate.errors
text = outgate.descriptor(sock)
print(text, flush=True)
input()
if len(sys.argv) > 3:
    print(told(), flush=True)
    try:
        outgate.adopt(text)
    except outgate.errors.UnknownDescriptor:
        print("void", flush=True)
    sock.close()
    input()
"""
TAKER = """
import outgate, outgate.errors, sys
try:
    sock = outgate.adopt(sys.argv[1], exclusive=True)
except outgate.errors.GateError as e:
    print(e.code, e.reason, "|", e.cure, flush=True)
    sys.exit()
print("taken", flush=True)
input()
sock.settimeout(20)
sock.sendall(b"mine")
print(sock.recv(4).decode(), sock.getpeername()[1], flush=True)
sock.close()
"""


def line(program: subprocess.Popen[str]) -> str:
    """Return the next line that a program prints."""
    assert program.stdout is not None
    return program.stdout.readline().strip()


def go_on(program: subprocess.Popen[str]) -> None:
    """Let a program that waits for a line go on."""
    assert program.stdin is not None
    program.stdin.write("\n")
    program.stdin.flush()


@pytest.fixture
def echo() -> Iterator[peers.Peer]:
    """A peer that sends back what comes."""
    with peers.echo() as peer:
        yield peer


def test_who_had_it_is_told_why(relay: RunningGate, echo: peers.Peer) -> None:
    """Whatever call comes next in the process that had it raises ConnectionCut; the other one goes on, and closes."""
    with relay.program("-c", OWNER, *map(str, echo.address), "uses") as owner:
        with relay.program("-c", TAKER, line(owner)) as taker:
            assert line(taker) == "taken"
            go_on(owner)
            assert line(owner) == " ".join(["taken"] * 6)
            assert line(owner) == "void"
            go_on(taker)
            assert line(taker) == f"mine {echo.port}"
        go_on(owner)
    ended = relay.wait_for(event="end", port=echo.port)
    assert (ended["sent"], ended["received"], ended["pid"], ended["how"]) == (4, 4, taker.pid, "closed")


def test_the_kernels_own_socket_stays_with_who_has_it(gate: RunningGate, echo: peers.Peer) -> None:
    """On the direct path it is refused while another process has it, by name and with a cure, and granted after."""
    with gate.program("-c", OWNER, *map(str, echo.address)) as owner:
        text = line(owner)
        with gate.program("-c", TAKER, text) as taker:
            assert line(taker) == (
                "exclusive this socket cannot be taken from the others that have it: "
                f"process {owner.pid} has it too, and holds the kernel's own socket | "
                'have the gate carry its bytes: path = "relay" under [apps.default]; or close it where it is not needed'
            )
        go_on(owner)
    with gate.program("-c", TAKER, text) as taker:
        assert line(taker) == "taken"
        go_on(taker)
        assert line(taker) == f"mine {echo.port}"
