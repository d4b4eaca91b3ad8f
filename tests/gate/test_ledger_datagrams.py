"""Each byte of a UDP socket is booked to the destination that it went to or came from, however socket and gate end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outgate as package
from outgate.gate.datagram import counted
from support.commands import Served, environment, outgate, serving
from support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("closed_databases")]

CONFIG = """\
version = 1
[ledger]
url = "{folder}/ledger.sqlite"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["loopback"]
"""
#: Sends to each port a datagram of a size of its own and takes the answer, for each line of input.
PROGRAM = """
import socket, sys
ports = list(map(int, sys.argv[1:]))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin:
    for place, port in enumerate(ports):
        sock.sendto(bytes(100 * (place + 1)), ("127.0.0.1", port))
        sock.recv(65536)
    print(flush=True)
"""


@contextmanager
def answering(count: int) -> Iterator[list[int]]:
    """Serve on so many UDP ports: who sends gets half as many bytes back."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]

    def serve(sock: socket.socket) -> None:
        while True:
            data, sender = sock.recvfrom(65536)
            if not data:
                return
            sock.sendto(data[: len(data) // 2], sender)

    threads = [threading.Thread(target=serve, args=(sock,), daemon=True) for sock in socks]
    for sock, thread in zip(socks, threads, strict=True):
        sock.bind(("127.0.0.1", 0))
        thread.start()
    yield [sock.getsockname()[1] for sock in socks]
    for sock, thread in zip(socks, threads, strict=True):
        sock.sendto(b"", sock.getsockname())
        thread.join(10)
        sock.close()


class Talking:
    """A program that talks to several destinations with one UDP socket."""

    def __init__(self, gate: Served, ports: list[int]) -> None:
        autoload = Path(package.__file__).parent / "client" / "autoload"
        environ = environment(OUTGATE_SOCKET=gate.socket, PYTHONPATH=str(autoload), OUTGATE_LABELS="job=17")
        command = [sys.executable, "-c", PROGRAM, *map(str, ports)]
        self.process = subprocess.Popen(command, env=environ, stdin=-1, stdout=-1, text=True)

    def turn(self) -> None:
        """Have it send once more to each."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "\n"


def booked(folder: Path) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return what the ledger has by destination and label: sent, received, sent on the wire."""
    words = ("--ledger", folder / "ledger.sqlite", "--by", "destination,label", "--json")
    lines = json.loads(outgate("usage", *words).stdout)["lines"]
    return {(line["destination"], line["label"]): (line["sent"], line["received"], line["wire_sent"]) for line in lines}


def expected(ports: list[int], turns: int) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return what it should have; a datagram of IPv4 has 28 bytes of headers."""
    sizes = {port: 100 * (place + 1) for place, port in enumerate(ports)}
    return {
        (f"udp://127.0.0.1:{port}", "job=17"): (turns * size, turns * size // 2, turns * (size + 28))
        for port, size in sizes.items()
    }


def configured(folder: Path) -> tuple[str, str]:
    """Write a configuration, and return the options that name it."""
    (folder / "outgate.toml").write_text(CONFIG.format(folder=folder, uid=os.getuid()))
    return "--config", str(folder / "outgate.toml")


@pytest.mark.parametrize("is_followed", [False, True])
def test_each_destination_has_its_bytes(tmp_path: Path, is_followed: bool) -> None:
    """By its end, and over a change of gates, every destination of a socket has what went there and came from there."""
    options = configured(tmp_path)
    with answering(3) as ports, serving(tmp_path, *options) as gate:
        talking = Talking(gate, ports)
        talking.turn()
        if is_followed:
            with serving(tmp_path, *options, "--takeover") as second:
                assert gate.process.wait(20) == 0
                talking.turn()
                talking.process.communicate()
                assert second.stop()[0] == 0
        else:
            talking.turn()
            talking.process.communicate()
            assert gate.stop()[0] == 0
    assert booked(tmp_path) == expected(ports, 2)
    said = outgate("usage", "verify", *options, "--log", tmp_path / "decisions.jsonl")
    assert said.returncode == 0, said.stdout


def test_a_gate_that_is_killed_leaves_the_next_one_whose_the_bytes_were(tmp_path: Path) -> None:
    """What was noted of a socket that dies with its gate is on the bill of its destinations, not of its first one."""
    options = configured(tmp_path)
    with answering(3) as ports, serving(tmp_path, *options) as gate:
        talking = Talking(gate, ports)
        talking.turn()
        talking.turn()
        written = b",1200,600]"
        wait_until(lambda: any(written in each.read_bytes() for each in (tmp_path / "state").iterdir()), limit=30)
        gate.stop(signal.SIGKILL)
        with serving(tmp_path, *options) as second:
            assert second.stop()[0] == 0
        talking.process.kill()
        talking.process.communicate()
    sent = {key: counts[:2] for key, counts in booked(tmp_path).items()}
    assert sent == {key: counts[:2] for key, counts in expected(ports, 2).items()}


def destination(number: int) -> Any:
    """Return a destination as the counters see one."""
    return SimpleNamespace(
        target=("127.0.0.1", number),
        decision=SimpleNamespace(name=""),
        has_moved=False,
        **dict.fromkeys(("sent", "received", "sent_datagrams", "received_datagrams"), 0),
    )


@given(st.lists(st.tuples(st.integers(0, 200), st.booleans(), st.integers(0, 1000), st.booleans()), max_size=400))
def test_shares_are_the_growth(datagrams: list[tuple[int, bool, int, bool]]) -> None:
    """However many destinations take turns, shares add up to the counters, and few wait to be booked."""
    sums: dict[int, list[int]] = {}

    class Sock(counted.Counted):
        def book(self) -> None:
            for _, _, port, *counts in self.take_shares():
                before = sums.get(port, [0, 0, 0, 0])
                sums[port] = [a + b for a, b in zip(before, counts, strict=True)]

    sock, known, true = Sock(), {number: destination(number) for number in range(201)}, {}
    for number, is_out, size, is_noted in datagrams:
        (sock.count_sent if is_out else sock.count_received)(known[number], size)
        row = true.setdefault(number, [0, 0, 0, 0])
        row[0 if is_out else 1] += size
        row[2 if is_out else 3] += 1
        assert len(sock._moved) <= counted.MOST_MOVED
        if is_noted:
            sock.book()
    sock.book()
    assert sums == true
    assert [sock.sent, sock.received] == [sum(row[way] for row in true.values()) for way in (0, 1)]
