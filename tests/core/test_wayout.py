"""Ways out: what a proxy is called, what is said to one and heard from it, and which way a destination has."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.address import addresses
from outgate.core.policy.decide import ALLOW, DENY, Ask, Policy, decide
from outgate.core.wayout import choice, proxy
from outgate.core.wayout.choice import STRAIGHT, Entry, WayOut, WaysOut
from outgate.core.wayout.handshake import Failed, Handshake, Target
from outgate.core.wayout.httpconnect import MOST, HttpConnect
from outgate.core.wayout.proxy import Credentials, Proxy
from outgate.core.wayout.socks5 import Socks5
from outgate.errors import ConfigError

WHERE = Target("db.corp", 5432)
ME = Credentials(b"gate", b"p:w")


# --- what a proxy is called -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("socks5h://proxy.corp:1081", Proxy("socks5h", "proxy.corp", 1081)),
        ("socks5://10.0.0.1", Proxy("socks5", "10.0.0.1", 1080)),
        ("SOCKS5H://Proxy.Corp.:1080/", Proxy("socks5h", "proxy.corp", 1080)),
        ("http://proxy", Proxy("http", "proxy", 8080)),
        ("https://Proxy.corp", Proxy("https", "proxy.corp", 443)),
        ("https://[2001:DB8::1]:8443/", Proxy("https", "2001:db8::1", 8443)),
        ("http://[2001:DB8::1]:3128", Proxy("http", "2001:db8::1", 3128)),
        ("http://0x7f.1:3128", Proxy("http", "127.0.0.1", 3128)),
    ],
)
def test_a_url_names_a_proxy(text: str, meant: Proxy) -> None:
    """Scheme, host and port are read as they are meant, and are written in one way."""
    assert proxy.parse(text) == meant
    assert proxy.parse(str(meant)) == meant


def test_tls_is_beside_what_is_said() -> None:
    """Of a proxy that is spoken to by TLS the same is asked as without, by the name; it alone has TLS."""
    assert [scheme for scheme in proxy.PORTS if proxy.parse(f"{scheme}://proxy").is_tls] == ["https"]
    for scheme in ("http", "https"):
        asked = choice.handshake(proxy.parse(f"{scheme}://proxy"), WHERE)
        assert asked.say() == HttpConnect(WHERE).say()
    assert choice.target(proxy.parse("https://proxy"), "10.0.0.5", 5432, "db.corp") == WHERE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("proxy.corp:1080", "is not the URL of a proxy"),
        ("", "is not the URL of a proxy"),
        ("socks5h://proxy corp", "is not the URL of a proxy"),
        ("socks5h://proxy\n", "is not the URL of a proxy"),
        ("socks4://proxy", "socks4 is not offered"),
        ("ftp://proxy", 'unknown scheme "ftp"; one of socks5://, socks5h://, http://, https://'),
        ("http://user:hidden@proxy", "has credentials in it"),
        ("http://user@proxy", "has credentials in it"),
        ("http://proxy:0", '"0" is not a port'),
        ("http://proxy:65536", '"65536" is not a port'),
        ("http://proxy:http", '"http" is not a port'),
        ("http://:80", "says no host"),
        ("http://[10.0.0.1]:80", "the brackets hold no IPv6 address"),
        ("http://prox_*y", "is no name of a host"),
        ("http://proxy:80/path", '"/path" behind the port means nothing'),
        ("http://proxy:80?x", '"?x" behind the port means nothing'),
    ],
)
def test_what_names_none_is_refused(text: str, says: str) -> None:
    """What is no proxy, or one that is not offered, is refused in words, and never with the password in them."""
    with pytest.raises(ValueError) as caught:
        proxy.parse(text)
    assert str(caught.value).startswith(says) or says in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "meant"),
    [
        (b"gate:p:w", ME),
        (b"gate:p:w\n", ME),
        (b"gate:p:w\r\n", ME),
        (b"gate:\n\n", Credentials(b"gate", b"")),
        ("bücher:ä".encode(), Credentials("bücher".encode(), "ä".encode())),
        (b"u" * 255 + b":" + b"p" * 255, Credentials(b"u" * 255, b"p" * 255)),
    ],
)
def test_credentials_are_one_line(content: bytes, meant: Credentials) -> None:
    """The first colon separates user and password, and one line end is no part of them."""
    assert proxy.parse_credentials(content) == meant


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"gate", b":p", b"a:b\nc:d", b"a:b\0", b"a\t:b", b"u" * 256 + b":p", b"u:" + b"p" * 256]
)
def test_what_holds_no_credentials_is_refused(content: bytes) -> None:
    """Several lines, no user, what is too long, and characters that no proxy can be told are refused."""
    with pytest.raises(ValueError):
        proxy.parse_credentials(content)


def test_a_password_is_never_shown() -> None:
    """Neither credentials nor the proxy that has them show them when they are printed."""
    made = Proxy("http", "proxy", 80, ME)
    assert "p:w" not in repr(ME) + repr(made) + str(made) + repr(WayOut(made)) + WayOut(made).text


# --- the handshakes ---------------------------------------------------------------------------------------------------


def play(handshake: Handshake, answers: Sequence[bytes], size: int, behind: bytes = b"") -> tuple[list[bytes], bytes]:
    """Answer what is said, in pieces of a size; return what was said, and what was left behind the last answer."""
    said = [handshake.say()]
    stream = b""
    for number, answer in enumerate(answers):
        stream += answer + (behind if number == len(answers) - 1 else b"")
        while stream and not handshake.is_done:
            piece = stream[:size]
            taken = handshake.take(piece)
            assert taken <= len(piece)
            assert taken or handshake.is_done, "it makes no progress"
            stream = stream[taken:]
        said.append(handshake.say())
    assert handshake.say() == b"", "what was said is not said again"
    return said, stream


IPV4_REPLY = b"\x05\x00\x00\x01\x0a\x00\x00\x01\x1f\x90"
IPV6_REPLY = b"\x05\x00\x00\x04" + bytes(16) + b"\x00\x50"
NAME_REPLY = b"\x05\x00\x00\x03\x04host\x00\x50"
OK = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n"

GOOD: dict[str, tuple[Callable[[], Handshake], list[bytes]]] = {
    "socks5, IPv4 bound": (lambda: Socks5(WHERE), [b"\x05\x00", IPV4_REPLY]),
    "socks5, IPv6 bound": (lambda: Socks5(WHERE), [b"\x05\x00", IPV6_REPLY]),
    "socks5, a name bound": (lambda: Socks5(WHERE), [b"\x05\x00", NAME_REPLY]),
    "socks5, an empty name bound": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x00\x00\x03\x00\x00\x00"]),
    "socks5, password": (lambda: Socks5(WHERE, ME), [b"\x05\x02", b"\x01\x00", IPV4_REPLY]),
    "socks5, password of the protocol's version": (lambda: Socks5(WHERE, ME), [b"\x05\x02", b"\x05\x00", IPV4_REPLY]),
    "http": (lambda: HttpConnect(WHERE), [OK]),
    "http 1.0 without a reason": (lambda: HttpConnect(WHERE), [b"HTTP/1.0 200\r\n\r\n"]),
    "http, bare line feeds": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 200 OK\nA: b\n\n"]),
    "http, 204": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 204 x\r\nContent-Length: 99\r\n\r\n"]),
    "http, more to come": (lambda: HttpConnect(WHERE, ME), [b"HTTP/1.1 100 Continue\r\n\r\n" + OK]),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
@pytest.mark.parametrize("name", GOOD)
def test_just_the_proxys_bytes_are_taken(name: str, size: int) -> None:
    """However an answer is cut up, it is understood, and what the far end says behind it is left to the program."""
    make, answers = GOOD[name]
    handshake = make()
    _, left = play(handshake, answers, size, behind=b"220 hello\r\n\r\n")
    assert handshake.is_done
    # What stood in the same piece is left, and what came later is never looked at.
    assert left == b"220 hello\r\n\r\n"


def test_what_socks5_says() -> None:
    """Greeting, password and request are byte by byte as the RFCs have them."""
    said, _ = play(Socks5(WHERE, ME), [b"\x05\x02", b"\x01\x00", IPV4_REPLY], 4096)
    assert said == [b"\x05\x02\x00\x02", b"\x01\x04gate\x03p:w", b"\x05\x01\x00\x03\x07db.corp\x15\x38", b""]
    said, _ = play(Socks5(Target("192.0.43.8", 80)), [b"\x05\x00", IPV4_REPLY], 4096)
    assert said == [b"\x05\x01\x00", b"\x05\x01\x00\x01\xc0\x00\x2b\x08\x00\x50", b""]
    said, _ = play(Socks5(Target("2001:500:88::1", 80)), [b"\x05\x00", IPV4_REPLY], 4096)
    assert said[1] == b"\x05\x01\x00\x04\x20\x01\x05\x00\x00\x88" + bytes(9) + b"\x01\x00\x50"


def test_what_http_says() -> None:
    """The request has the authority twice, brackets where it is IPv6, and credentials where there are some."""
    assert HttpConnect(WHERE).say() == b"CONNECT db.corp:5432 HTTP/1.1\r\nHost: db.corp:5432\r\n\r\n"
    said = HttpConnect(Target("2001:500:88::1", 443), ME).say()
    assert said == (
        b"CONNECT [2001:500:88::1]:443 HTTP/1.1\r\nHost: [2001:500:88::1]:443\r\n"
        b"Proxy-Authorization: Basic Z2F0ZTpwOnc=\r\n\r\n"
    )


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "é"])
def test_what_cannot_be_asked_for_is_not_sent(host: str) -> None:
    """A host that would end a line of HTTP is refused before a byte is said."""
    with pytest.raises(ValueError):
        HttpConnect(Target(host, 80))


BAD: dict[str, tuple[Callable[[], Handshake], list[bytes], int, str, str]] = {
    "no SOCKS": (lambda: Socks5(WHERE), [b"HTTP/1.1 400 Bad"], 0, "via-garbage", ""),
    "SOCKS4": (lambda: Socks5(WHERE), [b"\x00\x5b"], 0, "via-garbage", ""),
    "nobody without a password": (lambda: Socks5(WHERE), [b"\x05\xff"], 0, "via-credentials", "without credentials"),
    "no password taken": (lambda: Socks5(WHERE, ME), [b"\x05\xff"], 0, "via-credentials", "takes no password"),
    "another kind": (lambda: Socks5(WHERE, ME), [b"\x05\x01"], 0, "via-credentials", "number 1"),
    "a kind not offered": (lambda: Socks5(WHERE), [b"\x05\x02"], 0, "via-credentials", "number 2"),
    "wrong password": (lambda: Socks5(WHERE, ME), [b"\x05\x02", b"\x01\x01"], 0, "via-credentials", "does not accept"),
    "garbage for a password": (lambda: Socks5(WHERE, ME), [b"\x05\x02", b"HT"], 0, "via-garbage", ""),
    "general failure": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x01"], 0, "via-refused", "general failure"),
    "not allowed": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x02\x00\x01" + bytes(6)], 0, "via-refused", "rules"),
    "an unknown reply": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x63"], 0, "via-refused", "reply 99"),
    "an unknown kind of address": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x00\x00\x09\x00"], 0, "via-garbage", ""),
    "another version": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x04\x00"], 0, "via-garbage", ""),
    "network unreachable": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x03"], errno.ENETUNREACH, "", ""),
    "host unreachable": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x04"], errno.EHOSTUNREACH, "", ""),
    "refused": (lambda: Socks5(WHERE), [b"\x05\x00", b"\x05\x05"], errno.ECONNREFUSED, "", ""),
    "no HTTP": (lambda: HttpConnect(WHERE), [b"SSH-2.0-OpenSSH"], 0, "via-garbage", "SSH-2"),
    "SOCKS where HTTP is": (lambda: HttpConnect(WHERE), [b"\x05\x00"], 0, "via-garbage", ""),
    "no status": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 abc\r\n\r\n"], 0, "via-garbage", ""),
    "HTTP 2": (lambda: HttpConnect(WHERE), [b"HTTP/2 200\r\n\r\n"], 0, "via-garbage", ""),
    "an endless head": (
        lambda: HttpConnect(WHERE),
        [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MOST],
        0,
        "via-garbage",
        "",
    ),
    "for ever more to come": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 102 x\r\n\r\n" * 99], 0, "via-refused", "102 x"),
    "another protocol": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 101 x\r\n\r\n"], 0, "via-refused", "101 x"),
    "who are you": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 407 x\r\n\r\n"], 0, "via-credentials", "without"),
    "wrong": (lambda: HttpConnect(WHERE, ME), [b"HTTP/1.1 407 x\r\n\r\n"], 0, "via-credentials", "does not accept"),
    "wrong, says tinyproxy": (
        lambda: HttpConnect(WHERE, ME),
        [b"HTTP/1.0 401 Unauthorized\r\n\r\n"],
        0,
        "via-credentials",
        "does not accept",
    ),
    "Digest": (
        lambda: HttpConnect(WHERE, ME),
        [b'HTTP/1.1 407 x\r\nProxy-Authenticate: Digest realm="x"\r\n\r\n'],
        0,
        "via-credentials",
        "it wants Digest",
    ),
    "forbidden": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 403 No\x07 way\r\n\r\n"], 0, "via-refused", "403 No. way"),
    "Squid says why": (
        lambda: HttpConnect(WHERE),
        [b"HTTP/1.1 503 Service Unavailable\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n"],
        errno.ECONNREFUSED,
        "",
        "",
    ),
    "Squid says what is no errno of a far end": (
        lambda: HttpConnect(WHERE),
        [b"HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 1\r\n\r\n"],
        0,
        "via-refused",
        "503 x",
    ),
    "RFC 9209 says why": (
        lambda: HttpConnect(WHERE),
        [b"HTTP/1.1 502 x\r\nProxy-Status: p; error=connection_refused\r\n\r\n"],
        errno.ECONNREFUSED,
        "",
        "",
    ),
    "moved": (lambda: HttpConnect(WHERE), [b"HTTP/1.1 302 x\r\nLocation: http://y\r\n\r\n"], 0, "via-refused", "302 x"),
}


@pytest.mark.parametrize("size", [5, 4096])
@pytest.mark.parametrize("name", BAD)
def test_a_proxy_that_does_not_connect(name: str, size: int) -> None:
    """What a proxy says instead is the far end's own errno, or a refusal that says what it was."""
    make, answers, number, code, why = BAD[name]
    with pytest.raises(Failed) as caught:
        play(make(), answers, size)
    failed = caught.value
    assert (failed.number, failed.code) == (number, code)
    assert why in f"{failed.facts.get('why', '')}{failed.facts.get('said', '')}"
    assert all(str(value).isprintable() for value in failed.facts.values())


