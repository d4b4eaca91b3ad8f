"""The relay for TCP: exact bytes both ways, ends and resets carried over, and nobody delayed by anybody else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import random
import select
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import pytest
import uvloop

from outgate.gate.kernel.births import take_no_fds
from outgate.gate.relay import carry
from outgate.gate.relay.pair import Relayed
from outgate.gate.relay.relays import Relays
from support import peers

T = TypeVar("T")
#: Seconds after which a wait is taken for a hang.
PATIENCE = 20.0
RESET = struct.pack("ii", 1, 0)
#: What makes a Unix socket with default buffers not writable: more than a quarter of them.
FILL = 56 * 1024


class Connection:
    """A program's end and the peer's, with a relay between them."""

    def __init__(self, program: socket.socket, peer: socket.socket, relayed: Relayed, how: queue.Queue[str]) -> None:
        self.program = program
        self.peer = peer
        self.relayed = relayed
        self._how = how

    def ended(self) -> tuple[str, int, int]:
        """Wait until the relay has ended it, and return how, and the bytes sent and received."""
        how = self._how.get(timeout=PATIENCE)
        assert self._how.empty()
        return how, self.relayed.sent, self.relayed.received


class Pump:
    """Relays on a loop of their own, on a thread; tests are the programs and the peers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, takes_fds: bool) -> None:
        self.loop = loop
        self.strays: queue.Queue[int] = queue.Queue()
        self._takes_fds = takes_fds
        self.relays = Relays(loop, self.strays.put if takes_fds else None)
        self._thread = threading.Thread(target=loop.run_forever, name="pump")
        self._thread.start()
        self._open: list[socket.socket] = []
        self._listener = self.keep(socket.create_server(("127.0.0.1", 0), backlog=2048))

    def keep(self, sock: socket.socket) -> socket.socket:
        """Close this socket when the test is over."""
        sock.settimeout(PATIENCE)
        self._open.append(sock)
        return sock

    def on_loop(self, function: Callable[[], T]) -> T:
        """Call a function on the loop and return its result."""
        done: Future[T] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except BaseException as e:
                done.set_exception(e)

        self.loop.call_soon_threadsafe(call)
        return done.result(PATIENCE)

    def settled(self) -> None:
        """Wait until the loop has done what the kernel has told it of so far: two turns, one for what follows."""
        for _ in range(2):
            while self.on_loop(lambda: bool(self.relays._ready)):
                pass

    def adopt(self) -> Connection:
        """Make a relayed socket that is not connected; its ``peer`` is only a place for one."""
        program, inside = socket.socketpair()
        if not self._takes_fds:
            take_no_fds(inside)
        how: queue.Queue[str] = queue.Queue()
        relayed = self.on_loop(lambda: self.relays.adopt(inside, lambda _, text: how.put(text), lambda s: s.close()))
        return Connection(self.keep(program), program, relayed, how)

    def connect(self, address: tuple[str, int] | None = None, filled: int = FILL) -> Connection:
        """Return a connection to this address, or to a peer that is the test itself."""
        connection = self.adopt()
        if filled:
            assert connection.program.send(bytes(filled), socket.MSG_DONTWAIT) == filled
        outside = socket.create_connection(address or self._listener.getsockname())
        if address is None:
            connection.peer = self.keep(self._listener.accept()[0])
        self.on_loop(lambda: connection.relayed.begin(outside, filled))
        return connection

    def stop(self) -> None:
        """End what is left, the loop, and every socket."""
        for sock in self._open:
            sock.close()
        if self._thread.is_alive():
            self.on_loop(lambda: self.relays.close("stopped"))
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(PATIENCE)
        self.loop.close()


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(
    params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow), pytest.param("fds", marks=pytest.mark.slow)]
)
def pump(request: pytest.FixtureRequest) -> Iterator[Pump]:
    """Relays on either loop, and where programs may send fds; at the end no descriptor is left open."""
    uvloop.new_event_loop().close()  # libuv opens something of its own, once
    before = descriptors()
    loop = asyncio.new_event_loop() if request.param == "asyncio" else uvloop.new_event_loop()
    pump = Pump(loop, takes_fds=request.param == "fds")
    try:
        yield pump
    finally:
        pump.stop()
    assert descriptors() == before


