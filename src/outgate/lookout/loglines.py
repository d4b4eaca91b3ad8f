"""Choose lines of the decision log, and say what stands in one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from outgate.lookout.words import printable

__all__ = ["REFUSING", "Wanted", "destination", "field", "parse", "shown", "since", "why"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

#: Events after which something is refused or taken from a program though no decision says so: a quota that is used
#: up, once per window, and a connection that a new policy does not permit.
REFUSING = frozenset({"quota-exceeded", "overruled"})
#: One of these stands in every line of a refusal.
_MARKS = tuple(f'"{word}"'.encode() for word in ("deny", "report", *sorted(REFUSING)))


class Wanted(NamedTuple):
    """Which lines are shown.

    :ivar app: only those of this app; ``""`` for all.
    :ivar denied: only decisions that deny, or would, and the events of :data:`REFUSING`.
    :ivar since: only those from this moment on, as the log writes one; ``""`` for all.
    :ivar reason: only those in whose reason, rule or kind of end this text occurs, whatever its case.
    :ivar everything: ends of connections and events of the gate, too, and not only decisions.
    :ivar text: only those in any field of which this text occurs, whatever its case.
    """

    app: str = ""
    denied: bool = False
    since: str = ""
    reason: str = ""
    everything: bool = False
    text: str = ""

    def may_have(self, text: bytes) -> bool:
        """Tell, by a look that costs next to nothing, whether a line of these bytes could be one of them."""
        return not self.denied or any(mark in text for mark in _MARKS)

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
        return _occurs(self.text, line.values()) and _occurs(
            self.reason, (line.get(name, "") for name in ("reason", "rule", "how"))
        )


def _occurs(text: str, values: Iterable[Any]) -> bool:
    """Tell whether a text is part of one of the values, whatever its case; "" is of all."""
    folded = text.casefold()
    return not folded or any(folded in str(value).casefold() for value in values)


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


def destination(line: dict[str, Any]) -> str:
    """Return where a line is about: what was asked for, and the address where that is another."""
    host, address = field(line, "host"), field(line, "address")
    said = f"[{host}]" if ":" in host else host
    port = line.get("port")
    if port:
        said += f":{shown(port)}"
    if line.get("transport") == "udp":
        said += " udp"
    return f"{said} ({address})" if address and address != host else said


def why(line: dict[str, Any]) -> str:
    """Return the reason of a refusal, without its beginning, which says what the line's other fields do."""
    reason = field(line, "reason")
    return reason.partition(" denied: ")[2] or reason


def field(line: dict[str, Any], name: str) -> str:
    """Return a field as text that a terminal does not obey; ``""`` where it is not there."""
    value = line.get(name)
    return "" if value is None else shown(value)


def shown(value: Any) -> str:
    """Return a value as text that a terminal does not obey."""
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
