"""Write the figures down: a table for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.rows import Row

_HEAD = ("", "base", "measured", "unit", "figure", "least - most", "target", "", "")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _cells(row: Row) -> tuple[str, ...]:
    verdict = {True: "ok", False: "out of reach", None: ""}[row.reached]
    target = f"{row.target[0]} {row.target[1]:g}" if row.target else ""
    return (
        row.name,
        _number(row.base),
        _number(row.measured),
        row.unit,
        f"{_number(row.figure)} {row.kind}",
        f"{_number(row.least)} - {_number(row.most)}",
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


def write(path: Path, facts: dict[str, object], rows: Sequence[Row], seconds: float) -> None:
    """Write everything as one JSON object; the file is either whole or not there."""
    lines: list[dict[str, Any]] = [{**row._asdict(), "reached": row.reached} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps({"v": 1, "facts": facts, "seconds": round(seconds, 1), "rows": lines}, indent=1))
    os.replace(unfinished, path)