def read_all(sock: socket.socket) -> bytes:
    """Read until the end of file."""
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def read_to_the_end(sock: socket.socket) -> tuple[int, int]:
    """Read until the end, clean or not, and return how many bytes came and the errno of the end: 0 for a clean one."""
    count = 0
    try:
        while data := sock.recv(1 << 20):
            count += len(data)
    except OSError as e:
        return count, e.errno or -1
    return count, 0


def write_on(sock: socket.socket, size: int) -> None:
    """Send pieces of this size until it fails."""
    while True:
        sock.sendall(bytes(size))


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read this many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, f"end of file after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def on_thread(function: Callable[[], T]) -> Future[T]:
    """Call a function on a thread."""
    done: Future[T] = Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=call, daemon=True).start()
    return done


def wait_for(sock: socket.socket, events: int) -> int:
    """Wait until poll(2) says one of these of a socket, and return all it says."""
    poll = select.poll()
    poll.register(sock, events)
    ((_, seen),) = poll.poll(PATIENCE * 1000)
    return seen


def stuff(sock: socket.socket) -> int:
    """Send until nothing more is taken for good, and return how much was."""
    sock.setblocking(False)
    sent = 0
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    try:
        while poll.poll(200):
            with contextlib.suppress(BlockingIOError):
                sent += sock.send(bytes(65536))
    finally:
        sock.settimeout(PATIENCE)
    return sent


def send_in_pieces(sock: socket.socket, data: bytes, seed: int) -> None:
    """Send data in pieces of random sizes, and then an end of file."""
    chance = random.Random(seed)
    view = memoryview(data)
    while view:
        size = chance.choice((1, 2, 63, 1500, carry.SMALL - 1, carry.SMALL, carry.SMALL + 1, 100_000, 700_000))
        sock.sendall(view[:size])
        view = view[size:]
    sock.shutdown(socket.SHUT_WR)


def read_in_pieces(sock: socket.socket, seed: int) -> bytes:
    """Read in pieces of random sizes until the end of file."""
    chance = random.Random(seed)
    return b"".join(iter(lambda: sock.recv(chance.choice((1, 64, 4096, 65536, 1 << 20))), b""))


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_bytes_both_ways(pump: Pump, seed: int) -> None:
    """Bytes sent both ways at once in pieces of any size arrive exactly, and are counted exactly."""
    chance = random.Random(seed)
    there, back = chance.randbytes(6_000_000 + seed), chance.randbytes(4_000_000 - seed)
    connection = pump.connect()
    work = [
        on_thread(lambda: send_in_pieces(connection.program, there, seed)),
        on_thread(lambda: send_in_pieces(connection.peer, back, seed + 1)),
    ]
    arrived = on_thread(lambda: read_in_pieces(connection.peer, seed + 2))
    assert read_in_pieces(connection.program, seed + 3) == back
    assert arrived.result(PATIENCE) == there
    for each in work:
        each.result(PATIENCE)
    assert connection.ended() == ("closed", len(there), len(back))


def test_round_trips(pump: Pump) -> None:
    """Every small message arrives before the next one is sent: nothing waits for more."""
    with peers.echo() as peer:
        connection = pump.connect(peer.address)
        for number in range(500):
            message = b"%063d\n" % number
            connection.program.sendall(message)
            assert read_exactly(connection.program, 64) == message
        connection.program.close()
        assert connection.ended() == ("closed", 32_000, 32_000)
        assert peer.accepted().wait().saw_end


@pytest.mark.parametrize("size", [1, carry.SMALL - 1, carry.SMALL, carry.SMALL + 1, carry.SMALL + 2, 3 * carry.SMALL])
def test_sizes_at_the_edges(pump: Pump, size: int) -> None:
    """Messages about as large as one look arrive whole, again and again."""
    message = random.Random(size).randbytes(size)
    with peers.echo() as peer:
        connection = pump.connect(peer.address)
        for _ in range(20):
            connection.program.sendall(message)
            assert read_exactly(connection.program, size) == message
        connection.program.close()
        assert connection.ended() == ("closed", 20 * size, 20 * size)


def test_byte_by_byte(pump: Pump) -> None:
    """A peer that dribbles one byte at a time is relayed one byte at a time."""
    connection = pump.connect()
    connection.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for value in range(256):
        connection.peer.send(bytes([value]))
        assert connection.program.recv(100) == bytes([value])
        connection.program.send(bytes([value]))
        assert connection.peer.recv(100) == bytes([value])
    pump.settled()
    assert (connection.relayed.sent, connection.relayed.received) == (256, 256)


