"""Say what a console is made from: a gate to ask, a log to read, a ledger. What is missing says what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from outgate.core.formats import messages
from outgate.lookout.ledger import Place
from outgate.lookout.loglines import Wanted, parse
from outgate.lookout.tailing import LONGEST, Tail

__all__ = ["Ask", "FileLog", "Found", "Log", "Missing", "News", "Sources", "log_of"]

#: Sends a request and returns the answer; raises :class:`~outgate.lookout.ask.NoGate` or ``Refused``.
Ask = Callable[[dict[str, Any]], Any]

Line = dict[str, Any]

#: Bytes of a log that are read for one page, if nobody says otherwise: a second's work.
LIMIT = 1 << 25
_CHUNK = 1 << 18


class Missing(Exception):
    """A source is not there, or cannot be read; the text says what to do."""


class Found(NamedTuple):
    """Lines of a log, the latest first.

    :ivar older: where to go on, for what is older; ``None`` at the beginning of the log.
    :ivar is_whole: whether as many as were wanted are here, or all there are; else reading ended at its limit.
    :ivar end: where the log ended, for the news that come after these.
    """

    lines: list[Line]
    older: int | None
    is_whole: bool
    end: int


class News(Protocol):
    """What is appended to a log."""

    @property
    def place(self) -> int:
        """Where it is: what it has not given yet comes from there."""

    def come(self) -> Iterator[bytes]:
        """Give the lines that have come since it was last asked."""

    def close(self) -> None:
        """Ask no more."""


class Log(Protocol):
    """A decision log. Its methods may take a moment, and raise :class:`Missing`."""

    def last(self, wanted: Wanted, count: int, before: int | None = None, limit: int = LIMIT) -> Found:
        """Return the last lines that are wanted.

        :param before: only what is older, as ``older`` of what was found before.
        :param limit: read no more bytes than about so many.
        """

    def news(self, begin: int | None) -> News:
        """Return what is appended behind a place, ``end`` of what was found; ``None``: from now on."""


@dataclass(frozen=True)
class Sources:
    """What a console shows.

    :ivar ask: asks the gate.
    :ivar log: the gate's decision log.
    :ivar ledger: finds the ledger that the gate keeps; raises ``ConfigError`` where there is none.
    """

    ask: Ask
    log: Log
    ledger: Callable[[], Place]


class FileLog:
    """A log that is a file.

    :param path: returns where it is; raises :class:`Missing` where it is no file.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        self._path = path

    def last(self, wanted: Wanted, count: int, before: int | None = None, limit: int = LIMIT) -> Found:
        """Return the last lines that are wanted; see :class:`Log`."""
        path = self._path()
        try:
            with open(path, "rb", buffering=0) as file:
                return _last(file.fileno(), wanted, count, before, limit)
        except OSError as e:
            raise _unreadable(path, e) from None

    def news(self, begin: int | None) -> News:
        """Return what is appended, over rotations; see :class:`Log`."""
        path = self._path()
        try:
            return Tail(path, 0 if begin is None else max(0, os.stat(path).st_size - begin))
        except OSError as e:
            raise _unreadable(path, e) from None


def log_of(ask: Ask) -> FileLog:
    """Return the log of the gate that is asked, wherever it says that this is."""

    def path() -> str:
        path = str(ask({"op": messages.STAT})["log"])
        if path == "-":
            raise Missing(
                "the gate writes its log to its standard output; give it a file: gate.log in its configuration"
            )
        if path == "journald":
            raise Missing("the gate writes its log to the journal; read it by: journalctl -t outgate --follow")
        return path

    return FileLog(path)


def _unreadable(path: str, error: OSError) -> Missing:
    hint = "; run the gate as a user who may read it" if isinstance(error, PermissionError) else ""
    return Missing(f"{path} cannot be read: {error.strerror}{hint}")


def _last(fd: int, wanted: Wanted, count: int, before: int | None, limit: int) -> Found:
    """Read a file backwards, a piece at a time, until there are enough."""
    whole = _end(fd)
    end = whole if before is None else min(before, whole)
    lowest = max(0, end - limit)
    found: list[Line] = []
    rest = b""  # the beginning of the piece that was read before: its line begins in the one before
    while end > lowest:
        begin = max(lowest, end - _CHUNK)
        piece = os.pread(fd, end - begin, begin) + rest
        lines = piece.split(b"\n")
        rest = lines.pop(0) if begin else b""
        if len(rest) > LONGEST:
            rest = b""
        place = begin + len(piece)
        for text in reversed(lines):
            place -= len(text)
            line = parse(text) if wanted.may_have(text) else None
            if line is not None and wanted.since and str(line.get("time", "~")) < wanted.since:
                return Found(found, None, True, whole)
            if line is not None and wanted.has(line):
                found.append(line)
                if len(found) == count:
                    return Found(found, place if place > 0 else None, True, whole)
            place -= 1  # its line end
        end = begin
    return Found(found, lowest + len(rest) if lowest else None, not lowest, whole)


def _end(fd: int) -> int:
    """Return the end of the last line; what stands behind it is just being written."""
    end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - _CHUNK)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
