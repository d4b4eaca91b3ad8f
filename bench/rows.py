"""Make lines of the table: medians over the rounds, and the figure that is held against a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

_Way = TypeVar("_Way")


class Row(NamedTuple):
    """One line of the table.

    :ivar base: median over the rounds, in ``unit``, of what it is compared with: a native socket, or what the note
        says; ``None`` where there is none.
    :ivar measured: the same of what is measured.
    :ivar figure: what is held against the target: the median over the rounds, with its least and most.
    :ivar kind: ``x`` (a ratio), or the unit of a difference or an absolute figure.
    :ivar target: the bound, least (``>=``) or most (``<=``); ``None`` where there is none.
    """

    name: str
    unit: str
    base: float | None
    measured: float | None
    figure: float
    least: float
    most: float
    kind: str
    target: tuple[str, float] | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure reaches its target."""
        if self.target is None:
            return None
        way, bound = self.target
        return self.figure >= bound if way == ">=" else self.figure <= bound


def row(
    name: str,
    unit: str,
    base: Sequence[float],
    measured: Sequence[float],
    figures: Sequence[float],
    kind: str,
    target: tuple[str, float] | None = None,
    note: str = "",
) -> Row:
    """Return the line of what was taken in each round."""
    return Row(
        name,
        unit,
        median(base) if base else None,
        median(measured) if measured else None,
        median(figures),
        min(figures),
        max(figures),
        kind,
        target,
        note,
    )


def ratio_row(
    name: str,
    unit: str,
    base: Sequence[float],
    measured: Sequence[float],
    target: tuple[str, float] | None = None,
    note: str = "",
) -> Row:
    """Return the line of a ratio, which is always of two figures of the same round."""
    figures = [through / plain for plain, through in zip(base, measured, strict=True)]
    return row(name, unit, base, measured, figures, "x", target, note)


def turns(rounds: int, measure: Callable[[_Way], float], ways: Mapping[str, _Way]) -> dict[str, list[float]]:
    """Measure every way once in each round, and return what was taken of each."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(measure(way))
    return taken
