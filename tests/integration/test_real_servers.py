"""Unmodified programs against real servers: natively, through the gate with no configuration, and round the gate."""

from __future__ import annotations

import errno
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.fenced import PROGRAMS, events, run
from support.servers import dovecot, inn, nginx
from support.world import DOMAIN, FORBIDDEN, MAIL, METADATA, NEWS, PRIVATE4, PRIVATE6, TRAP_PORT, WWW, ZONE, World

_LOGIN = (dovecot.USER, dovecot.PASSWORD)


_LARGE = f"{nginx.LARGE} {hashlib.sha256(nginx.large_file()).hexdigest()[:16]}"


class Case(NamedTuple):
    """A program, its arguments, the servers that it reaches (host, port), and a line that it prints."""

    program: str
    arguments: tuple[str, ...]
    reaches: tuple[tuple[str, int], ...]
    prints: str


def _name(host: str) -> str:
    return f"{host}.{DOMAIN}"


CASES = {
    "nntplib": Case("nntp_read.py", (_name("news"), inn.GROUPS[0]), ((_name("news"), 119),), f"5 {inn.SUBJECTS[4]}"),
    "nntplib IPv4 address": Case("nntp_read.py", (NEWS[0], inn.GROUPS[0]), ((NEWS[0], 119),), f"1 {inn.SUBJECTS[0]}"),
    "nntplib post": Case(
        "nntp_post.py", (_name("news4"), inn.GROUPS[1]), ((_name("news4"), 119),), f"Hello, {inn.GROUPS[1]}."
    ),
    "poplib": Case(
        "pop3_read.py", (_name("mail"), *_LOGIN), ((_name("mail"), 110),), f"Subject: {dovecot.SUBJECTS[2]} 8"
    ),
    "poplib TLS": Case("pop3_read.py", ("--tls", _name("mail4"), *_LOGIN), ((_name("mail4"), 995),), "3 messages"),
    "poplib STARTTLS": Case("pop3_starttls.py", (_name("mail4"), *_LOGIN), ((_name("mail4"), 110),), "3 messages"),
    "imaplib": Case("imap_read.py", (_name("mail"), *_LOGIN), ((_name("mail"), 143),), dovecot.SUBJECTS[1]),
    "imaplib TLS": Case(
        "imap_read.py", ("--tls", _name("mail"), *_LOGIN), ((_name("mail"), 993),), dovecot.SUBJECTS[1]
    ),
    "http.client": Case("http_client.py", (_name("www"),), ((_name("www"), 80),), "got 3000000"),
    "http.client IPv6 address": Case("http_client.py", (WWW[1],), ((WWW[1], 80),), "200 3"),
    "http.client TLS": Case("https_client.py", (_name("www4"),), ((_name("www4"), 443),), "True"),
    "urllib": Case(
        "urllib_get.py", (f"https://{_name('www')}/moved",), ((_name("www"), 443),), "200 hello hello from nginx"
    ),
    "urllib plain": Case(
        "urllib_get.py", (f"http://{_name('www6')}/scheme",), ((_name("www6"), 80),), "200 scheme http"
    ),
    "requests": Case("requests_get.py", (_name("www"),), ((_name("www"), 443),), "got 1000000"),
    "httpx": Case("httpx_get.py", (_name("www"),), ((_name("www"), 443),), "[200, 200, 200, 200, 200]"),
    "asyncio TLS": Case("asyncio_tls.py", (_name("www"),), ((_name("www"), 443),), f"HTTP/1.1 200 OK {_LARGE}"),
    "threads": Case("threads.py", (_name("www"),), ((_name("www"), 80),), "['hello from nginx']"),
    "children": Case(
        "children.py", (f"https://{_name('www')}/hello",), ((_name("www"), 443),), "spawn hello from nginx"
    ),
    "getaddrinfo": Case("resolve.py", (_name("mail"), "110"), (), f"AF_INET6 SOCK_STREAM {MAIL[1]} 110"),
}


