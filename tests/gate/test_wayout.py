"""Ways out through a real gate: by proxies that connect, lie, stall or end, on both paths, and from an address."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.gate.configuration import config
from outgate.gate.wayout import passages
from outgate.testing.running import RunningGate, ThreadGate
from support import leaving, peers, proxies
from support.driven import Driven
from support.leaving import CODE, FAR, refused, use
from support.proxies import GREETED, Client, Proxy

PATHS = ("auto", "direct")


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


SCHEMES = {"socks5": proxies.socks5, "socks5h": proxies.socks5, "http": proxies.http}


# --- by proxies that connect ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_far_ends_first_word_is_the_programs(gate: RunningGate, program: Driven, scheme: str, path: str) -> None:
    """What comes in the packet of the proxy's last answer is read by the program, and no handshake byte is counted."""
    with Proxy(SCHEMES[scheme](early=b"220 hello")) as proxy:
        use(gate, proxy.url(scheme), f'path = "{path}"')
        program.do(f"s = dial({FAR})")
        assert program.do("s.recv(9, socket.MSG_WAITALL).decode()") == "220 hello"
        assert program.do("exchange(s, b'abc')") == "abc"
        assert program.do("list(s.getpeername())") == list(FAR)
        assert program.do("s.connect_ex(s.getpeername())") == errno.EISCONN
        program.do("s.close()")
        line = gate.log.wait_for(event="end", via=proxy.url(scheme))
        assert (line["sent"], line["received"], line["connected"]) == (3, 12, True)
        assert (line["host"], line["address"], line["path"]) == (FAR[0], FAR[0], "relay" if path == "auto" else path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("timeout", [None, 10])
def test_a_reply_byte_by_byte(gate: RunningGate, program: Driven, path: str, timeout: float | None) -> None:
    """A proxy that dribbles is heard out, and what follows is the far end's."""

    def script(client: Client) -> None:
        client.hear_greeting()
        client.say(b"\x05", b"\x00")
        client.hear_request()
        client.say(*(bytes([byte]) for byte in proxies.REPLIED + b"far"))
        client.echo()

    with Proxy(script) as proxy:
        use(gate, proxy.url("socks5"), f'path = "{path}"')
        program.do(f"s = dial({FAR}, {timeout})")
        said = ""
        while len(said) < 3 and (
            more := program.do("s.recv(3).decode()")
        ):  # a socket with a time-out does not wait for all
            said += more
        assert said == "far"
        program.do("s.close()")


def test_a_socket_is_not_writable_before_the_proxy_has_connected(gate: RunningGate, program: Driven) -> None:
    """A connect that does not wait is in progress until then, to poll as to a second connect; nothing can be sent."""
    over = threading.Event()
    with Proxy(lambda client: over.wait(peers.PATIENCE)) as proxy:
        use(gate, proxy.url("socks5"))
        program.do(f"s = socket.socket(); s.setblocking(False); n = s.connect_ex({FAR})")
        assert program.do("n") == errno.EINPROGRESS
        client = proxy.next()
        client.hear_greeting()
        assert program.do("len(select.select([], [s], [], 0)[1])") == 0
        assert program.do(f"s.connect_ex({FAR})") == errno.EALREADY
        assert refused(program, "s.send(b'x')").errno == errno.EAGAIN
        client.say(GREETED)
        assert client.hear_request() == FAR
        assert program.do("len(select.select([], [s], [], 0)[1])") == 0
        client.say(proxies.REPLIED)
        assert program.do("len(select.select([], [s], [], 20)[1])") == 1
        assert program.do("s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)") == 0
        program.do("s.send(b'first word')")
        assert client.hear(10) == b"first word"
        program.do("s.close()")
        over.set()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_event_loops(gate: RunningGate, program: Driven, scheme: str, path: str) -> None:
    """asyncio connects by a proxy as it does without one."""
    with Proxy(SCHEMES[scheme]()) as proxy:
        use(gate, proxy.url(scheme), f'path = "{path}"')
        assert program.do(f"asyncio.run(streams({FAR[0]!r}, {FAR[1]}, b'over it'))") == "over it"


@pytest.mark.parametrize("path", PATHS)
def test_credentials_are_shown_to_the_proxy(gate: RunningGate, program: Driven, path: str, tmp_path: Any) -> None:
    """They come from the file, and go to the proxy alone."""
    (tmp_path / "secret").write_text("gate:pass:word\n")
    (tmp_path / "secret").chmod(0o600)
    with Proxy(proxies.http()) as proxy:
        use(gate, proxy.url("http"), f'path = "{path}"', f'credentials = "{tmp_path}/secret"')
        program.do(f"s = dial({FAR})")
        assert b"Proxy-Authorization: Basic Z2F0ZTpwYXNzOndvcmQ=\r\n" in proxy.next().heard
        assert program.do("exchange(s, b'abc')") == "abc"
        program.do("s.close()")


# --- by proxies that do not -------------------------------------------------------------------------------------------

LIES: dict[str, tuple[str, proxies.Script, str | None, int]] = {
    "ends at once": ("socks5", lambda client: None, "via-ended", errno.ECONNABORTED),
    "ends in the middle": ("socks5", proxies.answering(GREETED, b"\x05\x00\x00"), "via-ended", errno.ECONNABORTED),
    "speaks HTTP": ("socks5", proxies.answering(b"HTTP/1.1 400 Bad\r\n\r\n"), "via-garbage", errno.EPROTO),
    "speaks SOCKS": ("http", proxies.answering(GREETED), "via-garbage", errno.EPROTO),
    "wants a password": ("socks5", proxies.answering(b"\x05\xff"), "via-credentials", errno.EACCES),
    "wants GSSAPI": ("socks5", proxies.answering(b"\x05\x01"), "via-credentials", errno.EACCES),
    "wants credentials": ("http", proxies.answering(b"HTTP/1.1 407 x\r\n\r\n"), "via-credentials", errno.EACCES),
    "forbids": ("http", proxies.answering(b"HTTP/1.1 403 x\r\n\r\n"), "via-refused", errno.EACCES),
    "fails": ("socks5", proxies.answering(GREETED, b"\x05\x01\x00\x01" + bytes(6)), "via-refused", errno.EHOSTUNREACH),
    "says refused": ("socks5", proxies.answering(GREETED, b"\x05\x05\x00\x01" + bytes(6)), None, errno.ECONNREFUSED),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("lie", LIES)
def test_a_proxy_that_lies(gate: RunningGate, program: Driven, lie: str, path: str) -> None:
    """The connect fails with what was wrong, the log has it, and the same socket connects when the proxy is honest."""
    scheme, script, code, number = LIES[lie]
    with Proxy(script) as proxy:
        use(gate, proxy.url(scheme), f'path = "{path}"')
        program.do("s = socket.socket()")
        error = refused(program, f"s.connect({FAR})")
        assert (error.code, error.errno) == (code, number)
        if code is not None:
            assert error.name == "WayOutFailed"
            assert proxy.url(scheme) in str(error)
            line = gate.log.wait_for(event="way-out-failed", via=proxy.url(scheme))
            assert (line["app"], line["host"], line["port"]) == ("default", *FAR)
            assert line["reason"] in str(error)
        line = gate.log.wait_for(event="end", via=proxy.url(scheme))
        assert (line["how"], line["connected"], line["sent"], line["received"]) == ("failed", False, 0, 0)
        proxy.script = SCHEMES[scheme]()
        program.do(f"s.connect({FAR})")
        assert program.do("exchange(s, b'abc')") == "abc"
        program.do("s.close()")


@pytest.mark.parametrize("path", PATHS)
def test_a_proxy_that_is_not_there(gate: RunningGate, program: Driven, path: str) -> None:
    """It is said of the way out, not of the far end; and an event loop hears of it too."""
    with peers.refusing() as (host, port):
        use(gate, f"socks5://{host}:{port}", f'path = "{path}"')
        error = refused(program, f"dial({FAR})")
        assert (error.code, error.errno) == ("via-unreachable", errno.ENETUNREACH)
        assert "Connection refused" in str(error)
        error = refused(program, f"asyncio.run(streams({FAR[0]!r}, {FAR[1]}, b''))")
        assert error.errno == errno.ENETUNREACH
        assert program.do(f"socket.socket().connect_ex({FAR})") == errno.ENETUNREACH


@pytest.mark.parametrize("path", PATHS)
def test_a_proxys_name_that_leads_nowhere(gate: RunningGate, program: Driven, path: str) -> None:
    """A name without an address is said to be the proxy's."""
    use(gate, "http://proxy.invalid:3128", f'path = "{path}"')
    error = refused(program, f"dial({FAR})")
    assert error.code == "via-unreachable"
    assert "http://proxy.invalid:3128 cannot be reached: " in str(error)


@pytest.mark.parametrize("path", PATHS)
def test_a_program_that_does_not_wait_so_long(gate: RunningGate, program: Driven, path: str) -> None:
    """A time-out of the program's own ends its connect as natively, while the proxy stalls."""
    with Proxy(proxies.answering(stalls=True)) as proxy:
        use(gate, proxy.url("socks5"), f'path = "{path}"')
        error = refused(program, f"dial({FAR}, 0.2)")
        assert error.name == "TimeoutError"
        assert str(error).endswith("timed out")
        program.do(f"s = socket.socket(); s.settimeout(0.2); n = s.connect_ex({FAR}); s.close()")
        assert program.do("n") == errno.EAGAIN


def test_a_program_that_goes_in_the_middle(gate: RunningGate, program: Driven) -> None:
    """Closing ends the handshake, and the proxy sees the connection end."""
    with Proxy(proxies.answering(GREETED, stalls=True)) as proxy:
        use(gate, proxy.url("socks5"))
        program.do(f"s = socket.socket(); s.setblocking(False); s.connect_ex({FAR})")
        client = proxy.next()
        program.do("s.close()")
        line = gate.log.wait_for(event="end", via=proxy.url("socks5"))
        assert (line["how"], line["sent"], line["received"]) == ("closed", 0, 0)
        client.wait_for_end()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("answers", "code"),
    [((), "via-timeout"), ((GREETED,), "via-timeout"), (None, "via-unreachable")],
    ids=["says nothing", "is asked and says nothing", "does not accept"],
)
def test_a_proxy_that_stalls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, answers: tuple[bytes, ...] | None, code: str
) -> None:
    """Each state has a limit, after which the connect fails with the reason."""
    for limit in ("PATIENCE", "FAR_PATIENCE", "HELD_PATIENCE"):
        monkeypatch.setattr(passages, limit, 0.2)
    with contextlib.ExitStack() as stack:
        if answers is None:
            host, port = stack.enter_context(peers.hanging())
            url = f"socks5://{host}:{port}"
        else:
            url = stack.enter_context(Proxy(proxies.answering(*answers, stalls=True))).url("socks5")
        file = tmp_path / "outgate.toml"
        file.write_text(leaving.configuration(f'via = "{url}"\npath = "{path}"'))
        gate = stack.enter_context(ThreadGate(config.load(str(file))))
        program = stack.enter_context(Driven(gate))
        program.do(CODE)
        error = refused(program, f"dial({FAR})")
        assert error.code == code
        if code == "via-timeout":
            assert "has not answered within 0.2 s" in str(error)
        assert gate.log.wait_for(event="way-out-failed")["code"] == code
        assert gate.faults == []


