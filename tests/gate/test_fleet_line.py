"""The bytes of a link over real sockets and real TLS: what ends it is told once, and nothing that was said is lost."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.fleet import frames
from outgate.gate.fleet import line as lines
from outgate.gate.fleet.ends import Ends
from outgate.gate.fleet.line import Line, Secure
from outgate.gate.fleet.link import Link

AUTHORITY, STRANGER = trustme.CA(), trustme.CA()
OURS, THEIRS = "ours.test", "theirs.test"
#: Seconds that anything may take.
LIMIT = 20.0
MEGABYTES = os.urandom(3_000_000)


def context(name: str, is_server: bool, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """Return a side of TLS as a fleet has it, with a certificate by an authority."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert(name).configure_cert(made)
    AUTHORITY.configure_trust(made)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


OUR_SIDES = {side: context(OURS, side) for side in (False, True)}
THEIR_SIDES = {side: context(THEIRS, side) for side in (False, True)}


class Told(Link):
    """Stands for a link, and notes what its line says."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = bytearray()
        self.ends: list[str] = []
        self.empty = 0
        self._happened = asyncio.Event()

    def came(self, data: bytes | memoryview) -> None:
        """Bytes have come."""
        self.bytes += data
        self._happened.set()

    def emptied(self) -> None:
        """All is sent."""
        self.empty += 1
        self._happened.set()

    def ended(self, why: str) -> None:
        """It is over."""
        self.ends.append(why)
        self._happened.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that is told."""
        async with asyncio.timeout(LIMIT):
            while not condition():
                self._happened.clear()
                await self._happened.wait()


def tcp() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection with small queues, of which one is a line's and the other waits."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    one.setblocking(False)
    other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is reset would drop what it holds back
    other.settimeout(LIMIT)
    return one, other


