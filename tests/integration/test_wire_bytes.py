"""What a sealed gate books as bytes on the wire is what a tap there counts, to the byte, whatever is lost on it."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from outgate.testing.running import PATIENCE
from support.sealed import Host, end, hosting
from support.tap import Tap, cut_up, losing
from support.world import WWW, World

UP, DOWN = 3_000_000, 2_000_000
#: Both send and receive; the server is the first to close, at a word.
PROGRAM = f"""
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(bytes({UP}))
    received = 0
    while received < {DOWN}:
        received += len(sock.recv(65536))
    print(received, flush=True)
    sys.stdin.readline()
    sock.sendall(b"x")
    print(sock.recv(1), flush=True)
"""


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    """Return the gate's host, on a wire where each segment is a packet."""
    with hosting(world) as made, cut_up((world.near, "near0"), (world.far, "far0")):
        made.configure(ledger=ledger_of(made))
        yield made


def ledger_of(host: Host) -> str:
    """Return the URL of a ledger for a host."""
    return f"sqlite:///{host.folder}/ledger.sqlite"


@contextlib.contextmanager
def serving(world: World, address: str) -> Iterator[int]:
    """Have a server that takes :data:`UP` bytes, gives :data:`DOWN`, and closes after one more; its port."""
    listener = world.far.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, 0))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            left = UP
            while left:
                left -= len(connection.recv(min(left, 1 << 16)))
            connection.sendall(bytes(DOWN))
            connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield listener.getsockname()[1]
        thread.join(PATIENCE)


class Transfer:
    """A program that moves its bytes and waits for a word before it ends."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self._program = host.start("-c", PROGRAM, address, str(port))
        assert self._program.stdout is not None
        said = self._program.stdout.readline()
        assert said == f"{DOWN}\n", self._program.communicate(timeout=PATIENCE)

    def finish(self) -> None:
        """Let it end."""
        output, errors = self._program.communicate("on\n", timeout=PATIENCE)
        assert (output, errors) == ("b''\n", "")


def booked(host: Host) -> dict[str, int]:
    """Return the total of the ledger."""
    words = (sys.executable, "-m", "outgate", "usage", "--json", "--ledger", ledger_of(host))
    done = subprocess.run(words, capture_output=True, text=True, env=host.environ)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)["total"])


def hold(host: Host, tap: Tap) -> None:
    """Hold what was booked against what the tap saw."""
    sent, received = tap.wire()
    total = booked(host)
    assert (total["sent"], total["received"]) == (UP + 1, DOWN)
    assert (total["wire_sent"], total["wire_received"]) == (sent, received)
    assert total["wire_exact"] == sent + received


@pytest.mark.parametrize("path", ["auto", "relay"])
@pytest.mark.parametrize("address", WWW, ids=["IPv4", "IPv6"])
def test_every_packet_is_counted(host: Host, world: World, address: str, path: str) -> None:
    """Both ways, whoever carries the bytes."""
    host.configure(path=path, ledger=ledger_of(host))
    with serving(world, address) as port, Tap(world.near, "near0", port) as tap:
        with host.serving():
            Transfer(host, address, port).finish()
        hold(host, tap)


def test_what_is_lost_and_sent_again_is_counted(host: Host, world: World) -> None:
    """Every retransmission is, as the wire carried it."""
    with (
        serving(world, WWW[0]) as port,
        losing(world.far, port, every=100),
        Tap(world.near, "near0", port) as tap,
    ):
        with host.serving():
            Transfer(host, WWW[0], port).finish()
        hold(host, tap)
        assert tap.repeated > 0


@pytest.mark.parametrize("how", ["takeover", "killed"])
def test_another_gate_goes_on_counting(host: Host, world: World, how: str) -> None:
    """A connection that outlives its gate is counted on by the kernel, and by the gate that follows."""
    with serving(world, WWW[0]) as port, Tap(world.near, "near0", port) as tap:
        first = host.serve()
        transfer = Transfer(host, WWW[0], port)
        if how == "killed":
            end(first, signal.SIGKILL)
            second = host.serve()
        else:
            second = host.serve("--takeover")
            first.communicate(timeout=PATIENCE)
        transfer.finish()
        end(second)
        hold(host, tap)
