"""What gates believe of each other: names, terms, join tokens, heads and frames; whatever comes is told apart."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import descriptor
from outgate.core.fleet import frames, heads, names, terms, token
from outgate.errors import ProtocolError

TOKEN = token.Token("b", "a", "192.0.2.1:7400", "ab" * 32, "cd" * 32, 2_000_000_000)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        *[(each, True) for each in ("a", "b2", "gate-7", "x" * 32, "0")],
        *[(each, False) for each in ("", "-a", "a-", "A", "a.b", "a_b", "x" * 33, "ä", "a\n", "a b")],
    ],
)
def test_a_name_is_a_label(text: str, is_one: bool) -> None:
    """A gate's name is what may stand in a host name and in a descriptor."""
    assert names.is_name(text) is is_one
    if is_one:
        assert names.name_of([names.host_of(text)]) == text


def test_a_certificate_names_one_gate() -> None:
    """Of no name of ours, of two, and of one that is no gate's there is none."""
    assert names.name_of([]) == ""
    assert names.name_of(["www.example.com"]) == ""
    assert names.name_of([names.host_of("a"), names.host_of("b")]) == ""
    assert names.name_of([names.host_of("a"), "www.example.com"]) == "a"
    assert names.name_of([names.host_of("x.y")]) == ""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("192.0.2.1:7400", ("192.0.2.1", 7400)),
        ("[2001:db8::1]:1", ("2001:db8::1", 1)),
        ("gate-b.corp:65535", ("gate-b.corp", 65535)),
    ],
)
def test_a_place_is_host_and_port(text: str, found: tuple[str, int]) -> None:
    """A place is written as it is read."""
    assert names.place(text) == found
    assert str(names.place(text)) == text


@pytest.mark.parametrize(
    "text", ["", "a", ":1", "a:", "a:0", "a:65536", "a:01", "2001:db8::1:7400", "a b:1", "a@b:1", "[]:1", "ä:1", "a:１"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    """What names no host and port says so."""
    with pytest.raises(ValueError):
        names.place(text)


def test_who_is_a_stranger() -> None:
    """A gate is let in by its name, if it is listed and not our own."""
    assert names.stranger("b", "a", {"a": "", "b": ""}) == ""
    assert "no certificate" in names.stranger("", "a", {"b": ""})
    assert "own name" in names.stranger("a", "a", {"a": ""})
    assert "does not list" in names.stranger("c", "a", {"b": ""})


def test_a_certificate_is_due_after_two_thirds() -> None:
    """One of 300 s is due at 200, and is good from its first second to the one before its last."""
    assert not terms.is_due(0, 300, 199)
    assert terms.is_due(0, 300, 200)
    assert "not valid yet" in terms.trouble(10, 300, 9)
    assert terms.trouble(10, 300, 10) == terms.trouble(10, 300, 299) == ""
    assert "expired" in terms.trouble(10, 300, 300)


def test_a_token_is_read_as_written() -> None:
    """Blanks around a token do not count, and it is good until it expires."""
    text = token.write(TOKEN)
    assert token.read(f" {text}\n", TOKEN.expires - 1) == TOKEN
    with pytest.raises(ValueError, match="expired"):
        token.read(text, TOKEN.expires)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "B"},
        {"issuer": ""},
        {"at": "nowhere"},
        {"fingerprint": "ab"},
        {"secret": "CD" * 32},
        {"expires": "soon"},
        {"expires": True},
        {"more": 1},
    ],
)
def test_a_token_with_something_else_in_it_is_damaged(change: dict[str, object]) -> None:
    """Each field is held to what it may be."""
    said = json.dumps({**TOKEN._asdict(), **change}).encode()
    text = token.PREFIX + base64.urlsafe_b64encode(said).decode().rstrip("=")
    with pytest.raises(ValueError, match="damaged"):
        token.read(text, 0)


@given(st.one_of(st.text(), st.text().map(lambda text: token.PREFIX + text)))
def test_any_text_is_a_token_or_says_why_not(text: str) -> None:
    """Whatever is pasted for a token, it is one or is refused in words."""
    with pytest.raises(ValueError, match="join token"):
        token.read(text, 0)


def test_a_descriptor_names_its_gate() -> None:
    """Every gate reads whose a descriptor says it is; of one without a fleet, and of other texts, nobody's."""
    key = bytes(descriptor.KEY_SIZE)
    text = descriptor.seal(key, "app", descriptor.Descriptor("gate-b-0123abcd", 7, 1, 2, 3))
    assert descriptor.owner(text) == "gate-b"
    assert descriptor.unseal(key, "app", text) == ("gate-b-0123abcd", 7, 1, 2, 3)
    assert descriptor.owner(descriptor.seal(key, "app", descriptor.Descriptor("0123abcd", 7))) == ""
    assert descriptor.owner("") == descriptor.owner("outgate2.a-b.1.1.1.1.1") == descriptor.owner("a-b.c") == ""
    longest = descriptor.Descriptor("x" * 32 + "-0123abcd", 2**40, 10**9, 2**63, 2**63)
    assert len(descriptor.seal(key, "app", longest)) <= descriptor.MOST