def side(other: socket.socket, is_server: bool, with_context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    """Do the other side's handshake."""
    made = with_context or THEIR_SIDES[is_server]
    return made.wrap_socket(other, is_server, server_hostname=None if is_server else OURS, suppress_ragged_eofs=False)


def whole(peer: ssl.SSLSocket) -> bytes:
    """Return all that comes up to a proper end."""
    found = bytearray()
    while piece := peer.recv(1 << 16):
        found += piece
    return bytes(found)


def reset(sock: socket.socket) -> None:
    """Close a connection as it is closed by a host that forgets it."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


Scene = Callable[[Ends], Awaitable[None]]
Play = Callable[[Scene], None]


@pytest.fixture(params=("asyncio", "uvloop"))
def play(request: pytest.FixtureRequest) -> Play:
    """Runs a coroutine on a loop, with what lines are carried by."""

    def run(scene: Scene) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            faults: list[object] = []
            loop.set_exception_handler(lambda _, context: faults.append(context))
            ends = Ends(loop)
            try:
                async with asyncio.timeout(LIMIT):
                    await scene(ends)
            finally:
                ends.stop()
            assert faults == []

        factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


async def opened(ends: Ends, is_server: bool = False) -> tuple[Secure, Told, ssl.SSLSocket]:
    """Return a line, what is told of it, and the other side."""
    sock, other = tcp()
    made = Secure(ends, sock, OUR_SIDES[is_server], None if is_server else THEIRS)
    peer, _ = await asyncio.gather(asyncio.to_thread(side, other, not is_server), made.shake(LIMIT))
    told = Told()
    made.begin(told)
    return made, told, peer


@pytest.mark.parametrize("is_server", [False, True])
def test_bytes_go_both_ways(play: Play, is_server: bool) -> None:
    """Whoever has connected: megabytes arrive whole, each side knows the other, and both see a proper end."""

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends, is_server)
        assert ("DNS", THEIRS) in made.certificate["subjectAltName"]
        assert made.peer == "127.0.0.1"
        sending = asyncio.create_task(asyncio.to_thread(peer.sendall, MEGABYTES))
        await told.until(lambda: len(told.bytes) >= len(MEGABYTES))
        await sending
        assert hashlib.sha256(told.bytes).digest() == hashlib.sha256(MEGABYTES).digest()
        for start in range(0, len(MEGABYTES), 200_000):
            made.write(MEGABYTES[start : start + 200_000])
        made.close()
        assert await asyncio.to_thread(whole, peer) == MEGABYTES
        peer.close()
        while made.sock.fileno() >= 0:
            await asyncio.sleep(0)
        assert told.ends == []  # who has ended it needs no word of that

    play(scene)


# --- handshakes -------------------------------------------------------------------------------------------------------


def refused(play: Play, talk: Callable[[socket.socket], object], is_server: bool, limit: float = LIMIT) -> OSError:
    """Return why a handshake with somebody who talks like this is none; both sides are closed afterwards."""
    errors: list[OSError] = []

    async def scene(ends: Ends) -> None:
        sock, other = tcp()
        made = Secure(ends, sock, OUR_SIDES[is_server], None if is_server else THEIRS)
        talking = asyncio.create_task(asyncio.to_thread(talk, other))
        with pytest.raises(OSError) as caught:
            await made.shake(limit)
        assert made.sock.fileno() < 0
        errors.append(caught.value)
        with contextlib.suppress(OSError):
            await talking
        other.close()

    play(scene)
    return errors[0]


def test_a_server_of_another_name_is_refused(play: Play) -> None:
    """It is held to the name of the gate that is wanted, and hears so."""
    heard: list[BaseException] = []

    def talk(other: socket.socket) -> None:
        with pytest.raises(ssl.SSLError) as caught:
            side(other, True, context("another.test", True))
        heard.append(caught.value)

    why = refused(play, talk, is_server=False)
    assert "Hostname mismatch" in lines.words(why)
    assert "alert" in str(heard[0]).lower()


@pytest.mark.parametrize("is_server", [False, True])
def test_a_certificate_of_another_authority_is_refused(play: Play, is_server: bool) -> None:
    """Nobody else's certificate will do, on either side."""
    other_side = context(THEIRS, not is_server, STRANGER)

    def talk(other: socket.socket) -> None:
        with side(other, not is_server, other_side) as peer:
            peer.recv(1)

    assert "unable to get" in lines.words(refused(play, talk, is_server))


def test_who_shows_nothing_is_refused_where_something_is_wanted(play: Play) -> None:
    """A client without a certificate gets no further than the handshake."""
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(bare)

    def talk(other: socket.socket) -> None:
        with side(other, False, bare) as peer:
            peer.recv(1)

    assert "CERTIFICATE" in lines.words(refused(play, talk, is_server=True))


@pytest.mark.parametrize("is_server", [False, True])
def test_a_handshake_has_its_time(play: Play, is_server: bool) -> None:
    """Who says nothing is not waited for."""
    why = refused(play, lambda other: other.recv(1 << 16), is_server, limit=0.05)
    assert "taking longer than 0.05 s" in lines.words(why)


@pytest.mark.parametrize("is_server", [False, True])
def test_no_tls_is_no_handshake(play: Play, is_server: bool) -> None:
    """Something else at that port, or from there, is said to be."""
    why = refused(play, lambda other: other.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 10), is_server)
    assert isinstance(why, ssl.SSLError)


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=("close", "reset"))
def test_who_leaves_in_the_middle_of_a_handshake_is_gone(play: Play, end: Callable[[socket.socket], None]) -> None:
    """A connection that ends there is a reset, and no matter for TLS."""

    def talk(other: socket.socket) -> None:
        other.recv(10)
        end(other)

    assert isinstance(refused(play, talk, is_server=False), ConnectionResetError)