# --- the program's end before it is connected -------------------------------------------------------------------------


def test_fill(pump: Pump) -> None:
    """A filled end is not writable until the relay begins; the fill is not sent and not counted."""
    connection = pump.adopt()
    connection.program.send(bytes(FILL), socket.MSG_DONTWAIT)
    assert not select.select([], [connection.program], [], 0)[1]
    outside = socket.create_connection(pump._listener.getsockname())
    peer = pump.keep(pump._listener.accept()[0])
    pump.on_loop(lambda: connection.relayed.begin(outside, FILL))
    assert wait_for(connection.program, select.POLLIN | select.POLLOUT) == select.POLLOUT
    connection.program.sendall(b"first")
    assert peer.recv(100) == b"first"
    pump.settled()
    assert (connection.relayed.sent, connection.relayed.received) == (5, 0)


def test_fill_again(pump: Pump) -> None:
    """After a failed dial the end is writable again, and can be filled and connected as if it were new."""
    connection = pump.adopt()
    for _ in range(3):
        connection.program.send(bytes(FILL), socket.MSG_DONTWAIT)
        assert not select.select([], [connection.program], [], 0)[1]
        pump.on_loop(lambda: connection.relayed.release(FILL))
        assert wait_for(connection.program, select.POLLIN | select.POLLOUT) == select.POLLOUT
    connection.program.send(bytes(FILL), socket.MSG_DONTWAIT)
    outside = socket.create_connection(pump._listener.getsockname())
    peer = pump.keep(pump._listener.accept()[0])
    pump.on_loop(lambda: connection.relayed.begin(outside, FILL))
    connection.program.sendall(b"first")
    connection.program.close()
    assert read_all(peer) == b"first"
    assert connection.ended() == ("closed", 5, 0)


def test_sent_behind_the_fill(pump: Pump) -> None:
    """What a program sends before it is told that it is connected goes out behind the fill."""
    connection = pump.adopt()
    connection.program.setblocking(False)  # with a timeout Python would wait until it is writable
    connection.program.send(bytes(FILL))
    connection.program.send(b"early")
    outside = socket.create_connection(pump._listener.getsockname())
    peer = pump.keep(pump._listener.accept()[0])
    pump.on_loop(lambda: connection.relayed.begin(outside, FILL))
    assert peer.recv(100) == b"early"


@pytest.mark.parametrize("claimed", [1, FILL - 1, FILL + 1, 1 << 40])
def test_wrong_fill(pump: Pump, claimed: int) -> None:
    """A client that lies about its fill harms its own bytes only: the relay goes on and others do not notice."""
    liar, other = pump.adopt(), pump.connect()
    liar.program.send(bytes(FILL), socket.MSG_DONTWAIT)
    outside = socket.create_connection(pump._listener.getsockname())
    pump.keep(pump._listener.accept()[0])
    pump.on_loop(lambda: liar.relayed.begin(outside, claimed))
    other.program.sendall(b"x")
    assert other.peer.recv(1) == b"x"
    liar.program.close()
    assert liar.ended()[0] == "closed"


def test_closed_before_connected(pump: Pump) -> None:
    """A program that closes a socket that was never connected ends it; a dial that succeeds later is closed."""
    connection = pump.adopt()
    connection.program.send(bytes(FILL), socket.MSG_DONTWAIT)
    connection.program.close()
    assert connection.ended() == ("closed", 0, 0)
    outside = socket.create_connection(pump._listener.getsockname())
    peer = pump.keep(pump._listener.accept()[0])
    pump.on_loop(lambda: connection.relayed.begin(outside, FILL))
    assert read_all(peer) == b""


# --- ends of file -----------------------------------------------------------------------------------------------------


def test_half_close_by_the_program(pump: Pump) -> None:
    """After the program's shutdown the peer reads an end of file and can still answer, then ends it cleanly."""
    connection = pump.connect()
    connection.program.sendall(b"question")
    connection.program.shutdown(socket.SHUT_WR)
    assert read_all(connection.peer) == b"question"
    connection.peer.sendall(b"answer" * 100_000)
    connection.peer.close()
    assert read_all(connection.program) == b"answer" * 100_000
    assert connection.ended() == ("closed", 8, 600_000)
    assert connection.program.recv(1) == b""


