"""What may be fetched, and with which headers: every limit from both sides."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.fetch import headers, limits
from outgate.core.formats import fetchline
from outgate.errors import describe

URL = "http://a.example/"


def refused_port(port: int | None, scheme: str = "http") -> bool:
    """Whether a URL of this port is refused."""
    return limits.judge_url(URL, scheme, "a.example", port) is not None


def test_ports() -> None:
    """Of all ports those of App Engine are fetched from, and a URL without one has its scheme's."""
    open_ports = {*range(80, 91), *range(440, 451), *range(1024, 65536)}
    assert {port for port in range(65536) if not refused_port(port)} == open_ports
    assert not refused_port(None, "http")
    assert not refused_port(None, "https")


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher", "ws", "data", "javascript", "HTTP", ""])
def test_schemes(scheme: str) -> None:
    """Only http and https are fetched; whoever reads a URL gives its scheme in small letters."""
    code, facts = limits.judge_url(URL, scheme, "a.example", 80) or ("", {})
    assert code == "fetch-url"
    assert repr(scheme) in describe(code, facts)[0]


def test_a_url_needs_a_host() -> None:
    """One without is refused, with how to write it."""
    code, facts = limits.judge_url("http:///x", "http", "", None) or ("", {})
    assert describe(code, facts) == (
        "invalid URL: http:///x: it has no host",
        "write it whole: https://example.com/path",
    )


@pytest.mark.parametrize(("length", "is_refused"), [(10_240, False), (10_241, True)])
def test_length_of_a_url(length: int, is_refused: bool) -> None:
    """10,240 characters may be, and the refusal does not repeat them all."""
    url = URL + "x" * (length - len(URL))
    refused = limits.judge_url(url, "http", "a.example", None)
    assert (refused is not None) is is_refused
    assert refused is None or len(refused[1]["url"]) == 200


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://a.example/b", "http://a.example/b"),
        ("http://a.example/b?key=secret#c", "http://a.example/b?…"),
        ("http://a.example/b#c?d", "http://a.example/b"),
        ("http://joe:secret@a.example/b", "http://…@a.example/b"),
        ("http://a.example/b@c", "http://a.example/b@c"),
        ("joe:secret@a.example", "…@a.example"),
    ],
)
def test_a_refusal_shows_no_secret(url: str, text: str) -> None:
    """Of a URL it has neither a password nor what follows the question mark."""
    assert fetchline.shown(url) == text


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH"])
def test_methods(method: str) -> None:
    """The six methods may be used, as they are written."""
    assert limits.judge_request(URL, method, 0) is None


@pytest.mark.parametrize("method", ["get", "OPTIONS", "TRACE", "CONNECT", "", "GET /\r\nX:", "ÄÖ", "G" * 1000])
def test_other_methods(method: str) -> None:
    """No other may be, and the refusal names those that may."""
    code, facts = limits.judge_request(URL, method, 0) or ("", {})
    assert code == "fetch-method"
    assert describe(code, facts)[1] == "use one of GET, POST, HEAD, PUT, DELETE, PATCH"


@pytest.mark.parametrize(("size", "is_refused"), [(0, False), (10 * 2**20, False), (10 * 2**20 + 1, True)])
def test_size_of_a_payload(size: int, is_refused: bool) -> None:
    """10 MiB may be sent."""
    assert (limits.judge_request(URL, "POST", size) is not None) is is_refused


def test_redirects() -> None:
    """Five are followed."""
    assert [limits.judge_redirect(URL, count) is None for count in range(1, 8)] == [True] * 5 + [False] * 2


@pytest.mark.parametrize(
    ("asked", "in_task", "seconds"),
    [
        *((None, False, 5), (None, True, 5), (0.5, False, 0.5), (60, False, 60), (61, False, 60)),
        *((61, True, 61), (600, True, 600), (601, True, 600), (1e9, False, 60)),
    ],
)
def test_deadlines(asked: float | None, in_task: bool, seconds: float) -> None:
    """Five seconds unless said, at most a minute, and ten in a task."""
    assert limits.deadline(asked, in_task) == seconds


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "X A", "X:A", "X\r\nY", "X\n", "Ä", "X\0", "X(", "X\x7f"])
def test_names_of_headers(name: str) -> None:
    """What is no token is refused, a line's end above all."""
    code, _ = headers.judge(URL, [("Accept", "*/*"), (name, "value")]) or ("", {})
    assert code == "fetch-header"


