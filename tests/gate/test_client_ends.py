"""A client that ends at any step leaves nothing behind in the gate, and every byte in the log."""

from __future__ import annotations

import socket

import pytest

from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel
from support.victims import victim

#: Steps of a client, and whether the gate has begun a dial for it by then.
STEPS = {
    "connected": False,
    "half a hello": False,
    "anchored": False,
    "greeted": False,
    "asked for sockets": False,
    "born": False,
    "asked to connect": True,
    "dialled": True,
    "open": True,
    "closed, not said": True,
    "closing": True,
}
EMPTY = {"held": 0, "open": 0, "processes": 0}


@pytest.mark.parametrize("step", STEPS)
def test_killed(gate: RunningGate, step: str) -> None:
    """A client killed at a step holds nothing afterwards; what was dialled has both its lines, with its bytes."""
    with peers.sink() as peer, victim(gate.socket, step, peer.address) as client:
        if STEPS[step]:
            gate.wait_for(event="decision", port=peer.port)
        client.kill()
        gate.wait_for_counts(**EMPTY)
        if STEPS[step]:
            line = gate.wait_for(event="end", port=peer.port)
            sends = step in ("open", "closed, not said", "closing")
            assert line["sent"] == (1_234 if sends else 0)
            assert line["received"] == 0
            assert peer.accepted().wait().received == line["sent"]
        assert len(gate.log.all(event="end")) == len(gate.log.all(event="decision"))
        with RawChannel(gate.socket) as next_client:
            ((_, sock),) = next_client.new()
            sock.close()


def test_killed_while_a_dial_hangs(gate: RunningGate) -> None:
    """A client killed while its connect is in progress gives the socket back, and the line says not connected."""
    with peers.hanging() as address, victim(gate.socket, "dialled", address) as client:
        gate.wait_for(event="decision", port=address[1])
        client.kill()
        line = gate.wait_for(event="end", port=address[1])
        assert (line["connected"], line["sent"], line["how"]) == (False, 0, "process-ended")
        gate.wait_for_counts(**EMPTY)


def test_killed_after_a_refused_dial(gate: RunningGate) -> None:
    """A dial that failed is ended once, also where its client then ends without closing the socket."""
    with peers.refusing() as address, victim(gate.socket, "dialled", address) as client:
        gate.wait_for(event="end", port=address[1], how="failed")
        client.kill()
        gate.wait_for_counts(**EMPTY)
        assert len(gate.log.all(event="end", port=address[1])) == 1


def test_killed_with_many_open(gate: RunningGate) -> None:
    """An unmodified program killed with 50 connections open is metered on all of them."""
    code = """if True:
        import os, signal, socket, sys
        sockets = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(50)]
        for number, sock in enumerate(sockets):
            sock.sendall(bytes(number))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with peers.sink() as peer:
        with gate.program("-c", code, str(peer.port)) as program:
            program.communicate(timeout=20)
        gate.wait_for(event="end", port=peer.port, count=50)
        assert sorted(line["sent"] for line in gate.log.all(event="end", port=peer.port)) == list(range(50))
        gate.wait_for_counts(**EMPTY)


def test_channels_lost_but_alive(gate: RunningGate) -> None:
    """A process that loses its channels and lives keeps its sockets and meter, and is itself again by its token."""
    with peers.echo() as peer:
        with RawChannel(gate.socket) as channel:
            first, second = channel.new(2)
            assert "lease" in channel.connect(first[0], peer.address)
            channel.fds.clear()
        with first[1] as open_one, second[1] as fresh, RawChannel(gate.socket, token=channel.token) as again:
            open_one.connect(peer.address)
            open_one.sendall(b"x" * 10)
            assert open_one.recv(10, socket.MSG_WAITALL) == b"x" * 10
            assert "lease" in again.connect(second[0], peer.address)
            fresh.connect(peer.address)
            open_one.close()
            assert again.ask("close", sock=first[0], shared=False) == {}
            line = gate.wait_for(event="end", port=peer.port)
            assert (line["sent"], line["received"], line["how"]) == (10, 10, "closed")
    gate.wait_for_counts(**EMPTY)


def test_network_says_no_at_once() -> None:
    """A dial that the kernel refuses without a packet is decided and ended in the log like any other."""
    with RunningGate(except_=["192.0.2.1:9"]) as gate, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            sock.bind(("127.0.0.1", 0))  # from loopback there is no way to any other address
            assert channel.connect(id, ("192.0.2.1", 9))["errno"] > 0
            decision = gate.wait_for(event="decision", port=9)
            end = gate.wait_for(event="end", port=9)
            assert (end["lease"], end["how"], end["connected"]) == (decision["lease"], "failed", False)
        assert gate.faults == []


# --- what is another's ------------------------------------------------------------------------------------------------


def test_forged_ids(gate: RunningGate) -> None:
    """Another process's socket is unknown to a process that guesses its id, and is neither dialled nor closed by it."""
    with peers.echo() as peer, RawChannel(gate.socket) as owner, RawChannel(gate.socket) as thief:
        first, second = owner.new(2)
        with first[1] as open_one, second[1] as fresh:
            owner.connect(first[0], peer.address)
            open_one.connect(peer.address)
            thief.ask("stat")
            for id in (first[0], second[0], 0, -1, 1 << 40):
                assert thief.connect(id, peer.address) == {"error": {"code": "unknown-descriptor", "facts": {}}}
                for shared in (False, True):
                    assert thief.ask("close", sock=id, shared=shared) == {}
            open_one.sendall(b"mine")
            assert open_one.recv(4, socket.MSG_WAITALL) == b"mine"
            assert "lease" in owner.connect(second[0], peer.address)
            fresh.connect(peer.address)
            assert gate.log.all(event="end", port=peer.port) == []


def test_child_may_use_its_parents_sockets(gate: RunningGate) -> None:
    """A process that names its parent's token, which only a fork of it knows, may dial what it inherited."""
    with peers.sink() as peer, RawChannel(gate.socket) as parent:
        ((id, sock),) = parent.new()
        with sock, RawChannel(gate.socket, parents=[parent.token]) as child:
            assert "lease" in child.connect(id, peer.address)
            sock.connect(peer.address)
