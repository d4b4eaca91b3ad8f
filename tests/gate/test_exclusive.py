"""A socket that one process takes for itself alone: no byte is lost or doubled, and nobody else has it any more."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gate.test_sharing import code_of, wait_for_tenure
from outgate.testing.running import RunningGate
from support import peers
from support.commands import Served
from support.raw import RawChannel
from support.victims import victim

PATIENCE = 20.0


@pytest.fixture(scope="module")
def relay_gate() -> Iterator[RunningGate]:
    """A gate that carries the bytes, without a fault and with nothing held at the end of the module."""
    with RunningGate(path="relay") as gate:
        yield gate
        assert gate.faults == []
        gate.wait_for_counts(held=0, open=0, processes=0)
        assert gate.stop() == 0, gate.stderr()


@pytest.fixture(scope="module")
def direct_gate() -> Iterator[RunningGate]:
    """The same of a gate that gives out the kernel's sockets."""
    with RunningGate(path="direct") as gate:
        yield gate
        assert gate.faults == []
        gate.wait_for_counts(held=0, open=0, processes=0)
        assert gate.stop() == 0, gate.stderr()


class Connected:
    """A client with one connected socket, and the peer's end of the connection.

    :ivar channel: the client's.
    :ivar id: of its socket.
    :ivar sock: the socket.
    :ivar peer: what was accepted.
    """

    def __init__(self, gate: RunningGate | Served) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self.channel = RawChannel(gate.socket)
        ((self.id, self.sock),) = self.channel.new()
        if self.sock.family == socket.AF_UNIX:
            self.sock.send(b"\0" * 70_000)  # as a client does, so that it is not writable until it is connected
        assert "lease" in self.channel.connect(self.id, self.address)
        if self.sock.family == socket.AF_INET:
            self.sock.connect(self.address)
        self.peer, _ = self._listener.accept()
        self.sock.settimeout(PATIENCE)
        self.peer.settimeout(PATIENCE)
        while self.channel.ask("harvest", sock=self.id).get("errno") == errno.EINPROGRESS:
            pass

    def __enter__(self) -> Connected:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.peer.close()
        self.sock.close()
        self.channel.close()

    def share(self) -> str:
        """Return a new descriptor."""
        text: str = self.channel.share(self.id, self.sock)["descriptor"]
        return text


@contextlib.contextmanager
def taken(channel: RawChannel, text: str) -> Iterator[socket.socket]:
    """Give the socket of a descriptor to one process alone; it is closed when the block is left."""
    reply = channel.ask("redeem", descriptor=text, exclusive=True)
    assert "error" not in reply, reply
    assert channel.ask("have", descriptor=text) == {}
    with channel.fds.pop() as sock:
        sock.settimeout(PATIENCE)
        yield sock
    channel.ask("close", sock=reply["sock"], shared=True)


def receive(sock: socket.socket, size: int) -> bytes:
    """Read exactly so many bytes."""
    found = bytearray()
    while len(found) < size:
        piece = sock.recv(size - len(found))
        assert piece, f"the end after {len(found)} of {size} bytes"
        found += piece
    return bytes(found)


def is_readable(sock: socket.socket) -> None:
    """Wait until something lies in a socket."""
    sock.recv(1, socket.MSG_PEEK)


# --- relayed ----------------------------------------------------------------------------------------------------------


def test_it_has_what_was_unread_and_goes_on(relay_gate: RunningGate) -> None:
    """What nobody has read comes to the new holder first; what the old ones wrote goes out before what it writes."""
    with Connected(relay_gate) as opener, RawChannel(relay_gate.socket) as other:
        opener.peer.sendall(b"unread")
        is_readable(opener.sock)
        opener.sock.sendall(b"before ")
        with taken(other, opener.share()) as sock:
            assert receive(sock, 6) == b"unread"
            sock.sendall(b"after")
            assert receive(opener.peer, 12) == b"before after"
            opener.peer.sendall(b"and on")
            assert receive(sock, 6) == b"and on"
        assert opener.peer.recv(1) == b""
        line = relay_gate.wait_for(event="end", port=opener.address[1])
        assert (line["sent"], line["received"], line["how"]) == (12, 12, "closed")