@pytest.mark.parametrize("path", ["direct", "auto"])
def test_a_socket_that_is_passed_on(gate: RunningGate, program: Driven, path: str) -> None:
    """Whoever takes it finds it connected to where it was asked to go."""
    with Proxy(proxies.socks5()) as proxy:
        use(gate, proxy.url("socks5"), f'path = "{path}"')
        program.do(f"import pickle; s = dial({FAR}); t = pickle.loads(pickle.dumps(s)); s.close()")
        assert program.do("exchange(t, b'abc')") == "abc"
        assert program.do("list(t.getpeername())") == list(FAR)
        program.do("t.close()")


def test_what_the_gate_fetches_leaves_by_the_proxy(gate: RunningGate, program: Driven) -> None:
    """URL Fetch goes the app's way, and says what is wrong with it."""

    def page(client: Client) -> None:
        client.hear_head()
        client.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nfar")

    with Proxy(proxies.http(behind=page)) as proxy:
        use(gate, proxy.url("http"))
        program.do(f"from outgate import urlfetch; a = urlfetch.fetch('http://{FAR[0]}:{FAR[1]}/')")
        assert program.do("a.content.decode()") == "far"
        proxy.script = proxies.answering(b"HTTP/1.1 403 No\r\n\r\n")
        error = refused(program, f"urlfetch.fetch('http://{FAR[0]}:{FAR[1]}/')")
        assert "403 No" in str(error)


