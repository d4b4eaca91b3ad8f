"""A program that keeps the kernel's lock of its sockets holds up itself, and neither the gate nor another app."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from _socket import socket as native
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from outgate.gate.kernel import aside, births, cut, diag, dial, meter, patient, queues
from outgate.testing.loglines import LogLines
from outgate.testing.running import PATIENCE, RunningGate
from support import fuse, peers
from support.fenced import PROGRAMS, events
from support.raw import RawChannel
from support.sealed import OTHER, USER, Host, end, hosting
from support.world import WWW, World

pytestmark = pytest.mark.integration
REFUSED = "EBUSY held-up"


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    """Return the gate's host, with two apps that are not trusted, and the seal required."""
    with hosting(world) as made:
        yield made


@pytest.fixture
def port(world: World) -> Iterator[int]:
    """Have an echo on a public address."""
    listener = world.far.socket()
    listener.bind((WWW[0], 0))
    with peers.echo(listener=listener):
        yield listener.getsockname()[1]


class Program:
    """``programs/keep_lock.py`` of an app."""

    def __init__(self, host: Host, pages: fuse.Pages | None, port: int, uid: int, *options: str) -> None:
        words = (str(PROGRAMS / "keep_lock.py"), pages.folder if pages is not None else "", WWW[0], str(port))
        self._program = host.start(*words, options=options, uid=uid)

    def say(self, word: str) -> None:
        """Tell it what to do next."""
        assert self._program.stdin is not None
        self._program.stdin.write(word + "\n")
        self._program.stdin.flush()

    def hear(self) -> str:
        """Return what it says of what it was told."""
        assert self._program.stdout is not None
        line = self._program.stdout.readline()
        assert line, self._program.communicate(timeout=PATIENCE)[1]
        return line.strip()

    def does(self, word: str) -> str:
        """Tell it, and return what it says."""
        self.say(word)
        return self.hear()

    def end(self) -> None:
        """Wait for its end."""
        _, errors = self._program.communicate(timeout=PATIENCE)
        assert self._program.returncode == 0, errors


def listed(host: Host) -> list[dict[str, object]]:
    """Return what ``outgate ps`` shows."""
    done = host.world.run(sys.executable, "-m", "outgate", "ps", "--json", environ=host.environ)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, object]] = json.loads(done.stdout)["sockets"]
    return rows


def wait_until_recorded(host: Host) -> None:
    """Wait until the gate has written down for the next one that a connection is open."""
    deadline = time.monotonic() + PATIENCE
    while not any(b'["open",' in path.read_bytes() for path in (host.folder / "state").glob("leases-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)  # a file tells of no change of its own


@pytest.fixture
def lines(host: Host) -> Iterator[LogLines]:
    """Follow the gate's log from its beginning."""
    host.log.touch()
    with subprocess.Popen(("tail", "-n", "+1", "-f", str(host.log)), stdout=subprocess.PIPE) as tail:
        assert tail.stdout is not None
        yield LogLines(os.dup(tail.stdout.fileno()))
        tail.terminate()


@pytest.mark.parametrize("way", ["sealed", "guarded"])
def test_a_lock_of_a_connection_holds_up_its_app_alone(
    host: Host, pages: fuse.Pages, port: int, lines: LogLines, way: str
) -> None:
    """Others go on; requests of the app itself are refused, what it ends waits; and when the page comes all is well."""
    if way == "guarded":
        host.configure(seal="off")
    options = ("--guard",) if way == "guarded" else ()
    with host.serving(), pages:
        keeper = Program(host, pages, port, USER, *options)
        other = Program(host, pages, port, OTHER, *options)
        assert keeper.does("send a") == keeper.does("send b") == "held"
        assert pages.wait_for(2, PATIENCE)
        assert [row["path"] for row in listed(host)] == ["direct"] * 2
        assert lines.wait_for(event="held-up")["app"] == "guest"
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        assert keeper.does("exchange") == REFUSED
        assert keeper.does("exchange") == REFUSED
        assert keeper.does("close 0") == "closed"
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        assert [row["readable"] for row in listed(host)] == [False, False]
        pages.let_come()
        assert lines.wait_for(event="end", app="guest", sent=21)["how"] == "closed"
        assert keeper.does("exchange") == "True"
        assert keeper.does("use 1") == "ok"
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=26)
        lines.wait_for(event="held-up-ended", app="guest")
    assert events(host.log, "fault") == []


@contextlib.contextmanager
def _dialling(host: Host, way: str) -> Iterator[None]:
    """Have the gate's host let it dial by fast open, or only on threads."""
    path = "/proc/sys/net/ipv4/tcp_fastopen"  # of the network that who opens it is in
    before = host.world.run("cat", path).stdout.strip()
    host.world.run("sh", "-c", f"echo {int(way == 'fast open')} > {path}")
    try:
        yield
    finally:
        host.world.run("sh", "-c", f"echo {before} > {path}")


def test_a_dial_without_fast_open(host: Host, port: int, lines: LogLines) -> None:
    """It is known to have succeeded, though the loop asks a program's socket nothing, and every byte is counted."""
    with _dialling(host, "threads"), host.serving():
        program = Program(host, None, port, USER)
        assert program.does("exchange") == "True"
        program.end()
        end = lines.wait_for(event="end", app="guest")
        assert (end["how"], end["connected"], end["sent"], end["received"]) == ("closed", True, 5, 5)


@pytest.mark.parametrize("way", ["fast open", pytest.param("threads", marks=pytest.mark.full)])
def test_a_lock_of_a_socket_that_was_never_connected(
    host: Host, pages: fuse.Pages, port: int, lines: LogLines, way: str
) -> None:
    """It cannot be dialled, and is not behind the back of who was told so; when the page has come it can.

    Not in a seal, whose programs the kernel gives a copy of the option before it takes the lock.
    """
    host.configure(seal="off")
    with _dialling(host, way), host.serving(), pages:
        assert host.status()["fast_open"] is (way == "fast open")
        keeper = Program(host, pages, port, USER, "--guard")
        other = Program(host, pages, port, OTHER, "--guard")
        assert keeper.does("set_option a") == "held"
        assert pages.wait_for(1, PATIENCE)
        keeper.say("connect 0")
        lines.wait_for(event="held-up", app="guest")
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        assert keeper.hear() == REFUSED
        pages.let_come()
        lines.wait_for(event="held-up-ended", app="guest")
        assert keeper.does("connect 0") == "connected"
        assert keeper.does("use 0") == "ok"
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=5)
    assert events(host.log, "fault") == []


