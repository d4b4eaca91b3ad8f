"""Choose lines of the decision log, and put one into words for a person at a terminal."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from outgate.cli import output

__all__ = ["Wanted", "in_words", "parse", "since"]

_VERDICT_STYLES = {"allow": "green", "deny": "red", "report": "yellow"}
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


def in_words(line: dict[str, Any]) -> str:
    """Return a line as a person reads it: when, who, what was decided, where to, why, and what would permit it."""
    event = str(line["event"])
    parts = [output.paint(_when(line), "dim")]
    if event in ("decision", "end"):
        program = _text(line, "program")
        parts += [_text(line, "app") or "-", f"{_text(line, 'pid')} {program}".strip()]
        parts += _decision(line) if event == "decision" else _end(line)
    else:
        facts = ", ".join(
            f"{name} {_shown(line[name])}" for name in line if name not in ("v", "time", "event", "trace")
        )
        parts += [output.paint(output.printable(event), "bold"), facts]
    return "  ".join(part for part in parts if part)


def _decision(line: dict[str, Any]) -> list[str]:
    verdict = _text(line, "verdict")
    rule = f"rule {json.dumps(_text(line, 'rule'), ensure_ascii=False)}"
    why = ""
    if verdict != "allow":
        # The sentence begins with what stands before it here.
        reason = _text(line, "reason")
        why = reason.partition(" denied: ")[2] or reason or rule
        rule = "" if f"rule {_text(line, 'rule')}" in why or rule in why else rule
        cure = _text(line, "cure")
        if cure:
            why += f"; {output.paint(cure, 'bold')}"
    return [output.paint(f"{verdict:<6}", _VERDICT_STYLES.get(verdict, "")), _destination(line), rule, why]


def _end(line: dict[str, Any]) -> list[str]:
    counts = f"sent {_figure(line, 'sent')}, received {_figure(line, 'received')}"
    duration = line.get("duration")
    lasted = f"after {duration:.3f} s" if isinstance(duration, (int, float)) else ""
    return [output.paint("end   ", "dim"), _destination(line), _text(line, "how"), counts, lasted]


def _destination(line: dict[str, Any]) -> str:
    host, address = _text(line, "host"), _text(line, "address")
    shown = f"[{host}]" if ":" in host else host
    port = line.get("port")
    if port:
        shown += f":{_shown(port)}"
    if line.get("transport") == "udp":
        shown += " udp"
    return f"{shown} ({address})" if address and address != host else shown


def _when(line: dict[str, Any]) -> str:
    """Return the time of a line in this terminal's zone; as it is where it is none."""
    text = _text(line, "time")
    try:
        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return text or "-"


def _figure(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return f"{value:,}" if isinstance(value, int) else "?"


def _text(line: dict[str, Any], name: str) -> str:
    """Return a field as text that a terminal does not obey; ``""`` where it is not there."""
    value = line.get(name)
    return "" if value is None else _shown(value)


def _shown(value: Any) -> str:
    return output.printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
