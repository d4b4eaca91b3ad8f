"""The table of the attacks on a guard, from what came of them in the last run that was written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tomllib

DATA = Path(__file__).resolve().parent / "data/attacks.toml"
#: Levels as the data name them, and the table.
_LEVELS = ("without the seal", "with the seal")

_PAGE = """\
# Attacks on a guard

<!-- Made by docs/generate.py; do not edit. -->

What was tried against [a guard](guard.md), and what came of it in the last run that was written down, on Linux
{linux}. An ordinary user's program tries each twice: with a gate of its own user, and with one of root's that
[seals](containment.md#the-seal) its sockets. Listeners that are no part of outgate stand where the attacks aim, on
private addresses, on a path and on an abstract name of the host, and a sniffer sees every packet: a test fails if any
of them hears anything, whatever the program was told.

{attacks}

What came of it is the errno of each call in turn, `done` for one that may succeed as it leads nowhere else, or how the
program ended.

## Races, sudden ends, and other levels

Tests of their own; *held* means that nothing reached what it aimed at.

{tests}

`make attacks` tries them and writes this down; CI tries them at every change. What is not stopped is in
[SECURITY.md](../SECURITY.md); ways round a *policy* are in [evasions](evasions.md).
"""


def page(table: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
    """Return docs/attacks.md.

    :param table: makes a table of Markdown from its head and its rows.
    """
    data: dict[str, Any] = tomllib.loads(DATA.read_text(encoding="utf-8"))
    attacks = [
        (each["name"], each["what"], each["by"], *(f"`{each[level]}`" if level in each else "" for level in _LEVELS))
        for each in data["attack"]
    ]
    tests = [
        (each["what"], each["by"], each["came"] or "not in that run", f"`{each['name']}`")
        for each in data.get("test", ())
    ]
    return _PAGE.format(
        linux=data["linux"],
        attacks=table(("attack", "what is tried", "what stops it", *_LEVELS), attacks),
        tests=table(("what is tried", "what stops it", "came of it", "test"), tests),
    )
