"""Speak with a news server: list its groups, open a session in one, and go on with that session in another process."""

from __future__ import annotations

import contextlib
import nntplib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import articles
import store
from articles import Body
from store import Group, Store
from words import explain

from outgate.dev import taskqueue

#: Seconds without a byte after which a server is taken for dead.
TIMEOUT = 20
#: How many articles are read, from the newest back.
LATEST = 10
#: Bytes of an article that are kept, and of any answer after which it is taken for endless.
LONGEST_ARTICLE, LONGEST_ANSWER = 200_000, 4_000_000
#: Most groups that are shown.
MOST_GROUPS = 500

_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/@\[\]]{1,253})(?::(?P<port>[0-9]{1,5}))?")
#: No spaces and no ends of line: what follows one would be another command to the server.
_WORD = re.compile(r"[^\s\x00-\x20\x7f]{1,200}")


class Mistyped(ValueError):
    """What somebody has typed is not what was asked for; the text says what would be."""


class Server(NamedTuple):
    """Where a news server is."""

    host: str
    port: int = nntplib.NNTP_PORT

    @classmethod
    def of(cls, text: str) -> Server:
        """Read ``news.example.com``, ``news.example.com:1119`` or ``[2001:db8::1]:119``.

        :raises Mistyped: it is none of these.
        """
        found = _ADDRESS.fullmatch(text.strip())
        port = int(found["port"] or nntplib.NNTP_PORT) if found else 0
        if found is None or not 0 < port < 65536:
            raise Mistyped("A server is a name or an address, with a port if it is not 119: news.example.com:1119")
        return cls(found["host"].strip("[]"), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == nntplib.NNTP_PORT else f"{host}:{self.port}"


def word(text: str) -> str:
    """Return the name of a group, or a pattern for some. Raises :class:`Mistyped` for what could be no such thing."""
    if not _WORD.fullmatch(text) or not text.isprintable():
        raise Mistyped("A group is one word, as in comp.lang.python; a pattern too, as in comp.lang.*")
    return text


class _Limited:
    """Takes an answer's lines, keeps the first of them, and gives up where it does not end."""

    def __init__(self, kept: int) -> None:
        self.lines: list[bytes] = []
        self.size = 0
        self._kept = kept

    def write(self, line: bytes) -> None:
        self.size += len(line)
        if self.size <= self._kept:
            self.lines.append(line)
        if self.size > LONGEST_ANSWER:
            raise nntplib.NNTPDataError("its answer does not end")

    @property
    def is_whole(self) -> bool:
        return self.size <= self._kept


# -- in the front end ------------------------------------------------------------------------------------------------


def groups(server: Server, pattern: str) -> list[Group]:
    """Return the groups of a server whose names fit a pattern (RFC 3977, 4), by name, at most :data:`MOST_GROUPS`.

    Raises what nntplib and sockets raise.
    """
    with nntplib.NNTP(server.host, server.port, readermode=True, timeout=TIMEOUT) as news:
        answer = _Limited(LONGEST_ANSWER)
        news.list(word(pattern), file=answer)
        found = sorted(filter(None, map(listed, answer.lines)))
        about: dict[str, str] = {}
        if len(found) <= MOST_GROUPS:
            with contextlib.suppress(nntplib.NNTPTemporaryError, nntplib.NNTPPermanentError):  # not every server can
                about = news.descriptions(pattern)[1]
        return [Group(name, articles.header("Subject", about.get(name)), count) for name, count in found[:MOST_GROUPS]]


def listed(line: bytes) -> tuple[str, int] | None:
    """Return name and number of articles of a group in a list (RFC 3977, 7.6.3), ``None`` for a line that has none."""
    words = line.decode("utf-8", "replace").split()
    try:
        return word(words[0]), max(int(words[1]) - int(words[2]) + 1, 0)
    except (ValueError, IndexError):
        return None


def open_group(kept: Store, server: Server, name: str) -> str:
    """Open a session, choose a group in it, and hand the open session to the back end. Return the reading's id.

    What is passed on is the object of nntplib itself, connected as it is. The server notices nothing.
    """
    news = nntplib.NNTP(server.host, server.port, readermode=True, timeout=TIMEOUT)
    try:
        _, count, first, last, _ = news.group(word(name))
        reading = kept.add(str(server), name, count, os.getpid())
        if count == 0:
            goodbye(news)
            kept.finish(reading)
        else:
            taskqueue.defer(read_on, news, reading, first, last, _queue="news", _on_failure=f"/failed/{reading}")
    finally:
        let_go(news)
    return reading


# -- in the back end -------------------------------------------------------------------------------------------------


def read_on(news: nntplib.NNTP, reading: str, first: int, last: int) -> None:
    """Read the latest articles in a session that the front end has opened, and end it with QUIT.

    :param first: number of the group's first article, and ``last`` of its last.
    """
    kept = store.default()
    server = str(Server(news.host, news.port))
    try:
        if kept.begin(reading, os.getpid()):
            for number, body in latest(news, kept, reading, max(first, last - LATEST + 1), last):
                kept.fill(reading, number, body)
        goodbye(news)
        kept.finish(reading)
    except Exception as error:
        # The session is spent, so a retry would only find that out: the task has failed for good.
        trouble = explain(error, server)
        kept.fail(reading, *trouble)
        raise taskqueue.PermanentTaskFailure(trouble.text) from error
    finally:
        let_go(news)


def latest(news: nntplib.NNTP, kept: Store, reading: str, first: int, last: int) -> Iterator[tuple[int, Body]]:
    """Fetch the articles of a range, the newest first; what is known of all of them is kept before."""
    try:
        _, lines = news.over((first, last))
    except nntplib.NNTPTemporaryError as error:
        if not error.response.startswith("423"):
            raise
        lines = []  # the group has articles, but none in this range any more
    known = [articles.overview(number, fields) for number, fields in lines[:LATEST]]
    kept.outline(reading, articles.thread(known))
    for each in sorted(known, key=lambda each: each.number, reverse=True):
        answer = _Limited(LONGEST_ARTICLE)
        try:
            news.article(str(each.number), file=answer)
        except nntplib.NNTPTemporaryError as error:
            if error.response[:3] not in ("423", "430"):
                raise
            yield each.number, Body("", ("It is not there any more.",))
        else:
            yield each.number, articles.body(b"".join(answer.lines), whole=answer.is_whole)


def goodbye(news: nntplib.NNTP) -> None:
    """Say QUIT. All has been read, so it does no harm where the server has gone first."""
    with contextlib.suppress(EOFError, OSError, nntplib.NNTPError):
        news.quit()


def let_go(news: nntplib.NNTP) -> None:
    """Close this process's part of a session, without a word to the server: somebody else may go on with it."""
    for part in ("file", "sock"):
        with contextlib.suppress(AttributeError, OSError):  # nntplib itself lets go of it after QUIT
            getattr(news, part).close()
