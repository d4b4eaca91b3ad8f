"""Keep what was read, for both services and for an hour: one SQLite file that front end and back end have in common."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from articles import Body, Placed

#: States of a reading. It waits when the front end has passed its session on, and the back end takes it from there.
WAITING, READING, DONE, FAILED = "waiting", "reading", "done", "failed"

#: Seconds that a reading is kept, and how many are.
KEPT, MOST = 3600, 200
#: Seconds in which the back end takes a session up. After that nobody waits for it any more.
PATIENCE = 30
#: Seconds for which a list of groups is not asked for again.
FRESH = 300

_SCHEMA = """
CREATE TABLE IF NOT EXISTS listing (
    server TEXT, pattern TEXT, made REAL, groups TEXT, PRIMARY KEY (server, pattern));
CREATE TABLE IF NOT EXISTS reading (
    id TEXT PRIMARY KEY, server TEXT, newsgroup TEXT, count INTEGER, state TEXT, front INTEGER, back INTEGER,
    made REAL, trouble TEXT DEFAULT '', cure TEXT DEFAULT '', revision INTEGER DEFAULT 1);
CREATE TABLE IF NOT EXISTS article (
    reading TEXT REFERENCES reading (id) ON DELETE CASCADE, number INTEGER, place INTEGER, depth INTEGER, subject TEXT,
    author TEXT, date TEXT, text TEXT, notes TEXT DEFAULT '[]', revision INTEGER, PRIMARY KEY (reading, number));
