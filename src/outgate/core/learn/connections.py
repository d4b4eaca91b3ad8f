"""Gather from the lines of a decision log which connections there were, each kind once, with how often and when."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from outgate.core.address import addresses
from outgate.core.learn.observations import TooMany
from outgate.core.name import names
from outgate.core.policy.again import Opened

__all__ = ["MOST", "Connections"]

#: Kinds of connections that are kept.
MOST: Final = 200_000
_APP: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
#: RFC 3339 in UTC, which without its Z sorts as text.
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z\Z", re.ASCII)


class Connections:
    """What is gathered from any number of logs, a line at a time.

    Decisions count, and ends of those whose decision is not there because allowed ones are not logged.

    :param app: gather of this app alone; ``""`` for all.
    :param since: gather what happened at or after this time, as the log writes it; ``""`` for all.
    :ivar count: connections and attempts that were gathered.
    :ivar misread: lines that were not understood.
    :ivar lost: lines that are not in the log: it could not be written, or they were folded.
    """

    def __init__(self, app: str = "", since: str = "") -> None:
        self._app = app
        self._since = since.removesuffix("Z")
        self._begun: set[str] = set()
        self._kinds: dict[tuple[str, Opened], list[Any]] = {}
        self.count = self.misread = self.lost = 0

    def __iter__(self) -> Iterator[tuple[str, Opened, int, str]]:
        """Give (app, what was opened, how often, when last)."""
        for (app, opened), (count, last) in self._kinds.items():
            yield app, opened, count, last

    def __len__(self) -> int:
        return len(self._kinds)

    def add(self, line: object) -> None:
        """Take one decoded line; ``None`` stands for one that could not be decoded.

        :raises outgate.core.learn.observations.TooMany: there are more kinds than can be kept.
        """
        if not isinstance(line, Mapping) or not isinstance(line.get("event"), str):
            self.misread += 1
            return
        event = line["event"]
        if event in ("log-dropped", "log-folded"):
            counts = (line.get(name) for name in ("count", "allowed", "denied", "ended"))
            self.lost += sum(count for count in counts if type(count) is int and count > 0)
        if event not in ("decision", "end"):
            return
        read = _read(line)
        if read is None:
            self.misread += 1
            return
        app, opened, lease, time = read
        if event == "end":
            is_known = lease in self._begun
            self._begun.discard(lease)
            if is_known:
                return
        elif lease:
            self._begun.add(lease)
        if (self._app and app != self._app) or (self._since and time.removesuffix("Z") < self._since):
            return
        known = self._kinds.get((app, opened))
        if known is None:
            if len(self._kinds) >= MOST:
                raise TooMany(f"there are more than {MOST:,} different connections; narrow it with --app or --since")
            known = self._kinds[app, opened] = [0, ""]
        known[0] += 1
        known[1] = max(known[1], time)
        self.count += 1


def _read(line: Mapping[str, Any]) -> tuple[str, Opened, str, str] | None:
    """Return app, facts of the opening, lease and time of a line, or ``None`` where they are not those of one."""
    app, transport, port = line.get("app"), line.get("transport"), line.get("port")
    if not isinstance(app, str) or not _APP.match(app) or transport not in ("tcp", "udp"):
        return None
    if type(port) is not int or not 0 <= port <= 65535:
        return None
    host, address, name = (_text(line, key) for key in ("host", "address", "name"))
    try:
        name = names.canonical(name) if name else ""
        if address:
            addresses.judge(address)
        elif not name:
            name = names.canonical(host)
    except ValueError:
        return None
    time = _text(line, "time")
    opened = Opened(transport, host, address, port, name)
    return app, opened, _text(line, "lease"), time if _TIME.match(time) else ""


def _text(line: Mapping[str, Any], key: str) -> str:
    value = line.get(key)
    return value if isinstance(value, str) else ""
