"""Ways out by proxies that are spoken to by TLS: whom the gate trusts, and that no byte is lost, added or held back."""

from __future__ import annotations

import errno
import hashlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from outgate.gate.configuration import config
from outgate.gate.wayout import passages
from outgate.testing.running import RunningGate, ThreadGate
from support import doors, leaving, proxies
from support.driven import Driven
from support.leaving import CODE, FAR, refused, use
from support.proxies import Client, Proxy, Script

AUTHORITY = trustme.CA()
Secured = Callable[[Script], Script]


def context(*names: str, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    """Return a server's side of TLS, with a certificate for these names."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(made)
    return made


SERVER = context("127.0.0.1")


def secured(script: Script) -> Script:
    """Return a script behind TLS."""
    return proxies.secured(script, SERVER)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The line of a configuration that trusts these proxies."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return f'ca = "{path}"'


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate whose configuration each test writes."""
    with RunningGate(config=leaving.configuration("")) as running:
        yield running
        assert running.faults == []


@pytest.fixture
def program(gate: RunningGate) -> Iterator[Driven]:
    """A program that begins when the test has written its configuration."""
    with leaving.program_of(gate) as made:
        yield made


def test_the_far_ends_first_word_is_the_programs(gate: RunningGate, program: Driven, ca: str) -> None:
    """What comes sealed with the proxy's answer is read by the program; bytes are those of the program alone."""
    with Proxy(secured(proxies.http(early=b"220 hello"))) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do(f"s = dial({FAR})")
        assert program.do("s.recv(9, socket.MSG_WAITALL).decode()") == "220 hello"
        assert program.do("exchange(s, b'abc')") == "abc"
        assert program.do("list(s.getpeername())") == list(FAR)
        program.do("s.close()")
        line = gate.log.wait_for(event="end", via=proxy.url("https"))
        assert (line["sent"], line["received"], line["how"], line["path"]) == (3, 12, "closed", "relay")
        proxy.script = secured(proxies.http())
        assert program.do(f"asyncio.run(streams({FAR[0]!r}, {FAR[1]}, b'over it'))") == "over it"


def test_credentials_go_sealed(gate: RunningGate, program: Driven, ca: str, tmp_path: Path) -> None:
    """They are the same as without TLS, and are said behind it."""
    (tmp_path / "secret").write_text("gate:pass:word\n")
    (tmp_path / "secret").chmod(0o600)
    with Proxy(secured(proxies.http())) as proxy:
        use(gate, proxy.url("https"), ca, f'credentials = "{tmp_path}/secret"')
        program.do(f"s = dial({FAR})")
        client = proxy.next()
        assert program.do("exchange(s, b'abc')") == "abc"
        assert b"Proxy-Authorization: Basic Z2F0ZTpwYXNzOndvcmQ=\r\n" in client.heard
        program.do("s.close()")


def test_much_both_ways(gate: RunningGate, program: Driven, ca: str) -> None:
    """Megabytes that go and come at one time arrive as they were, and are counted to the byte."""
    with Proxy(secured(proxies.http())) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do(f"import os, threading; s = dial({FAR}); data = os.urandom(8_000_000); got = bytearray()")
        program.do("t = threading.Thread(target=s.sendall, args=(data,)); t.start()")
        program.do("while len(got) < len(data): got += s.recv(1 << 20)")
        assert program.do("t.join() or bytes(got) == data") is True
        program.do("s.close()")
        line = gate.log.wait_for(event="end", via=proxy.url("https"))
        assert (line["sent"], line["received"]) == (8_000_000, 8_000_000)


def test_half_of_it_ends(gate: RunningGate, program: Driven, ca: str) -> None:
    """A program that has ended its sending reads on: the far end hears the end, and what it says then arrives."""

    def answer(client: Client) -> None:
        said = client.wait_for_end()
        client.say(hashlib.sha1(said).hexdigest().encode())

    with Proxy(secured(proxies.http(behind=answer))) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do(f"s = dial({FAR}); s.sendall(b'x' * 300_000); s.shutdown(socket.SHUT_WR)")
        expected = hashlib.sha1(b"x" * 300_000).hexdigest()
        assert program.do("s.recv(40, socket.MSG_WAITALL).decode()") == expected
        assert program.do("len(s.recv(1))") == 0
        program.do("s.close()")


def test_all_that_was_sent_arrives(gate: RunningGate, program: Driven, ca: str) -> None:
    """A program closes at once behind what it has sent, and a far end that is slow gets it all."""
    go, heard = threading.Event(), queue.SimpleQueue[bytes]()

    def behind(client: Client) -> None:
        go.wait(20)
        heard.put(client.wait_for_end())

    with Proxy(secured(proxies.http(behind=behind))) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do(f"s = dial({FAR}); s.setblocking(False); n = 0")
        program.do("while select.select([], [s], [], 0.3)[1]: n += s.send(b'y' * 65536)")
        count = program.do("n")
        program.do("s.close()")
        go.set()
        assert len(heard.get(timeout=20)) == count
        assert gate.log.wait_for(event="end", via=proxy.url("https"))["sent"] == count


def test_an_end_that_tls_does_not_say(gate: RunningGate, program: Driven, ca: str) -> None:
    """A connection that ends without TLS's word for it may lack something: that is a reset, never an end of file."""

    def cut_off(client: Client) -> None:
        client.hear(1)
        client.say(b"half")
        socket.socket.shutdown(client.sock, socket.SHUT_WR)

    with Proxy(secured(proxies.http(behind=cut_off))) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do(f"s = dial({FAR}); s.sendall(b'x')")
        assert program.do("s.recv(4, socket.MSG_WAITALL).decode()") == "half"
        assert refused(program, "s.recv(1)").errno == errno.ECONNRESET
        program.do("s.close()")
        assert gate.log.wait_for(event="end", via=proxy.url("https"))["how"] == "reset"


WRONG: dict[str, tuple[Script, str]] = {
    "somebody else's certificate": (
        proxies.secured(proxies.http(), context("127.0.0.1", authority=trustme.CA())),
        "its certificate is not trusted: unable to get local issuer certificate",
    ),
    "another's name": (
        proxies.secured(proxies.http(), context("127.0.0.2", "proxy.corp")),
        "its certificate is not trusted: IP address mismatch, certificate is not valid for '127.0.0.1'",
    ),
    "no TLS": (proxies.answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "wrong version number"),
    "an end": (proxies.answering(b""), "it ended the connection in the middle of TLS"),
}


@pytest.mark.parametrize("name", WRONG)
def test_who_is_not_trusted(gate: RunningGate, program: Driven, ca: str, name: str) -> None:
    """The connect fails with what is wrong, nothing was said to the proxy, and the socket connects to a right one."""
    script, why = WRONG[name]
    with Proxy(script) as proxy:
        use(gate, proxy.url("https"), ca)
        program.do("s = socket.socket()")
        error = refused(program, f"s.connect({FAR})")
        assert (error.name, error.code, error.errno) == ("WayOutFailed", "via-tls", errno.EPROTO)
        assert f"{proxy.url('https')} cannot be spoken to by TLS: {why}" in str(error)
        assert b"CONNECT" not in proxy.next().heard
        proxy.script = secured(proxies.http())
        program.do(f"s.connect({FAR})")
        assert program.do("exchange(s, b'abc')") == "abc"
        program.do("s.close()")


def test_the_hosts_authorities(gate: RunningGate, program: Driven) -> None:
    """Without a ``ca`` those that the host trusts are trusted, and this one is not among them."""
    with Proxy(secured(proxies.http())) as proxy:
        use(gate, proxy.url("https"))
        error = refused(program, f"dial({FAR})")
        assert "its certificate is not trusted: unable to get local issuer certificate" in str(error)


def test_a_proxy_that_stalls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ca: str) -> None:
    """A proxy that does not come to an agreement on TLS has its time, as for every answer."""
    monkeypatch.setattr(passages, "PATIENCE", 0.2)
    with Proxy(proxies.answering(stalls=True)) as proxy:
        file = tmp_path / "outgate.toml"
        file.write_text(leaving.configuration(f'via = "{proxy.url("https")}"\n{ca}'))
        with ThreadGate(config.load(str(file))) as gate, Driven(gate) as program:
            program.do(CODE)
            assert refused(program, f"dial({FAR})").code == "via-timeout"
            assert gate.faults == []


def test_by_a_door(ca: str, tmp_path: Path) -> None:
    """What comes by a door leaves by such a proxy as well."""
    with Proxy(secured(proxies.http(early=b"220 hello"))) as proxy:
        more = f'via = "{proxy.url("https")}"\n{ca}'
        with doors.running(tmp_path, more) as door:
            with door.connect("127.0.0.1", 4321) as sock:
                assert doors.read(sock, 9) == b"220 hello"
                sock.sendall(b"x" * 100_000)
                assert doors.read(sock, 100_000) == b"x" * 100_000
                sock.shutdown(socket.SHUT_WR)
                assert doors.read(sock, 1) == b""
            line = door.gate.wait_for(event="end", via=proxy.url("https"))
            assert (line["sent"], line["received"]) == (100_000, 100_009)
            assert door.gate.faults == []
