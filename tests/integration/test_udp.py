"""Unmodified programs that speak UDP against real servers: names, time and QUIC, natively and through the gate."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import dns
from support.fenced import PROGRAMS, asked, events, run
from support.namespaces import ip
from support.servers import chrony, dnsmasq
from support.servers.process import Server
from support.world import DOMAIN, FAR4, MAIL, PRIVATE4, TRAP_PORT, WWW, ZONE, World

pytestmark = pytest.mark.integration
#: A name server inside, which the default policy refuses as private.
INSIDE = "10.9.9.53"
QUIC_PORT = 4433
_started: set[int] = set()


@pytest.fixture
def servers(world: World) -> Iterator[World]:
    """The world with a name server inside, a time server and a QUIC server; programs ask the one inside for names."""
    if id(world) not in _started:
        _started.add(id(world))
        ip("-n", world.far.name, "address", "add", INSIDE, "dev", "lo")
        ip("-n", world.near.name, "route", "add", INSIDE, "via", FAR4)
        folders = {name: world.folder / name for name in ("inside", "chrony", "quic")}
        for folder in folders.values():
            folder.mkdir()
        world.keep("inside", dnsmasq.start(world.far, folders["inside"], INSIDE, ZONE))
        world.keep("chrony", chrony.start(world.far, folders["chrony"], MAIL[0]))
        command = [sys.executable, str(PROGRAMS / "quic_serve.py"), WWW[0], str(QUIC_PORT)]
        command += [str(world.certificate), str(world.key)]
        world.keep("quic", Server("quic", world.far, folders["quic"], command))
        world.servers["inside"].wait_until(lambda: dns.ask(world.near, INSIDE, f"www.{DOMAIN}"))
        world.servers["chrony"].wait_until(lambda: chrony.ask(world.near, MAIL[0]))
    world.use_resolver(INSIDE)
    yield world
    world.use_resolver()


CASES = {
    "dnspython": (("dnspython_ask.py", f"www.{DOMAIN}/A", f"www.{DOMAIN}/AAAA", f"nosuch.{DOMAIN}/A"), 53),
    "ntplib": (("ntp_ask.py", f"mail4.{DOMAIN}"), 123),
    "aioquic": (("quic_echo.py", f"www4.{DOMAIN}", str(QUIC_PORT), "{ca}"), QUIC_PORT),
}
PRINTS = {
    "dnspython": f"www.{DOMAIN}/A {WWW[0]} True\nwww.{DOMAIN}/AAAA {WWW[1]} True\nnosuch.{DOMAIN}/A NXDOMAIN\n",
    "ntplib": "3 4 True\n",
    "aioquic": "1048576 True\n",
}


def _words(world: World, case: str) -> tuple[str, ...]:
    program, *words = CASES[case][0]
    return (sys.executable, str(PROGRAMS / program), *(word.replace("{ca}", str(world.ca)) for word in words))


@pytest.mark.parametrize("case", CASES)
def test_the_program_works_natively(servers: World, case: str) -> None:
    """The control: without outgate the program reaches the real server and prints what it should."""
    done = servers.run(*_words(servers, case))
    assert (done.returncode, done.stdout) == (0, PRINTS[case]), done.stderr


@pytest.mark.parametrize("case", CASES)
def test_the_program_works_through_the_gate(servers: World, log: Path, case: str) -> None:
    """Under outgate run, in the fence and with no configuration, it prints the same, and the log has what it did."""
    done = run(servers, log, *_words(servers, case))
    assert (done.returncode, done.stdout) == (0, PRINTS[case]), done.stderr
    ends = [line for line in events(log, "end") if line["port"] == CASES[case][1]]
    assert ends, events(log, "decision")
    assert all(line["transport"] == "udp" and line["path"] == "relay" for line in ends)
    assert all(line["datagrams_sent"] and line["datagrams_received"] for line in ends)


def test_a_refused_name_is_not_asked_for(servers: World, log: Path) -> None:
    """A name that the policy denies gets REFUSED from the gate, and no packet carries it; others are answered."""
    words = (sys.executable, str(PROGRAMS / "dnspython_ask.py"), f"secret.news.{DOMAIN}/TXT", f"www.{DOMAIN}/A")
    with servers.watch() as watch:
        done = run(servers, log, *words, options=("--deny", f"*.news.{DOMAIN}"))
        names = asked(watch)
    assert done.stdout == f"secret.news.{DOMAIN}/TXT NoNameservers\nwww.{DOMAIN}/A {WWW[0]} True\n", done.stderr
    assert f"www.{DOMAIN}" in names
    assert not [name for name in names if "secret" in name]


def test_a_name_that_dnspython_looked_up_is_judged_at_connect(servers: World, log: Path) -> None:
    """An exception by name holds for the address that a DNS library was answered, on its port alone."""
    for port, ends in ((TRAP_PORT, "connected"), (22, "PolicyDenied")):
        words = (sys.executable, str(PROGRAMS / "dnspython_ask.py"), "--connect", str(port), f"inside.{DOMAIN}/A")
        done = run(servers, log, *words, options=("--except", f"inside.{DOMAIN}:{TRAP_PORT}"))
        assert done.stdout == f"inside.{DOMAIN}/A {PRIVATE4} True\n{ends}\n", done.stderr