def test_a_program_that_is_killed_in_the_middle(gate: RunningGate) -> None:
    """Of a socket that it holds itself the handshake ends as well, and is neither a connection nor anybody's bytes."""
    asked = threading.Event()

    def script(client: Client) -> None:
        client.hear_greeting()
        client.say(GREETED)
        client.hear_request()
        asked.set()
        client.wait_for_end()

    with Proxy(script) as proxy:
        use(gate, proxy.url("socks5"), 'path = "direct"')
        code = f"import socket; socket.create_connection({FAR})"
        with gate.program("-c", code) as process:
            assert asked.wait(peers.PATIENCE)
            process.kill()
            process.communicate()
        line = gate.log.wait_for(event="end", via=proxy.url("socks5"))
        assert (line["connected"], line["sent"], line["received"]) == (False, 0, 0)


# --- the policy -------------------------------------------------------------------------------------------------------


def test_the_policy_judges_as_without_a_proxy(gate: RunningGate, program: Driven) -> None:
    """What is denied is denied before the proxy hears of it, the proxy's own neighbours among it."""
    with Proxy(proxies.socks5()) as proxy:
        use(gate, proxy.url("socks5"))
        for host in ("198.51.100.1", "10.0.0.1", "169.254.169.254"):
            assert refused(program, f"dial(({host!r}, 80))").name == "PolicyDenied"
        assert proxy.clients.empty()


