"""Put a line of the decision log into words for a person at a terminal."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from outgate.cli import output

__all__ = ["in_words"]

_VERDICT_STYLES = {"allow": "green", "deny": "red", "report": "yellow"}


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
