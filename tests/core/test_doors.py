"""What is said at a door: SOCKS5 and HTTP CONNECT, byte by byte, and whatever else may come."""

from __future__ import annotations

import base64
import errno
import ipaddress
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outgate.core.doors import failures, socks
from outgate.core.doors.socks import SocksTalk
from outgate.core.doors.talk import CONNECT, UDP, Event, Login, Refused, Talk, Wanted
from outgate.core.doors.tunnel import MAX_HEAD, TunnelTalk

TALKS: list[type[Talk]] = [SocksTalk, TunnelTalk]
GREETING = b"\x05\x01\x02"
LOGIN = b"\x01\x04blog\x05token"
NAMED = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb"


def basic(text: str) -> str:
    """Return credentials as a header has them."""
    return "Basic " + base64.b64encode(text.encode()).decode()


def head(line: str = "CONNECT example.com:443 HTTP/1.1", *headers: str) -> bytes:
    """Return the head of a request, with the credentials of ``blog`` unless other headers are given."""
    lines = [line, "Host: example.com:443", *(headers or (f"Proxy-Authorization: {basic('blog:token')}",))]
    return "\r\n".join([*lines, "", ""]).encode()


def drive(talk: Talk, data: bytes, piece: int = 0) -> list[Event]:
    """Feed a talk what came, in pieces of one size, welcome whoever says who it is, and return all events."""
    events: list[Event] = []
    for start in range(0, len(data), piece or max(1, len(data))):
        talk.feed(data[start : start + (piece or len(data))])
        while (event := talk.next()) is not None:
            events.append(event)
            if isinstance(event, Login):
                talk.welcome()
            if isinstance(event, Refused):
                return events
    return events


# --- SOCKS5 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (b"\x01\x5d\xb8\xd7\x0e", "93.184.215.14"),
        (b"\x03\x0bexample.com", "example.com"),
        (b"\x03\x0cb\xc3\xbccher.test", "bücher.test"),
        (b"\x04" + ipaddress.ip_address("2001:db8::1").packed, "2001:db8::1"),
    ],
)
@pytest.mark.parametrize(("command", "what"), [(1, CONNECT), (3, UDP)])
@pytest.mark.parametrize("piece", [0, 1, 3])
def test_a_socks_handshake(address: bytes, host: str, command: int, what: str, piece: int) -> None:
    """Methods, credentials and request are read however they are cut, and what follows them is kept."""
    talk = SocksTalk()
    request = b"\x05" + bytes((command, 0)) + address + b"\x01\xbb"
    events = drive(talk, GREETING + LOGIN + request, piece)
    assert events == [Login("blog", "token"), Wanted(what, host, 443, {1: 4, 3: 0, 4: 6}[address[0]])]
    assert talk.out == b"\x05\x02\x01\x00"
    talk.feed(b"early")
    assert talk.rest == b"early"
    assert talk.next() is None
    talk.out = b""
    talk.opened("192.0.2.7", 4711)
    assert talk.out == b"\x05\x00\x00\x01\xc0\x00\x02\x07\x12\x67"


def test_a_socks_reply_names_an_address_of_either_kind() -> None:
    """Addresses of replies are IPv4 or IPv6, without the zone that SOCKS5 has no room for."""
    talk = SocksTalk()
    talk.opened("fe80::1%eth0", 80)
    assert talk.out == b"\x05\x00\x00\x04" + ipaddress.ip_address("fe80::1").packed + b"\x00\x50"