def _skip_where_python_lacks(case: Case) -> None:
    if case.program.startswith("nntp") and sys.version_info >= (3, 13):
        pytest.skip("nntplib left the standard library in Python 3.13")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_program_works_natively(world: World, case: Case) -> None:
    """The control: without outgate the program reaches the real server and prints what it should."""
    _skip_where_python_lacks(case)
    done = world.python(PROGRAMS / case.program, *case.arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert case.prints in done.stdout.splitlines()


# -- through the gate, with no configuration -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_unmodified_program_works_under_outgate_run(world: World, case: Case, log: Path) -> None:
    """Fenced and with no configuration, it prints what it prints natively and each connection is in the log."""
    _skip_where_python_lacks(case)
    command = (sys.executable, str(PROGRAMS / case.program), *case.arguments)
    native = world.run(*command)
    fenced = run(world, log, *command)
    assert fenced.returncode == 0, fenced.stderr
    assert fenced.stdout == native.stdout
    decisions, ends = events(log, "decision"), events(log, "end")
    for host, port in case.reaches:
        # Libraries look a name up and connect to an address of the answer: either may be what was asked for.
        asked = {host, *ZONE.get(host, ())}
        found = [line for line in decisions if line["host"] in asked and line["port"] == port]
        assert found, decisions
        for line in found:
            assert line["app"] == "default"
            assert line["verdict"] == "allow"
            assert line["class"] == "public"
            assert line["address"] in ZONE.get(host, [host])
            last = [end for end in ends if end["lease"] == line["lease"]]
            assert len(last) == 1, (line, ends)
            assert last[0]["sent"] > 0, last
            assert last[0]["received"] > 0, last
            assert last[0]["how"] == "closed", last


@pytest.mark.parametrize("address", WWW)
@pytest.mark.parametrize("path", ["/hello", "/large"])
def test_the_log_has_the_bytes_that_the_program_counted(world: World, log: Path, address: str, path: str) -> None:
    """The end line's sent and received are exact for a small and a large transfer, over IPv4 and IPv6."""
    done = run(world, log, sys.executable, str(PROGRAMS / "count_bytes.py"), address, path)
    assert done.returncode == 0, done.stderr
    assert len(events(log, "end")) == 1, log.read_text()
    (end,) = events(log, "end")
    assert done.stdout == f"{end['sent']} {end['received']}\n"
    assert end["received"] > (nginx.LARGE if path == "/large" else 0)


def attempt(world: World, log: Path, host: str, port: int) -> dict[str, Any]:
    """Let an unmodified program under ``outgate run`` try to connect, and return what it saw."""
    done = run(world, log, sys.executable, str(PROGRAMS / "try_connect.py"), host, str(port))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("address", "word"), [(PRIVATE4, "private"), (PRIVATE6, "private"), (METADATA, "metadata")], ids=FORBIDDEN
)
def test_a_forbidden_address_is_refused_with_reason_and_cure(world: World, log: Path, address: str, word: str) -> None:
    """The program gets a PermissionError that says why and what would permit it, and no packet is sent."""
    with world.watch() as watch:
        seen = attempt(world, log, address, TRAP_PORT)
        assert watch.to(*FORBIDDEN) == []
    assert seen["error"] == "PolicyDenied"
    assert "PermissionError" in seen["kinds"]
    assert seen["errno"] == errno.EACCES
    assert f"{address} ({word})" in seen["text"]
    assert 'rule "' in seen["text"]
    assert "to permit: except = [" in seen["text"]
    (decision,) = events(log, "decision")
    assert (decision["verdict"], decision["address"], decision["class"]) == ("deny", address, word)
    assert decision["reason"]
    assert events(log, "end") == []


@pytest.mark.parametrize("address", FORBIDDEN)
def test_the_cure_of_a_refusal_permits_it(world: World, log: Path, address: str) -> None:
    """The rule that the refusal's text proposes, given as an exception, lets the same program through."""
    text = attempt(world, log, address, TRAP_PORT)["text"]
    rule = text.partition('to permit: except = ["')[2].partition('"]')[0]
    command = (sys.executable, str(PROGRAMS / "try_connect.py"), address, str(TRAP_PORT))
    done = world.outgate("run", "--fence", "--log", str(log), "--except", rule, "--", *command)
    assert json.loads(done.stdout) == {"error": None}
    assert [line["verdict"] for line in events(log, "decision")] == ["deny", "allow"]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
