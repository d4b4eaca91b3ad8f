"""Out of a network that has no other way than a proxy: unmodified programs, and the proxies that Debian has."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support import guarded
from support import island as places
from support.fenced import PROGRAMS, events
from support.island import CLOSED, FAR6, NAME, PORT, PORTS, PROXY, SECOND, SEEN_BY_PROXIES, SEEN_NEAR, Island
from support.servers.leading import PASSWORD, USER

PLACES = {"name": NAME, "address": SEEN_NEAR, "port": PORT, "closed": CLOSED}
SECRET = f"{USER}:{PASSWORD}\n"


class Case(NamedTuple):
    """A proxy, how it is called, and what it says of a port where nobody listens.

    :ivar reached: the far address of a name.
    :ivar asks: whether it wants credentials.
    """

    scheme: str
    server: str
    reached: str
    asks: bool
    closed: tuple[str, str | None, int]


_REFUSED = ("ConnectionRefusedError", None, errno.ECONNREFUSED)
CASES = {
    "microsocks": Case("socks5", "microsocks", SEEN_NEAR, False, _REFUSED),
    "microsocks by name": Case("socks5h", "microsocks", SEEN_BY_PROXIES, False, _REFUSED),
    "microsocks with a password": Case("socks5h", "asking", SEEN_BY_PROXIES, True, _REFUSED),
    "dante": Case("socks5", "dante", SEEN_NEAR, False, _REFUSED),
    "dante by name": Case("socks5h", "dante", SEEN_BY_PROXIES, False, _REFUSED),
    "squid": Case("http", "squid", SEEN_BY_PROXIES, True, _REFUSED),
    "tinyproxy": Case("http", "tinyproxy", SEEN_BY_PROXIES, True, ("WayOutFailed", "via-refused", errno.EHOSTUNREACH)),
}
#: How programs are contained, and how their bytes travel.
TRUST = {"relay": "trusted = true", "direct": 'trusted = true\npath = "direct"', "fenced": "trusted = false"}


@pytest.fixture(scope="session")
def _make_island() -> Iterator[Callable[[], Island]]:
    """Make the island at its first use, inside of a test's own set-up, and keep it to the end of the session."""
    made: list[Island] = []

    @functools.cache
    def make() -> Island:
        made.append(Island())
        return made[0]

    yield make
    for each in made:
        each.__exit__()


@pytest.fixture
def island(_make_island: Callable[[], Island]) -> Island:
    """The island; skips where the host cannot hold one."""
    reason = places.missing()
    if reason:
        pytest.skip(reason)
    return _make_island()


def configured(folder: Path, *lines: str) -> Path:
    """Write a configuration, and the credentials beside it."""
    config, secret = folder / "outgate.toml", folder / "proxy.secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    config.write_text(
        "\n".join(["version = 1", "[apps.guest]", f"uid = [{os.getuid()}]", "billing = true", *lines, ""])
    )
    return config


def left(island: Island, config: Path, log: Path, **more: Any) -> dict[str, Any]:
    """Run the program that tries all, and return what came of it."""
    words = json.dumps({**PLACES, "proxy": [PROXY, PORTS["microsocks"]], **more})
    done = island.run(config, log, sys.executable, str(PROGRAMS / "leave.py"), words)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("trust", TRUST)
@pytest.mark.parametrize("name", CASES)
def test_out_by_a_proxy(island: Island, tmp_path: Path, name: str, trust: str) -> None:
    """Programs reach by every kind of proxy what they may, and nothing else; the log names the way, and no password."""
    out_by(island, tmp_path, CASES[name], TRUST[trust])


def out_by(island: Island, tmp_path: Path, case: Case, *lines: str) -> None:
    """Hold that programs reach by a proxy what they may, and nothing else."""
    url = f"{case.scheme}://proxy.island.test:{PORTS[case.server]}"
    lines = (*lines, f'via = "{url}"', 'reasons = "full"')
    if case.asks:
        lines += ('credentials = "proxy.secret"',)
    log = tmp_path / "log"
    came = left(island, configured(tmp_path, *lines), log)
    assert came["by name"] == [case.reached, True, [SEEN_NEAR, PORT]]
    assert came["by address"] == [case.reached, True, [SEEN_NEAR, PORT]]  # which is that name's, as it was looked up
    assert came["in a loop"] == [[case.reached, "hello"]] * 5
    closed = came["nobody there"]
    assert (closed["error"], closed["code"], closed["errno"]) == case.closed
    assert came["the proxy itself"]["code"] == "policy-denied"
    assert came["datagram"]["code"] == "via-udp"
    ends = events(log, "end")
    assert {each["via"] for each in ends} == {url}
    moved = [(each["sent"], each["received"]) for each in ends if each["connected"]]
    greeting = len(case.reached) + 1
    assert sorted(moved) == [(6, 6 + greeting)] * 5 + [(1_000_000, 1_000_000 + greeting)] * 2
    assert PASSWORD not in log.read_text()


@pytest.mark.parametrize("trust", ["relay", "fenced"])
def test_out_by_tls(island: Island, tmp_path: Path, trust: str) -> None:
    """The same by a proxy that is spoken to by TLS, and whose certificate is checked."""
    island.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    out_by(island, tmp_path, Case("https", "secure", SEEN_BY_PROXIES, True, _REFUSED), TRUST[trust], 'ca = "ca.pem"')


def test_a_proxy_whose_certificate_is_not_trusted(island: Island, tmp_path: Path) -> None:
    """A proxy of an authority that the host does not know is told nothing, and the program why."""
    lines = (f'via = "https://proxy.island.test:{PORTS["secure"]}"', 'credentials = "proxy.secret"', "trusted = true")
    error = left(island, configured(tmp_path, *lines), tmp_path / "log")["by address"]
    assert (error["error"], error["code"], error["errno"]) == ("WayOutFailed", "via-tls", errno.EPROTO)
    assert "its certificate is not trusted: unable to get local issuer certificate" in error["text"]