def test_a_handshake_that_nobody_waits_for_any_more_leaves_nothing(play: Play) -> None:
    """Its socket is closed with the task that has waited."""

    async def scene(ends: Ends) -> None:
        sock, other = tcp()
        made = Secure(ends, sock, OUR_SIDES[False], THEIRS)
        task = asyncio.create_task(made.shake(LIMIT))
        await asyncio.to_thread(other.recv, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert made.sock.fileno() < 0
        other.close()

    play(scene)


# --- ends -------------------------------------------------------------------------------------------------------------


def finish(peer: ssl.SSLSocket) -> None:
    """End it as one should, and be answered."""
    with peer:
        peer.unwrap().close()


def cut(peer: ssl.SSLSocket) -> None:
    """End the connection without TLS's word: somebody between the two could have done it."""
    socket.socket(fileno=peer.detach()).close()


def cut_hard(peer: ssl.SSLSocket) -> None:
    """The same, with a reset."""
    reset(socket.socket(fileno=peer.detach()))


def talk_nonsense(peer: ssl.SSLSocket) -> None:
    """Say what is no record."""
    with socket.socket(fileno=peer.detach()) as bare:
        bare.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
        bare.settimeout(LIMIT)
        with contextlib.suppress(OSError):
            while bare.recv(1 << 16):
                pass


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (finish, "it has closed the link"),
        (cut, "without a word"),
        (cut_hard, "reset by peer"),
        (talk_nonsense, "BAD_RECORD_MAC|BAD RECORD MAC"),
    ],
    ids=("finish", "cut", "reset", "nonsense"),
)
def test_an_end_is_told_once_after_all_that_came_before(
    play: Play, end: Callable[[ssl.SSLSocket], None], why: str
) -> None:
    """However it ends by itself: why, and nothing after that."""

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends)
        await asyncio.to_thread(peer.sendall, MEGABYTES[:100_000])
        await told.until(lambda: len(told.bytes) == 100_000)
        ending = asyncio.create_task(asyncio.to_thread(end, peer))
        await told.until(lambda: told.ends)
        await ending
        (said,) = told.ends
        assert any(each in said for each in why.split("|")), said
        assert made.sock.fileno() < 0
        made.write(b"nobody is there")
        made.close()
        made.let_go()
        await asyncio.sleep(0)
        assert len(told.ends) == 1

    play(scene)


def test_what_was_said_before_a_close_is_heard_although_sending_fails(play: Play) -> None:
    """Who has gone gets nothing more; what it had sent counts all the same, and then comes why it is over."""

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends)
        peer.sendall(b"last words")
        cut(peer)
        for _ in range(100):  # the first gets a reset for an answer
            made.write(bytes(1000))
        await told.until(lambda: told.ends)
        assert told.bytes == b"last words"
        assert len(told.ends) == 1

    play(scene)


@pytest.mark.parametrize("ends_with", [cut, cut_hard], ids=("cut", "reset"))
def test_an_end_that_comes_together_with_the_last_bytes_is_seen(
    play: Play, ends_with: Callable[[ssl.SSLSocket], None]
) -> None:
    """They are heard, and the end as soon as they are: libuv says of both at once, and then nothing more."""

    async def scene(ends: Ends) -> None:
        _, told, peer = await opened(ends)
        peer.sendall(b"last words")
        ends_with(peer)  # before the loop looks
        await told.until(lambda: told.ends)
        assert told.bytes == b"last words"
        assert len(told.ends) == 1

    play(scene)


def test_a_close_loses_nothing_that_was_sent(play: Play) -> None:
    """Although more has come than anybody has read, which would be a reset: all arrives, and then a proper end."""

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends)
        for start in range(0, len(MEGABYTES), 250_000):
            made.write(MEGABYTES[start : start + 250_000])
        assert made.size
        made.close()
        peer.sendall(bytes(100_000))
        assert await asyncio.to_thread(whole, peer) == MEGABYTES
        assert not told.bytes
        peer.close()

    play(scene)