@pytest.mark.parametrize(
    ("data", "why", "out"),
    [
        (b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", "SOCKS4", b"\x00\x5b" + bytes(6)),
        (b"\x16\x03\x01\x02\x00", "not SOCKS5", b""),
        (b"GET / HTTP/1.1\r\n", "not SOCKS5", b"HTTP/1.1 400 Bad Request"),
        (b"\x05\x01\x00", "no credentials offered", b"\x05\xff"),
        (b"\x05\x00", "no credentials offered", b"\x05\xff"),
        (GREETING + b"\x02", "not the version of RFC 1929", b"\x05\x02\x01\x01"),
        (GREETING + LOGIN + b"\x04\x01\x00\x01\x01", "a request of another version", b"\x05\x02\x01\x00\x05\x01"),
        (GREETING + LOGIN + b"\x05\x02" + NAMED[2:], "BIND: sockets are outbound only", b"\x05\x02\x01\x00\x05\x07"),
        (GREETING + LOGIN + b"\x05\xf0" + NAMED[2:], "command 240", b"\x05\x02\x01\x00\x05\x07"),
        (GREETING + LOGIN + b"\x05\x01\x00\x02aaaaaa", "address type 2", b"\x05\x02\x01\x00\x05\x08"),
        (
            GREETING + LOGIN + b"\x05\x01\x00\x03\x00\x00\x50",
            "not a host: a host has 1 to 255",
            b"\x05\x02\x01\x00\x05\x01",
        ),
        (
            GREETING + LOGIN + b"\x05\x01\x00\x03\x03a\x00b\x00\x50",
            "not a host: a host has no",
            b"\x05\x02\x01\x00\x05\x01",
        ),
        (
            GREETING + LOGIN + b"\x05\x01\x00\x03\x02\xff\xfe\x00\x50",
            "not a host: 'utf-8'",
            b"\x05\x02\x01\x00\x05\x01",
        ),
    ],
    ids=range(13),
)
def test_what_is_no_socks(data: bytes, why: str, out: bytes) -> None:
    """What is no request of SOCKS5 ends the talk with a reason, in the words of whoever seems to ask."""
    talk = SocksTalk()
    events = drive(talk, data, 1)
    assert isinstance(events[-1], Refused)
    assert events[-1].why.startswith(why)
    assert talk.out.startswith(out) if out else talk.out == b""
    assert talk.next() is None


def test_wrong_credentials_at_socks() -> None:
    """Whoever is nobody is told so by RFC 1929, and nothing that it says behind that is read."""
    talk = SocksTalk()
    talk.feed(GREETING + LOGIN + NAMED)
    assert talk.next() == Login("blog", "token")
    talk.reject()
    assert talk.out == b"\x05\x02\x01\x01"
    assert talk.next() is None


def test_credentials_that_are_no_text() -> None:
    """Bytes that are no text are a login like any other, which is nobody's."""
    events = drive(SocksTalk(), GREETING + b"\x01\x01\xff\x01\xfe")
    assert events == [Login("\udcff", "\udcfe")]


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("example.com:443", "example.com", 443),
        ("93.184.215.14:22", "93.184.215.14", 22),
        ("[2001:db8::1]:8080", "2001:db8::1", 8080),
        ("bücher.test:443", "bücher.test", 443),
    ],
)
@pytest.mark.parametrize("piece", [0, 1, 7])
def test_a_tunnel_is_asked_for(target: str, host: str, port: int, piece: int) -> None:
    """A request is read however it is cut, and what follows its head is the tunnel's."""
    talk = TunnelTalk()
    events = drive(talk, head(f"CONNECT {target} HTTP/1.1"), piece)
    assert events == [Login("blog", "token"), Wanted(CONNECT, host, port)]
    talk.feed(b"\x16\x03")
    assert talk.next() is None
    assert talk.rest == b"\x16\x03"
    talk.opened("192.0.2.7", 4711)
    assert talk.out == b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("name", ["Proxy-Authorization", "proxy-authorization"])