def test_brief_reasons_do_not_name_the_proxy(gate: RunningGate, program: Driven) -> None:
    """Where a program is told no more than it knows it is not told by which proxy it leaves; the log has it."""
    with Proxy(proxies.answering(b"\x05\xff")) as proxy:
        use(gate, proxy.url("socks5"), 'reasons = "brief"')
        error = refused(program, f"dial({FAR})")
        assert error.code == "via-credentials"
        assert str(proxy.address[1]) not in str(error)
        assert gate.log.wait_for(event="way-out-failed", via=proxy.url("socks5"))


def test_some_destinations_have_a_way_of_their_own(gate: RunningGate, program: Driven) -> None:
    """The first entry that matches decides, and \"\" is the host's own way."""
    with Proxy(proxies.socks5()) as proxy, peers.echo() as peer:
        use(gate, proxy.url("socks5"), 'ways = [{ to = "127.0.0.0/8", via = "" }]')
        program.do(f"s = dial({peer.address})")
        assert program.do("exchange(s, b'straight')") == "straight"
        assert proxy.clients.empty()
        program.do(f"t = dial({FAR})")
        assert program.do("exchange(t, b'led')") == "led"
        program.do("s.close(); t.close()")
        assert "via" not in gate.log.wait_for(event="end", port=peer.address[1])


def test_datagrams_are_refused_with_a_reason(gate: RunningGate, program: Driven) -> None:
    """No proxy takes UDP: who sends is told so, and what would give it a way."""
    use(gate, "socks5://127.0.0.1:1080")
    error = refused(program, f"socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect({FAR})")
    assert error.code == "via-udp"
    assert f'to = "udp://{FAR[0]}:{FAR[1]}" with via = ""' in str(error)


# --- from an address --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_connections_leave_from_the_source(gate: RunningGate, program: Driven, path: str) -> None:
    """The far end sees the address that the configuration says, each time with a port of its own."""
    with peers.echo() as peer:
        assert gate.reload(leaving.configuration(f'source = "127.0.0.9"\npath = "{path}"'))["ok"]
        program.do(f"s, t = dial({peer.address}), dial({peer.address})")
        assert [peer.accepted().client[0] for _ in range(2)] == ["127.0.0.9"] * 2
        assert program.do("s.getsockname()[0]") == "127.0.0.9"
        assert program.do("s.getsockname()[1] != t.getsockname()[1]")
        program.do("s.close(); t.close()")


def test_the_proxy_is_reached_from_the_source(gate: RunningGate, program: Driven) -> None:
    """With both, it is the connection to the proxy that leaves from there; a name's IPv6 socket reaches it as well."""
    with Proxy(proxies.socks5()) as proxy:
        use(gate, proxy.url("socks5"), 'source = "127.0.0.9"')
        program.do(f"s = dial({FAR})")
        assert proxy.next().address[0] == "127.0.0.9"
        program.do(f"t = socket.socket(socket.AF_INET6); t.connect(('::ffff:{FAR[0]}', {FAR[1]}))")
        assert proxy.next().address[0] == "127.0.0.9"
        assert program.do("exchange(t, b'abc')") == "abc"
        program.do("s.close(); t.close()")


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_source_that_the_host_does_not_have(gate: RunningGate, program: Driven, path: str) -> None:
    """Nothing leaves from elsewhere instead: the connect is refused, and so is what is of the other IP version."""
    with peers.echo() as peer:
        assert gate.reload(leaving.configuration(f'source = "192.0.2.77"\npath = "{path}"'))["ok"]
        error = refused(program, f"dial({peer.address})")
        assert (error.code, error.errno) == ("source-missing", errno.EADDRNOTAVAIL)
        assert refused(program, "socket.socket(socket.AF_INET6).connect(('::1', 80))").code == "source-family"
        datagrams = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
        assert refused(program, f"{datagrams}.connect({peer.address})").code == "source-missing"


def test_datagrams_leave_from_the_source(gate: RunningGate, program: Driven) -> None:
    """So does the answer come back there, bound or not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(peers.PATIENCE)
        assert gate.reload(leaving.configuration('source = "127.0.0.9"'))["ok"]
        for bind in ("", "u.bind(('', 0)); "):
            program.do(
                f"u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); {bind}u.sendto(b'x', {peer.getsockname()})"
            )
            data, address = peer.recvfrom(10)
            assert (data, address[0]) == (b"x", "127.0.0.9")
            peer.sendto(b"y", address)
            assert program.do("u.recv(10).decode()") == "y"
            assert program.do("u.getsockname()[0]") == "127.0.0.9"
            program.do("u.close()")