def test_the_others_are_cut_and_told_why(relay_gate: RunningGate) -> None:
    """Those that had it get ECONNRESET and EPIPE from the kernel, and the reason from the gate, whatever they ask."""
    with (
        Connected(relay_gate) as opener,
        RawChannel(relay_gate.socket) as third,
        RawChannel(relay_gate.socket) as other,
    ):
        has_it_too = third.redeem(opener.share())
        with has_it_too, taken(other, opener.share()) as sock:
            ends = []
            for old in (opener.sock, has_it_too):
                try:
                    ends.append(old.recv(1))
                except ConnectionResetError:
                    ends.append(None)
                with pytest.raises(BrokenPipeError):
                    old.send(b"nothing")
            assert ends.count(None) == 1, "the kernel tells one; the others' clients ask"
            for channel in (opener.channel, third):
                for op in ("harvest", "share", "name"):
                    assert code_of(channel.ask(op, sock=opener.id)) == "taken"
                assert code_of(channel.connect(opener.id, opener.address)) == "taken"
                assert code_of(channel.ask("touch", socks=[opener.id])) == "taken"
                assert channel.ask("close", sock=opener.id, shared=True) == {}
            sock.sendall(b"goes on")
            assert receive(opener.peer, 7) == b"goes on"
            assert "own" in other.ask("harvest", sock=opener.id)


def test_a_child_of_who_had_it_is_told_too(relay_gate: RunningGate) -> None:
    """What a process was forked with is taken with it: the child knows its parent's token and nothing else."""
    with Connected(relay_gate) as opener, RawChannel(relay_gate.socket) as other:
        child = RawChannel(relay_gate.socket, parents=[opener.channel.token])
        with child, taken(other, opener.share()):
            assert code_of(child.ask("harvest", sock=opener.id)) == "taken"


def test_earlier_descriptors_are_void(relay_gate: RunningGate) -> None:
    """No descriptor of before gives it to anybody, as one that was made up; those of the new holder do."""
    with (
        Connected(relay_gate) as opener,
        RawChannel(relay_gate.socket) as other,
        RawChannel(relay_gate.socket) as third,
    ):
        texts = [opener.share() for _ in range(3)]
        with taken(other, texts[1]) as sock:
            for text in texts:
                for channel in (opener.channel, third, other):
                    for exclusive in (False, True):
                        reply = channel.ask("redeem", descriptor=text, exclusive=exclusive)
                        assert code_of(reply) == "unknown-descriptor"
            with opener.channel.redeem(other.share(opener.id, sock)["descriptor"]) as back:
                back.sendall(b"passed back")
                assert receive(opener.peer, 11) == b"passed back"
                assert "own" in opener.channel.ask("harvest", sock=opener.id)
            assert opener.channel.ask("close", sock=opener.id, shared=True) == {}
            sock.sendall(b"!")
            assert receive(opener.peer, 1) == b"!"


def test_what_was_lost_on_its_way_is_asked_for_again(relay_gate: RunningGate) -> None:
    """The process that takes it and could not keep it may ask again by the same descriptor; nobody else."""
    with (
        Connected(relay_gate) as opener,
        RawChannel(relay_gate.socket) as other,
        RawChannel(relay_gate.socket) as third,
    ):
        opener.peer.sendall(b"unread")
        is_readable(opener.sock)
        text = opener.share()
        for _ in range(3):
            assert "error" not in other.ask("redeem", descriptor=text, exclusive=True)
            other.fds.pop().close()
            assert other.ask("have", descriptor=text, came=False) == {}
            assert code_of(third.ask("redeem", descriptor=text, exclusive=True)) == "unknown-descriptor"
        with taken(other, text) as sock:
            assert receive(sock, 6) == b"unread"


