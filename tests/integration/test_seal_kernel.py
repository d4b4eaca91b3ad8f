"""The seal's programs in a real kernel, each by itself, and what a gate does where it has not all of the rights."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outgate.core.seal.assembler import assemble
from outgate.core.seal.cgroups import name_of
from outgate.core.seal.programs import HOOKS, programs
from outgate.gate.seal import bpf, cgroup
from outgate.gate.seal.counts import Counts
from outgate.testing.running import PATIENCE
from support import peers
from support.commands import OUTGATE, environment
from support.namespaces import Namespace

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not cgroup.own_folder(), reason="cgroup programs need root, and cgroup v2 mounted"
)


@pytest.fixture
def folder() -> Iterator[str]:
    """A cgroup for this test."""
    made = cgroup.make(cgroup.own_folder(), f"test {os.getpid()}", is_kept=True)
    yield made
    cgroup.remove(made)


def attach(folder: str, *names: str) -> Counts:
    """Attach programs to a cgroup, and return what they count."""
    counts = Counts.make()
    made = programs(cgroup.number(folder), counts.live, counts.ended)
    fd = os.open(folder, os.O_RDONLY)
    try:
        for name in names:
            program = bpf.load(HOOKS[name], assemble(made[name]))
            bpf.attach(fd, program, HOOKS[name])
            os.close(program)
    finally:
        os.close(fd)
    return counts


def born_in(folder: str, *kinds: tuple[int, int]) -> list[socket.socket]:
    """Make sockets in a cgroup, by a child that is in it, and take them out of it."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            cgroup.enter(folder)
            made = [socket.socket(*kind) for kind in kinds]
            socket.send_fds(theirs, [b"born"], [each.fileno() for each in made])
        os._exit(0)
    os.waitpid(child, 0)
    theirs.close()
    with ours:
        ours.setblocking(False)
        _, fds, _, _ = socket.recv_fds(ours, 4, len(kinds))
    return [socket.socket(fileno=fd) for fd in fds]


def refused(action: Callable[[], object]) -> bool:
    """Tell whether an action is refused with EPERM; any other end of it is raised."""
    with pytest.raises(PermissionError) as caught:
        action()
    return caught.value.errno == errno.EPERM


@pytest.mark.parametrize("name", HOOKS)
def test_the_verifier_takes_every_program(folder: str, name: str) -> None:
    """Each of them loads, attaches, and attaches again in place of itself."""
    for _ in range(2):
        attach(folder, name).close()


def test_a_program_that_is_wrong_is_refused_with_the_verifiers_words() -> None:
    """What the kernel does not take is an error that says what is wrong with it, by the program's name."""
    with pytest.raises(bpf.Refused, match=r"seal_out: .*R0 !read_ok"):
        bpf.load(HOOKS["out"], bytes.fromhex("9500000000000000"))


@pytest.fixture
def alone() -> Iterator[Namespace]:
    """A network with nothing but its loopback, where a packet is there when the call that sent it returns."""
    made = Namespace(f"outgate-seal-{os.getpid()}")
    yield made
    made.close()


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_packets_that_say_their_own_way(folder: str, alone: Namespace, family: int, is_sealed: bool) -> None:
    """With nothing but the program for what goes out, source-routed packets of root's do not leave; else they do."""
    if is_sealed:
        attach(folder, "out").close()
    kind = (family, socket.SOCK_STREAM)
    listener = alone.socket(*kind)
    listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
    seen = alone.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
    with peers.echo(listener=listener) as peer, seen:
        plain, turned = alone.call(born_in, folder, kind, kind)
        with plain, turned:
            for sock in (plain, turned):
                sock.settimeout(20)
                sock.connect(peer.address[:2])
            if family == socket.AF_INET:  # a loose source route by way of loopback, ip(7)
                turned.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((131, 7, 4, 127, 0, 0, 2, 0)))
            else:  # a segment routing header (RFC 8754) with one more stop
                one, other = socket.inet_pton(family, "::1"), socket.inet_pton(family, "::1")
                turned.setsockopt(socket.IPPROTO_IPV6, 57, struct.pack("8B", 0, 4, 4, 1, 1, 0, 0, 0) + one + other)
            turned.send(b"by another way")
            plain.send(b"straight on")
            assert plain.recv(11, socket.MSG_WAITALL) == b"straight on"
            packets = []
            seen.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    packets.append(seen.recv(1 << 16))
    assert any(packet.endswith(b"straight on") for packet in packets)
    assert any(packet.endswith(b"by another way") for packet in packets) == (not is_sealed)


def test_datagrams_go_where_the_gate_connected_them(folder: str) -> None:
    """A datagram socket of the gate's can be neither connected, nor sent elsewhere by name, by whoever holds it."""
    attach(folder, "connect4", "connect6", "sendmsg4", "sendmsg6").close()
    four, six = born_in(folder, (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET6, socket.SOCK_DGRAM))
    with four, six:
        for sock, place in ((four, ("127.0.0.1", 9)), (six, ("::1", 9)), (six, ("::ffff:127.0.0.1", 9))):
            assert refused(lambda sock=sock, place=place: sock.connect(place))  # type: ignore[misc]
            assert refused(lambda sock=sock, place=place: sock.sendto(b"x", place))  # type: ignore[misc]
            assert refused(lambda sock=sock, place=place: sock.sendmsg([b"x"], [], 0, place))  # type: ignore[misc]


