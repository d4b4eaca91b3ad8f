"""Make text that can be shown of what a news server sends: headers, dates, bodies, threads. Nothing here does I/O.

Whatever bytes arrive, something readable comes back and nothing is raised: charsets that nobody knows, encodings that
are broken, headers that lie. Nothing is escaped here either; that is the template's to do.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from typing import NamedTuple

#: Longest subject or name, and longest text of an article, in characters.
LONGEST_HEADER, LONGEST_TEXT = 200, 40_000
#: Joiners that scripts and emoji need, though they print nothing. All else that prints nothing could hide or turn text.
JOINERS = "\u200c\u200d"


@dataclass(frozen=True)
class Overview:
    """What the server tells of an article before it is fetched.

    :ivar number: in its group.
    :ivar date: in UTC, ``None`` where it has none that can be read.
    :ivar references: the message ids it answers, the direct one last.
    """

    number: int
    subject: str = ""
    author: str = ""
    date: datetime | None = None
    message_id: str = ""
    references: tuple[str, ...] = ()


class Placed(NamedTuple):
    """An article's place in its thread: 0 begins one, 1 answers that."""

    overview: Overview
    depth: int


class Body(NamedTuple):
    """The text of an article, and a sentence for each thing about it that is not as it should be."""

    text: str
    notes: tuple[str, ...] = ()


def overview(number: int, fields: Mapping[str, str | None]) -> Overview:
    """Return an article's overview.

    :param fields: as nntplib gives them, names in lower case, bytes that are no UTF-8 as surrogates.
    """
    return Overview(
        number=number,
        subject=header("Subject", fields.get("subject")) or "(no subject)",
        author=author(fields.get("from")) or "(nobody)",
        date=date(fields.get("date")),
        message_id=(fields.get("message-id") or "").strip(),
        references=tuple((fields.get("references") or "").split()),
    )


def header(name: str, value: str | None) -> str:
    """Return a header's value as one line of text, its encoded words (RFC 2047) decoded."""
    raw = _text(value or "")
    try:
        found = str(email.policy.default.header_factory(name, " ".join(raw.split())))
    except Exception:  # the parser has met a header that it does not get through; its characters are still text
        found = raw
    return _one_line(found)[:LONGEST_HEADER]


def author(value: str | None) -> str:
    """Return who wrote it: the name, or what stands before the ``@``. The address is nobody's business."""
    raw = " ".join(_text(value or "").split())
    try:
        first = email.policy.default.header_factory("From", raw).addresses[0]  # type: ignore[attr-defined]
        found = first.display_name or first.username
    except Exception:
        found = ""
    return _one_line(found or raw.partition("<")[0].partition("@")[0])[:LONGEST_HEADER]


def date(value: str | None) -> datetime | None:
    """Return a date in UTC. One without a zone is taken for UTC."""
    try:
        found = parsedate_to_datetime(value or "")
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except Exception:  # ValueError, TypeError and OverflowError, by what it stumbles over
        return None


def body(raw: bytes, *, whole: bool = True) -> Body:
    """Return the text of an article.

    :param raw: headers and all.
    :param whole: false where the rest of it was not taken.
    """
    notes = [] if whole else ["It is very long; its end is left out."]
    try:
        text = _plain(email.message_from_bytes(raw, policy=email.policy.default), notes)
    except Exception:
        notes.append("Its parts are not what it says; this is how it came.")
        text = decode(raw.replace(b"\r\n", b"\n").partition(b"\n\n")[2], None, [])
    text = _printable(text.replace("\r\n", "\n"), "\n\t").strip("\n")
    if len(text) > LONGEST_TEXT:
        text = text[:LONGEST_TEXT]
        notes.append("It is long; its end is left out.")
    return Body(text, tuple(dict.fromkeys(notes)))