@given(st.text())
def test_any_text_has_an_owner_or_none(text: str) -> None:
    """Whatever is asked with, whose it is can be read."""
    assert isinstance(descriptor.owner(text), str)


def test_a_request_to_redeem_is_read_as_written() -> None:
    """Descriptor, app and whether exclusively arrive, though the app's name holds any character."""
    for app in ("blog", "a b/ä:%"):
        for is_exclusive in (False, True):
            head = heads.redeem("outgate1.a-b.1.2.3.4.ff", 7400, app, is_exclusive)
            assert head.startswith(b"CONNECT outgate1.a-b.1.2.3.4.ff:7400 HTTP/1.1\r\nHost: ")
            request = heads.read_request(head.removesuffix(heads.END))
            assert heads.redeemed(request) == ("outgate1.a-b.1.2.3.4.ff", app, is_exclusive)


def test_answers_are_read_as_written() -> None:
    """What an owner says of a socket, or why not, arrives."""
    for written, status in ((heads.granted({"family": 4}), 200), (heads.refused({"family": 4}), 404)):
        answer = heads.read_answer(written.removesuffix(heads.END))
        assert answer.status == status
        assert heads.facts_of(answer) == {"family": 4}
    assert heads.answer(200, b"abc").endswith(b"\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc")


@given(st.binary(max_size=300))
def test_any_head_is_understood_or_refused(head: bytes) -> None:
    """Whatever bytes stand for a head, it is one or a ``ProtocolError``."""
    for read in (heads.read_request, heads.read_answer):
        try:
            found = read(head)
        except ProtocolError:
            continue
        assert all(name == name.lower() for name in found.fields)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0",
        b"GET  / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET / HTTP/1.1\r\nA: 1\r\na: 2",
        b"GET / HTTP/1.1\r\nA : 1",
        b"GET / HTTP/1.1\r\n folded",
        b"GET / HTTP/1.1\r\nA: \xff",
        b"GET / HTTP/1.1\nA: 1",
    ],
)
def test_heads_that_others_might_read_otherwise_are_refused(head: bytes) -> None:
    """What two readers could understand in two ways is nothing."""
    with pytest.raises(ProtocolError):
        heads.read_request(head)


@pytest.mark.parametrize("size", ["-1", "1e3", "+1", " ", "16385", "1234567"])
def test_a_body_says_how_long_it_is(size: str) -> None:
    """A body of no stated length, or of too much, is refused."""
    with pytest.raises(ProtocolError):
        heads.body_size(heads.Request("POST", "/", {"content-length": size}))
    with pytest.raises(ProtocolError):
        heads.body_size(heads.Request("POST", "/", {"transfer-encoding": "chunked"}))


@given(st.lists(st.tuples(st.integers(0, frames.KINDS - 1), st.binary(max_size=50)), max_size=10), st.data())
def test_frames_come_however_they_are_cut(sent: list[tuple[int, bytes]], data: st.DataObject) -> None:
    """Frames are read as written, in pieces of any size, and of DATA come all bytes in their order, and none empty."""
    rest = b"".join(frames.write(*each) for each in sent)
    reader = frames.Reader()
    came = []
    while rest:
        count = data.draw(st.integers(1, len(rest)))
        came += [(kind, bytes(payload)) for kind, payload in reader.feed(rest[:count])]
        rest = rest[count:]
    assert all(payload for kind, payload in came if kind == frames.DATA)
    assert _told_apart(came) == _told_apart(sent)


def _told_apart(came: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """Return frames with what is in DATA byte by byte, as it may come in parts."""
    return [
        each
        for kind, payload in came
        for each in ([(kind, bytes([one])) for one in payload] if kind == frames.DATA else [(kind, payload)])
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_refused(piece: bytes) -> None:
    """Whatever bytes arrive, frames come of them, or none yet, or a ``ProtocolError``."""
    try:
        for kind, payload in frames.Reader().feed(piece):
            assert kind < frames.KINDS
            for read in (frames.said, frames.credited):
                try:
                    read(bytes(payload))
                except ProtocolError:
                    pass
    except ProtocolError:
        pass


def test_a_frame_is_no_longer_than_the_longest() -> None:
    """One byte more than the longest frame is refused by its head alone."""
    assert list(frames.Reader().feed(frames.head(frames.DATA, frames.MOST))) == []
    with pytest.raises(ProtocolError):
        list(frames.Reader().feed(frames.head(frames.DATA, frames.MOST + 1)))
    with pytest.raises(ProtocolError):
        list(frames.Reader().feed(frames.head(frames.KINDS, 0)))