"""


class Group(NamedTuple):
    """A newsgroup as a server lists it."""

    name: str
    about: str
    count: int


class Reading(NamedTuple):
    """One session with a news server.

    :ivar count: how many articles the group has.
    :ivar front: process that opened the session; ``back`` is the one that reads on in it, ``None`` until it does.
    :ivar trouble: what went wrong, in words; ``cure`` is what would mend it.
    :ivar revision: grows with each change of it or its articles.
    """

    id: str
    server: str
    newsgroup: str
    count: int
    state: str
    front: int
    back: int | None
    made: float
    trouble: str
    cure: str
    revision: int

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in (DONE, FAILED)


class Article(NamedTuple):
    """An article of a reading.

    :ivar date: as ``2026-03-01 09:30``, in UTC, "" where it has none.
    :ivar text: ``None`` until it has been fetched.
    """

    number: int
    depth: int
    subject: str
    author: str
    date: str
    text: str | None
    notes: tuple[str, ...]
    revision: int


class Store:
    """The file.

    :param clock: seconds since 1970.
    """

    def __init__(self, path: str | os.PathLike[str], clock: Callable[[], float] = time.time) -> None:
        self._path = os.fspath(path)
        self._clock = clock
        with self._open() as db:
            db.executescript(_SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction: a connection of sqlite3 is its thread's, and costs little."""
        db = sqlite3.connect(self._path, timeout=10)
        try:
            db.execute("PRAGMA foreign_keys = ON")
            db.execute("PRAGMA synchronous = OFF")  # what is lost with the machine can be read again
            with db:
                yield db
        finally:
            db.close()

    # -- groups --------------------------------------------------------------------------------------------------

    def keep_groups(self, server: str, pattern: str, groups: Sequence[Group]) -> None:
        """Remember what a server has."""
        with self._open() as db:
            row = (server, pattern, self._clock(), json.dumps(groups))
            db.execute("INSERT OR REPLACE INTO listing VALUES (?, ?, ?, ?)", row)

    def groups(self, server: str, pattern: str) -> list[Group] | None:
        """Return what a server has, ``None`` where that is not known or was asked for too long ago."""
        with self._open() as db:
            query = "SELECT groups FROM listing WHERE server = ? AND pattern = ? AND made > ?"
            row = db.execute(query, (server, pattern, self._clock() - FRESH)).fetchone()
        return [Group(*each) for each in json.loads(row[0])] if row else None

    # -- one reading ---------------------------------------------------------------------------------------------

    def add(self, server: str, newsgroup: str, count: int, front: int) -> str:
        """Begin a reading, and return its id, which nobody can guess. What is too old or too many goes."""
        self.purge()
        made = secrets.token_urlsafe(9)
        with self._open() as db:
            db.execute(
                "INSERT INTO reading (id, server, newsgroup, count, state, front, made) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (made, server, newsgroup, count, WAITING, front, self._clock()),
            )
        return made

    def begin(self, reading: str, back: int) -> bool:
        """Note who reads on. False where nobody waits for that any more."""
        return self._change(reading, "state = ?, back = ?", (READING, back), only=WAITING)

    def outline(self, reading: str, placed: Sequence[Placed]) -> None:
        """Keep what will come, in the order in which it is shown."""
        with self._open() as db:
            revision = _next(db, reading)
            if revision is not None:
                rows = [
                    (reading, each.number, place, depth, each.subject, each.author,
                     f"{each.date:%Y-%m-%d %H:%M}" if each.date else "", revision)
                    for place, (each, depth) in enumerate(placed)
                ]  # fmt: skip
                columns = "reading, number, place, depth, subject, author, date, revision"
                db.executemany(f"INSERT INTO article ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def fill(self, reading: str, number: int, body: Body) -> None:
        """Keep the text of one article."""
        with self._open() as db:
            revision = _next(db, reading)
            change = "UPDATE article SET text = ?, notes = ?, revision = ? WHERE reading = ? AND number = ?"
            db.execute(change, (body.text, json.dumps(body.notes), revision, reading, number))

    def finish(self, reading: str) -> None:
        """It has all been read."""
        self._change(reading, "state = ?", (DONE,))

    def fail(self, reading: str, trouble: str, cure: str = "") -> None:
        """It has ended before its end."""
        self._change(reading, "state = ?, trouble = ?, cure = ?", (FAILED, trouble, cure))

    def find(self, reading: str) -> Reading | None:
        """Return a reading, ``None`` where it is not there (any more). One that nobody takes up has failed."""
        columns = ", ".join(Reading._fields)
        with self._open() as db:
            query = f"SELECT {columns} FROM reading WHERE id = ? AND made > ?"
            row = db.execute(query, (reading, self._clock() - KEPT)).fetchone()
        if row is None:
            return None
        found = Reading(*row)
        if found.state == WAITING and found.made < self._clock() - PATIENCE:
            trouble = f"The back end has not taken the open session up within {PATIENCE} seconds."
            cure = "The terminal of outgate dev says whether one runs."
            if self._change(reading, "state = ?, trouble = ?, cure = ?", (FAILED, trouble, cure), only=WAITING):
                return self.find(reading)
        return found

    def articles(self, reading: str) -> list[Article]:
        """Return the articles of a reading in the order in which they are shown."""
        columns = ", ".join(Article._fields)
        with self._open() as db:
            rows = db.execute(f"SELECT {columns} FROM article WHERE reading = ? ORDER BY place", (reading,)).fetchall()
        return [Article(*row)._replace(notes=tuple(json.loads(row[6]))) for row in rows]

    def purge(self) -> None:
        """Forget what is older than an hour, and the oldest of what is too much."""
        before = self._clock() - KEPT
        with self._open() as db:
            db.execute("DELETE FROM listing WHERE made < ?", (before,))
            db.execute(
                "DELETE FROM reading WHERE made < ? OR id NOT IN (SELECT id FROM reading ORDER BY made DESC LIMIT ?)",
                (before, MOST - 1),
            )

    def _change(self, reading: str, what: str, values: tuple[Any, ...], only: str | None = None) -> bool:
        """Change a reading that is not over; return whether it was there, and in the state ``only``."""
        states = (only,) if only else (WAITING, READING)
        query = f"UPDATE reading SET {what}, revision = revision + 1 WHERE id = ? AND state IN ({_marks(states)})"
        with self._open() as db:
            return db.execute(query, (*values, reading, *states)).rowcount > 0


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _next(db: sqlite3.Connection, reading: str) -> int | None:
    """Return the next revision of a reading, ``None`` where it has been purged."""
    row = db.execute(
        "UPDATE reading SET revision = revision + 1 WHERE id = ? RETURNING revision", (reading,)
    ).fetchone()
    return row[0] if row else None


def default() -> Store:
    """Return the store that ``NEWS_FILE`` names; ``news.db`` beside this file unless it does."""
    return Store(os.environ.get("NEWS_FILE") or Path(__file__).with_name("news.db"))
