"""Write the figures down, a table for people and JSON for programs, and read them again."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import Shown
from bench.rows import Beside, Result, Row, Spread

#: Of the record; raised when one that was read before is no longer read alike.
VERSION = 2
#: The name of a record in the folder of its run.
FILE = "bench.json"

_HEAD = ("", "base", "measured", "unit", "figure", "least - most", "target", "", "")


def number(value: float | None) -> str:
    """Return a number in as many characters as a table wants.

    >>> number(12345.6), number(1.5), number(0.01234), number(None)
    ('12,346', '1.50', '0.012', '')
    """
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "ok", False: "out of reach", None: ""}[row.reached]
    target = f"{row.target[0]} {row.target[1]:g}" if row.target else ""
    return (
        row.name,
        number(row.base),
        number(row.measured),
        row.unit,
        f"{number(row.figure)} {row.kind}",
        f"{number(row.least)} - {number(row.most)}",
        target,
        verdict,
        row.note,
    )


def show(facts: dict[str, object], rows: Sequence[Row]) -> None:
    """Print the facts and the table; in colour where there is a terminal and rich."""
    print("; ".join(f"{name} {value}" for name, value in facts.items()))
    cells = [_cells(row) for row in rows]
    if sys.stdout.isatty():
        try:
            _rich(cells)
        except ImportError:
            pass
        else:
            return
    _plain(cells)


def _plain(cells: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(_HEAD, *cells, strict=True)]
    for line in (_HEAD, *cells):
        texts = [text.rjust(width) if 0 < at < 6 and at != 3 else text.ljust(width)
                 for at, (text, width) in enumerate(zip(line, widths, strict=True))]  # fmt: skip
        print("  ".join(texts).rstrip())


def _rich(cells: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for at, head in enumerate(_HEAD):
        table.add_column(head, justify="right" if 0 < at < 6 and at != 3 else "left")
    for line in cells:
        style = {"ok": "green", "out of reach": "yellow"}.get(line[7], "")
        table.add_row(*(Text(text, style=style if at == 7 else "") for at, text in enumerate(line)))
    Console().print(table)


def record(
    facts: dict[str, object],
    rounds: int,
    is_quick: bool,
    seconds: float,
    results: Sequence[Result],
    shown: Sequence[Shown],
    left_out: Sequence[str],
) -> dict[str, Any]:
    """Return everything as plain data."""
    return {
        "v": VERSION,
        "facts": facts,
        "rounds": rounds,
        "quick": is_quick,
        "seconds": round(seconds),
        "rows": [{**each._asdict(), "reached": each.reached} for each in results if isinstance(each, Row)],
        "beside": [each._asdict() for each in results if isinstance(each, Beside)],
        "spreads": [each._asdict() for each in results if isinstance(each, Spread)],
        "peers": [each._asdict() for each in shown],
        "left_out": list(left_out),
    }


def write(path: Path, recorded: dict[str, Any]) -> None:
    """Write a record as JSON, a result a line, numbers to four digits; the file is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    parts = (f"{json.dumps(name)}: {_json(value)}" for name, value in _short(recorded).items())
    unfinished.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    os.replace(unfinished, path)


def _json(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(json.dumps(each, ensure_ascii=False) for each in value) + "\n ]"
    return json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> Any:
    """Return plain data with its fractions to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _short(each) for name, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, (list, tuple)) else value


def read(path: Path) -> dict[str, Any]:
    """Return a record.

    :param path: its file, or the folder of its run.
    :raises ValueError: it is none, or of another version; the text says so.
    """
    path = path / FILE if path.is_dir() else path
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{path}: {e}") from None
    if not isinstance(recorded, dict) or recorded.get("v") != VERSION:
        raise ValueError(f"{path}: not a record of version {VERSION}; make bench writes one")
    return recorded


def rows_of(record: Mapping[str, Any]) -> dict[str, Row]:
    """Return the lines of a record by name."""
    found = {}
    for each in record["rows"]:
        values = {**each, "target": tuple(each["target"]) if each["target"] else None}
        values.pop("reached")
        found[each["name"]] = Row(**values)
    return found


def beside_of(record: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, list[float]]]]:
    """Return the unit and what was taken of each way, by name."""
    return {each["name"]: (each["unit"], each["taken"]) for each in record["beside"]}
