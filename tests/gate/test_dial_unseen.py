"""A connection that was made, used and over before the gate has looked how its dial ended was a connection."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from outgate.gate.configuration import config
from outgate.testing.running import ThreadGate
from support import peers
from support.raw import RawChannel


@contextlib.contextmanager
def held(path: str) -> Iterator[tuple[ThreadGate, Callable[[], None]]]:
    """Serve with a gate that looks at a dial when it is let: it has replied, and something holds its loop."""
    settings = config.default_settings(0, dev=True, path=path)
    with ThreadGate(settings) as gate:
        let = threading.Event()
        dialled = gate.gate.dialled

        def late(*args: Any) -> None:
            assert let.wait(peers.PATIENCE)
            dialled(*args)

        gate.gate.dialled = late  # type: ignore[method-assign]
        yield gate, let.set
        assert gate.faults == []


def answer(connection: peers.Connection) -> None:
    """Take a word and send one back."""
    connection.receive(5)
    connection.send(b"world")


def answer_and_reset(connection: peers.Connection) -> None:
    """Do that, and reset the connection at once."""
    answer(connection)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def use(sock: socket.socket, address: tuple[str, int]) -> None:
    """Connect, exchange a word, and read until the connection has ended, in whatever way."""
    sock.connect(address)
    sock.sendall(b"hello")
    assert sock.recv(5, socket.MSG_WAITALL) == b"world"
    with contextlib.suppress(OSError):  # reset already
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)


@pytest.mark.parametrize("habit", [answer, answer_and_reset])
def test_it_is_logged_as_connected(habit: Callable[[peers.Connection], None]) -> None:
    """Its line says that it was connected, how the program ended it, and each of its bytes."""
    with held("direct") as (gate, let), peers.Peer(habit) as peer, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            assert "lease" in channel.connect(id, peer.address)
            use(sock, peer.address)
            peer.accepted().wait()
        channel.post("close", sock=id, shared=False)
        let()
        assert channel.receive() == {}
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["connected"], end["how"], end["sent"], end["received"]) == (True, "closed", 5, 5)
        failed = gate.call(lambda: gate.gate.counts.dials["failed"].counts)
        assert set(failed) == {0}


@pytest.mark.parametrize("heard", [True, False])
def test_a_refused_dial_is_none(heard: bool) -> None:
    """A dial that the peer refused is logged as failed, however late the gate looks, whoever has heard of it."""
    with held("direct") as (gate, let), RawChannel(gate.socket) as channel, peers.refusing() as (host, port):
        ((id, sock),) = channel.new()
        with sock:
            channel.connect(id, (host, port))
            if heard:
                assert sock.connect_ex((host, port)) != 0
        channel.post("close", sock=id, shared=False)
        let()
        end = gate.wait_for(event="end", port=port)
        assert (end["connected"], end["how"]) == (False, "failed")


def test_the_relay_delivers_what_came_before_the_reset() -> None:
    """A relayed program reads what the peer had sent before it reset the connection, and then hears of the reset."""

    def send_and_reset(connection: peers.Connection) -> None:
        connection.send(b"world")
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with held("relay") as (gate, let), peers.Peer(send_and_reset) as peer, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            sock.send(bytes(10))  # as a client does, so that it is not writable while the dial goes on
            assert "lease" in channel.connect(id, peer.address)
            peer.accepted().wait()
            let()
            assert sock.recv(10) == b"world"
            with pytest.raises(ConnectionResetError):
                sock.recv(10)
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["connected"], end["received"]) == (True, 5)
