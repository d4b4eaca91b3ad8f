"""Two processes that have one unconnected relayed socket: one at a time fills its end and connects."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Iterator

import pytest

from outgate.gate.configuration import config
from outgate.gate.names import resolver
from outgate.testing.running import RunningGate, ThreadGate
from support import peers
from support.raw import RawChannel


@pytest.fixture(scope="module")
def relay() -> Iterator[RunningGate]:
    """A gate that carries the bytes itself."""
    with RunningGate(path="relay") as gate:
        yield gate
        assert gate.faults == []


def claim(channel: RawChannel, id: int) -> None:
    """Ask for the right to connect a socket; the reply is read later."""
    channel.post("harvest", sock=id, claim=True)


def claimed(channel: RawChannel, id: int) -> int:
    """Claim a socket and return the errno of the reply: ENOTCONN is "yours", EINPROGRESS "another's"."""
    number: int = channel.ask("harvest", sock=id, claim=True)["errno"]
    return number


def is_answered(channel: RawChannel) -> bool:
    """Whether there is a reply to read by now."""
    return bool(select.select([channel.sock], [], [], 0)[0])


def test_who_claims_second_waits_for_the_first_to_connect(relay: RunningGate) -> None:
    """The second's claim is answered when the first has connected, and it may not fill; nothing strange is sent."""
    with peers.sink() as peer, RawChannel(relay.socket) as parent:
        ((id, sock),) = parent.new()
        with sock, RawChannel(relay.socket, parents=[parent.token]) as child:
            assert claimed(parent, id) == errno.ENOTCONN
            child.ask("stat")
            claim(child, id)
            parent.ask("stat")  # the gate has seen the claim by now
            assert not is_answered(child)
            sock.sendall(b"\0" * 100_000)  # the filling
            assert "lease" in parent.connect(id, peer.address)
            reply = child.receive()
            assert reply is not None
            assert reply.get("errno", 0) in (0, errno.EINPROGRESS)
            assert "peer" in child.ask("harvest", sock=id)
            sock.sendall(b"said")
        connection = peer.accepted().wait()
        assert connection.data == b"said"


def test_a_claim_passes_on_from_one_that_has_ended(relay: RunningGate) -> None:
    """A process that claims and never connects loses its claim to the next."""
    with RawChannel(relay.socket) as parent:
        ((id, sock),) = parent.new()
        with sock, RawChannel(relay.socket, parents=[parent.token]) as child:
            with RawChannel(relay.socket, parents=[parent.token]) as gone:
                assert claimed(gone, id) == errno.ENOTCONN
            assert claimed(child, id) == errno.ENOTCONN


def test_a_claim_is_its_owners_again_and_again(relay: RunningGate) -> None:
    """A process that has claimed may claim again at once, also after a dial that failed."""
    with peers.refusing() as address, RawChannel(relay.socket) as parent:
        ((id, sock),) = parent.new()
        with sock, RawChannel(relay.socket, parents=[parent.token]) as child:
            for _ in range(2):
                assert claimed(parent, id) == errno.ENOTCONN
            parent.connect(id, address)
            relay.wait_for(event="end", port=address[1])
            assert claimed(child, id) in (errno.ECONNREFUSED, errno.ENOTCONN)


def test_a_connect_that_waits_for_a_name_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first's connect waits for its name, the second's claim is answered, and so is everybody else."""
    asked, answer = threading.Event(), threading.Event()

    def getaddrinfo(host: object, port: int, *args: int) -> list[object]:
        asked.set()
        assert answer.wait(20)
        return list(socket.getaddrinfo("127.0.0.1", port, *args))

    monkeypatch.setitem(resolver.CALLS, "getaddrinfo", getaddrinfo)
    with relayed_thread_gate() as gate, peers.sink() as peer, RawChannel(gate.socket) as parent:
        ((id, sock),) = parent.new()
        with sock, RawChannel(gate.socket, parents=[parent.token]) as child:
            assert claimed(parent, id) == errno.ENOTCONN
            parent.post("connect", sock=id, host="slow.test", port=peer.port)  # which has filled nothing
            assert asked.wait(20)
            assert claimed(child, id) == errno.EINPROGRESS
            answer.set()
            reply = parent.receive()
            assert reply is not None
            assert "lease" in reply
            peer.accepted()
        assert gate.faults == []


def relayed_thread_gate() -> ThreadGate:
    """Return a gate on a thread that carries the bytes itself."""
    return ThreadGate(config.default_settings(os.getuid(), dev=True, path="relay"))
