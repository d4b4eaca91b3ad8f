"""Each byte is counted once: whoever reads a meter, however often, and whatever its holder does to the counters."""

from __future__ import annotations

import contextlib
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import lease as life
from outgate.gate import sweep
from outgate.gate.kernel import meter
from outgate.gate.metering import rounds
from outgate.gate.metering.meters import Meters
from outgate.gate.registry import NOTHING_BEFORE
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel

SENDS_AND_WAITS = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(bytes(70_000))
sys.stdin.readline()
s.sendall(bytes(5))
"""
ZEROES = """
import ctypes, socket, struct, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(bytes(70_000))
sys.stdin.readline()
nobody = struct.pack("=H14x", socket.AF_UNSPEC)
assert ctypes.CDLL(None, use_errno=True).connect(s.fileno(), nobody, len(nobody)) == 0
"""
UDP_SENDS_AND_WAITS = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(bytes(700), ("127.0.0.1", int(sys.argv[1])))
sys.stdin.readline()
"""


def metered() -> Any:
    """Return a socket as the meters see one."""
    return SimpleNamespace(
        noted_sent=0, noted_received=0, process=SimpleNamespace(app=SimpleNamespace(sent=0, received=0))
    )


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=30))
def test_growth_adds_up(steps: list[tuple[int, int]]) -> None:
    """What listeners are told and what the app counts are both the last reading, however often it was read."""
    told: list[tuple[int, int]] = []
    meters = Meters(lambda *_: pytest.fail("nothing was tampered with"))
    meters.listeners.append(lambda grown: told.extend((sent, received) for _, sent, received in grown))
    item, sent, received = metered(), 0, 0
    for out, back in steps:
        sent, received = sent + out, received + back
        meters.note(item, sent, received)
    assert (item.process.app.sent, item.process.app.received) == (sent, received)
    assert (sum(out for out, _ in told), sum(back for _, back in told)) == (sent, received)
    assert (0, 0) not in told


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), max_size=30))
def test_a_counter_that_goes_down_takes_nothing_back(readings: list[tuple[int, int]]) -> None:
    """Counts never go down, and each fall of a counter is told with how far it fell."""
    falls: list[tuple[int, int]] = []
    meters = Meters(lambda _, sent, received: falls.append((sent, received)))
    item, most = metered(), (0, 0)
    for sent, received in readings:
        before = item.noted_sent, item.noted_received
        meters.note(item, sent, received)
        app = item.process.app
        assert app.sent >= most[0]
        assert app.received >= most[1]
        most = app.sent, app.received
        fell = max(before[0] - sent, 0), max(before[1] - received, 0)
        assert falls[-1:] == [fell] if any(fell) else True
    assert all(any(fall) for fall in falls)


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_bytes_show_while_the_connection_lives(path: str) -> None:
    """An app's bytes are counted within a round, and at its end the same bytes are not counted again."""
    with RunningGate(path=path) as gate, peers.sink() as peer:
        program = gate.program("-c", SENDS_AND_WAITS, str(peer.port))
        gate.wait_for_counts(sent=70_000)
        program.communicate("go on\n", timeout=20)
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 70_005
        assert gate.app()["sent"] == 70_005
        assert gate.faults == []


def test_datagrams_show_while_the_socket_lives() -> None:
    """A UDP socket's bytes are counted within a round as well, and once."""
    with RunningGate() as gate, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        port = peer.getsockname()[1]
        program = gate.program("-c", UDP_SENDS_AND_WAITS, str(port))
        gate.wait_for_counts(sent=700)
        program.communicate("go on\n", timeout=20)
        assert gate.wait_for(event="end", port=port)["sent"] == 700
        assert gate.app()["sent"] == 700
        assert gate.faults == []


def test_who_zeroes_the_counters_hides_nothing() -> None:
    """Where a program takes its connection apart in C, what was counted stays counted, and the log says so."""
    with RunningGate() as gate, peers.sink() as peer:
        program = gate.program("-c", ZEROES, str(peer.port))
        gate.wait_for_counts(sent=70_000)
        program.communicate("go on\n", timeout=20)
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 70_000
        assert gate.wait_for(event="meter-tampered")["sent"] == 70_000
        assert gate.app()["sent"] == 70_000
        assert gate.faults == []


def test_a_quick_reading_is_the_whole_ones() -> None:
    """Of a connection that is open or half closed a quick reading is what the exact one is, of one in CLOSE nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        peer, _ = server.accept()
        lease = SimpleNamespace(state=life.OPEN, decision=object(), side=None, sock=sock, before=NOTHING_BEFORE)
        lease.noted_sent = lease.noted_received = 0

        def quick() -> list[list[int]]:
            return [counts for _, *counts in rounds._readings([lease], 0.0, None)]  # type: ignore[list-item]

        with peer:
            sock.sendall(bytes(3000))
            peer.sendall(bytes(200))
            assert sock.recv(200, socket.MSG_WAITALL) == bytes(200)
            assert quick() == [[*meter.read(sock)[1:]]] == [[3000, 200]]
            peer.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
            assert quick() == [[*meter.read(sock)[1:]]] == [[3000, 200]]
            sock.shutdown(socket.SHUT_WR)
            assert peer.recv(4000, socket.MSG_WAITALL) == bytes(3000)
            assert peer.recv(1) == b""
            assert meter.read(sock).state == meter.CLOSE
            assert quick() == []


def test_a_socket_that_has_just_sent_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep passes over what the last two rounds have seen send, and over nothing else: what comes says nothing."""
    looked: list[set[int]] = []

    def find_unheld(opener: dict[int, int], owners: dict[int, int] | None = None) -> set[int]:
        looked.append(set(opener))
        return set()

    monkeypatch.setattr(sweep, "find_unheld", find_unheld)
    with (
        ThreadGate() as running,
        peers.echo() as peer,
        RawChannel(running.socket) as channel,
        contextlib.ExitStack() as stack,
    ):
        gate = running.gate
        running.call(gate._rounds.stop)
        running.call(gate._sweep.stop)

        def read() -> None:
            gate._rounds.begin()
            gate._rounds.stop()  # no round but these

        socks: list[tuple[int, socket.socket]] = []
        for _ in range(3):
            ((id, sock),) = channel.new()
            stack.enter_context(sock)
            assert "lease" in channel.connect(id, peer.address)
            channel.ask("harvest", sock=id)
            sock.connect(peer.address)
            socks.append((gate.registry.leases[id].inode, sock))
        (sends, one), (receives, other), (rests, _) = socks
        other.sendall(b"x")
        other.recv(1, socket.MSG_PEEK)  # its answer is here, and is not taken

        def look(rounds: int) -> set[int]:
            for _ in range(rounds):
                running.call(read)
            before = len(looked)
            running.call(gate._sweep.begin)
            while len(looked) == before:
                running.stats()
            return looked[-1]

        assert look(3) >= {sends, receives, rests}, "what has sent has done so before the last round but one"
        one.sendall(b"y")
        one.recv(1)
        assert look(1) & {sends, receives, rests} == {receives, rests}
        assert look(1) & {sends, receives, rests} == {receives, rests}
        assert look(1) >= {sends, receives, rests}
        assert running.faults == []