def test_half_close_by_the_peer(pump: Pump) -> None:
    """After the peer's shutdown the program reads an end of file and can still send, then ends it cleanly."""
    connection = pump.connect()
    connection.peer.sendall(b"greeting")
    connection.peer.shutdown(socket.SHUT_WR)
    assert read_all(connection.program) == b"greeting"
    assert wait_for(connection.program, select.POLLIN | select.POLLRDHUP) == select.POLLIN | select.POLLRDHUP
    connection.program.sendall(b"goodbye" * 100_000)
    connection.program.close()
    assert read_all(connection.peer) == b"goodbye" * 100_000
    assert connection.ended() == ("closed", 700_000, 8)


def test_close_at_once(pump: Pump) -> None:
    """A program that sends and closes in one go has all its bytes delivered, and an end of file."""
    data = random.Random(1).randbytes(150_000)
    connection = pump.connect()
    connection.program.sendall(data)
    connection.program.close()
    assert read_all(connection.peer) == data
    assert connection.ended() == ("closed", len(data), 0)


def test_close_while_full(pump: Pump) -> None:
    """Bytes that are queued everywhere when the program closes still arrive as soon as the peer reads."""
    connection = pump.connect()
    sent = stuff(connection.program)
    connection.program.close()
    assert len(read_all(connection.peer)) == sent
    assert connection.ended() == ("closed", sent, 0)


def test_shutdown_of_reading(pump: Pump) -> None:
    """A program that has shut down reading can still send; what comes in stops at the peer."""
    connection = pump.connect()
    connection.program.shutdown(socket.SHUT_RD)
    connection.peer.sendall(b"unwanted")
    connection.program.sendall(b"wanted")
    assert connection.peer.recv(100) == b"wanted"
    assert connection.program.recv(100) == b""
    connection.program.close()
    how, sent, received = connection.ended()
    assert (how, sent, received) == ("closed", 6, 0)


# --- resets -----------------------------------------------------------------------------------------------------------


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


@pytest.mark.parametrize("stage", ["new", "sent", "received", "both"])
def test_reset_by_the_peer(pump: Pump, stage: str) -> None:
    """A reset from outside is ECONNRESET for the program, never a clean end of file, whatever has gone before."""
    connection = pump.connect()
    if stage in ("sent", "both"):
        connection.program.sendall(b"request")
        assert connection.peer.recv(100) == b"request"
    if stage in ("received", "both"):
        connection.peer.sendall(b"half of an answ")
        assert connection.program.recv(100) == b"half of an answ"
    reset(connection.peer)
    assert connection.ended()[0] == "reset"
    seen = wait_for(connection.program, select.POLLIN)
    assert seen & select.POLLERR
    assert seen & select.POLLHUP
    with pytest.raises(ConnectionResetError):
        connection.program.recv(100)


def test_data_before_a_reset(pump: Pump) -> None:
    """Bytes that came before the reset are read first, then ECONNRESET."""
    connection = pump.connect()
    connection.program.sendall(b"x" * 1000)
    wait_for(connection.peer, select.POLLIN)  # unread: its close is a reset, with the answer before it
    connection.peer.sendall(b"too large")
    connection.peer.close()
    assert connection.ended() == ("reset", 1000, 9)
    assert connection.program.recv(100) == b"too large"
    with pytest.raises(ConnectionResetError):
        connection.program.recv(100)


def test_reset_behind_much_data(pump: Pump) -> None:
    """A program that reads late gets all that the kernel had taken before the reset, then ECONNRESET."""
    connection = pump.connect()
    connection.program.sendall(b"x")
    wait_for(connection.peer, select.POLLIN)
    sent = stuff(connection.peer)
    outside = connection.relayed.outside
    assert outside is not None
    waiting = pump.on_loop(lambda: len(outside.recv(1 << 26, socket.MSG_PEEK)))
    taken = connection.relayed.received + waiting
    assert connection.relayed.received < taken <= sent
    connection.peer.close()
    arrived, error = read_to_the_end(connection.program)
    assert error == errno.ECONNRESET
    assert taken <= arrived <= sent
    assert connection.ended() == ("reset", 1, arrived)


