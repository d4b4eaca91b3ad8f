"""A program that keeps the kernel's lock of its sockets holds up itself, and neither the gate nor another app."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from outgate.testing.loglines import LogLines
from outgate.testing.running import PATIENCE
from support import fuse, peers
from support.fenced import PROGRAMS, events
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
def pages() -> Iterator[fuse.Pages]:
    """Have a folder of files whose pages do not come."""
    with fuse.pages() as made:
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

    def __init__(self, host: Host, pages: fuse.Pages, port: int, uid: int, *options: str) -> None:
        words = (str(PROGRAMS / "keep_lock.py"), pages.folder, WWW[0], str(port))
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
        assert len(listed(host)) == 2
        pages.let_come()
        assert lines.wait_for(event="end", app="guest", sent=21)["how"] == "closed"
        assert keeper.does("exchange") == "True"
        assert keeper.does("use 1") == "ok"
        keeper.end(), other.end()
        lines.wait_for(event="end", app="guest", sent=26)
        lines.wait_for(event="held-up-ended", app="guest")
    assert events(host.log, "fault") == []


def test_a_lock_of_a_socket_that_was_never_connected(host: Host, pages: fuse.Pages, port: int, lines: LogLines) -> None:
    """It cannot be dialled, and is not behind the back of who was told so; when the page has come it can.

    Not in a seal, whose programs the kernel gives a copy of the option before it takes the lock.
    """
    host.configure(seal="off")
    with host.serving(), pages:
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
