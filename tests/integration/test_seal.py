"""A hostile program of an ordinary user holds the kernel's own sockets, and can turn none; the gate still can."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.gate.seal.rights import GIVEN_UP
from outgate.testing.running import PATIENCE
from support import peers
from support.fenced import PROGRAMS, events
from support.sealed import USER, Host, end, hosting
from support.world import FORBIDDEN, NEAR4, NEAR6, PRIVATE4, TRAP_PORT, WWW, World


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    """Return the gate's host, with the default policy for an app that is not trusted, and the seal required."""
    with hosting(world) as made:
        yield made


@pytest.fixture
def echoes(world: World) -> Iterator[dict[str, int]]:
    """Have an echo on public addresses, one port on both."""
    four = world.far.socket()
    four.bind((WWW[0], 0))
    port = four.getsockname()[1]
    six = world.far.socket(socket.AF_INET6)
    six.bind((WWW[1], port))
    with peers.echo(listener=four), peers.echo(listener=six):
        yield {"port": port}


def turn(host: Host, port: int) -> tuple[dict[str, str], list[bool]]:
    """Run the attacks; return what came of each, and whether the visitors from outside got in."""
    places = {
        "denied": FORBIDDEN,
        "port": TRAP_PORT,
        "open": WWW[0],
        "open6": WWW[1],
        "echo": port,
        "near": NEAR4,
    }
    program = host.start(str(PROGRAMS / "turn.py"), json.dumps(places))
    assert program.stdin is not None
    assert program.stdout is not None
    visits = []
    for address in (NEAR4, NEAR6):
        line = program.stdout.readline()
        assert line, program.stderr.read() if program.stderr else ""
        try:
            host.world.far.connect(address, int(line), timeout=1.0).close()
            visits.append(True)
        except OSError:
            visits.append(False)
        program.stdin.write("it has been\n")
        program.stdin.flush()
    output, errors = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, errors
    return json.loads(output), visits


#: What a holder may do in a seal: nothing that leads anywhere.
HARMLESS = {"bind to the wildcard", "option TCP_NODELAY", "an honest exchange", "listen, IPv4", "listen, IPv6"}


def test_nothing_that_a_hostile_program_holds_can_be_turned(host: Host, world: World, echoes: dict[str, int]) -> None:
    """Sealed, every attempt is refused by the kernel, nothing reaches the inside, and nobody comes in."""
    with world.watch() as watch, host.serving() as gate:
        assert host.status()["seal"] is True
        came, visits = turn(host, echoes["port"])
        assert watch.to(*FORBIDDEN) == []
        rights = Path(f"/proc/{gate.pid}/status").read_text()
    assert visits == [False, False]
    worked = {what for what, how in came.items() if how == "ok"}
    assert worked == HARMLESS | {what for what in worked if what.endswith("disconnect")}
    # A connection that stands is not asked about again: EISCONN; and TCP has no use for another address.
    refusals = {how for what, how in came.items() if how != "ok" and "by the gate" not in what}
    assert refusals <= {"EPERM", "EISCONN", "EAGAIN", "EPIPE", "EINVAL"}
    assert {how for what, how in came.items() if "by the gate" in what} == {"EACCES"}
    for what, how in came.items():
        if what.startswith(("fresh", "refused", "bind", "option")) and how not in ("ok", "EACCES"):
            assert how == "EPERM", what
    for word in ("CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh"):
        (line,) = (line for line in rights.splitlines() if line.startswith(word))
        for number in GIVEN_UP:
            assert not int(line.split()[1], 16) >> number & 1, line
    assert {line["path"] for line in events(host.log, "decision") if line["verdict"] == "allow"} == {"direct"}
    assert events(host.log, "fault") == []


