"""What the gate asks the kernel about sockets that it does not hold, and how it takes duplicates of them."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.netlink import ATTRIBUTE, INFO
from outgate.gate.kernel import births, diag, fetch, meter
from outgate.gate.kernel.diag import Diag
from support import peers


@pytest.fixture(params=["127.0.0.1", "::1"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection: the end that dialled, and the other."""
    with peers.pair(request.param) as made:
        yield made


def seen(asks: Diag, sock: socket.socket) -> diag.Seen:
    """Return a socket as the kernel lists it."""
    cookie = births.cookie_of(sock)
    (key,) = (key for each, key in asks.listed() if each == cookie)
    (found,) = asks.look([key])
    assert found is not None
    return found


def test_a_list_has_the_meter(pair: tuple[socket.socket, socket.socket]) -> None:
    """A list of all sockets has one by its cookie, with its address, its inode and what its own meter says."""
    one, other = pair
    one.sendall(bytes(1234))
    other.sendall(bytes(99))
    assert one.recv(99, socket.MSG_WAITALL) == bytes(99)
    with closing(Diag()) as asks:
        found = seen(asks, one)
    assert found.reading == meter.read(one) == meter.Reading(meter.ESTABLISHED, 1234, 99)
    assert found.inode == os.fstat(one.fileno()).st_ino
    assert found.local == one.getsockname()[:2]


def test_an_exact_question(pair: tuple[socket.socket, socket.socket]) -> None:
    """A socket is found again by what the list told of it, until it is no more; the cookie must be its own."""
    one, other = pair
    with closing(Diag()) as asks:
        family, id = seen(asks, one).key
        wrong = id[:40] + struct.pack("=Q", births.cookie_of(other))
        one.sendall(bytes(7))
        again, nothing = asks.look([(family, id), (family, wrong)])
        assert again is not None
        assert (again.reading.sent, nothing) == (7, None)
        # A reset leaves nothing to find.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        assert asks.look([(family, id)]) == [None]


def test_a_socket_that_nobody_holds(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a program has closed, and the kernel still has to carry to its end, is shown without an inode."""
    one, _ = pair
    with closing(Diag()) as asks:
        key = seen(asks, one).key
        one.sendall(bytes(7))
        one.close()
        (found,) = asks.look([key])
        assert found is not None
        assert (found.inode, found.reading.sent) == (0, 7)


def test_a_list_that_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    """The rest of a list that nobody reads to its end is not taken for the answer to the next question."""
    one, _ = pair
    with closing(Diag()) as asks:
        key = seen(asks, one).key
        next(iter(asks.listed()))
        (found,) = asks.look([key])
        assert found is not None
        assert found.key == key


@given(st.binary(max_size=400))
def test_an_answer_of_any_bytes(body: bytes) -> None:
    """Whatever bytes an answer has, it is a socket or none, and no error."""
    found = diag.parse(body)
    assert found is None or len(found.key[1]) == 48


@pytest.mark.parametrize("size", [0, 1, 136, 192, 216, 280])
def test_a_kernel_that_says_less(size: int) -> None:
    """What an older kernel's tcp_info ends before counts as zero, and what a newer one has more is left alone."""
    info = meter.pack(meter.ESTABLISHED, 1234, 100).ljust(280, b"\xff")[:size]
    message = struct.pack("=BB70x", socket.AF_INET, meter.ESTABLISHED)
    found = diag.parse(message + ATTRIBUTE.pack(ATTRIBUTE.size + size, INFO) + info)
    assert found is not None
    state = meter.ESTABLISHED if size else 0
    assert found.reading == (state, 1234 if size >= 208 else 0, 100 if size >= 136 else 0)


def test_a_duplicate_of_another_process(pair: tuple[socket.socket, socket.socket]) -> None:
    """A socket of another process is found by its inode, and the duplicate taken is that very socket."""
    one, _ = pair
    code = "import sys; print(1, flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=[one.fileno()], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        inode = os.fstat(one.fileno()).st_ino
        assert fetch.find({inode, 1}, [child.pid]) == {inode: (child.pid, one.fileno())}
        assert fetch.find({inode}) == {inode: (child.pid, one.fileno())}  # among all processes, and not our own
        fetcher = fetch.Fetcher()
        with socket.socket(fileno=fetcher.take(child.pid, one.fileno())) as taken:
            assert births.cookie_of(taken) == births.cookie_of(one)
            assert not taken.get_inheritable()
        with pytest.raises(OSError, match="Bad file descriptor"):
            fetcher.take(child.pid, 999)
        fetcher.close()
        assert child.stdin is not None
        child.stdin.close()
    with pytest.raises(ProcessLookupError):
        fetch.Fetcher().take(child.pid, 0)


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not installed")
def test_with_the_capabilities_of_the_service() -> None:
    """A root with the two capabilities of etc/outgate.service alone finds and takes another user's sockets."""
    holder = """
import ctypes, os, socket, sys
sock = socket.socket()
os.setresuid(65534, 65534, 65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
print(os.getpid(), sock.fileno(), os.fstat(sock.fileno()).st_ino, flush=True)
sys.stdin.read()
"""
    taker = """
import os, socket, sys
from outgate.gate.kernel import fetch, holders
pid, fd, inode = map(int, sys.argv[1:])
assert holders.can_read(pid)
assert holders.find({inode, 1}, pids=[pid]) == {inode: {pid}, 1: set()}
assert fetch.find({inode, 1}, [pid]) == {inode: (pid, fd)}
with socket.socket(fileno=fetch.Fetcher().take(pid, fd)) as taken:
    assert os.fstat(taken.fileno()).st_ino == inode
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", holder], stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        said = child.stdout.readline().split()
        privileges = ("setpriv", "--bounding-set", "-all,+chown,+sys_ptrace")
        done = subprocess.run(
            [*privileges, sys.executable, "-c", taker, *said], capture_output=True, text=True, timeout=20
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert child.stdin is not None
        child.stdin.close()