def test_reset_while_the_program_only_writes(pump: Pump) -> None:
    """A program that never reads learns of the reset as it writes on."""
    connection = pump.connect()
    connection.program.sendall(b"x")
    wait_for(connection.peer, select.POLLIN)
    stuff(connection.peer)
    connection.peer.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        write_on(connection.program, 1000)
    assert connection.ended()[0] == "reset"


def test_reset_after_the_peers_end(pump: Pump) -> None:
    """A peer that has sent its end of file and then resets ends the connection: sending fails."""
    connection = pump.connect()
    connection.peer.shutdown(socket.SHUT_WR)
    assert connection.program.recv(1) == b""
    reset(connection.peer)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        write_on(connection.program, 1)
    assert connection.ended()[0] == "reset"


def test_reset_of_a_writer_that_waits(pump: Pump) -> None:
    """A program that is blocked in send() is woken by the reset with an error."""
    connection = pump.connect()
    work = on_thread(lambda: connection.program.sendall(bytes(64_000_000)))
    connection.peer.recv(1)
    reset(connection.peer)
    assert isinstance(work.exception(PATIENCE), ConnectionError)
    assert connection.ended()[0] == "reset"


def test_program_closes_with_unread_bytes(pump: Pump) -> None:
    """A program that closes with bytes unread resets the connection, as natively."""
    connection = pump.connect()
    connection.peer.sendall(b"never read")
    wait_for(connection.program, select.POLLIN)
    connection.program.close()
    with pytest.raises(ConnectionResetError):
        read_all(connection.peer)
    assert connection.ended() == ("closed", 0, 10)


def test_program_closes_before_what_is_on_its_way(pump: Pump) -> None:
    """A program that closes while more is on its way to it than it could hold resets the connection."""
    connection = pump.connect()
    stuff(connection.peer)
    connection.program.close()
    assert connection.ended()[0] == "closed"
    with pytest.raises(ConnectionResetError):
        read_all(connection.peer)


def test_program_closes_with_linger_zero(pump: Pump) -> None:
    """Linger zero on the real socket makes the program's close a reset, even with nothing unread."""
    connection = pump.connect()
    outside = connection.relayed.outside
    assert outside is not None
    outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.program.sendall(b"last words")
    assert connection.peer.recv(100) == b"last words"
    connection.program.close()
    with pytest.raises(ConnectionResetError):
        connection.peer.recv(100)
    assert connection.ended() == ("closed", 10, 0)


def test_program_closes_with_linger_zero_in_the_middle_of_a_turn(pump: Pump) -> None:
    """A turn that comes upon the close before the loop has told of it sends no end of file before the reset."""
    connection = pump.connect()
    relayed, program = connection.relayed, connection.program
    assert relayed.outside is not None
    relayed.outside.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    pump.settled()

    def close_and_turn() -> None:
        program.close()
        relayed._out.ready = True
        relayed.run()

    pump.on_loop(close_and_turn)
    with pytest.raises(ConnectionResetError):
        connection.peer.recv(100)
    assert connection.ended() == ("closed", 0, 0)


def test_program_aborts_while_full(pump: Pump) -> None:
    """A close with bytes unread is a reset at once, though the peer takes nothing and bytes are queued."""
    connection = pump.connect()
    connection.peer.sendall(b"never read")
    wait_for(connection.program, select.POLLIN)
    stuff(connection.program)
    connection.program.close()
    assert connection.ended()[0] == "closed"
    with pytest.raises(ConnectionResetError):
        read_all(connection.peer)


def test_urgent_data_from_the_peer(pump: Pump) -> None:
    """An urgent byte from outside is left out, and the bytes around it arrive in order."""
    connection = pump.connect()
    connection.peer.sendall(b"a" * 100_000)
    connection.peer.send(b"!", socket.MSG_OOB)
    connection.peer.sendall(b"b" * 100_000)
    connection.peer.shutdown(socket.SHUT_WR)
    assert read_all(connection.program) == b"a" * 100_000 + b"b" * 100_000


def test_urgent_data_from_the_program(pump: Pump) -> None:
    """A program that sends urgent data over its Unix socket disturbs its own connection only."""
    connection, other = pump.connect(), pump.connect()
    try:
        for _ in range(20):
            connection.program.send(b"xy")
            connection.program.send(b"!", socket.MSG_OOB)
        connection.program.send(b"z")
    except OSError:
        pass  # refused by the kernel, or reset by the gate
    other.program.sendall(b"x")
    assert other.peer.recv(1) == b"x"
    connection.program.close()
    assert connection.ended()[0] in ("closed", "urgent-data")


