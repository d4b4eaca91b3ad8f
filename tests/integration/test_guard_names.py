"""Resolvers in a guard, the C library's and those that programs bring along: answers of any length, under policy.

``many`` has 60 addresses, more than a datagram of a plain question holds (512 bytes, RFC 1035), so each of them asks a
second time, over TCP.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import forward, guarded
from support.corp import CORP, MANY, Corp
from support.fenced import PROGRAMS, events
from support.world import World

_NAME = f"many.{CORP}"
#: A name server on the loopback of the program's host, as systemd-resolved is.
_LOCAL = "127.0.0.53"


@pytest.fixture
def log(world: World) -> Iterator[Path]:
    """Return where the guest's decision log goes."""
    with guarded.log_of(world) as path:
        yield path


@pytest.fixture(params=["far", "local"])
def server(request: pytest.FixtureRequest, world: World, corp: Corp) -> Iterator[str]:
    """The address of the host's name server: a public one, or one of loopback that policy refuses otherwise."""
    if request.param == "far":
        yield corp.bind.address
        return

    def of_far(kind: int) -> socket.socket:
        sock = world.near.socket(kind=kind)
        sock.settimeout(5)
        sock.connect((corp.bind.address, 53))
        return sock

    def local(kind: int) -> socket.socket:
        sock = world.near.socket(kind=kind)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((_LOCAL, 53))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        return sock

    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    with (
        forward.forwarded(lambda: of_far(stream), local(stream)),
        forward.forwarded_datagrams(local(datagram), lambda: of_far(datagram)),
    ):
        world.use_resolver(_LOCAL)
        yield _LOCAL


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a static program with Go's resolver, that the guest may run."""
    if shutil.which("go") is None:
        pytest.skip("not installed: go (golang-go)")
    made = tmp_path_factory.mktemp("go")
    environ = {"PATH": "/usr/bin:/bin", "CGO_ENABLED": "0", "GOCACHE": str(made / "cache"), "GOFLAGS": "-mod=mod"}
    environ |= {"HOME": str(made), "GOTOOLCHAIN": "local"}
    source = str(PROGRAMS / "look_up.go")
    subprocess.run(["go", "build", "-o", str(made / "look_up"), source], check=True, env=environ, cwd=made)
    return made / "look_up"


def _sorted(text: str) -> list[str]:
    return sorted(text.split())


def test_dig(world: World, log: Path, server: str) -> None:
    """It asks over TCP at once where it is told to, and again over TCP where a datagram is too short."""
    for options in (("+tcp",), ("+bufsize=512",), ("+noedns",)):
        done = guarded.run(world, log, "dig", "+short", *options, _NAME)
        assert _sorted(done.stdout) == sorted(MANY), done.stdout + done.stderr
    ends = [each for each in events(log, "end") if each["transport"] == "tcp"]
    assert [(each["host"], each["port"], each["program"]) for each in ends] == [(server, 53, "dig")] * 3
    assert all(each["received"] > 900 for each in ends)


def test_dig_is_refused(world: World, log: Path, server: str) -> None:
    """What policy denies is not asked over TCP either: the answer is REFUSED, and the log has the rule."""
    options = ("--guard", "--deny", f"*.{CORP}")
    done = guarded.run(world, log, "dig", "+tcp", f"c2VjcmV0.{CORP}", options=options)
    assert "status: REFUSED" in done.stdout
    (denied,) = (each for each in events(log, "decision") if each["verdict"] == "deny")
    assert (denied["host"], denied["rule"]) == (f"c2vjcmv0.{CORP}", f"*.{CORP}")
    done = guarded.run(world, log, "dig", "+tcp", "+time=2", "+tries=1", "axfr", CORP)
    assert "Transfer failed" in done.stdout


_GETADDRINFO = """
import socket, sys
print(*sorted({each[4][0] for each in socket.getaddrinfo(sys.argv[1], 80, socket.AF_INET)}))
"""


@pytest.mark.parametrize("options", ["", "use-vc", "edns0"])
def test_the_c_library(world: World, log: Path, server: str, options: str) -> None:
    """glibc's resolver finds all of them, over TCP from the start (RES_USEVC) or after a short answer."""
    words = ("env", f"RES_OPTIONS={options}", guarded.python(), "-IS", "-c", _GETADDRINFO, _NAME)
    done = guarded.run(world, log, *words)
    assert _sorted(done.stdout) == sorted(MANY), done.stderr


def test_c_ares(world: World, log: Path, server: str) -> None:
    """Node's own resolver, c-ares, finds all of them."""
    code = "require('dns').promises.resolve4(process.argv[1]).then((found) => console.log(found.join(' ')))"
    done = guarded.run(world, log, "node", "-e", code, _NAME)
    assert _sorted(done.stdout) == sorted(MANY), done.stderr


def test_a_static_resolver(world: World, log: Path, server: str, go_program: Path) -> None:
    """Go's, in a static program, finds all of them, and is refused what policy denies."""
    own = log.parent / "look_up"
    shutil.copy(go_program, own)
    # Without EDNS the answer comes cut off, and it asks over TCP; that is how such programs are built to be tried.
    done = guarded.run(world, log, "env", "GODEBUG=netedns0=0", str(own), _NAME)
    assert _sorted(done.stdout) == sorted(MANY), done.stdout + done.stderr
    done = guarded.run(world, log, str(own), _NAME, options=("--guard", "--deny", f"*.{CORP}"))
    assert done.returncode == 1
    assert done.stdout.startswith("error:")


def test_what_is_answered_is_bound(world: World, log: Path, server: str) -> None:
    """An address that came in an answer over TCP is judged by the rules for the name that it was asked by."""
    code = f"dig +tcp +short www.{CORP}; curl -sS -m 5 -o /dev/null http://$(dig +tcp +short www.{CORP})/"
    options = ("--guard", "--allow", f"www.{CORP}:80")
    done = guarded.run(world, log, "sh", "-c", code, options=options)
    connects = [each for each in events(log, "decision") if each["program"] == "curl"]
    assert [(each["verdict"], each["name"]) for each in connects] == [("allow", f"www.{CORP}")], done.stdout