def test_loopback_is_refused(world: World, log: Path, address: str) -> None:
    """In no spelling does the program reach the loopback of the gate's host."""
    with world.watch_loopback() as watch:
        seen = attempt(world, log, address, TRAP_PORT)
        assert [packet for packet in watch.openings() if packet.protocol == "tcp"] == []
    assert "PermissionError" in seen["kinds"]
    assert seen["errno"] == errno.EACCES
    assert "(loopback)" in seen["text"]
    assert "to permit: except = [" in seen["text"]


@pytest.mark.parametrize("name", ["inside", "metadata"])
def test_a_name_that_points_inside_is_refused(world: World, log: Path, name: str) -> None:
    """A public name whose addresses are all forbidden is a PermissionError, and no packet goes to any of them."""
    with world.watch() as watch:
        seen = attempt(world, log, _name(name), TRAP_PORT)
        assert watch.to(*FORBIDDEN) == []
    assert "PermissionError" in seen["kinds"]
    assert "to permit: except = [" in seen["text"]


def test_a_name_that_points_inside_and_outside_reaches_only_the_outside(world: World, log: Path) -> None:
    """Of a mixed answer the forbidden addresses are dropped and the public one is reached."""
    with world.watch() as watch:
        seen = attempt(world, log, _name("both"), TRAP_PORT)
        assert seen == {"error": None}
        assert watch.to(*FORBIDDEN) == []
        assert [packet.port for packet in watch.to(WWW[1])] == [TRAP_PORT]


def test_port_25_is_refused(world: World, log: Path) -> None:
    """Mail to port 25 of a public address is refused before anything is sent."""
    with world.watch() as watch:
        seen = attempt(world, log, MAIL[0], 25)
        assert watch.to(MAIL[0]) == []
    assert "PermissionError" in seen["kinds"]
    assert ":25" in seen["text"]


def test_an_error_of_the_far_end_is_not_wrapped(world: World, log: Path) -> None:
    """A public port where nothing listens gives the plain ConnectionRefusedError that it gives natively."""
    seen = attempt(world, log, WWW[0], 8)
    assert (seen["error"], seen["errno"]) == ("ConnectionRefusedError", errno.ECONNREFUSED)
    assert seen["text"] == f"[Errno {errno.ECONNREFUSED}] Connection refused"


# -- round the gate --------------------------------------------------------------------------------------------------

ROUND = [*FORBIDDEN, *WWW]


@pytest.mark.parametrize("address", ROUND)
def test_a_program_that_uses_the_c_library_reaches_nothing(world: World, log: Path, address: str) -> None:
    """connect(2) through ctypes gets ENETUNREACH in the fence, and no packet is sent even to a permitted server."""
    command = (sys.executable, str(PROGRAMS / "round_connect.py"), address, str(TRAP_PORT))
    assert world.run(*command).stdout == "0\n"  # natively it would get there
    with world.watch() as watch:
        assert run(world, log, *command).stdout == f"{errno.ENETUNREACH}\n"
        assert watch.openings() == []


@pytest.mark.parametrize("address", ROUND)
def test_an_isolated_python_reaches_nothing(world: World, log: Path, address: str) -> None:
    """python -I does not load the client: its sockets are native ones of an empty network."""
    with world.watch() as watch:
        done = run(world, log, sys.executable, "-I", str(PROGRAMS / "try_connect.py"), address, str(TRAP_PORT))
        assert watch.openings() == []
    seen = json.loads(done.stdout)
    assert seen["errno"] == errno.ENETUNREACH
    assert events(log, "decision") == []


@pytest.mark.parametrize("address", ROUND)
def test_curl_reaches_nothing(world: World, log: Path, address: str) -> None:
    """A foreign program fails to connect (curl's status 7), and nothing is on the wire."""
    host = f"[{address}]" if ":" in address else address
    command = ("curl", "-sS", "--noproxy", "*", "--max-time", "10", f"http://{host}/hello")
    with world.watch() as watch:
        done = run(world, log, *command)
        assert watch.openings() == []
    assert done.returncode == 7, done
    assert done.stdout == ""


def test_curl_by_name_fails_at_the_name(world: World, log: Path) -> None:
    """In the fence there is no name server, so a foreign program cannot even look up (curl's status 6)."""
    with world.watch() as watch:
        done = run(world, log, "curl", "-sS", "--noproxy", "*", "--max-time", "20", f"http://{_name('www')}/hello")
        assert watch.openings() == []
    assert done.returncode == 6, done
