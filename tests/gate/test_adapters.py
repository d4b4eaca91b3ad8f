"""The small adapters, each against the real thing: births, dials, the meter, holders, closers, the host's addresses."""

import contextlib
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from outgate.gate.kernel import births, closer, dial, holders, host, meter
from outgate.gate.names import resolver


@pytest.fixture
def listener():
    """A listening socket on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def duplicate_of(sock):
    """Return another socket object on the same open file, as the program has one."""
    return socket.socket(fileno=os.dup(sock.fileno()))


@pytest.mark.parametrize(("family", "number"), [(4, socket.AF_INET), (6, socket.AF_INET6)])
def test_a_born_socket_is_fresh_and_has_its_cookie(family, number):
    """A born socket is an unconnected TCP socket of the family, blocking, and the cookie is the kernel's."""
    sock, cookie = births.make(family)
    with contextlib.closing(sock):
        assert (sock.family, sock.type) == (number, socket.SOCK_STREAM)
        assert sock.getblocking()
        assert sock.getsockopt(socket.SOL_SOCKET, 57, 8) == cookie.to_bytes(8, sys.byteorder)
        assert meter.read(sock) == (meter.CLOSE, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_root_gate_gives_the_socket_to_the_app():
    """Firewall rules by owner see the app's uid and gid."""
    sock, _ = births.make(4, (12345, 54321))
    with contextlib.closing(sock):
        seen = os.fstat(sock.fileno())
        assert (seen.st_uid, seen.st_gid) == (12345, 54321)


def test_a_dial_does_not_wait_on_a_blocking_socket(listener):
    """The dial answers EINPROGRESS though the file blocks, and connect(2) of the other holder harvests it."""
    sock, _ = births.make(4)
    with contextlib.closing(sock), duplicate_of(sock) as program:
        assert dial.begin(sock, listener.getsockname()) in (0, errno.EINPROGRESS)
        assert sock.getblocking()
        program.connect(listener.getsockname())
        assert program.getpeername() == listener.getsockname()
        assert dial.begin(sock, listener.getsockname()) == 0, "EISCONN is an answer too"


def test_a_second_dial_harvests_the_refusal_of_the_first():
    """The pending ECONNREFUSED is the answer to a second dial."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    sock, _ = births.make(4)
    with contextlib.closing(sock):
        assert dial.begin(sock, address) == errno.EINPROGRESS
        assert dial.begin(sock, address) == errno.ECONNREFUSED


def test_a_waiting_dial_closes_its_own_duplicate(listener):
    """Where fast open is off a thread connects; the duplicate it was given is closed, the socket is connected."""
    sock, _ = births.make(4)
    with contextlib.closing(sock):
        duplicate = duplicate_of(sock)
        assert dial.wait(duplicate, listener.getsockname()) == 0
        assert duplicate.fileno() == -1
        assert sock.getpeername() == listener.getsockname()


def test_the_meter_reads_what_was_written_and_taken(listener):
    """Sent is what send() accepted, received what the kernel took, also before anybody read it."""
    with socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            near.sendall(b"x" * 70_000)
            far.sendall(b"y" * 300)
            near.recv(1)
            assert meter.read(near)[1:] == (70_000, 300)


@pytest.mark.parametrize(
    ("state", "notsent", "received", "acknowledged", "expected"),
    [
        (meter.ESTABLISHED, 5, 7, 101, (105, 7)),
        (meter.FIN_WAIT1, 5, 7, 101, (104, 7)),
        (meter.FIN_WAIT1, 0, 7, 101, (100, 7)),
        (meter.LAST_ACK, 1, 8, 101, (100, 7)),
        (meter.CLOSING, 3, 8, 101, (102, 7)),
        (meter.CLOSE_WAIT, 0, 8, 101, (100, 7)),
        (meter.TIME_WAIT, 0, 1, 102, (100, 0)),
        (meter.CLOSE, 0, 8, 102, (100, 7)),
        (meter.CLOSE, 0, 8, 101, (100, 8)),
        (meter.CLOSE, 9, 8, 0, (0, 0)),
        (meter.CLOSE_WAIT, 0, 0, 101, (100, 0)),
    ],
)
def test_fins_are_no_bytes(state, notsent, received, acknowledged, expected):
    """Our unsent FIN is not counted as sent, nor the peer's as received; retransmitted bytes count once."""
    info = bytearray(256)
    info[0] = state
    struct.pack_into("=I", info, 144, notsent)
    struct.pack_into("=Q", info, 120, acknowledged)
    struct.pack_into("=Q", info, 128, received)
    struct.pack_into("=Q", info, 200, 130)
    struct.pack_into("=Q", info, 208, 30)
    assert meter.parse(bytes(info))[1:] == expected


def test_holders_are_found_and_gone():
    """A child that inherits a socket is found by its inode, connected or not, and is gone when it has ended."""
    with socket.socket() as sock, socket.socket() as other:
        inode, unheld = os.fstat(sock.fileno()).st_ino, os.fstat(other.fileno()).st_ino
        os.set_inheritable(sock.fileno(), True)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
            assert holders.find([inode, unheld]) == {inode: {child.pid}, unheld: set()}
            child.stdin.close()
        assert holders.find([inode]) == {inode: set()}


def test_looking_for_nothing_reads_nothing():
    """No inode, no look."""
    assert holders.find([]) == {}


def test_the_closer_closes_in_order_and_says_so():
    """Sockets, fds and jobs are handled one after the other; stop() waits for what is queued."""
    mine = closer.Closer("test")
    sock = socket.socket()
    read, write = os.pipe()
    done = threading.Event()
    mine.put(sock)
    mine.put(write)
    mine.put(done.set)
    assert done.wait(10)
    assert sock.fileno() == -1
    assert os.read(read, 1) == b""
    os.close(read)
    mine.stop()


def test_a_positive_linger_does_not_hold_the_closer(listener):
    """With unsent bytes and a linger of a minute the close is through at once, and the peer still gets a FIN."""
    sock = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    with far:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.send(b"x" * 65536)
        sock.setblocking(True)
        mine, done = closer.Closer("test"), threading.Event()
        mine.put(sock)
        mine.put(done.set)
        assert done.wait(20), "held for the linger time"
        far.settimeout(10)
        while far.recv(1 << 20):
            pass
        mine.stop()


def test_linger_zero_stays_a_reset(listener):
    """A program that asked for a reset gets one."""
    sock = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    with far:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        closer.close_now(sock)
        far.settimeout(10)
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_the_hosts_addresses_are_those_of_its_interfaces():
    """Every address that a connect from here could have is found; loopback is not among them."""
    found = host.own_addresses()
    assert not any(address.startswith("127.") or address == "::1" for address in found)
    assert host.own_addresses("/nonexistent") == ()


def test_addresses_are_read_from_the_kernels_tables(tmp_path):
    """Local host routes and IPv6 addresses count once each, loopback and link-local not."""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "fib_trie").write_text(
        "Local:\n     |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n"
        "     |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 10.0.0.5\n        /32 host LOCAL\n"
    )
    (tmp_path / "net" / "if_inet6").write_text(
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "fe800000000000000000000000000001 02 40 20 80     eth0\n"
        "2a000000000000000000000000000005 02 40 00 80     eth0\n"
    )
    assert host.own_addresses(str(tmp_path)) == ("10.0.0.5", "2a00:0000:0000:0000:0000:0000:0000:0005")