def decode(raw: bytes, charset: str | None, notes: list[str]) -> str:
    """Return bytes as text: by the charset that they declare, else as UTF-8, else as Windows-1252.

    :param notes: gets a sentence where the charset is not what it says.
    """
    if charset:
        try:
            return raw.decode(charset)
        except UnicodeDecodeError:
            notes.append(f"It says that it is {_one_line(charset)[:40]} and is not, so some characters are missing.")
            return raw.decode(charset, "replace")
        except Exception:  # nobody knows it (LookupError), or it is a codec that is none for text
            notes.append(f"Its charset, {_one_line(charset)[:40]}, is unknown here; characters may be wrong.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("windows-1252", "replace")


def blocks(text: str) -> list[tuple[str, str]]:
    """Return the text in pieces, each with what it is: ``own``, ``quoted``, or ``signature`` (after a line ``--``)."""
    found: list[tuple[str, list[str]]] = []
    signed = False
    for line in text.split("\n"):
        signed = signed or line == "-- "
        kind = "signature" if signed else "quoted" if line.startswith((">", "|")) else "own"
        if not found or found[-1][0] != kind:
            found.append((kind, []))
        found[-1][1].append(line)
    return [(kind, "\n".join(lines).strip("\n")) for kind, lines in found if any(line.strip() for line in lines)]


def thread(overviews: Iterable[Overview]) -> list[Placed]:
    """Return articles in reading order: threads by their newest article, the newest first; in each, answers below.

    An article answers the last of its references that is here. Some may contradict one another, by mistake or on
    purpose: one that would make a circle is passed over.
    """
    known = list({each.number: each for each in overviews}.values())
    by_id = {each.message_id: each for each in reversed(known) if each.message_id}
    above: dict[int, Overview] = {}
    for each in known:
        for reference in reversed(each.references):
            parent = by_id.get(reference)
            if parent is not None and each.number not in _line(parent, above):
                above[each.number] = parent
                break
    below: dict[int, list[Overview]] = {}
    newest: dict[int, int] = {}
    for each in known:
        top = _line(each, above)[-1]
        newest[top] = max(newest.get(top, each.number), each.number)
        if each.number in above:
            below.setdefault(above[each.number].number, []).append(each)
    roots = sorted((each for each in known if each.number not in above), key=lambda each: newest[each.number])
    placed, stack = [], [(each, 0) for each in roots]
    while stack:
        each, depth = stack.pop()
        placed.append(Placed(each, depth))
        answers = sorted(below.get(each.number, ()), key=lambda answer: answer.number, reverse=True)
        stack += [(answer, depth + 1) for answer in answers]
    return placed


def _line(start: Overview, above: Mapping[int, Overview]) -> list[int]:
    """Return the numbers from an article up to the one that begins its thread."""
    numbers = [start.number]
    while numbers[-1] in above:
        numbers.append(above[numbers[-1]].number)
    return numbers


def _plain(message: EmailMessage, notes: list[str]) -> str:
    """Return the text in a message, from its plain part or, where there is none, from its HTML.

    Raises ``ValueError`` where it says that it has parts and has none, and what the library raises besides.
    """
    if message.get_content_maintype() == "multipart" and not message.is_multipart():
        raise ValueError("there are no parts")
    part = message.get_body(("plain", "html"))
    others = [each for each in message.walk() if each not in (part, message) and not each.is_multipart()]
    names = [_one_line(each.get_filename() or each.get_content_type())[:60] for each in others]
    if names and part is not None and message.get_content_type() != "multipart/alternative":
        notes.append(f"Not shown: {', '.join(names)}.")
    if part is None:
        notes.append(f"It has no text, but {_one_line(message.get_content_type())[:60]}.")
        return ""
    found = part.get_payload(decode=True)
    text = decode(found if isinstance(found, bytes) else b"", part.get_content_charset(), notes)
    if any(type(each).__name__.startswith("InvalidBase64") for each in part.defects):
        notes.append("Its encoding is broken, so some of it is missing.")
    if part.get_content_subtype() == "html":
        notes.append("It is written in HTML; this is the text in it.")
        text = _Text.of(text)
    return text


class _Text(HTMLParser):
    """The text of a page, without what a browser would not show either."""

    _BREAKS = frozenset(("p", "br", "div", "li", "tr", "h1", "h2", "h3", "blockquote", "pre"))
    _SILENT = frozenset(("script", "style", "head", "template"))

    @classmethod
    def of(cls, html: str) -> str:
        """Return the text in HTML."""
        parser = cls()
        parser.feed(html)
        parser.close()
        return "\n".join(" ".join(line.split()) for line in "".join(parser.found).splitlines())

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._silent += tag in self._SILENT
        if tag in self._BREAKS:
            self.found.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self._SILENT and self._silent > 0

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found.append(data)


def _text(value: str) -> str:
    """Return text in which bytes that came as surrogates are what they probably were."""
    return decode(value.encode("utf-8", "surrogatepass" if _has_others(value) else "surrogateescape"), None, [])


def _has_others(value: str) -> bool:
    """Whether it holds surrogates that stand for no byte."""
    return any("\ud800" <= each <= "\udfff" and not "\udc80" <= each <= "\udcff" for each in value)


def _one_line(text: str) -> str:
    return " ".join(_printable(text, " ").split())


def _printable(text: str, but: str) -> str:
    """Return text with a space for each character that prints nothing, among them those that turn its direction."""
    return "".join(each if each.isprintable() or each in but or each in JOINERS else " " for each in text)
