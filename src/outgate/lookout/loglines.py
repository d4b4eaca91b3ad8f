"""Choose lines of the decision log."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

__all__ = ["Wanted", "parse", "since"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

#: Events after which something is refused or taken from a program though no decision says so: a quota that is used
#: up, once per window, and a connection that a new policy does not permit.
REFUSING = frozenset({"quota-exceeded", "overruled"})


class Wanted(NamedTuple):
    """Which lines are shown.

    :ivar app: only those of this app; ``""`` for all.
    :ivar denied: only decisions that deny, or would, and the events of :data:`REFUSING`.
    :ivar since: only those from this moment on, as the log writes one; ``""`` for all.
    :ivar reason: only those in whose reason, rule or kind of end this text occurs, whatever its case.
    :ivar everything: ends of connections and events of the gate, too, and not only decisions.
    """

    app: str = ""
    denied: bool = False
    since: str = ""
    reason: str = ""
    everything: bool = False

    def has(self, line: dict[str, Any]) -> bool:
        """Tell whether a line is one of them."""
        event = line.get("event")
        if event not in REFUSING:
            if event != "decision" and (self.denied or not self.everything):
                return False
            if self.denied and line.get("verdict") not in ("deny", "report"):
                return False
        if self.app and line.get("app") != self.app:
            return False
        if self.since and not str(line.get("time", "")) >= self.since:
            return False
        if not self.reason:
            return True
        wanted = self.reason.casefold()
        return any(wanted in str(line.get(name, "")).casefold() for name in ("reason", "rule", "how"))


def parse(text: bytes) -> dict[str, Any] | None:
    """Return the line that stands in these bytes, or ``None`` where it is none of a log."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        return None
    return line if isinstance(line, dict) and isinstance(line.get("event"), str) else None


def since(text: str, now: datetime) -> str:
    """Return a moment as the log writes it: ``90s``, ``15m``, ``2h``, ``3d``, ``1w`` before now, or a time of ISO 8601.

    :param now: with a time zone; a time without one is meant in that zone.
    :raises ValueError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    moment = now if match is not None else datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=now.tzinfo)
    try:
        moment = moment.astimezone(UTC)
        if match is not None:
            moment -= timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:
        raise ValueError("before the first year") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
