"""A gate whose ledger is away: programs open sockets for a stated time, and then as the configuration says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gate.test_datagrams import peer, raw, to
from gate.test_restart import Program
from outgate.core.bill.windows import slices
from outgate.gate.ledger.reading import Reader
from outgate.lookout.ledger import find
from outgate.testing.running import RunningGate
from support import peers

pytestmark = pytest.mark.slow

CONFIG = """
version = 1
[ledger]
url = "away/ledger.sqlite"
grace = {grace}
after_grace = "{after}"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
"""
#: Tries to connect, and sends what it is told.
TRIES = """
    from outgate.errors import GateUnavailable
    while (word := told()) != "end":
        try:
            with socket.create_connection(peer) as sock:
                sock.sendall(bytes(int(word)))
                say(got=len(sock.recv(int(word), socket.MSG_WAITALL)))
        except GateUnavailable as error:
            say(errno=error.errno, text=str(error))
"""


def gate_with(path: str, after: str, grace: int = 0) -> RunningGate:
    """Return a gate whose ledger is in a folder that is not there."""
    return RunningGate(config=CONFIG.format(uid=os.getuid(), path=path, after=after, grace=grace))


def come_back(gate: RunningGate) -> None:
    """Make the folder, and wait until the ledger is there."""
    Path(gate.folder, "away").mkdir()
    gate.wait_for(event="ledger-back")


def booked(gate: RunningGate) -> tuple[int, int]:
    """End the gate, and return what its ledger has, sent and received."""
    assert gate.faults == []
    assert gate.stop() == 0, gate.stderr()
    place = find(str(Path(gate.folder, "away", "ledger.sqlite")), "", "", "UTC")
    with Reader.open(place.url) as reader:
        extent = reader.extent()
        used = reader.used(slices(extent.first, extent.last, "", place.zone, tiered=False))
        return sum(each.counts.sent for each in used), sum(each.counts.received for each in used)


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_closed_after_the_grace(path: str) -> None:
    """Nothing is opened, on either path or by datagrams, with the database's reason and a cure; until it is back."""
    with gate_with(path, "closed") as gate, peers.echo() as echo, Program(gate, TRIES, echo.port) as program:
        assert "unable to open" in gate.wait_for(event="ledger-failed")["reason"]
        with peer() as (far, port):
            program.tell("10")
            said = program.said()
            assert "the gate cannot write its ledger (unable to open database file)" in said["text"]
            assert 'after_grace = "open"' in said["text"]
            come_back(gate)
            program.tell("1000")
            assert program.said() == {"got": 1000}
            with raw(gate.socket) as used:
                used.end.send(to(port) + b"back")
                assert far.recv(9) == b"back"
        program.tell("end")
        program.end()
        gate.wait_for_counts("blog", open=0)
        assert booked(gate) == (1004, 1000)


def test_a_ledger_that_is_moved_away() -> None:
    """A file that is gone from under the gate is no ledger: what was made before is opened no more, TCP or UDP.

    What is open goes on, and is booked when the file is back.
    """
    with gate_with("direct", "closed") as gate, peer() as (far, port), peers.echo() as echo:
        come_back(gate)
        folder = Path(gate.folder, "away")
        with raw(gate.socket) as fresh, raw(gate.socket) as used:
            ((id, sock),) = fresh.channel.new()
            assert "addr" in used.reach("127.0.0.1", port)
            folder.rename(folder.with_name("elsewhere"))
            used.end.send(to(port) + b"more")
            assert "away/ledger.sqlite was moved" in gate.wait_for(event="ledger-failed", count=2)["reason"]
            with sock:
                for reply in (fresh.channel.connect(id, echo.address), fresh.reach("127.0.0.1", port)):
                    assert reply["error"]["code"] == "ledger-behind"
            fresh.end.send(to(port) + b"unasked")
            used.end.send(to(port) + b"goes on")
            assert [far.recv(9), far.recv(9)] == [b"more", b"goes on"]
            folder.with_name("elsewhere").rename(folder)
            gate.wait_for(event="ledger-back", count=2)
        gate.wait_for_counts("blog", open=0)
        assert booked(gate) == (11, 0)


@pytest.mark.parametrize(("after", "grace"), [("open", 0), ("closed", 3600)])
def test_open_for_the_grace_and_after(after: str, grace: int) -> None:
    """Within the grace, or where the configuration says so, sockets are opened, and booked when it is back."""
    with gate_with("direct", after, grace) as gate, peers.echo() as echo, Program(gate, TRIES, echo.port) as program:
        gate.wait_for(event="ledger-failed")
        program.tell("500")
        assert program.said() == {"got": 500}
        come_back(gate)
        program.tell("7")
        assert program.said() == {"got": 7}
        program.tell("end")
        program.end()
        gate.wait_for_counts("blog", open=0)
        assert booked(gate) == (507, 507)