@pytest.mark.parametrize("name", ["microsocks with a password", "squid", "tinyproxy"])
def test_the_wrong_password(island: Island, tmp_path: Path, name: str) -> None:
    """A proxy that does not know the gate is said to be that, and where the credentials are."""
    case = CASES[name]
    lines = [f'via = "{case.scheme}://{PROXY}:{PORTS[case.server]}"', "trusted = true", 'credentials = "proxy.secret"']
    config = configured(tmp_path, *lines)
    (tmp_path / "proxy.secret").write_text(f"{USER}:wrong\n")
    error = left(island, config, tmp_path / "log")["by address"]
    assert (error["error"], error["code"], error["errno"]) == ("WayOutFailed", "via-credentials", errno.EACCES)
    assert "does not accept this user and password; credentials under [apps.guest] names a file" in error["text"]
    config.write_text(config.read_text().replace('credentials = "proxy.secret"\n', ""))
    error = left(island, config, tmp_path / "log")["by address"]
    assert error["code"] == "via-credentials"
    assert "it takes no one without credentials" in error["text"]


@pytest.mark.full
def test_some_go_straight_and_from_where_they_are_told(island: Island, tmp_path: Path) -> None:
    """What a way of its own leads to is reached without the proxy, from the address that it says."""
    with island.listen(island.mid, PROXY) as peer:
        lines = (
            f'via = "socks5://{PROXY}:{PORTS["microsocks"]}"',
            "trusted = true",
            f'except = ["{PROXY}:{PORT}"]',
            f'ways = [{{ to = "{PROXY}", source = "{SECOND}" }}]',
        )
        came = left(island, configured(tmp_path, *lines), tmp_path / "log", proxy=[PROXY, PORT])
        assert peer.accepted().client[0] == SECOND
    assert came["by address"][0] == SEEN_NEAR
    straight = [each for each in events(tmp_path / "log", "end") if each["address"] == PROXY]
    assert [each.get("via") for each in straight] == [None] * len(straight)


def test_ipv6_by_a_proxy_that_has_it(island: Island, tmp_path: Path) -> None:
    """What is asked for over IPv6 goes to an IPv4 proxy as well, which reaches it."""
    lines = (f'via = "socks5://{PROXY}:{PORTS["microsocks"]}"', "trusted = true")
    came = left(island, configured(tmp_path, *lines), tmp_path / "log", more=[FAR6])
    assert came[FAR6] == [FAR6, True, [FAR6, PORT]]


def test_sealed(island: Island, tmp_path: Path) -> None:
    """Where the kernel lets nobody but the gate connect, bind or turn its sockets, the gate still does."""
    lines = (
        f'via = "socks5://{PROXY}:{PORTS["microsocks"]}"',
        f'source = "{SECOND}"',
        'trusted = true\npath = "direct"',
        '[gate]\nseal = "require"',
    )
    came = left(island, configured(tmp_path, *lines), tmp_path / "log")
    assert came["by address"] == [SEEN_NEAR, True, [SEEN_NEAR, PORT]]
    assert came["in a loop"] == [[SEEN_NEAR, "hello"]] * 5
    assert came["nobody there"]["errno"] == errno.ECONNREFUSED


def test_under_a_guard(island: Island, tmp_path: Path) -> None:
    """A program without a client goes out by the proxy too, on a socket of the kernel's."""
    via = f'via = "socks5://{PROXY}:{PORTS["microsocks"]}"'
    talk = "read -r first <&3; echo hello >&3; read -r second <&3; echo $first $second"
    ask = f"exec 3<>/dev/tcp/{SEEN_NEAR}/{PORT}; {talk}"
    with guarded.log_of(island) as log:  # type: ignore[arg-type]
        config = configured(log.parent, via, 'trusted = true\npath = "direct"\nguard = true')
        options = ("-q", "--guard", "--config", str(config))
        done = island.execute(*guarded.command(log, "bash", "-c", ask, options=options), **guarded.environ())
        assert (done.returncode, done.stdout) == (0, f"{SEEN_NEAR} hello\n"), done.stderr
        (end,) = events(log, "end")
        assert (end["sent"], end["received"]) == (6, len(SEEN_NEAR) + 7)


def test_without_a_proxy_there_is_no_way(island: Island, tmp_path: Path) -> None:
    """The network is what it is made to be: straight nothing is reached."""
    came = left(island, configured(tmp_path, "trusted = true"), tmp_path / "log")
    assert came["by address"]["errno"] == errno.ENETUNREACH


def test_why_says_by_which_proxy(island: Island, tmp_path: Path) -> None:
    """`outgate why` names the way of what is allowed, and of nothing else."""
    config = configured(tmp_path, 'via = "http://proxy.island.test:3128"', f'ways = [{{ to = "{FAR6}", via = "" }}]')

    def answer(destination: str, *words: str) -> dict[str, Any]:
        command = (sys.executable, "-m", "outgate", "why", "--json", "--config", str(config), *words, destination)
        done = subprocess.run(command, capture_output=True, text=True, env=island.environ())  # type: ignore[arg-type]
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert answer(f"{SEEN_NEAR}:443")["via"] == "http://proxy.island.test:3128"
    assert answer(f"[{FAR6}]:443")["via"] == ""
    assert answer(f"{PROXY}:3128")["via"] == ""
    assert answer(f"{SEEN_NEAR}:53", "--udp")["verdict"] == "deny"