def test_a_taker_that_ends_on_its_way(relay_gate: RunningGate) -> None:
    """Whoever takes it and ends before it has come takes it along: it is of nobody else any more."""
    with Connected(relay_gate) as opener:
        text = opener.share()
        with RawChannel(relay_gate.socket) as other:
            assert "error" not in other.ask("redeem", descriptor=text, exclusive=True)
        opener.peer.settimeout(PATIENCE)
        assert opener.peer.recv(1) == b""
        assert relay_gate.wait_for(event="end", port=opener.address[1])["how"] == "closed"


@pytest.mark.parametrize("side", ["program", "peer"])
def test_an_end_in_one_direction_stays_one(relay_gate: RunningGate, side: str) -> None:
    """What was shut down before, by the program or the peer, is so for the new holder; the other way goes on."""
    with Connected(relay_gate) as opener, RawChannel(relay_gate.socket) as other:
        opener.peer.sendall(b"unread")
        opener.sock.sendall(b"sent")
        if side == "peer":
            opener.peer.shutdown(socket.SHUT_WR)
        else:
            opener.sock.shutdown(socket.SHUT_WR)
            assert receive(opener.peer, 4) == b"sent"
            assert opener.peer.recv(1) == b""
        is_readable(opener.sock)
        text = opener.share()
        with taken(other, text) as sock:
            assert receive(sock, 6) == b"unread"
            if side == "peer":
                assert sock.recv(1) == b""
                sock.sendall(b" on")
                assert receive(opener.peer, 7) == b"sent on"
            else:
                with pytest.raises(BrokenPipeError):
                    sock.send(b"x")
                opener.peer.sendall(b"more")
                assert receive(sock, 4) == b"more"


