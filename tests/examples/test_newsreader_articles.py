"""The news reader makes readable text of whatever a server sends, and threads of whatever refers to whatever."""

from __future__ import annotations

import base64
import itertools
import re
from datetime import UTC, datetime

import articles
import pytest
from articles import Overview
from hypothesis import given
from hypothesis import strategies as st

#: What could turn or hide text, or end a line of it.
HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        ("=?iso-8859-1?q?Gr=FC=DFe?= to =?utf-8?b?4oKs?=", "Grüße to €"),
        ("=?utf-8?q?one?= =?utf-8?q?_word?=", "one word"),
        ("=?utf-8?b?not base64!!?=", "not base64!!"),
        ("=?x-nobody?q?abc?=", "abc"),
        ("Gr\udcfc\udcdfe", "Grüße"),  # bare Latin-1, as nntplib hands it on
        ("two\r\n  lines", "two lines"),
        ("a\x00b\u202ec", "a b c"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # the template escapes, nobody else
        (None, ""),
        ("x" * 999, "x" * articles.LONGEST_HEADER),
    ],
)
def test_subjects(raw: str | None, shown: str) -> None:
    """A subject is one line, its encoded words decoded, its bytes what they probably were."""
    assert articles.header("Subject", raw) == shown


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Crumb <crumb@sample.test>", "Crumb"),
        ("=?utf-8?q?Br=C3=B6tchen?= <roll@sample.test>", "Brötchen"),
        ('"Mill, Old" <mill@sample.test>', "Mill, Old"),
        ("bare@sample.test", "bare"),
        ("J\udcf6rg <j@sample.test>", "Jörg"),
        ("<<<", "(nobody)"),
        (None, "(nobody)"),
    ],
)
def test_authors(raw: str | None, shown: str) -> None:
    """An author is shown by name, and never by address."""
    assert articles.overview(1, {"from": raw}).author == shown


@pytest.mark.parametrize(
    ("raw", "day"),
    [
        ("Mon, 02 Nov 2026 07:12:00 +0100", datetime(2026, 11, 2, 6, 12, tzinfo=UTC)),
        ("02 Nov 2026 07:12 GMT", datetime(2026, 11, 2, 7, 12, tzinfo=UTC)),
        ("Mon, 02 Nov 2026 07:12:00 -0000", datetime(2026, 11, 2, 7, 12, tzinfo=UTC)),
        ("sometime last week", None),
        ("Mon, 31 Dec 9999 23:59:59 -2300", None),
        ("Mon, 99 Foo 2026 99:99:99 +9999", None),
        (None, None),
    ],
)
def test_dates(raw: str | None, day: datetime | None) -> None:
    """A date is in UTC, or there is none."""
    assert articles.date(raw) == day


def test_a_body_by_its_charset() -> None:
    """A body is decoded by the charset and the encoding that it declares."""
    raw = b"Content-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: base64\n\n"
    assert articles.body(raw + base64.encodebytes("Небо".encode("koi8-r"))) == ("Небо", ())


@pytest.mark.parametrize(
    ("head", "text", "shown", "note"),
    [
        ("", b"H\xf6rt \x96 ihr", "Hört – ihr", ""),
        ("Content-Type: text/plain; charset=utf-8", b"H\xf6rt", "H\ufffdrt", "says that it is utf-8 and is not"),
        ("Content-Type: text/plain; charset=x-klingon", "é".encode(), "é", "x-klingon, is unknown"),
        ("Content-Type: text/plain; charset=hex", b"41", "41", "hex, is unknown"),
        ("Content-Transfer-Encoding: base64", b"QUJD!*", "ABC", "encoding is broken"),
        ("Content-Type: text/html", b"<p>A<script>b()</script><p>C &amp; D", "A\nC & D", "HTML"),
        ("Content-Type: image/png", b"\x89PNG", "", "no text, but image/png"),
        ("Content-Type: multipart/mixed; boundary=x", b"no parts", "no parts", "not what it says"),
    ],
)
def test_a_body_that_is_not_what_it_says(head: str, text: bytes, shown: str, note: str) -> None:
    """What can be read of a wrong body is shown, with a word about what is wrong."""
    body = articles.body(head.encode() + b"\r\n\r\n" + text)
    assert body.text == shown
    assert note in " ".join(body.notes)
    assert bool(note) == bool(body.notes)