def test_a_request_by_hand(end: str, name: str) -> None:
    """Lines may end without a carriage return, empty ones may come first, and names of headers have no case."""
    lines = ["", "", "CONNECT example.com:443 HTTP/1.0", f"{name}:  basic  {basic('blog:to:ken').split()[1]} ", "", ""]
    assert drive(TunnelTalk(), end.join(lines).encode(), 1) == [
        Login("blog", "to:ken"),
        Wanted(CONNECT, "example.com", 443),
    ]


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (head("GET http://example.com/ HTTP/1.1"), 405, "For http:// URLs use the SOCKS5 door"),
        (head("POST / HTTP/1.1"), 405, "Allow: CONNECT"),
        (head("CONNECT example.com HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT example.com:0 HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT example.com:65536 HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT http://example.com:443/ HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT me@example.com:443 HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT 2001:db8::1:443 HTTP/1.1"), 400, "CONNECT takes HOST:PORT"),
        (head("CONNECT " + "a" * 256 + ":443 HTTP/1.1"), 400, "1 to 255"),
        (head("CONNECT  example.com:443 HTTP/1.1"), 400, "not a request line"),
        (b"hello\r\n\r\n", 400, "not a request line"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "not HTTP/1"),
        (head("CONNECT example.com:443 HTTP/1.1", "X-Folded: a\r\n b"), 400, "a header is not well formed"),
        (head("CONNECT example.com:443 HTTP/1.1", "Spaced : a"), 400, "a header is not well formed"),
        (head("CONNECT example.com:443 HTTP/1.1", *["Proxy-Authorization: Basic YTpi"] * 2), 400, "two headers"),
        (head("CONNECT example.com:443 HTTP/1.1", "X: y"), 407, "Proxy-Authenticate: Basic"),
        (head("CONNECT example.com:443 HTTP/1.1", "Proxy-Authorization: Bearer abc"), 407, "outgate env --app NAME"),
        (head("CONNECT example.com:443 HTTP/1.1", "Proxy-Authorization: Basic ???"), 407, "outgate env --app NAME"),
        (b"CONNECT example.com:443 HTTP/1.1\r\nX: " + b"y" * MAX_HEAD, 431, "more than 16384 bytes"),
    ],
    ids=range(19),
)
@pytest.mark.parametrize("piece", [0, 4096])
def test_what_a_tunnel_is_not_made_for(data: bytes, status: int, said: str, piece: int) -> None:
    """What is no CONNECT with credentials is answered with a status and a sentence, and the connection is closed."""
    talk = TunnelTalk()
    assert isinstance(drive(talk, data, piece)[-1], Refused)
    answer = talk.out.decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert said in answer
    assert "Connection: close" in answer
    body = answer.partition("\r\n\r\n")[2]
    assert f"Content-Length: {len(body.encode())}\r\n" in answer


@pytest.mark.parametrize(("data", "out"), [(b"\x05\x01\x00", b"\x05\xff"), (b"\x16\x03\x01", b""), (b"\0", b"")])
def test_other_protocols_at_the_http_door(data: bytes, out: bytes) -> None:
    """A client of SOCKS5 is told in its own words, one of TLS nothing: it would not understand."""
    talk = TunnelTalk()
    assert isinstance(drive(talk, data)[-1], Refused)
    assert talk.out == out


def test_the_reason_of_a_refusal_is_in_body_and_header() -> None:
    """A tunnel that may not be tells why, for people and for programs, whatever stands in the sentence."""
    talk = TunnelTalk()
    drive(talk, head())
    talk.failed(failures.of_refusal(errno.EDQUOT, 'blög "x" \\ \n', 12.3))
    answer = talk.out.decode()
    assert answer.startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert 'Proxy-Status: outgate; error=http_request_denied; details="bl?g \\"x\\" \\\\ ?"\r\n' in answer
    assert "Retry-After: 13\r\n" in answer
    assert answer.endswith('\r\n\r\nblög "x" \\ \n\n')


# --- why there is no connection ---------------------------------------------------------------------------------------

#: Of RFC 9209 §2.3.
ERRORS = {
    *("dns_timeout", "dns_error", "destination_unavailable", "destination_ip_unroutable", "connection_refused"),
    *("connection_terminated", "connection_timeout", "connection_limit_reached", "http_request_denied"),
    "proxy_internal_error",
}


