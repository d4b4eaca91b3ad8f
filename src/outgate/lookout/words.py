"""Say things as people read them: quantities, durations, where a socket leads, text that somebody else chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outgate.core.fleet.clock import is_off

__all__ = ["clock", "counted", "door", "peer", "printable", "quantity", "shared", "span"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    """Return text with what a terminal would obey, or a page show in another order, written out.

    Names in a policy or a gate's answer are data.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things in words.

    :param plural: of a noun that takes more than an "s".

    >>> counted(1, "process", "processes"), counted(2, "process", "processes"), counted(1200, "line")
    ('1 process', '2 processes', '1,200 lines')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def quantity(value: float | None, unit: bool = True) -> str:
    """Return a figure in at most four digits: ``1.23 MB``, ``12.3``, ``-`` for none.

    :param unit: whether it is of bytes.
    """
    if value is None:
        return "-"
    if not unit:
        return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"
    number, power = float(value), 0
    while number >= 999.5 and power < len(_UNITS) - 1:
        number /= 1000
        power += 1
    digits = 0 if power == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {_UNITS[power]}"


def span(seconds: float) -> str:
    """Return a duration as people say it, its two largest units.

    >>> span(7384)
    '2 h 3 min'
    """
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def shared(state: Mapping[str, Any]) -> str:
    """Return how it stands with what a gate shares with its fleet, as its STAT has it."""
    url = printable(state["url"])
    if state["answers"]:
        return f"{url} answers"
    if state["away"] is None:
        return f"{url} has not answered yet"
    return f"{url} is away for {span(state['away'])}: {printable(state['why'])}; quotas go on from reservations"


def clock(skew: float) -> str:
    """Return how far a clock is off that is so many seconds ahead of another, "" for one that is right enough."""
    if not is_off(skew):
        return ""
    return f"{span(abs(skew))} {'ahead of' if skew > 0 else 'behind'}"


def door(row: Mapping[str, Any]) -> str:
    """Return where a door is, who reaches it, and who may use it, as a gate's statistics have it."""
    text = f"{row['kind']} at {row['address']}"
    if "apps" not in row:
        return text  # of an older gate, which does not say
    reach = "loopback" if row["loopback"] else "NOT loopback"
    names = list(row["apps"])
    more = row["app_count"] - len(names)
    if not names:
        return f"{text} ({reach}), for no app: none has a token"
    listed = ", ".join(names) + (f" and {more:,} more" if more else "")
    return f"{text} ({reach}), for app{'s' if len(names) > 1 else ''} {listed}"


def peer(row: Mapping[str, Any]) -> str:
    """Return where a socket leads, by the name that was asked for."""
    host = row["host"] or row["address"]
    text = f"[{host}]:{row['port']}" if ":" in host else f"{host}:{row['port']}"
    return f"{text} udp" if row["transport"] == "udp" else text