def test_a_socket_that_listens_hears_nothing(folder: str) -> None:
    """With nothing but the program for what comes in: no connection is accepted, and sending and receiving goes on."""
    attach(folder, "in").close()
    with peers.echo() as peer:
        listening, talking = born_in(folder, (socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_STREAM))
        with listening, talking, socket.socket() as visitor:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            visitor.setblocking(False)
            assert visitor.connect_ex(listening.getsockname()) == errno.EINPROGRESS
            talking.connect(peer.address)
            talking.sendall(b"both ways")
            assert talking.recv(9, socket.MSG_WAITALL) == b"both ways"
            state = visitor.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            assert state == 2, "SYN_SENT: on loopback an answer would have come before connect() returned"


@pytest.mark.parametrize("sent", [0, 1, 100_000])
def test_an_end_is_written_down(folder: str, sent: int) -> None:
    """What a connection had carried is told to the byte after it was taken apart, until it is forgotten."""
    from outgate.gate.kernel import births, cut

    found = attach(folder, "end")
    with peers.echo() as peer:
        (sock,) = born_in(folder, (socket.AF_INET, socket.SOCK_STREAM))
        with sock:
            sock.connect(peer.address)
            sock.sendall(bytes(sent))
            assert len(sock.recv(sent, socket.MSG_WAITALL)) == sent
            cookie = births.cookie_of(sock)
            assert found.carried(cookie) == (0, 0)
            cut.reset(sock)
            assert found.carried(cookie) == (sent, sent)
            found.forget(cookie)
            assert found.carried(cookie) == (0, 0)
    found.close()


#: Tries to make a seal without some capabilities, and says what comes of it and which are left.
WITHOUT = """
import sys
import zlib
from outgate.gate.seal import rights, seal
rights.give_up(map(int, sys.argv[1].split(",")) if sys.argv[1] else ())
print(seal.trial())
"""
NET_ADMIN, SYS_ADMIN, BPF = "12", "21", "39"


@pytest.mark.parametrize(
    ("missing", "works"),
    [
        ("", True),
        (SYS_ADMIN, True),
        (f"{BPF},{NET_ADMIN}", True),  # CAP_SYS_ADMIN does for both
        (f"{SYS_ADMIN},{BPF}", False),
        (f"{SYS_ADMIN},{NET_ADMIN}", False),
        (f"{SYS_ADMIN},{NET_ADMIN},{BPF}", False),
    ],
)
def test_each_right_that_is_missing(missing: str, works: bool) -> None:
    """The seal needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN; without, it says so, and leaves nothing behind."""
    words = [sys.executable, "-c", WITHOUT, missing]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
        said, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert said.strip() == "" if works else "CAP_BPF and CAP_NET_ADMIN" in said
    name = name_of(zlib.crc32(f"trial of {process.pid}".encode()), is_kept=False)
    assert not os.path.exists(os.path.join(cgroup.own_folder(), name))


def test_a_gate_that_must_seal_and_cannot_does_not_start(tmp_path: Path) -> None:
    """With ``seal = "require"`` it says what is missing and ends with status 2; with "auto" it serves, and says why."""
    limited = ("setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin")
    config = tmp_path / "outgate.toml"
    config.write_text('version = 1\n[gate]\nseal = "require"\n[apps.blog]\nuid = [0]\nbilling = true\n')
    place = ("--socket", str(tmp_path / "gate.sock"), "--log", os.devnull, "--state", str(tmp_path / "state"))
    words = (*limited, *OUTGATE, "serve", "--config", str(config), *place)
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=50)
    assert done.returncode == 2
    assert 'gate.seal = "require"' in done.stderr
    assert "CAP_BPF and CAP_NET_ADMIN" in done.stderr
    config.write_text(config.read_text().replace("require", "auto"))
    gate = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
    with gate:
        assert gate.stderr is not None
        assert "ready" in gate.stderr.readline()
        status = (*OUTGATE, "status", "--json", "--socket", place[1])
        said = json.loads(subprocess.run(status, capture_output=True, text=True, env=environment()).stdout)
        gate.terminate()
    assert said["seal"] is False
    assert "CAP_BPF and CAP_NET_ADMIN" in said["seal_why"]


def test_a_gate_of_one_program_leaves_no_cgroup_behind() -> None:
    """The cgroup of an embedded gate is gone with it, and one that was killed is swept away by the next."""
    around = cgroup.own_folder()
    stale = os.path.join(around, "outgate-run-0000beef")
    os.mkdir(stale)
    os.utime(stale, (0, 0))  # of long ago: a fresh one may be that of a gate that starts
    program = "import os; print(open('/proc/%d/cgroup' % os.getpid()).read())"
    done = subprocess.run([*OUTGATE, "run", "--log", "-", "--", sys.executable, "-c", program], **PIPED)
    assert done.returncode == 0, done.stderr
    assert "outgate-run-" not in done.stdout, "the program is not in the gate's cgroup"
    assert not os.path.exists(stale)


PIPED = {"capture_output": True, "text": True, "env": environment(), "timeout": 50}