@pytest.mark.full
def test_a_lock_that_is_taken_amid_a_dial(host: Host, pages: fuse.Pages, port: int, lines: LogLines) -> None:
    """Where a dial takes a thread until it has ended it is given up, and undone when the lock is let go of."""
    host.configure(seal="off")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_dialling(host, "threads"))
        busy = stack.enter_context(host.world.far.socket())
        busy.bind((WWW[0], 0))
        busy.listen(0)
        for _ in range(2):  # there is no room for another one: what is dialled then goes on for minutes
            waiting = stack.enter_context(host.world.near.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        stack.enter_context(host.serving())
        stack.enter_context(pages)
        keeper = Program(host, pages, port, USER, "--guard")
        other = Program(host, pages, port, OTHER, "--guard")
        assert keeper.does("make") == "made"
        assert keeper.does(f"dial 0 {busy.getsockname()[1]}") == "dialling"
        wait_until_dialling(host, busy.getsockname()[1], 2)
        assert keeper.does("keep_option 0") == "held"
        assert pages.wait_for(1, PATIENCE)
        assert keeper.does("outcome") == REFUSED
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        pages.let_come()
        lines.wait_for(event="held-up-ended", app="guest")
        wait_until_dialling(host, busy.getsockname()[1], 1)
        assert keeper.does("connect 0") == "connected"
        assert keeper.does("use 0") == "ok"
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=5)
    assert events(host.log, "fault") == []


def wait_until_dialling(host: Host, port: int, count: int) -> None:
    """Wait until so many dials to a port are in progress in ``near``."""
    wanted = f":{port:04X} 02 "
    deadline = time.monotonic() + PATIENCE
    while host.world.run("cat", "/proc/net/tcp").stdout.count(wanted) != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)  # nothing tells of it


def test_a_gate_that_takes_over_does_not_wait(host: Host, pages: fuse.Pages, port: int, lines: LogLines) -> None:
    """The next gate takes the sockets over whose locks are kept, and serves; their bytes are counted in the end."""
    with pages:
        first = host.serve()
        keeper = Program(host, pages, port, USER)
        other = Program(host, pages, port, OTHER)
        assert keeper.does("send a") == "held"
        assert pages.wait_for(1, PATIENCE)
        lines.wait_for(event="held-up", app="guest")
        second = host.serve("--takeover")
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        pages.let_come()
        first.communicate(timeout=PATIENCE)
        assert keeper.does("use 0") == "ok"
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=26)
        end(second)
    assert events(host.log, "fault") == []


def test_a_gate_that_comes_after_a_killed_one_does_not_wait(
    host: Host, pages: fuse.Pages, port: int, lines: LogLines
) -> None:
    """What is held while no gate runs holds up no gate that begins, and is metered to the end."""
    with pages:
        gate = host.serve()
        keeper = Program(host, pages, port, USER)
        other = Program(host, pages, port, OTHER)
        assert keeper.does("open") == "opened"
        wait_until_recorded(host)
        end(gate, signal.SIGKILL)
        assert keeper.does("send_on 0") == "held"
        assert pages.wait_for(1, PATIENCE)
        with host.serving():
            assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
            pages.let_come()
            assert keeper.does("use 0") == "ok"
            keeper.end(), other.end()
            lines.wait_for(event="end", app="guest", sent=26)
    assert events(host.log, "fault") == []