@given(st.characters())
def test_characters_of_values(character: str) -> None:
    """A value has visible characters, spaces, tabs and bytes beyond ASCII; nothing that ends a line, and no more."""
    number = ord(character)
    may_be = character == "\t" or 32 <= number <= 126 or 128 <= number <= 255
    assert (headers.judge(URL, [("X-A", f"a{character}b")]) is None) is may_be


@pytest.mark.parametrize(("size", "is_refused"), [(16 * 1024, False), (16 * 1024 + 1, True)])
def test_size_of_headers(size: int, is_refused: bool) -> None:
    """16 KiB of them may be, as they are written: with colon, space and line's end."""
    pairs = [("X-A", "a" * 4089), ("X-B", "b" * (size - 4096 - 7))]
    assert sum(len(f"{name}: {value}\r\n") for name, value in pairs) == size
    assert (headers.judge(URL, pairs) is not None) is is_refused


def sent(*pairs: tuple[str, str], method: str = "GET", app: str = "blog") -> dict[str, str]:
    """Return what is sent of these headers, with what is added, without what always is."""
    found = dict(headers.prepare(pairs, method, app).pairs)
    assert found.pop("Connection") == "close"
    return found


AGENT = {"User-Agent": "outgate (app blog)"}


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Length", "Host", "VARY", "via", "X-Appengine-Inbound-Appid", "X-Forwarded-For", "X-ProxyUser-IP"),
        *("Connection", "Keep-Alive", "Transfer-Encoding", "TE", "Trailer", "Upgrade", "Expect"),
        *("Proxy-Authorization", "Proxy-Connection"),
    ],
)
def test_what_is_not_the_programs_to_set(name: str) -> None:
    """It is left out, however it is written, and the rest goes."""
    assert sent((name, "1"), ("Accept-Encoding", "br"), ("X-A", "b")) == {
        **AGENT,
        "Accept-Encoding": "br",
        "X-A": "b",
    }


def test_what_comes_more_than_once_is_sent_as_often() -> None:
    """Repeats stay, in their order."""
    pairs = [("X-A", "1"), ("x-a", "2"), ("X-A", "1")]
    assert headers.prepare(pairs, "GET", "blog").pairs[:3] == pairs


def test_user_agent() -> None:
    """The app is named behind what the program says, and a strange name does no harm."""
    assert sent(("user-agent", "x/1"))["User-Agent"] == "x/1 outgate (app blog)"
    assert sent(app="a (b)\r\nÄ")["User-Agent"] == "outgate (app a__b____)"


def test_content_type_of_a_post() -> None:
    """A POST that says none is a form; others are not, nor one that says something."""
    assert sent(method="POST")["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Content-Type" not in sent(method="PUT")
    assert sent(("content-type", "a/b"), method="POST")["content-type"] == "a/b"


def test_who_unpacks() -> None:
    """gzip is asked for and unpacked, unless the program says itself what it accepts."""
    assert headers.prepare([], "GET", "blog").unpacks
    assert sent()["Accept-Encoding"] == "gzip"
    assert not headers.prepare([("accept-encoding", "gzip")], "GET", "blog").unpacks


@given(st.lists(st.tuples(st.text(string.printable), st.text(string.printable))), st.text())
def test_what_is_not_refused_can_be_sent(pairs: list[tuple[str, str]], app: str) -> None:
    """Whatever pairs are let through: what is sent of them is no more than a line each."""
    if headers.judge(URL, pairs) is None:
        for name, value in headers.prepare(pairs, "GET", app).pairs:
            assert len(f"{name}: {value}".splitlines()) == 1
            name.encode("ascii")
            value.encode("latin-1")


# --- frames -----------------------------------------------------------------------------------------------------------


@given(st.sampled_from([fetchline.TEXT, fetchline.BYTES]), st.binary())
def test_frames(kind: int, data: bytes) -> None:
    """A frame says its kind and length, and has its bytes behind that."""
    made = fetchline.frame(kind, data)
    assert fetchline.parse(made[: fetchline.HEADER]) == (kind, len(data))
    assert made[fetchline.HEADER :] == data


@pytest.mark.parametrize("header", [b"\x02\0\0\0\0", b"GET /", b"\0\xff\xff\xff\xff", b"\x01\0\x10\0\x01"])
def test_what_is_no_frame(header: bytes) -> None:
    """Another kind, or too many bytes."""
    with pytest.raises(ValueError, match="no frame"):
        fetchline.parse(header)