def test_a_reset_is_one_for_the_new_holder(relay_gate: RunningGate) -> None:
    """A connection that the peer resets ends with ECONNRESET for who has taken it, though it never sent a byte."""
    with Connected(relay_gate) as opener, RawChannel(relay_gate.socket) as other, taken(other, opener.share()) as sock:
        opener.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        opener.peer.close()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_what_was_set_on_it_stays(relay_gate: RunningGate) -> None:
    """Whether it waits, and how long the kernel has it wait, come along as they do without ``exclusive``."""
    with Connected(relay_gate) as opener, RawChannel(relay_gate.socket) as other:
        opener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 7, 0))
        opener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 3)
        with taken(other, opener.share()) as sock:
            assert struct.unpack("ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16)) == (7, 0)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 3


def test_a_socket_that_is_not_connected(relay_gate: RunningGate) -> None:
    """One that is not connected yet, or failed to, is taken as well, and connected by the new holder."""
    with peers.echo() as peer, RawChannel(relay_gate.socket) as one, RawChannel(relay_gate.socket) as other:
        ((id, sock),) = one.new()
        with sock, taken(other, one.share(id, sock)["descriptor"]) as ours:
            assert code_of(one.connect(id, peer.address)) == "taken"
            ours.send(b"\0" * 70_000)
            assert "lease" in other.connect(id, peer.address)
            while other.ask("harvest", sock=id).get("errno") == errno.EINPROGRESS:
                pass
            ours.sendall(b"hello")
            assert receive(ours, 5) == b"hello"


def test_a_socket_that_is_being_connected_is_not_taken(relay_gate: RunningGate) -> None:
    """While its dial goes on it is refused with that reason, and stays with whoever has it."""
    with peers.hanging() as address, RawChannel(relay_gate.socket) as one, RawChannel(relay_gate.socket) as other:
        ((id, sock),) = one.new()
        with sock:
            assert "lease" in one.connect(id, address)
            text = one.share(id, sock)["descriptor"]
            reply = other.ask("redeem", descriptor=text, exclusive=True)
            assert code_of(reply) == "exclusive"
            assert reply["error"]["facts"]["why"] == "it is being connected"
            assert one.ask("harvest", sock=id) == {"errno": errno.EINPROGRESS}
            other.redeem(text).close()


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_under_load(relay_gate: RunningGate) -> None:
    """From hand to hand in the middle of a transfer both ways, every byte arrives once and in order."""
    total, hands = 24 * 1024 * 1024, 12
    rng = random.Random(6)
    down, up = rng.randbytes(total), rng.randbytes(total)
    with contextlib.ExitStack() as kept:
        opener = kept.enter_context(Connected(relay_gate))
        arrived = bytearray()

        def be_peer() -> None:
            writer = threading.Thread(target=lambda: opener.peer.sendall(down))
            writer.start()
            while piece := opener.peer.recv(1 << 16):
                arrived.extend(piece)
            writer.join()

        peer = threading.Thread(target=be_peer)
        peer.start()
        got = bytearray()
        written = 0
        channel, sock = opener.channel, opener.sock
        for hand in range(hands):
            is_last = hand == hands - 1
            written += use(sock, got, memoryview(up)[written:], total // hands, total if is_last else len(got))
            if is_last:
                break
            text = channel.share(opener.id, sock)["descriptor"]
            channel = kept.enter_context(RawChannel(relay_gate.socket))
            assert "error" not in channel.ask("redeem", descriptor=text, exclusive=True)
            sock = kept.enter_context(channel.fds.pop())
            channel.ask("have", descriptor=text)
        assert written == total
        assert bytes(got) == down
        sock.shutdown(socket.SHUT_WR)
        peer.join(PATIENCE)
        assert bytes(arrived) == up
        sock.close()
        line = relay_gate.wait_for(event="end", port=opener.address[1])
        assert (line["sent"], line["received"]) == (total, total)


def use(sock: socket.socket, got: bytearray, data: memoryview, share: int, until: int) -> int:
    """Write a share of the data while reading what comes, without waiting for it to be taken; return what was written.

    :param until: how much is to have been read in the end.
    """
    sock.settimeout(0.0)
    written = 0
    most = len(data) if until > len(got) else min(share, len(data))
    deadline = threading.Event()
    while written < most or len(got) < until:
        moved = False
        with contextlib.suppress(BlockingIOError):
            count = sock.send(data[written : min(written + 50_000, most)]) if written < most else 0
            written += count
            moved = count > 0
        with contextlib.suppress(BlockingIOError):
            piece = sock.recv(30_000)
            got += piece
            moved = moved or bool(piece)
        if not moved:
            deadline.wait(0.001)  # both queues are as full as the peer leaves them
    return written


def test_no_more_fds_than_before(relay_gate: RunningGate) -> None:
    """Taken a hundred times, the gate has as many files open as after the first."""
    with Connected(relay_gate) as opener, contextlib.ExitStack() as kept:
        channels = [kept.enter_context(RawChannel(relay_gate.socket)) for _ in range(2)]
        for channel in channels:
            channel.ask("stat")
        text = opener.share()
        counts = []
        for turn in range(100):
            channel = channels[turn % 2]
            assert "error" not in channel.ask("redeem", descriptor=text, exclusive=True)
            sock = channel.fds.pop()
            channel.ask("have", descriptor=text)
            sock.sendall(b"x")
            assert receive(opener.peer, 1) == b"x"
            text = channel.share(opener.id, sock)["descriptor"]
            sock.close()
            counts.append(len(os.listdir(f"/proc/{relay_gate.pid}/fd")))
        deadline = time.monotonic() + PATIENCE
        while len(os.listdir(f"/proc/{relay_gate.pid}/fd")) > counts[0]:  # some wait for their close on a thread
            assert time.monotonic() < deadline, counts
        with taken(channels[0], text):
            pass


# --- UDP --------------------------------------------------------------------------------------------------------------


def test_a_udp_socket_is_taken_with_its_datagrams(relay_gate: RunningGate) -> None:
    """What lies unread comes along, what was sent is sent, and the old holder's end is over."""
    from outgate.core.formats import frames

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        RawChannel(relay_gate.socket) as one,
        RawChannel(relay_gate.socket) as other,
    ):
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(PATIENCE)
        host, port = peer.getsockname()
        id = one.ask("new", family=4, count=1, kind="udp")["ids"][0]
        with one.fds.pop() as sock:
            sock.settimeout(PATIENCE)
            header = frames.pack(frames.DATA, socket.inet_aton(host), port)
            sock.send(header + b"question")
            _, source = peer.recvfrom(100)
            for word in (b"one", b"two"):
                peer.sendto(word, source)
            is_readable(sock)
            with taken(other, one.share(id, sock)["descriptor"]) as ours:
                assert [ours.recv(100)[frames.SIZE :] for _ in range(2)] == [b"one", b"two"]
                ours.send(header + b"mine")
                assert peer.recvfrom(100) == (b"mine", source), "the socket outside is the same"
                with pytest.raises(OSError):
                    sock.send(header + b"not mine")
                assert code_of(one.ask("name", sock=id)) == "taken"
                peer.sendto(b"three", source)
                assert ours.recv(100)[frames.SIZE :] == b"three"


# --- direct -----------------------------------------------------------------------------------------------------------


def test_a_direct_socket_is_not_taken_from_another_process(direct_gate: RunningGate) -> None:
    """While another process holds the kernel's socket it is refused with which and a cure; nobody loses anything."""
    with (
        peers.sink() as peer,
        victim(direct_gate.socket, "shared", peer.address) as opener,
        RawChannel(direct_gate.socket) as other,
    ):
        reply = other.ask("redeem", descriptor=opener.said["text"], exclusive=True)
        assert code_of(reply) == "exclusive"
        assert f"process {opener.pid} has it too" in reply["error"]["facts"]["why"]
        assert 'path = "relay"' in reply["error"]["facts"]["cure"]
        with other.redeem(opener.said["text"]) as sock:
            sock.sendall(b"12345")
        opener.kill()
        other.close()
        line = direct_gate.wait_for(event="end", port=peer.port)
        assert line["sent"] == 1_234 + 5


def test_a_direct_socket_that_nobody_has(direct_gate: RunningGate) -> None:
    """Where its opener has ended it is granted, and every earlier descriptor is void from then on."""
    with (
        peers.sink() as peer,
        victim(direct_gate.socket, "shared", peer.address) as opener,
        RawChannel(direct_gate.socket) as other,
        RawChannel(direct_gate.socket) as third,
    ):
        text = opener.said["text"]
        opener.kill()
        wait_for_tenure(direct_gate, peer.port, "parked")
        with taken(other, text) as sock:
            sock.sendall(b"12345")
            for channel in (third, other):
                assert code_of(channel.ask("redeem", descriptor=text)) == "unknown-descriptor"
        line = direct_gate.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["pid"]) == (1_234 + 5, os.getpid())


