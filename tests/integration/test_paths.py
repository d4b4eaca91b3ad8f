"""Unmodified programs that move megabytes both ways over both paths: the kernel's socket, and the gate's relay."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support import peers
from support.corp import CACHE, CORP, DATABASE, SHELL, Corp
from support.fenced import PROGRAMS, events
from support.servers import nginx, postgresql, redis
from support.world import DOMAIN, WWW, World

DB, CACHE_NAME, SHELL_NAME = (f"{host}.{CORP}" for host in ("db", "cache", "shell"))
RULES = (f"{DB}:5432", f"{CACHE_NAME}:6379", f"{SHELL_NAME}:22")
WEB = f"www.{DOMAIN}"
#: What a peer sends before it reads.
FROM_SOURCE = hashlib.shake_128(b"source").digest(3_000_000)
_LARGE = hashlib.sha256(nginx.large_file()).hexdigest()
_GOT = hashlib.sha256(b"got 3000000\n").hexdigest()

#: Makes the arguments of a program, and what must be running for it, while it runs.
Words = Callable[[World, contextlib.ExitStack], Sequence[object]]


class Case(NamedTuple):
    """A program and what comes of it over either path.

    :ivar prints: its output, without the last :attr:`numbers` lines.
    :ivar addresses: where it may end up.
    :ivar connections: how many it makes.
    :ivar moves: the fewest bytes that it sends and receives on all of them.
    :ivar is_exact: whether two runs send and receive the same number of bytes.
    :ivar needs: the company's server that it uses.
    :ivar numbers: how many lines at the end of its output are numbers of bytes that differ from run to run.
    """

    program: str
    words: Words
    prints: str
    addresses: tuple[str, ...]
    connections: int
    moves: tuple[int, int]
    is_exact: bool = True
    needs: str = ""
    numbers: int = 0

    def split(self, output: str) -> tuple[str, list[str]]:
        """Return the output that is the same in every run, and the lines that are not."""
        lines = output.splitlines(keepends=True)
        kept = len(lines) - self.numbers
        return "".join(lines[:kept]), lines[kept:]


def _peer(world: World, stack: contextlib.ExitStack, address: str, make: Callable[..., peers.Peer]) -> int:
    """Have a peer on an address of the far side, on a port of its own."""
    listener = world.far.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.bind((address, 0))
    return stack.enter_context(make(listener=listener)).port


def _digest(listener: socket.socket) -> peers.Peer:
    """Read until an end of file, and send the SHA-256 of what came."""

    def habit(connection: peers.Connection) -> None:
        digest = hashlib.sha256()
        while data := connection.receive():
            digest.update(data)
        connection.send(digest.digest())

    return peers.Peer(habit, listener=listener)


def _plain(world: World, stack: contextlib.ExitStack) -> Sequence[object]:
    source = functools.partial(peers.source, FROM_SOURCE)
    return WWW[0], _peer(world, stack, WWW[0], peers.echo), _peer(world, stack, WWW[0], source)


def _asyncio(world: World, stack: contextlib.ExitStack) -> Sequence[object]:
    ports = [_peer(world, stack, WWW[1], make) for make in (peers.echo, _digest)]
    return WWW[1], *ports, world.folder / "nginx/www/large"


def _paramiko(world: World, stack: contextlib.ExitStack) -> Sequence[object]:
    openssh = world.folder / "openssh"
    known = openssh / "known_hosts"
    known.write_text(f"{SHELL_NAME} {(openssh / 'host.pub').read_text()}")
    return SHELL_NAME, openssh / "user", known


CASES = {
    "plain sockets": Case(
        "plain_transfer.py",
        _plain,
        f"4000000 4000000 True True\n1000000 3000000 {hashlib.sha256(FROM_SOURCE).hexdigest()}\n",
        WWW[:1],
        2,
        (5_000_000, 7_000_000),
    ),
    "asyncio": Case(
        "asyncio_transfer.py",
        _asyncio,
        f"3000000 3000000 True\n{nginx.LARGE} 32 True\n",
        WWW[1:],
        2,
        (3_000_000 + nginx.LARGE, 3_000_032),
    ),
    "ssl": Case(
        "ssl_transfer.py",
        lambda *_: (WEB,),
        f"HTTP/1.1 200 OK {nginx.LARGE} {_LARGE}\nHTTP/1.1 200 OK 12 {_GOT}\nHTTP/1.1 200 OK {nginx.LARGE} {_LARGE}\n",
        WWW,
        3,
        (3_000_000, 2 * nginx.LARGE),
        is_exact=False,  # signatures and tickets differ in length
        numbers=1,
    ),
    "requests": Case(
        "requests_get.py",
        lambda *_: (WEB,),
        f"hello from nginx\n3\n{nginx.LARGE} {_LARGE[:16]}\ngot 1000000\n",
        WWW,
        1,
        (1_000_000, nginx.LARGE),
        is_exact=False,
    ),
    "redis": Case(
        "redis_transfer.py",
        lambda *_: (CACHE_NAME, 6379, redis.PASSWORD),
        "True True\nsubscribe\n1\nTrue\nNone 1\n",
        (CACHE,),
        3,  # the others are for what it hears and what it says meanwhile
        (4_000_000, 4_000_000),
        needs="redis",
    ),
    "pg8000": Case(
        "postgres_transfer.py",
        lambda *_: (DB, 5432, postgresql.USER, postgresql.PASSWORD),
        "True True\n588890 True\n",
        (DATABASE,),
        1,
        (4_000_000, 2_000_000),
        needs="postgresql",
    ),
    "paramiko": Case(
        "paramiko_transfer.py",
        _paramiko,
        "True\nTrue 7\n22 True\n",
        SHELL,
        1,
        (6_000_000, 3_000_000),
        is_exact=False,  # when a window is raised depends on who is quicker
        needs="openssh",
    ),
}
PATHS = ("direct", "relay")
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


class Outcome(NamedTuple):
    """What a run printed, and the lines of its log."""

    status: int
    output: str
    errors: str
    decisions: list[dict[str, Any]]
    ends: list[dict[str, Any]]


@pytest.fixture(scope="module")
def _known() -> dict[tuple[str, str], Outcome]:
    return {}


@pytest.fixture
def outcome(
    world: World, request: pytest.FixtureRequest, tmp_path: Path, _known: dict[tuple[str, str], Outcome]
) -> Iterator[Callable[[Case, str], Outcome]]:
    """Run a case natively or over a path, once for all tests."""

    def run(case: Case, path: str) -> Outcome:
        key = (case.program, path)
        if key not in _known:
            if case.needs:
                corp: Corp = request.getfixturevalue("corp")
                getattr(corp, case.needs)
            _known[key] = _run(world, tmp_path, case, path)
        return _known[key]

    return run


def _run(world: World, folder: Path, case: Case, path: str) -> Outcome:
    log = folder / f"{path}.jsonl"
    with contextlib.ExitStack() as stack:
        words = map(str, case.words(world, stack))
        command = (sys.executable, str(PROGRAMS / case.program), *words)
        if path == "native":
            done = world.run(*command)
        else:
            config = folder / f"{path}.toml"
            config.write_text(
                "version = 1\n[apps.mover]\nbilling = true\nuid = [0]\ntrusted = true\n"
                f'path = "{path}"\nexcept = {json.dumps(RULES)}\n'
            )
            options = ("--fence", "--config", str(config), "--log", str(log))
            done = world.outgate("run", *options, "--", *command)
    return Outcome(done.returncode, done.stdout, done.stderr, events(log, "decision"), events(log, "end"))


@each_case
def test_the_program_works_natively(case: Case, outcome: Callable[[Case, str], Outcome]) -> None:
    """The control: without outgate the program moves what it should, checked by hash."""
    native = outcome(case, "native")
    assert native.status == 0, native.errors
    assert case.split(native.output)[0] == case.prints


@pytest.mark.parametrize("path", PATHS)
@each_case
def test_the_program_works_over_a_path(case: Case, path: str, outcome: Callable[[Case, str], Outcome]) -> None:
    """It prints what it prints natively, and the log has each connection with its path, bytes and a clean end."""
    seen = outcome(case, path)
    assert seen.status == 0, seen.errors
    assert case.split(seen.output)[0] == case.prints
    assert f"{path} path" in seen.errors  # what outgate run says when it begins
    for line in (*seen.decisions, *seen.ends):
        assert (line["app"], line["transport"], line["path"], line["verdict"]) == ("mover", "tcp", path, "allow")
        assert line["address"] in case.addresses
    assert len(seen.decisions) == len(seen.ends) == case.connections
    assert [(end["connected"], end["how"]) for end in seen.ends] == [(True, "closed")] * case.connections
    assert sum(end["sent"] for end in seen.ends) >= case.moves[0]
    assert sum(end["received"] for end in seen.ends) >= case.moves[1]


@pytest.mark.parametrize("case", [case for case in CASES.values() if case.is_exact], ids=lambda case: case.program)
def test_both_paths_count_the_same(case: Case, outcome: Callable[[Case, str], Outcome]) -> None:
    """Of a program whose bytes do not depend on chance, sent and received in the log are equal on both paths."""
    direct, relay = (sorted((end["sent"], end["received"]) for end in outcome(case, path).ends) for path in PATHS)
    assert direct == relay


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["plain sockets", "asyncio"])
def test_bytes_are_those_of_the_program(name: str, path: str, outcome: Callable[[Case, str], Outcome]) -> None:
    """Sent and received in the log are what the program counted on each of its connections, to the byte."""
    seen = outcome(CASES[name], path)
    counted = [tuple(map(int, line.split()[:2])) for line in seen.output.splitlines()]
    assert sorted((end["sent"], end["received"]) for end in seen.ends) == sorted(counted)


@pytest.mark.parametrize("path", PATHS)
def test_bytes_under_tls_are_those_of_the_network(path: str, outcome: Callable[[Case, str], Outcome]) -> None:
    """Where the program does TLS itself, sent and received in the log are what it gave to and got from its socket."""
    seen = outcome(CASES["ssl"], path)
    (line,) = CASES["ssl"].split(seen.output)[1]
    assert line.split() == [str(seen.ends[-1][key]) for key in ("sent", "received")]
