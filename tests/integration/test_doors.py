"""Foreign programs that know a proxy, against real servers, by the doors of a gate with the default policy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fenced import PROGRAMS, events
from support.world import DOMAIN, FAR4, FORBIDDEN, PRIVATE4, WWW, World

pytestmark = pytest.mark.integration

CONFIG = """
version = 1
[gate]
socket = "gate.sock"
log = "decisions.jsonl"
state = "state"
socks = ["127.0.0.1:1080"]
http_connect = ["127.0.0.1:3128"]
[apps.blog]
token_file = "blog.token"
billing = true
"""


class Doors:
    """A gate in ``near``, and programs that go out by its doors."""

    def __init__(self, world: World, folder: Path, gate: subprocess.Popen[str]) -> None:
        self.world = world
        self.gate = gate
        self.folder = folder
        self.log = folder / "decisions.jsonl"
        self._known: dict[tuple[str, ...], dict[str, str]] = {}

    def variables(self, *options: str) -> dict[str, str]:
        """Return what ``outgate env`` prints, which is asked once."""
        if options in self._known:
            return self._known[options]
        socket = str(self.folder / "gate.sock")
        done = self.world.run(
            *(sys.executable, "-m", "outgate", "env", "--app", "blog", "--socket", socket, "--json", *options)
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, str] = json.loads(done.stdout)["variables"]
        self._known[options] = found
        return found

    def run(self, *words: str, only: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program with these variables."""
        return self.world.run(*words, environ=self.variables(*(("--only", only) if only else ())))

    def hosts(self) -> set[tuple[str, str, str]]:
        """Stop the gate, so that its log is whole, and return (program, host, verdict) of the decisions in it."""
        self.gate.terminate()
        self.gate.wait(20)
        return {(line["program"], line["host"], line["verdict"]) for line in events(self.log, "decision")}


@pytest.fixture
def door(world: World, tmp_path: Path) -> Iterator[Doors]:
    """A gate with doors in the world, for one test."""
    (tmp_path / "outgate.toml").write_text(CONFIG)
    python = (sys.executable, "-m", "outgate")
    assert world.run(*python, "token", "new", str(tmp_path / "blog.token")).returncode == 0
    command = world.near.command(*python, "serve", "--config", str(tmp_path / "outgate.toml"))
    with subprocess.Popen(command, env=world.environ(), stderr=subprocess.PIPE, text=True) as gate:
        try:
            assert gate.stderr is not None
            assert any("ready at" in line for line in gate.stderr), "it did not start"
            yield Doors(world, tmp_path, gate)
        finally:
            gate.terminate()
    assert events(tmp_path / "decisions.jsonl", "fault") == []
    assert (tmp_path / "blog.token").read_text().strip() not in (tmp_path / "decisions.jsonl").read_text()


PLAIN, SECURE = f"http://www.{DOMAIN}/hello", f"https://www.{DOMAIN}/hello"
HELLO = "hello from nginx"
PROGRAM = str(PROGRAMS / "doors_http.py")


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (("curl", "-sS", PLAIN), "socks5"),
        (("curl", "-sS", SECURE), "http"),
        (("curl", "-sS", f"http://{WWW[0]}/hello"), "socks5"),
        (("curl", "-sS", f"http://[{WWW[1]}]/hello"), "socks5"),
        (("wget", "-nv", "-O-", "--ca-certificate={ca}", SECURE), "http"),
        ((sys.executable, PROGRAM, "requests", PLAIN), "socks5"),
        ((sys.executable, PROGRAM, "requests", SECURE), "http"),
        ((sys.executable, PROGRAM, "urllib", SECURE), "http"),
    ],
    ids=["curl", "curl-tls", "curl-4", "curl-6", "wget-tls", "requests", "requests-tls", "urllib-tls"],
)
def test_a_program_gets_its_page(door: Doors, command: tuple[str, ...], kind: str) -> None:
    """A program with the variables of ``outgate env`` gets its page, by the door that is for it, and the log has it."""
    done = door.run(*(word.format(ca=door.world.ca) for word in command))
    assert (done.stdout.strip(), done.returncode) == (HELLO, 0), done.stderr
    assert {program for program, _, _ in door.hosts()} == {f"{kind} door from 127.0.0.1"}


@pytest.mark.parametrize("library", ["httpx", "requests", "urllib"])
def test_a_library_by_the_http_door_alone(door: Doors, library: str) -> None:
    """A library that has no SOCKS5 goes by CONNECT, with what ``--only http`` prints; a denial it hears as 403."""
    done = door.run(sys.executable, PROGRAM, library, SECURE, only="http")
    assert (done.stdout.strip(), done.stderr) == (HELLO, "")
    denied = door.run(sys.executable, PROGRAM, library, f"https://inside.{DOMAIN}/", only="http")
    assert denied.stdout.split()[-1] == "True", denied


def test_what_is_denied_gets_no_packet(door: Doors) -> None:
    """By neither door does a packet go to what the default policy denies, by name or number, TCP or UDP."""
    with door.world.watch() as watch:
        for host in (f"inside.{DOMAIN}", f"metadata.{DOMAIN}", PRIVATE4, "169.254.169.254"):
            done = door.run("curl", "-sS", f"http://{host}/")
            assert "Can't complete SOCKS5 connection" in done.stderr
            done = door.run("curl", "-sS", f"https://{host}/")
            assert "response 403" in done.stderr
        assert watch.to(*FORBIDDEN) == []
    assert {verdict for _, _, verdict in door.hosts()} == {"deny"}


def test_datagrams_by_a_library(door: Doors) -> None:
    """A program that has PySocks asks a name server by UDP ASSOCIATE, and the datagrams are in the log."""
    done = door.run(sys.executable, str(PROGRAMS / "doors_udp.py"), FAR4, f"www4.{DOMAIN}")
    assert (done.stdout, done.stderr) == (f"{FAR4} 53 True {WWW[0]}\n", "")
    assert door.hosts() == {("socks5 door from 127.0.0.1", FAR4, "allow")}