@given(st.sampled_from(sorted(GOOD)), st.lists(st.binary(max_size=40), max_size=12))
def test_whatever_a_proxy_says(name: str, pieces: list[bytes]) -> None:
    """Whatever bytes come, a handshake takes no more than there are, and is over or fails in words."""
    handshake = GOOD[name][0]()
    handshake.say()
    failed: Failed | None = None
    for piece in pieces:
        if handshake.is_done or failed is not None:
            break
        try:
            taken = handshake.take(piece)
        except Failed as e:
            failed = e
        else:
            assert 0 <= taken <= len(piece)
            handshake.say()
    assert failed is None or failed.number or failed.code


# --- which way --------------------------------------------------------------------------------------------------------

CORP = WayOut(Proxy("socks5h", "proxy.corp", 1080))
OTHER = WayOut(None, "192.0.2.7")


def ways(*entries: tuple[str, WayOut], default: WayOut = CORP) -> WaysOut:
    """Return the ways of an app."""
    return WaysOut.build(default, [Entry(to, way) for to, way in entries])


@pytest.mark.parametrize(
    ("address", "name", "port", "way"),
    [
        ("10.1.2.3", "", 80, STRAIGHT),
        ("192.0.43.8", "", 80, CORP),
        ("192.0.43.8", "www.example.com", 443, OTHER),
        ("192.0.43.8", "www.example.com", 80, CORP),
        ("10.1.2.3", "www.example.com", 443, STRAIGHT),
        ("::ffff:10.1.2.3", "", 80, STRAIGHT),
    ],
)
def test_the_first_that_matches(address: str, name: str, port: int, way: WayOut) -> None:
    """A destination has the way of the first entry that matches its address, name and port, else the app's."""
    made = ways(("10.0.0.0/8", STRAIGHT), ("*.example.com:443", OTHER))
    assert made.find(addresses.judge(address), name, "tcp", port) == way


