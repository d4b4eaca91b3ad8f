"""Put a line of the decision log into words for a person at a terminal."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from outgate.cli import output
from outgate.lookout.loglines import destination, field, shown, why

__all__ = ["in_words"]

_VERDICT_STYLES = {"allow": "green", "deny": "red", "report": "yellow"}


def in_words(line: dict[str, Any]) -> str:
    """Return a line as a person reads it: when, who, what was decided, where to, why, and what would permit it."""
    event = str(line["event"])
    parts = [output.paint(_when(line), "dim")]
    if event in ("decision", "end"):
        program = field(line, "program")
        parts += [field(line, "app") or "-", f"{field(line, 'pid')} {program}".strip()]
        parts += _decision(line) if event == "decision" else _end(line)
    else:
        facts = ", ".join(f"{name} {shown(line[name])}" for name in line if name not in ("v", "time", "event", "trace"))
        parts += [output.paint(output.printable(event), "bold"), facts]
    return "  ".join(part for part in parts if part)


def _decision(line: dict[str, Any]) -> list[str]:
    verdict = field(line, "verdict")
    rule = f"rule {json.dumps(field(line, 'rule'), ensure_ascii=False)}"
    because = ""
    if verdict != "allow":
        because = why(line) or rule
        rule = "" if f"rule {field(line, 'rule')}" in because or rule in because else rule
        cure = field(line, "cure")
        if cure:
            because += f"; {output.paint(cure, 'bold')}"
    return [output.paint(f"{verdict:<6}", _VERDICT_STYLES.get(verdict, "")), destination(line), rule, because]


def _end(line: dict[str, Any]) -> list[str]:
    counts = f"sent {_figure(line, 'sent')}, received {_figure(line, 'received')}"
    duration = line.get("duration")
    lasted = f"after {duration:.3f} s" if isinstance(duration, (int, float)) else ""
    return [output.paint("end   ", "dim"), destination(line), field(line, "how"), counts, lasted]


def _when(line: dict[str, Any]) -> str:
    """Return the time of a line in this terminal's zone; as it is where it is none."""
    moment = field(line, "time")
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return moment or "-"


def _figure(line: dict[str, Any], name: str) -> str:
    value = line.get(name)
    return f"{value:,}" if isinstance(value, int) else "?"