@pytest.mark.parametrize(
    ("text", "family", "address"),
    [
        ("127.1", 4, "127.0.0.1"),
        ("0x7f000001", 4, "127.0.0.1"),
        ("2130706433", 4, "127.0.0.1"),
        ("0177.0.0.1", 4, "127.0.0.1"),
        ("", 4, "0.0.0.0"),
        ("", 6, "::"),
        ("<broadcast>", 4, "255.255.255.255"),
        ("::FFFF:1.2.3.4", 6, "::ffff:1.2.3.4"),
    ],
)
def test_numeric_hosts_are_what_the_c_library_makes_of_them(text, family, address):
    """Every spelling is read as connect(2) callers would have it read, without a look-up."""
    assert resolver.numeric(text, family) == (address, 0)


def test_names_are_not_numeric_and_families_differ():
    """A name is None; an address of the other family is the C library's own error."""
    assert resolver.numeric("db.corp", 4) is None
    with pytest.raises(socket.gaierror) as caught:
        resolver.numeric("1.2.3.4", 6)
    assert caught.value.errno == socket.EAI_ADDRFAMILY


def test_select_is_not_fooled_by_the_gates_own_epoll(listener):
    """A pending dial that the gate watches keeps the file's O_NONBLOCK as it was (libuv's poll would set it)."""

    from outgate.gate.main import new_loop
    from outgate.gate.registry import Lease
    from outgate.gate.watch import Watch

    loop = new_loop()
    ended = []
    watch = Watch(loop, lambda lease: (ended.append(lease), loop.stop()))
    sock, cookie = births.make(4)
    with contextlib.closing(sock):
        lease = Lease(1, SimpleNamespace(door=False), sock, cookie, 4)
        dial.begin(sock, listener.getsockname())
        watch.add(lease)
        loop.call_later(10, loop.stop)
        loop.run_forever()
        assert ended == [lease]
        assert sock.getblocking()
        watch.discard(lease)
    watch.close()
    loop.close()
