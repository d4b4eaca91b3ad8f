"""Print for people and for programs: aligned tables, a little colour, JSON.

Colour only where somebody looks: on a terminal, and unless NO_COLOR (https://no-color.org) is set or TERM is ``dumb``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, TextIO

from outgate.lookout.words import printable

__all__ = [
    "fail",
    "is_colourful",
    "paint",
    "print_json",
    "print_table",
    "printable",
    "say",
    "table",
    "unanswered",
    "warn",
]

#: Style → parameters of the SGR sequence (ECMA-48, 8.3.117).
_STYLES: Mapping[str, str] = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def is_colourful(stream: TextIO) -> bool:
    """Whether what goes to this stream may be coloured."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and stream.isatty()


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """Return the text in a style, or as it is where nobody would see one.

    :param style: a key of the table above, or ``""`` for none.
    :param stream: where it will be printed; standard output by default.
    """
    if not style or not is_colourful(stream or sys.stdout):
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def say(text: str = "", stream: TextIO | None = None) -> None:
    """Print a line, also where the locale lacks one of its characters (→ in ISO 8859-1)."""
    stream = stream or sys.stdout
    encoding = stream.encoding or "ascii"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(f"outgate: {paint('warning', 'yellow', sys.stderr)}: {printable(text)}", sys.stderr)


def unanswered(command: str, error: Exception, as_json: bool) -> int:
    """Say that a gate gave no answer, as people or as programs read it, and return the exit status 1."""
    if not as_json:
        return fail(command, str(error), 1)
    print_json({"ok": False, "error": str(error)})
    return 1


def fail(command: str, text: str, status: int) -> int:
    """Say on standard error why a command failed, and return its exit status."""
    say(f"outgate {command}: {printable(text)}", sys.stderr)
    return status


#: The newest form of what ``--json`` prints. Keys are added without raising it; none is renamed or changes its meaning.
JSON_VERSION: Final = 1


def print_json(value: Mapping[str, Any], indent: int | None = 2) -> None:
    """Print one JSON object for a program to read, and the version of its form: ASCII, keys in the order given.

    :param indent: ``None`` for one line, at once.
    """
    print(json.dumps({"v": JSON_VERSION, **value}, indent=indent), flush=indent is None)


def table(rows: Iterable[Sequence[str]], right: Iterable[int] = (), gap: str = "  ") -> list[str]:
    """Return the rows as lines with aligned columns and no blanks at their ends.

    :param right: numbers of the columns that are aligned to the right, for figures.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    align = [str.rjust if number in set(right) else str.ljust for number in range(len(widths))]
    return [
        gap.join(put(cell, width) for put, cell, width in zip(align, row, widths, strict=True)).rstrip()
        for row in cells
    ]


def print_table(rows: Iterable[Sequence[str]], right: Iterable[int] = (), styles: Iterable[str] = ()) -> None:
    """Print a table whose first row says what the columns are.

    :param right: as of :func:`table`.
    :param styles: one for each of the other rows, as :func:`paint` takes it; none to leave them as they are.
    """
    header, *lines = table(rows, right)
    say(paint(header, "bold"))
    for line, style in zip_longest(lines, styles, fillvalue=""):
        say(paint(line, style))