def test_a_direct_socket_on_its_way_to_another(direct_gate: RunningGate) -> None:
    """A socket that has been sent to another process, which has not said that it has come, is refused."""
    with (
        peers.sink() as peer,
        victim(direct_gate.socket, "shared", peer.address) as opener,
        RawChannel(direct_gate.socket) as other,
        RawChannel(direct_gate.socket) as third,
    ):
        text = opener.said["text"]
        opener.kill()
        wait_for_tenure(direct_gate, peer.port, "parked")
        third.post("redeem", descriptor=text)  # the reply, with the fd, lies unread
        other.ask("stat")
        reply = other.ask("redeem", descriptor=text, exclusive=True)
        assert code_of(reply) == "exclusive"
        assert "on its way" in reply["error"]["facts"]["why"]
        assert third.receive() is not None
        with third.fds.pop():
            assert third.ask("have", descriptor=text) == {}


def test_many_at_once(relay_gate: RunningGate) -> None:
    """Of processes that all want it alone by one descriptor one gets it; the others are told that it is void."""
    with Connected(relay_gate) as opener, contextlib.ExitStack() as kept:
        text = opener.share()
        channels = [kept.enter_context(RawChannel(relay_gate.socket)) for _ in range(8)]
        for channel in channels:
            channel.post("redeem", descriptor=text, exclusive=True)
        replies: list[Any] = [channel.receive() for channel in channels]
        won = [channel for channel, reply in zip(channels, replies, strict=True) if "error" not in reply]
        lost = [code_of(reply) for reply in replies if "error" in reply]
        assert len(won) == 1
        assert lost == ["unknown-descriptor"] * 7
        won[0].ask("have", descriptor=text)
        with won[0].fds.pop() as sock:
            sock.sendall(b"alone")
            assert receive(opener.peer, 5) == b"alone"
