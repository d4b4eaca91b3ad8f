"""The parts of URL Fetch in a program that ask nobody: unpacking, headers of an answer, requests of http.client."""

from __future__ import annotations

import gzip
import http.client
import io
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.client.urlfetch import connections
from outgate.client.urlfetch.answers import Headers
from outgate.client.urlfetch.unpacking import Packed, TooLarge, Torn


def unpacked(data: bytes, limit: int = 1 << 20, piece: int = 1 << 16) -> bytes:
    """Return what is packed in data that comes in pieces."""
    packed = Packed(limit)
    for start in range(0, len(data), piece):
        packed.feed(data[start : start + piece])
    return packed.end()


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(1, 50), st.integers(0, 3))
def test_what_was_packed_comes_out(members: list[bytes], piece: int, zeros: int) -> None:
    """Any number of members, in pieces of any size, with zeros after them."""
    data = b"".join(gzip.compress(member) for member in members) + bytes(zeros if any(members) else 0)
    assert unpacked(data, piece=piece) == b"".join(members)


def test_no_more_is_unpacked_than_the_limit() -> None:
    """A bomb is stopped with one byte too much, and what fits is there."""
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(TooLarge) as caught:
        unpacked(bomb, limit=1000)
    assert caught.value.content == bytes(1000)
    assert unpacked(gzip.compress(bytes(1000)), limit=1000) == bytes(1000)


def test_a_bomb_in_pieces() -> None:
    """Many members that are within the limit one by one are not together."""
    with pytest.raises(TooLarge):
        unpacked(gzip.compress(bytes(900)) * 2, limit=1000, piece=7)


@pytest.mark.parametrize(
    "data",
    [
        *(b"no gzip at all", zlib.compress(b"x"), gzip.compress(b"x" * 100)[:-1], gzip.compress(b"x")[:5]),
        *(gzip.compress(b"x") + b"rubbish", gzip.compress(b"x" * 100)[:-8] + bytes(8)),
    ],
    # A gzip file has the time in it, and every worker must give a test the same name.
    ids=("no gzip", "zlib", "one byte short", "no header", "rubbish behind", "wrong sum"),
)
def test_what_is_not_packed_as_it_says(data: bytes) -> None:
    """It is torn, and the text says how."""
    with pytest.raises(Torn, match=r"\w"):
        unpacked(data, piece=3)


def test_headers() -> None:
    """They are found whatever their case, joined where they repeat, and as they came in pairs."""
    pairs = [("Set-Cookie", "a"), ("X-A", "1"), ("set-cookie", "b")]
    headers = Headers(pairs)
    assert headers["SET-COOKIE"] == "a, b"
    assert headers.get("x-b") is None
    assert headers.get_all("Set-cookie") == ["a", "b"]
    assert dict(headers) == {"Set-Cookie": "a, b", "X-A": "1"}
    assert (len(headers), "x-a" in headers, headers.pairs) == (2, True, pairs)


class Kept(http.client.HTTPConnection):
    """A connection whose request is kept."""

    def connect(self) -> None:
        self.sock = self  # type: ignore[assignment]
        self.written = b""

    def sendall(self, data: bytes) -> None:
        self.written += bytes(data)


BODIES = [None, b"hello", bytearray(b"hello"), "hello", io.BytesIO(b"hello"), iter([b"he", b"llo"])]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_requests_of_http_client(body: Any) -> None:
    """Whatever kind of body: method, target, headers and payload are read as they were meant."""
    connection = Kept("a.example")
    connection.request("PUT", "/b?c", body, {"X-A": "1", "X-B": "2"})
    method, target, headers, payload = connections.parse(connection.written)
    assert (method, target, payload) == ("PUT", "/b?c", b"hello" if body is not None else b"")
    assert {"Host": "a.example", "X-A": "1", "X-B": "2"}.items() <= dict(headers).items()


def test_a_header_of_several_lines() -> None:
    """putheader() with several values folds them, which nothing does any more; they are one line here."""
    connection = Kept("a.example")
    connection.putrequest("GET", "/")
    connection.putheader("X-A", "one", "two")
    connection.endheaders()
    assert dict(connections.parse(connection.written)[2])["X-A"] == "one two"