def test_a_destination_without_an_address_has_a_way_too() -> None:
    """Where only the proxy will know the address, the name alone decides."""
    made = ways(("*", OTHER), ("db.corp", STRAIGHT))
    assert made.find(None, "db.corp", "tcp", 80) == STRAIGHT
    assert made.find(None, "x.corp", "tcp", 80) == CORP


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("no such/8", STRAIGHT)], "ways[0].to"),
        ([("10.0.0.0/8", STRAIGHT), ("10.0.0.0/8", CORP)], "has a way out already"),
        ([("udp://*", CORP)], "no proxy takes UDP"),
        ([("udp://*", OTHER)], "datagrams have no source of their own"),
    ],
)
def test_ways_that_cannot_be(entries: list[tuple[str, WayOut]], says: str) -> None:
    """What is no rule, or says twice or in vain what a destination's way is, is refused."""
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")):
        ways(*entries)


def test_what_is_the_hosts_own_way() -> None:
    """An app without ways costs a connect nothing, and one that any leads by a proxy is known to."""
    assert WaysOut().is_straight
    assert not WaysOut().has_proxy
    assert not ways(default=OTHER).is_straight
    assert not ways(default=OTHER).has_proxy
    assert ways(("10.0.0.0/8", CORP), default=STRAIGHT).has_proxy
    assert ways(("10.0.0.0/8", CORP)) == ways(("10.0.0.0/8", CORP)) != ways(("10.0.0.0/8", STRAIGHT))