# --- back-pressure, and others ----------------------------------------------------------------------------------------


def test_slow_ones_do_not_delay_others(pump: Pump) -> None:
    """Peers and programs that never read, and floods, leave another connection its round trips; memory stays put."""
    stuck = [pump.connect() for _ in range(10)]
    for connection in stuck[:5]:
        stuff(connection.program)
    for connection in stuck[5:]:
        stuff(connection.peer)
    flood = pump.connect()
    stop = threading.Event()

    def pour() -> None:
        while not stop.is_set():
            flood.program.sendall(bytes(1 << 20))
        flood.program.shutdown(socket.SHUT_WR)

    pouring = on_thread(pour)

    def drain() -> int:
        count = sum(iter(lambda: len(flood.peer.recv(1 << 20)), 0))
        flood.peer.close()
        return count

    drained = on_thread(drain)
    other = pump.connect()
    for _ in range(50):
        other.program.sendall(b"ping")
        assert other.peer.recv(100) == b"ping"
        other.peer.sendall(b"pong")
        assert other.program.recv(100) == b"pong"
    stop.set()
    pouring.result(PATIENCE)
    assert drained.result(PATIENCE) == flood.ended()[1]
    for connection in stuck:
        pair = connection.relayed
        assert pair._back is not None
        assert len(pair._out.rest) + len(pair._back.rest) <= 2 * carry.SMALL


def test_never_reading_then_reading(pump: Pump) -> None:
    """What was held back by a peer that does not read arrives to the byte once it does, both ways."""
    connection = pump.connect()
    there, back = stuff(connection.program), stuff(connection.peer)
    connection.program.shutdown(socket.SHUT_WR)
    connection.peer.shutdown(socket.SHUT_WR)
    assert len(read_all(connection.peer)) == there
    assert len(read_all(connection.program)) == back
    assert connection.ended() == ("closed", there, back)


def test_small_buffers(pump: Pump) -> None:
    """A relay whose sockets take little at a time, both ways, loses nothing."""
    connection = pump.connect()
    outside = connection.relayed.outside
    assert outside is not None
    outside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    connection.relayed.inside.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    data = random.Random(5).randbytes(2_000_000)
    work = [on_thread(lambda s=s: send_in_pieces(s, data, 7)) for s in (connection.program, connection.peer)]
    arrived = on_thread(lambda: read_all(connection.peer))
    assert read_all(connection.program) == data
    assert arrived.result(PATIENCE) == data
    for each in work:
        each.result(PATIENCE)
    assert connection.ended() == ("closed", len(data), len(data))


def test_fds_from_programs(pump: Pump) -> None:
    """An fd that a program sends is refused by the kernel, or handed on to be closed elsewhere; bytes go on."""
    connection = pump.connect()
    reader, writer = os.pipe()
    try:
        if pump._takes_fds:
            for _ in range(50):
                socket.send_fds(connection.program, [b"one"], [writer] * 3)
                connection.program.sendall(b"two")
                assert read_exactly(connection.peer, 6) == b"onetwo"
                for _ in range(3):
                    os.close(pump.strays.get(timeout=PATIENCE))
        else:
            with pytest.raises(PermissionError):
                socket.send_fds(connection.program, [b"one"], [writer])
    finally:
        os.close(reader)
        os.close(writer)


# --- quotas, cuts, ends -----------------------------------------------------------------------------------------------


class Allowance:
    """A limit of so many bytes each way."""

    def __init__(self, out: int, back: int) -> None:
        self.left = {True: out, False: back}

    def room(self, out: bool) -> int:
        """Return what is left."""
        return self.left[out]

    def moved(self, out: bool, count: int) -> None:
        """Take it off."""
        self.left[out] -= count
        assert self.left[out] >= 0