def test_without_the_seal_the_same_program_reaches_the_inside(host: Host, world: World, echoes: dict[str, int]) -> None:
    """What the test above tries does work where nothing seals the sockets: packets arrive inside, and visitors come."""
    host.configure(seal="off", trusted=True)
    with world.watch() as watch, host.serving():
        assert host.status()["seal"] is False
        came, visits = turn(host, echoes["port"])
        reached = {packet.destination for packet in watch.to(*FORBIDDEN)}
    assert reached == set(FORBIDDEN)
    assert visits == [True, True]
    assert came["bind to a port"] == came["option SO_MAX_PACING_RATE"] == came["option IPV6_RTHDR"] == "ok"


def test_untrusted_programs_of_root_are_relayed(host: Host) -> None:
    """Root can move itself into the gate's cgroup, so that the seal holds no program of root's."""
    assert not _holds(0)
    assert not _holds(os.geteuid())
    assert _holds(USER)


def _holds(uid: int) -> bool:
    from outgate.gate.seal.seal import Seal

    return Seal("/sys/fs/cgroup/outgate-run-0").holds_against(uid)


HOLD = """
import ctypes, errno, socket, sys
place = (sys.argv[1], int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
name = socket.AF_INET.to_bytes(2, "little") + place[1].to_bytes(2, "big") + socket.inet_aton(place[0]) + bytes(8)

def exchange(sock):
    sock.sendall(b"honest")
    print(sock.recv(6, socket.MSG_WAITALL) == b"honest", flush=True)

def tear(sock):
    taken_apart = libc.connect(sock.fileno(), bytes(16), 16)
    print(taken_apart, libc.connect(sock.fileno(), name, 16), errno.errorcode[ctypes.get_errno()], flush=True)

held, torn = socket.create_connection(place), socket.create_connection(place)
exchange(held), exchange(torn)
sys.stdin.readline()
exchange(held), exchange(torn)
tear(torn)
sys.stdin.readline()
with socket.create_connection(place) as another:
    exchange(another)
exchange(held)
tear(held)
held.connect(place)
exchange(held)
"""


class Holding:
    """The program :data:`HOLD`, a line at a time."""

    def __init__(self, host: Host, port: int) -> None:
        self._program = host.start("-c", HOLD, WWW[0], str(port))

    def said(self, count: int) -> list[str]:
        """Return the next lines that it prints."""
        assert self._program.stdout is not None
        lines = [self._program.stdout.readline() for _ in range(count)]
        assert all(lines), self._program.communicate(timeout=PATIENCE)[1]
        return [line.strip() for line in lines]

    def go_on(self) -> None:
        """Let it go on."""
        assert self._program.stdin is not None
        self._program.stdin.write("on\n")
        self._program.stdin.flush()

    def end(self) -> None:
        """Wait for its end."""
        _, errors = self._program.communicate(timeout=PATIENCE)
        assert self._program.returncode == 0, errors


def test_the_seal_outlives_the_gate(host: Host, echoes: dict[str, int]) -> None:
    """A killed gate leaves its connections whole and sealed; the next one opens new ones, and dials old sockets too."""
    gate = host.serve()
    held = Holding(host, echoes["port"])
    assert held.said(2) == ["True"] * 2
    end(gate, signal.SIGKILL)
    held.go_on()
    assert held.said(3) == ["True", "True", "0 -1 EPERM"]
    with host.serving():
        held.go_on()
        assert held.said(4) == ["True", "True", "0 -1 EPERM", "True"]
        held.end()
    assert events(host.log, "fault") == []


def test_a_takeover_goes_on_in_the_same_cgroup(host: Host, echoes: dict[str, int]) -> None:
    """The next gate dials what the last one has made, even where its own configuration wants no seal."""
    first = host.serve()
    held = Holding(host, echoes["port"])
    assert held.said(2) == ["True"] * 2
    host.configure(seal="off")
    second = host.serve("--takeover")
    first.communicate(timeout=PATIENCE)
    held.go_on()
    assert held.said(3) == ["True", "True", "0 -1 EPERM"]
    held.go_on()
    assert held.said(4) == ["True", "True", "0 -1 EPERM", "True"]
    held.end()
    assert host.status()["seal"] is True
    end(second)
    assert events(host.log, "fault") == []