@pytest.mark.parametrize(
    ("scheme", "name", "asked"),
    [("socks5", "db.corp", "10.0.0.5"), ("socks5h", "db.corp", "db.corp"), ("http", "", "10.0.0.5")],
)
def test_what_a_proxy_is_asked_for(scheme: str, name: str, asked: str) -> None:
    """socks5h and http are given the name where one is known, socks5 the address that was judged."""
    assert choice.target(Proxy(scheme, "p", 1), "10.0.0.5", 80, name) == Target(asked, 80)


def test_a_mapped_address_is_asked_for_as_ipv4() -> None:
    """What an IPv6 socket calls an IPv4 host is asked for by its own address, and no scope goes along."""
    assert choice.target(Proxy("socks5", "p", 1), "::ffff:192.0.43.8", 80, "").host == "192.0.43.8"
    assert choice.target(Proxy("socks5", "p", 1), "fe80::1%eth0", 80, "").host == "fe80::1"


@pytest.mark.parametrize("text", ["192.0.2.7", "2001:db8::7", "127.0.0.1"])
def test_a_source_is_an_address(text: str) -> None:
    """An address of a host may be a source."""
    assert choice.parse_source(text) == text


@pytest.mark.parametrize("text", ["eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "fe80::1%eth0"])
def test_what_is_no_source_is_refused(text: str) -> None:
    """Names, any address, those of groups and those with a scope are no source."""
    with pytest.raises(ValueError):
        choice.parse_source(text)


def _asked(address: str, transport: Any = "udp") -> tuple[Any, Ask, Any]:
    policy = Policy.build("blog", allow=["public"])
    ask = Ask("blog", transport, address, address, 53)
    return decide(policy, ask), ask, addresses.judge(address)


def test_datagrams_have_no_way_by_a_proxy() -> None:
    """A datagram that would leave by a proxy is denied, with a rule that gives it a way of its own."""
    denied = choice.of_datagrams(ways(), *_asked("192.0.43.8"), 4)
    assert denied.verdict == DENY
    assert denied.code == "via-udp"
    assert 'to = "udp://192.0.43.8:53" with via = ""' in (denied.cure or "")
    led = choice.of_datagrams(ways(("udp://192.0.43.8:53", STRAIGHT)), *_asked("192.0.43.8"), 4)
    assert led.verdict == ALLOW


def test_datagrams_leave_from_the_apps_source() -> None:
    """Those of the other IP version have none, and are denied."""
    assert choice.of_datagrams(ways(default=OTHER), *_asked("192.0.43.8"), 4).verdict == ALLOW
    assert choice.of_datagrams(ways(default=OTHER), *_asked("2001:500:88::1"), 6).code == "source-family"