@pytest.mark.parametrize("room", [0, 1, 1000, carry.SMALL, 777_777])
def test_limit(pump: Pump, room: int) -> None:
    """With a limit exactly so many bytes go, the rest waits where it is, and goes on when there is room again."""
    connection = pump.connect()
    limit = Allowance(room, room)

    def set_limit() -> None:
        connection.relayed.limit = limit

    pump.on_loop(set_limit)
    data = random.Random(2).randbytes(1_000_000)
    ends = (connection.program, connection.peer)
    sending = [on_thread(lambda sock=sock: sock.sendall(data)) for sock in ends]
    first = [on_thread(lambda sock=sock: read_exactly(sock, room)) for sock in ends]
    arrived = [each.result(PATIENCE) for each in first]
    pump.settled()
    assert limit.left == {True: 0, False: 0}
    assert (connection.relayed.sent, connection.relayed.received) == (room, room)

    def lift() -> None:
        limit.left = {True: 1 << 40, False: 1 << 40}
        connection.relayed.resume()

    pump.on_loop(lift)
    rest = [on_thread(lambda sock=sock: read_exactly(sock, len(data) - room)) for sock in ends]
    for number in range(2):
        assert arrived[number] + rest[number].result(PATIENCE) == data
        sending[number].result(PATIENCE)


@pytest.mark.parametrize("stuffed", [False, True])
def test_cut(pump: Pump, stuffed: bool) -> None:
    """A cut resets both ways: ECONNRESET for the program and for the peer, with nothing or with much under way."""
    connection = pump.connect()
    if stuffed:
        stuff(connection.program)
        stuff(connection.peer)
    pump.on_loop(lambda: connection.relayed.cut("quota"))
    assert connection.ended()[0] == "quota"
    with pytest.raises(ConnectionResetError):
        read_all(connection.program)
    with pytest.raises(ConnectionResetError):
        read_all(connection.peer)
    pump.on_loop(lambda: connection.relayed.cut("again"))  # nothing more: ended() has seen that it is told once


def test_cut_before_connected(pump: Pump) -> None:
    """A socket that is cut while its dial goes on is reset for the program."""
    connection = pump.adopt()
    connection.program.send(bytes(FILL), socket.MSG_DONTWAIT)
    pump.on_loop(lambda: connection.relayed.cut("policy"))
    assert connection.ended() == ("policy", 0, 0)
    with pytest.raises(ConnectionResetError):
        connection.program.recv(1)


def test_close(pump: Pump) -> None:
    """A close by the gate is a clean end of file for both, then EPIPE for the program that writes."""
    connection = pump.connect()
    connection.program.sendall(b"done")
    assert connection.peer.recv(100) == b"done"
    pump.on_loop(lambda: connection.relayed.close("idle"))
    assert connection.ended() == ("idle", 4, 0)
    assert read_all(connection.program) == b""
    assert read_all(connection.peer) == b""
    with pytest.raises(BrokenPipeError):
        connection.program.send(b"x")


def test_gate_ends(pump: Pump) -> None:
    """When the gate ends, all its relayed sockets are reset both ways: none looks as if it had come to a good end."""
    connections = [pump.connect() for _ in range(5)]
    pump.on_loop(lambda: pump.relays.close("gate-ended"))
    pump.loop.call_soon_threadsafe(pump.loop.stop)
    pump._thread.join(PATIENCE)
    for connection in connections:
        assert connection.ended() == ("gate-ended", 0, 0)
        for sock in (connection.program, connection.peer):
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_activity(pump: Pump) -> None:
    """The time of the last byte moves on with bytes, and with nothing else."""
    connection = pump.connect()
    pump.settled()
    begun = connection.relayed.active
    connection.peer.sendall(b"x")
    connection.program.recv(1)
    pump.settled()
    later = connection.relayed.active
    assert later > begun
    connection.program.shutdown(socket.SHUT_WR)
    assert connection.peer.recv(1) == b""
    pump.settled()
    assert connection.relayed.active == later


def test_a_thousand_idle_ones(pump: Pump) -> None:
    """A thousand idle relayed sockets cost the gate a few kilobytes each, no buffer, and leave nothing behind."""
    pump.connect()  # whatever is made once is made now
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    connections = [pump.connect() for _ in range(1000)]
    each = (tracemalloc.get_traced_memory()[0] - before) / len(connections)
    tracemalloc.stop()
    assert each < 8192  # the test's own objects and sockets among them
    for connection in connections:
        connection.program.close()
    for connection in connections:
        assert connection.ended() == ("closed", 0, 0)
    assert pump.on_loop(lambda: len(pump.relays)) == 1