def test_a_gate_that_could_not_dial_old_sockets_takes_nothing_over(host: Host, echoes: dict[str, int]) -> None:
    """Where the cgroup of the gate that runs is out of reach the takeover is refused, and that gate goes on."""
    with host.serving():
        held = Holding(host, echoes["port"])
        assert held.said(2) == ["True"] * 2
        words = (sys.executable, "-m", "outgate", "serve", "--config", str(host.folder / "outgate.toml"), "--takeover")
        no_cgroups = ("ip", "netns", "exec", host.world.near.name)  # which mounts a /sys of its own
        done = subprocess.run([*no_cgroups, *words], capture_output=True, text=True, env=host.environ, timeout=50)
        assert done.returncode == 2
        assert "cannot be entered" in done.stderr
        for lines in (3, 4):
            held.go_on()
            assert "True" in held.said(lines)
        held.end()
    assert events(host.log, "fault") == []


def test_what_a_torn_connection_has_carried_is_counted(host: Host, echoes: dict[str, int]) -> None:
    """A program that takes its connections apart as soon as it has its bytes pays for them all the same."""
    program = """
import ctypes, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
for _ in range(20):
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
        sock.sendall(bytes(100_000))
        assert len(sock.recv(100_000, socket.MSG_WAITALL)) == 100_000
        assert libc.connect(sock.fileno(), bytes(16), 16) == 0
"""
    with host.serving():
        done = host.start("-c", program, WWW[0], str(echoes["port"]))
        _, errors = done.communicate(timeout=PATIENCE)
        assert done.returncode == 0, errors
    ends = events(host.log, "end")
    assert [(line["sent"], line["received"]) for line in ends] == [(100_000, 100_000)] * 20


# --- a guard over sealed sockets --------------------------------------------------------------------------------------

_DIAL = """
import errno, socket, subprocess, sys
def dial(sock, host, port):
    try:
        sock.connect((host, int(port)))
        sock.sendall(b"ping")
        return sock.recv(4).decode()
    except OSError as e:
        return errno.errorcode[e.errno]
"""
_HANDED_ON = (
    _DIAL
    + """
print(dial(socket.socket(fileno=int(sys.argv[1])), *sys.argv[2:]))
"""
)
_GUARDED = (
    _DIAL
    + f"""
open_, port, denied = sys.argv[1:]
with socket.socket() as sock:
    print(dial(sock, denied, port), dial(sock, open_, 1), dial(sock, open_, port), dial(sock, open_, port))
with socket.socket() as sock:
    words = [sys.executable, "-IS", "-c", {_HANDED_ON!r}, str(sock.fileno()), open_, port]
    print(subprocess.run(words, pass_fds=[sock.fileno()], stdout=subprocess.PIPE, text=True).stdout.strip())
"""
)


@pytest.mark.parametrize("words", [(), ("-IS",)], ids=["with a client", "without"])
def test_a_guard_over_sealed_sockets(host: Host, echoes: dict[str, int], words: tuple[str, ...]) -> None:
    """A guarded program dials, is refused and dials again as natively, also on a socket that another one began with."""
    arguments = (WWW[0], str(echoes["port"]), PRIVATE4)
    with host.serving():
        program = host.start(*words, "-c", _GUARDED, *arguments, options=("--guard",))
        output, errors = program.communicate(timeout=PATIENCE)
    assert (output.splitlines(), errors) == (["EACCES ECONNREFUSED ping EISCONN", "ping"], "")
    decided = [line for line in events(host.log, "decision") if line["verdict"] == "allow"]
    assert [line["path"] for line in decided] == ["direct"] * 3
    assert events(host.log, "fault") == []
