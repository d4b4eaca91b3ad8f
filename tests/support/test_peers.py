"""The peers keep the habit that their name says, and leave no thread behind."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading

import pytest

from support import peers


def connect(peer: peers.Peer) -> socket.socket:
    """Connect to a peer natively."""
    return socket.create_connection(peer.address, timeout=peers.PATIENCE)


def talk(peer: peers.Peer, data: bytes) -> bytes:
    """Send this and return the first byte of the answer."""
    with connect(peer) as sock:
        sock.sendall(data)
        return sock.recv(1)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_echo_sends_back_what_came_and_counts_it(host: str) -> None:
    """What is sent comes back, and both directions are counted."""
    with peers.echo(host) as peer, connect(peer) as sock:
        sock.sendall(b"hello")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as answer:
            assert answer.read() == b"hello"
        connection = peer.accepted().wait()
        assert (connection.received, connection.sent, connection.data) == (5, 5, b"hello")
        assert connection.client == sock.getsockname()[:2]
        assert connection.saw_end


def test_sink_counts_more_than_it_keeps() -> None:
    """A large stream is counted whole and kept in part."""
    with peers.sink() as peer:
        with connect(peer) as sock:
            sock.sendall(b"x" * 1_000_000)
        connection = peer.accepted().wait()
        assert connection.received == 1_000_000
        assert len(connection.data) == 65536


def test_source_sends_its_bytes_and_the_end() -> None:
    """The other side reads exactly the source's bytes and then the end of file."""
    with peers.source(b"y" * 300_000) as peer, connect(peer) as sock:
        with sock.makefile("rb") as answer:
            assert answer.read() == b"y" * 300_000
        sock.shutdown(socket.SHUT_WR)
        assert peer.accepted().wait().sent == 300_000


def test_half_closing_still_reads_after_its_end() -> None:
    """After the peer's end of file the other direction goes on."""
    with peers.half_closing() as peer, connect(peer) as sock:
        assert sock.recv(100) == b"bye\r\n"
        assert sock.recv(100) == b""
        sock.sendall(b"still here")
        sock.shutdown(socket.SHUT_WR)
        assert peer.accepted().wait().data == b"still here"


def test_silent_says_nothing_until_it_stops() -> None:
    """The peer reads and sends nothing; when it stops the connection ends."""
    with peers.silent() as peer, connect(peer) as sock:
        connection = peer.accepted()
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(peers.PATIENCE)
        peer.stop()
        assert sock.recv(1) == b""
        assert connection.received == 0


def test_slow_reads_only_what_it_is_allowed() -> None:
    """The sender gets stuck, and goes on when the peer is allowed to read."""
    with peers.slow() as peer, connect(peer) as sock:
        sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 1 << 30:
                sent += sock.send(b"z" * 65536)
        assert 0 < sent < 1 << 30
        connection = peer.accepted()
        assert connection.received == 0
        sock.settimeout(peers.PATIENCE)
        sock.shutdown(socket.SHUT_WR)
        connection.allow(sent + 1)
        assert connection.wait().received == sent
        assert connection.saw_end


@pytest.mark.parametrize("after", [0, 4])
def test_resetting_resets(after: int) -> None:
    """The other side gets ECONNRESET, at once (then possibly from connect itself) or after some bytes."""
    with peers.resetting(after) as peer:
        with pytest.raises(ConnectionResetError):
            talk(peer, b"1234"[:after])
        assert peer.accepted().wait().received == after


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_refusing_refuses(host: str) -> None:
    """A connect gets ECONNREFUSED."""
    with peers.refusing(host) as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_hanging_keeps_a_connect_in_progress(host: str) -> None:
    """A connect is neither answered nor refused."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with peers.hanging(host) as address, socket.socket(family) as sock:
        sock.setblocking(False)
        assert sock.connect_ex(address) == errno.EINPROGRESS
        assert sock.connect_ex(address) == errno.EALREADY


def test_stop_ends_every_thread_with_connections_open() -> None:
    """Stopping peers whose connections are in the middle of something leaves no thread."""
    before = set(threading.enumerate())
    with peers.echo() as first, peers.silent() as second, peers.slow() as third:
        socks = [connect(peer) for peer in (first, second, third) for _ in range(5)]
        for peer in (first, second, third):
            for _ in range(5):
                peer.accepted()
        assert len(threading.enumerate()) == len(before) + 18
    for sock in socks:
        sock.close()
    assert set(threading.enumerate()) == before


def test_no_port_comes_twice() -> None:
    """Of hundreds of peers, one after another, none has the port of another; the kernel alone repeats itself."""
    ports = []
    for _ in range(500):
        with peers.refusing() as (_, port):
            ports.append(port)
    assert len(set(ports)) == len(ports)