def test_an_app_that_is_trusted_no_more(host: Host, pages: fuse.Pages, port: int, lines: LogLines) -> None:
    """What it has opened while it was trusted holds up nobody from the reload on."""
    host.configure(trusted=True)
    with host.serving(), pages:
        keeper = Program(host, pages, port, USER)
        other = Program(host, pages, port, OTHER)
        assert keeper.does("open") == "opened"
        host.configure()
        done = host.world.run(sys.executable, "-m", "outgate", "reload", environ=host.environ)
        assert done.returncode == 0, done.stderr
        assert keeper.does("send_on 0") == "held"
        assert pages.wait_for(1, PATIENCE)
        lines.wait_for(event="held-up", app="guest")
        assert [other.does("exchange") for _ in range(5)] == ["True"] * 5
        pages.let_come()
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=21)
    assert events(host.log, "fault") == []


# --- what the gate asks -----------------------------------------------------------------------------------------------

_KEEP = """
import ctypes, mmap, os, socket, sys
pages = mmap.mmap(os.open(sys.argv[2], os.O_RDONLY), 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
socket.socket(fileno=int(sys.argv[1])).send(memoryview(pages)[:16])
"""


@contextlib.contextmanager
def kept(pages: fuse.Pages) -> Iterator[socket.socket]:
    """Give a connection whose lock another process keeps, until the block ends."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        sock = stack.enter_context(socket.create_connection(listener.getsockname()))
        stack.enter_context(listener.accept()[0])
        words = (sys.executable, "-c", _KEEP, str(sock.fileno()), pages.path("kept"))
        stack.enter_context(subprocess.Popen(words, pass_fds=[sock.fileno()]))
        stack.enter_context(pages)
        assert pages.wait_for(1, PATIENCE)
        yield sock


def is_answered(ask: Callable[[], object], patience: float) -> bool:
    """Tell whether a child of this process comes back from a call: one that waits for a lock no signal ends."""
    pid = os.fork()
    if not pid:
        try:
            ask()
        finally:
            os._exit(0)
    fd = os.pidfd_open(pid)
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    is_back = bool(waiting.poll(1000 * patience))
    os.close(fd)
    if is_back:
        os.waitpid(pid, 0)
    return is_back


def _take(sock: socket.socket) -> None:
    patient.take(os.dup(sock.fileno()), 4, native).close()


def _option(level: int, number: int, sock: socket.socket) -> object:
    return sock.getsockopt(level, number, 8)


QUESTIONS: dict[str, Callable[[socket.socket], object]] = {
    **{
        f"option {level} {number}": partial(
            lambda level, number, sock: sock.getsockopt(level, number, 8), level, number
        )
        for level, number in sorted(aside.FREE)
    },
    "cookie": lambda sock: patient.cookie(sock.fileno()),
    "is_tcp": lambda sock: patient.is_tcp(sock.fileno(), 4),
    "take": _take,
    "inode": births.inode_of,
    "unsent": lambda sock: queues.unsent(sock.fileno()),
    "epoll": lambda sock: select.epoll().register(sock.fileno(), select.EPOLLOUT),
    "listed": lambda sock: list(diag.Diag().listed()),
}
WAITS: dict[str, Callable[[socket.socket], object]] = {
    "meter": meter.read,
    "unread": lambda sock: queues.unread(sock.fileno()),
    "name": lambda sock: sock.getsockname(),
    "reset": cut.reset,
    "dial": lambda sock: dial.begin(sock, ("127.0.0.1", 9)),
}


def test_what_the_loop_asks_takes_no_lock(pages: fuse.Pages) -> None:
    """Whatever the gate's loop asks the kernel of a program's socket is answered while somebody keeps its lock."""
    with kept(pages) as sock:
        unanswered = [word for word, ask in QUESTIONS.items() if not is_answered(partial(ask, sock), PATIENCE)]
    assert unanswered == []


def test_what_the_thread_of_an_app_is_for(pages: fuse.Pages) -> None:
    """Whoever asks for what is asked on the thread of an app is kept waiting; so the test above can fail."""
    with kept(pages) as sock:
        answered = [word for word, ask in WAITS.items() if is_answered(partial(ask, sock), 0.2)]
    assert answered == []


def test_a_held_socket_for_the_end_of_a_pair(pages: fuse.Pages) -> None:
    """Who hands over a socket whose lock is kept, for the end of a relayed one, is told that it is none."""
    with RunningGate(path="relay") as gate, RawChannel(gate.socket) as channel, kept(pages) as held:
        ((id, end),) = channel.new()
        with end:
            for _ in range(3):
                assert channel.ask("share", sock=id) == {"hand": True}
                channel.send({"op": "hand", "sock": id}, fds=[held.fileno()])
                answer = channel.receive()
                assert answer is not None
                assert answer["error"]["code"] == "unknown-descriptor"
            with RawChannel(gate.socket) as other:
                ((_, sock),) = other.new()
                sock.close()