def test_attachments_are_named() -> None:
    """The text of an article with an attachment is shown, and the attachment is named."""
    raw = (
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n\nHere it is.\n--x\nContent-Type: image/png\n"
        b'Content-Disposition: attachment; filename="loaf.png"\n\nPNG\n--x--\n'
    )
    assert articles.body(raw) == ("Here it is.", ("Not shown: loaf.png.",))


def test_what_is_too_long_is_cut_and_said() -> None:
    """The end of a very long article is left out, and that is said."""
    body = articles.body(b"\n\n" + b"x" * (articles.LONGEST_TEXT + 1))
    assert len(body.text) == articles.LONGEST_TEXT
    assert articles.body(b"\n\nx", whole=False).notes
    assert body.notes


@given(st.binary(max_size=300), st.sampled_from([b"", b"Content-Type: text/html\n", b"Content-Type: multipart/mixed"]))
def test_whatever_arrives_is_shown(raw: bytes, head: bytes) -> None:
    """Whatever bytes arrive as an article, text comes back that can be stored and shown, and nothing is raised."""
    for body in (articles.body(raw), articles.body(head + b"\n\n" + raw)):
        assert not HARMFUL.search(body.text)
        body.text.encode()
        articles.blocks(body.text)


@given(st.text(st.characters(), max_size=80), st.binary(max_size=80))
def test_whatever_a_header_holds_is_one_line(text: str, raw: bytes) -> None:
    """Whatever text or bytes a server sends as a header, one line comes back that can be stored and shown."""
    for value in (text, raw.decode("utf-8", "surrogateescape"), f"=?{text}?q?{text}?= <{text}@{text}>"):
        seen = articles.overview(1, dict.fromkeys(("subject", "from", "date", "message-id", "references"), value))
        for each in (seen.subject, seen.author):
            assert not HARMFUL.search(each)
            assert "\n" not in each
            each.encode()


def test_blocks() -> None:
    """Text is told apart: what is quoted, what is one's own, what is the signature."""
    text = "> asked\n> twice\n\nanswered\n\n-- \nme\n> not a quote here"
    assert articles.blocks(text) == [
        ("quoted", "> asked\n> twice"),
        ("own", "answered"),
        ("signature", "-- \nme\n> not a quote here"),
    ]


def _known(number: int, *references: int) -> Overview:
    return Overview(number, message_id=f"<{number}>", references=tuple(f"<{each}>" for each in references))


@pytest.mark.parametrize(
    ("known", "placed"),
    [
        ([], []),
        ([_known(1), _known(2)], [(2, 0), (1, 0)]),
        ([_known(1), _known(2, 1), _known(3)], [(3, 0), (1, 0), (2, 1)]),
        ([_known(1), _known(2), _known(3, 1)], [(1, 0), (3, 1), (2, 0)]),  # the newest answer lifts its thread
        ([_known(1), _known(2, 1), _known(3, 1, 2), _known(4, 1)], [(1, 0), (2, 1), (3, 2), (4, 1)]),
        ([_known(1), _known(3, 1, 2)], [(1, 0), (3, 1)]),  # the direct one is not here
        ([_known(1, 1)], [(1, 0)]),
        ([_known(1, 2), _known(2, 1)], [(2, 0), (1, 1)]),
        ([_known(1, 3), _known(2, 1), _known(3, 2)], [(3, 0), (1, 1), (2, 2)]),
    ],
)
def test_threads(known: list[Overview], placed: list[tuple[int, int]]) -> None:
    """Answers stand below what they answer, the thread with the newest article first, and circles are cut."""
    assert [(each.overview.number, each.depth) for each in articles.thread(known)] == placed


@given(st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(0, 9), max_size=4)), max_size=12))
def test_every_article_has_one_place(drawn: list[tuple[int, list[int]]]) -> None:
    """However articles refer to one another, each is placed once, and at most one deeper than the one before."""
    placed = articles.thread([_known(number, *references) for number, references in drawn])
    assert sorted(each.overview.number for each in placed) == sorted({number for number, _ in drawn})
    depths = [0, *(each.depth for each in placed)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(depths))
