"""Hold two records against each other: ``python -m bench.compare OLD NEW`` says which figure moved beyond its spread.

A figure has moved where the ranges of its rounds do not touch: with five rounds in each run that happens to one in a
hundred by chance alone. What is compared are the figures that are held against targets, ratios above all, for they say
something over runs and machines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import report
from bench.report import number, rows_of
from bench.rows import Row


class Move(NamedTuple):
    """A figure that is in both records.

    :ivar word: ``better``, ``worse``, or "" where it has not moved.
    """

    name: str
    old: Row
    new: Row
    word: str


def moves(old: Mapping[str, Row], new: Mapping[str, Row]) -> list[Move]:
    """Return every figure that both have, in the order of the new."""
    return [Move(name, old[name], row, _word(old[name], row)) for name, row in new.items() if name in old]


def _word(old: Row, new: Row) -> str:
    if new.least > old.most:
        return "better" if new.more_is_better else "worse"
    if new.most < old.least:
        return "worse" if new.more_is_better else "better"
    return ""


def told(old: Mapping[str, Row], new: Mapping[str, Row], everything: bool = False) -> list[str]:
    """Return the lines to print: what moved, or all that both have; and what only one has."""
    found = moves(old, new)
    shown = [move for move in found if move.word or everything]
    cells = [(move.name, _figure(move.old), "→", _figure(move.new), move.word) for move in shown]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    moved = sum(bool(move.word) for move in found)
    lines.append(f"{moved} of {len(found)} figures moved beyond their spread")
    for words, more, less in (("only in the old", old, new), ("only in the new", new, old)):
        names = [name for name in more if name not in less]
        if names:
            lines.append(f"{words}: {'; '.join(names)}")
    return lines


def _figure(row: Row) -> str:
    return f"{number(row.figure)} {row.kind} ({number(row.least)} to {number(row.most)})"


def main(argv: Sequence[str] | None = None) -> int:
    """Print what moved, and return 0; 2 where a file is no record."""
    p = argparse.ArgumentParser(prog="python -m bench.compare", description="Say which figure moved beyond its spread.")
    p.add_argument("old", type=Path, help="a run: its folder, or its bench.json")
    p.add_argument("new", type=Path, help="a later one")
    p.add_argument("--all", action="store_true", help="also the figures that have not moved")
    options = p.parse_args(argv)
    try:
        old, new = report.read(options.old), report.read(options.new)
    except ValueError as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    for name in ("cpus", "kernel", "processor", "python"):
        if old["facts"].get(name) != new["facts"].get(name):
            print(f"other {name}: {old['facts'].get(name)} → {new['facts'].get(name)}")
    print("\n".join(told(rows_of(old), rows_of(new), options.all)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