@pytest.mark.parametrize(
    ("failure", "code", "status"),
    [
        (failures.of_refusal(errno.EACCES, ""), 2, 403),
        (failures.of_refusal(errno.EDQUOT, ""), 2, 429),
        (failures.of_refusal(errno.EMFILE, ""), 1, 503),
        (failures.of_refusal(errno.ENETDOWN, ""), 1, 503),
        (failures.of_refusal(0, ""), 1, 503),
        (failures.of_network(errno.ENETUNREACH, ""), 3, 502),
        (failures.of_network(errno.EHOSTUNREACH, ""), 4, 502),
        (failures.of_network(errno.ECONNREFUSED, ""), 5, 502),
        (failures.of_network(errno.ETIMEDOUT, ""), 6, 504),
        (failures.of_network(errno.EIO, ""), 1, 502),
        (failures.of_look_up(-2, ""), 4, 502),
        (failures.of_look_up(-3, ""), 4, 504),
        (failures.late(""), 6, 504),
    ],
)
def test_each_failure_has_a_number_and_a_status(failure: failures.Failure, code: int, status: int) -> None:
    """Every reason has its reply field of RFC 1928, its status, and an error type that RFC 9209 knows."""
    assert (failure.socks, failure.status) == (code, status)
    assert failure.error in ERRORS
    socks_talk, tunnel = SocksTalk(), TunnelTalk()
    for talk in (socks_talk, tunnel):
        talk.failed(failure)
    assert socks_talk.out == bytes((5, code, 0, 1)) + bytes(6)
    assert tunnel.out.startswith(f"HTTP/1.1 {status} ".encode())


# --- datagrams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"\x01\x08\x08\x08\x08\x00\x35", "8.8.8.8"),
        (b"\x03\x03dns\x00\x35", "dns"),
        (b"\x04" + bytes(16) + b"\x00\x35", "::"),
    ],
)
def test_a_datagram(target: bytes, host: str) -> None:
    """A datagram says where it goes, and where its payload begins, which may be empty."""
    for payload in (b"", b"question"):
        packet = b"\0\0\0" + target + payload
        said = socks.datagram(packet)
        assert said == (target, host, 53, len(packet) - len(payload))
    assert socks.datagram(b"\0\0\1" + target) is None, "a fragment"
    assert socks.datagram(b"\0\1\0" + target) is None
    for end in range(3 + len(target)):
        assert socks.datagram((b"\0\0\0" + target)[:end]) is None


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
def test_the_header_of_a_datagram_can_be_read(address: Any, port: int, payload: bytes) -> None:
    """Whatever address a datagram comes from, what stands before it is read as that address."""
    said = socks.datagram(socks.header(str(address), port) + payload)
    assert said is not None
    assert (ipaddress.ip_address(said.host), said.port) == (address, port)


# --- anything ---------------------------------------------------------------------------------------------------------

_SOCKS_LIKE = st.lists(
    st.one_of(st.sampled_from([GREETING, LOGIN, NAMED, b"\x05", b"\x01", b"\x00", b"\x03"]), st.binary(max_size=9)),
    max_size=8,
).map(b"".join)
_HTTP_LIKE = st.lists(
    st.one_of(
        st.sampled_from(
            [b"CONNECT ", b"GET ", b"example.com:443", b" HTTP/1.1", b"\r\n", b"\n", b"\r", b"Proxy-Authorization: ",
             b"Basic ", b"YmxvZzp0b2tlbg==", b":", b" ", b"[::1]:80", head()]
        ),
        st.binary(max_size=9),
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@pytest.mark.parametrize("kind", TALKS)
@example(data=b"\r\x00")
@given(data=st.one_of(st.binary(max_size=80), _SOCKS_LIKE, _HTTP_LIKE))
def test_whatever_comes(kind: type[Talk], data: bytes) -> None:
    """Whatever bytes come, a talk waits, says what they mean or refuses them; and the same one byte at a time."""
    whole, single = kind(), kind()
    events = drive(whole, data)
    assert drive(single, data, 1) == events
    assert single.out == whole.out
    assert sum(isinstance(event, Login) for event in events) <= 1
    for event in events:
        if isinstance(event, Wanted):
            assert 0 < len(event.host) <= 255
            assert 0 <= event.port <= 65535
            assert not re.search(r"[\x00-\x20\x7f]", event.host)


@given(st.binary(max_size=64))
def test_whatever_datagram_comes(packet: bytes) -> None:
    """Whatever packet comes, it says where it goes or is none."""
    said = socks.datagram(packet)
    if said is not None:
        assert packet[3 : said.start] == said.target
        assert said.host