def test_a_close_does_not_wait_for_ever(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not end its side is left alone in the end."""
    monkeypatch.setattr(lines, "LINGER", 0.05)

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends)
        made.close()
        while made.sock.fileno() >= 0:
            await asyncio.sleep(0.01)
        assert told.ends == []
        peer.close()

    play(scene)


# --- who reads slowly -------------------------------------------------------------------------------------------------


def test_what_the_other_side_does_not_read_waits(play: Play) -> None:
    """It is kept as it was when it was sent, its size is known, and it is told when all has gone."""

    async def scene(ends: Ends) -> None:
        made, told, peer = await opened(ends)
        buffer = bytearray(100_000)
        sent = b""
        while not made.size or len(sent) < 8_000_000:
            buffer[:] = os.urandom(1000) * 100
            made.write(memoryview(buffer))
            sent += buffer
        assert 0 < made.size < len(sent) + 100_000
        assert not told.empty

        def read() -> bytes:
            found = bytearray()
            while len(found) < len(sent):
                found += peer.recv(1 << 16)
            return bytes(found)

        assert await asyncio.to_thread(read) == sent
        await told.until(lambda: told.empty)
        assert (made.size, told.empty) == (0, 1)
        peer.close()

    play(scene)


def test_who_never_reads_is_lost(play: Play) -> None:
    """A link keeps so much for the other gate and no more."""

    async def scene(ends: Ends) -> None:
        made, _, peer = await opened(ends)
        lost: list[str] = []
        link = Link()
        link.failed = lost.append
        made.begin(link)
        for _ in range(200):
            link.send(bytes(100_000))
        assert lost == ["it does not read"]
        assert made.sock.fileno() < 0
        peer.close()

    play(scene)


def test_a_link_sends_no_more_of_the_connection_while_something_waits(play: Play) -> None:
    """Its room is its credit, and nothing until what has been sealed is gone."""

    async def scene(ends: Ends) -> None:
        made, _, peer = await opened(ends)
        link = Link()
        assert link.room == 0  # there is nothing to send by
        made.begin(link)
        assert link.room == frames.WINDOW
        link.send_data(frames.write(frames.DATA, bytes(10)))
        assert link.room == frames.WINDOW - 10
        while not made.size:
            link.send(bytes(100_000))
        assert link.room == 0
        link.abort()
        peer.close()

    play(scene)


class Kept:
    """Stands for who has a link, and keeps what it gets as it was."""

    def __init__(self) -> None:
        self.bytes = b""
        self.kinds: list[int] = []

    def got(self, kind: int, payload: frames.Payload) -> None:
        """A frame, or a part of DATA."""
        self.kinds.append(kind)
        self.bytes += payload

    def room(self) -> None:
        """There is room."""

    def lost(self, why: str) -> None:
        """It is over."""
        raise AssertionError(why)


def test_what_comes_before_a_handler_is_kept_for_it(play: Play) -> None:
    """In however many parts: a window of bytes and some frames wait for whoever will have the link, and no more."""

    async def scene(ends: Ends) -> None:
        link, handler = Link(), Kept()
        said = frames.write(frames.DATA, b"first") + frames.write(frames.TAKEN) + frames.write(frames.DATA, b"x" * 500)
        for at in range(len(said)):
            place = bytearray(said[at : at + 1])
            link.came(memoryview(place))
            place[:] = b"?"
        link.begin(handler)
        assert handler.bytes == b"first" + b"x" * 500
        assert handler.kinds == [frames.DATA, frames.TAKEN, frames.DATA]
        link.abort()

        lost: list[str] = []
        link = Link()
        link.failed = lost.append
        for _ in range(frames.WINDOW // frames.MOST):
            link.came(frames.write(frames.DATA, bytes(frames.MOST)))
        assert not lost
        link.came(frames.write(frames.DATA, b"x"))
        assert lost == ["frames before the link is open"]

    play(scene)


# --- within one gate --------------------------------------------------------------------------------------------------


def test_without_tls_the_same_holds(play: Play) -> None:
    """A link of a gate with itself: bytes as they are, what waits is a copy, and an end of file is an end."""

    async def scene(ends: Ends) -> None:
        pair = socket.socketpair()
        told = [Told(), Told()]
        made = [Line(ends, each) for each in pair]
        for each, link in zip(made, told, strict=True):
            each.begin(link)
        buffer = bytearray(200_000)
        sent = b""
        for step in range(20):
            buffer[:] = bytes([step]) * len(buffer)
            made[0].write(memoryview(buffer))
            sent += buffer
        made[0].close()
        await told[1].until(lambda: told[1].ends)
        assert told[1].bytes == sent
        assert told[1].ends == ["it has closed the link"]
        while made[0].sock.fileno() >= 0:
            await asyncio.sleep(0)
        assert told[0].ends == []

    play(scene)


# --- however it is cut ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def by_hand() -> Iterator[tuple[asyncio.AbstractEventLoop, Ends]]:
    """What lines are carried by, on a loop that runs when it is told to."""
    loop = asyncio.new_event_loop()
    ends = Ends(loop)
    try:
        yield loop, ends
    finally:
        ends.stop()
        loop.close()


class Cut:
    """The other side of a line by two buffers, whose bytes come in pieces of any size."""

    def __init__(self, made: Secure, other: socket.socket, cuts: Iterator[int]) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = THEIR_SIDES[False].wrap_bio(self._incoming, self._outgoing, server_hostname=OURS)
        self._made = made
        self._other = other
        self._cuts = cuts

    def carry(self) -> None:
        """Carry what there is, each piece read by itself, and back what the line says to it."""
        data = self._outgoing.read()
        while data:
            count = self._other.send(data[: next(self._cuts)])
            data = data[count:]
            self._made._read()
        with contextlib.suppress(BlockingIOError):
            self._incoming.write(self._other.recv(1 << 18, socket.MSG_DONTWAIT))


@given(
    st.lists(st.binary(max_size=40_000), max_size=4),
    st.sampled_from((1, 2, 100, 20_000)),
    st.integers(0, 400),
    st.integers(),
)
def test_bytes_come_however_they_are_cut(said: list[bytes], longest: int, count: int, seed: int) -> None:
    """Handshake, records and end come in pieces of any size, a byte at a time too: the same arrives."""
    draw = random.Random(seed)
    cuts = itertools.chain((draw.randint(1, longest) for _ in range(count)), itertools.repeat(1 << 16))
    with by_hand() as (loop, ends):
        sock, other = socket.socketpair()
        made = Secure(ends, sock, OUR_SIDES[True])
        task = loop.create_task(made.shake(LIMIT))
        peer = Cut(made, other, cuts)
        while not task.done():
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.do_handshake()
            peer.carry()
            loop.run_until_complete(asyncio.sleep(0))
        task.result()
        told = Told()
        made.begin(told)
        for each in said:
            peer.tls.write(each)
            peer.carry()
            loop.run_until_complete(asyncio.sleep(0))
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.tls.unwrap()
        peer.carry()
        assert told.bytes == b"".join(said)
        assert told.ends == ["it has closed the link"]
        other.close()


def test_a_request_that_comes_with_the_handshake_waits_for_its_link() -> None:
    """What the other side says before there is anybody to say it to is said as soon as there is."""
    with by_hand() as (loop, ends):
        sock, other = socket.socketpair()
        made = Secure(ends, sock, OUR_SIDES[True])
        task = loop.create_task(made.shake(LIMIT))
        peer = Cut(made, other, itertools.repeat(1 << 16))
        is_shaken = False
        while not task.done():
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.tls.do_handshake()
                if not is_shaken:
                    is_shaken = True
                    peer.tls.write(b"at once")
            peer.carry()
            loop.run_until_complete(asyncio.sleep(0))
        task.result()
        told = Told()
        made.begin(told)
        assert not told.bytes
        loop.run_until_complete(told.until(lambda: told.bytes))
        assert told.bytes == b"at once"
        other.close()


@given(st.binary(min_size=1, max_size=300), st.integers(1, 50))
def test_any_bytes_are_a_handshake_or_refused(nonsense: bytes, size: int) -> None:
    """Whatever a stranger sends, the handshake fails with an error of TLS's, or waits for more."""
    with by_hand() as (loop, ends):
        sock, other = socket.socketpair()
        made = Secure(ends, sock, OUR_SIDES[True])
        task = loop.create_task(made.shake(LIMIT))
        loop.run_until_complete(asyncio.sleep(0))
        for start in range(0, len(nonsense), size):
            with contextlib.suppress(BrokenPipeError):
                other.send(nonsense[start : start + size])
            made._read()
        other.close()
        with pytest.raises((ssl.SSLError, ConnectionResetError, BrokenPipeError)):
            loop.run_until_complete(task)
