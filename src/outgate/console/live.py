"""Send a page what changes while it is looked at, as server-sent events (HTML Living Standard, 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from anyio import to_thread
from starlette.exceptions import HTTPException

from outgate.console import views
from outgate.console.sources import Log, Missing, News
from outgate.lookout.ask import NoGate, Refused
from outgate.lookout.loglines import Wanted, parse

__all__ = ["NewLines", "Streams"]

#: Seconds between looks.
_INTERVAL: Final = 1.0
#: Pages that are looked at at one time; a browser has no more than six of them open to one place.
_MOST: Final = 32
#: Lines that one event brings at most, the latest: a page shows no more of them than can be read.
_LINES: Final = 100


class NewLines:
    """The lines that a log gets while a page is open.

    :param log: whose.
    :param wanted: which.
    :param begin: behind which place of the log, as a page knows it; ``None`` for its end.
    :ivar place: up to where they were taken; -1 where there is no log.
    """

    def __init__(self, log: Log, wanted: Wanted, begin: int | None) -> None:
        self.place = -1
        self._log = log
        self._wanted = wanted
        self._begin = begin
        self._news: News | None = None
        self._is_missing = False

    def open(self) -> None:
        """Go to where they begin."""
        if self._news is None and not self._is_missing:
            try:
                self._news = self._log.news(self._begin)
            except Missing:  # the page says so
                self._is_missing = True

    def take(self) -> tuple[list[dict[str, str]], int]:
        """Return the latest lines that have come, the latest first, and how many are left out."""
        self.open()
        if self._news is None:
            return [], 0
        latest: deque[dict[str, Any]] = deque(maxlen=_LINES)
        count = 0
        for text in self._news.come():
            line = parse(text) if self._wanted.may_have(text) else None
            if line is not None and self._wanted.has(line):
                latest.appendleft(line)
                count += 1
        self.place = self._news.place
        return [views.line_row(line) for line in latest], count - len(latest)

    def close(self) -> None:
        """Give the log back."""
        if self._news is not None:
            self._news.close()
            self._news = None


class Streams:
    """All pages that are open."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def has_room(self) -> bool:
        """Whether one more may be."""
        return self._count < _MOST

    async def events(self, look: Callable[[], dict[str, Any]], lines: NewLines) -> AsyncIterator[bytes]:
        """Give events until nobody reads them any more.

        :param look: returns what the page shows now, in a thread; what it raises of a gate is told to the page.
        """
        self._count += 1
        try:
            await to_thread.run_sync(lines.open)
            while True:
                yield await to_thread.run_sync(_event, look, lines)
                await asyncio.sleep(_INTERVAL)
        finally:
            self._count -= 1
            lines.close()


def _event(look: Callable[[], dict[str, Any]], lines: NewLines) -> bytes:
    try:
        said = look()
        said["lines"], said["skipped"] = lines.take()
    except (NoGate, Refused) as error:
        said = {"problem": str(error)}
    except HTTPException as error:  # an app that is not there any more
        said = {"problem": error.detail}
    except OSError as error:
        said = {"problem": f"the log cannot be read: {error.strerror}"}
    # Where to go on, for a page whose connection was cut: it comes back as Last-Event-ID.
    return f"id: {lines.place}\ndata: {json.dumps(said)}\n\n".encode()
