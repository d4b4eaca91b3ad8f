"""Make results of what was taken in each round: lines held against a target, ways beside each other, spreads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar, Union

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
    def more_is_better(self) -> bool:
        """Whether it is a speed, and not a time or a size."""
        return is_speed(self.unit)

    @property
    def reached(self) -> bool | None:
        """Whether the figure reaches its target."""
        if self.target is None:
            return None
        way, bound = self.target
        return self.figure >= bound if way == ">=" else self.figure <= bound


class Beside(NamedTuple):
    """What was taken of each way.

    :ivar taken: way → its figure in each round.
    """

    name: str
    unit: str
    taken: dict[str, list[float]]


class Spread(NamedTuple):
    """How the single measurements of each way are distributed.

    :ivar quantiles: way → its quantiles at :data:`SHARES`, medians over the rounds.
    """

    name: str
    unit: str
    quantiles: dict[str, list[float]]


#: The shares of measurements, in per cent, below each quantile of a spread.
SHARES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
Result = Union[Row, Beside, Spread]


def is_speed(unit: str) -> bool:
    """Whether more of this unit is better."""
    return unit.endswith("/s")


def quantiles(times: Sequence[float]) -> list[float]:
    """Return the quantiles of single measurements at :data:`SHARES`."""
    in_order = sorted(times)
    return [in_order[min(len(in_order) - 1, len(in_order) * share // 100)] for share in SHARES]


def spread(name: str, unit: str, taken: Mapping[str, Sequence[Sequence[float]]]) -> Spread:
    """Return the distribution of the single measurements of each way, a list a round."""
    return Spread(
        name,
        unit,
        {way: [median(each) for each in zip(*map(quantiles, rounds), strict=True)] for way, rounds in taken.items()},
    )


def best(taken: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return the way with the best median."""
    return (max if is_speed(unit) else min)(taken, key=lambda way: median(taken[way]))


def against(
    name: str,
    unit: str,
    taken: Mapping[str, Sequence[float]],
    rivals: Sequence[str],
    way: str,
    target: tuple[str, float] | None = None,
) -> Iterator[Row]:
    """Yield the ratio of a way to the best of its rivals, which the note names; nothing where there is none."""
    if rivals:
        rival = best({each: taken[each] for each in rivals}, unit)
        yield ratio_row(name, unit, taken[rival], taken[way], target, f"base: {rival}")


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


def both_paths(
    name: str,
    unit: str,
    taken: dict[str, list[float]],
    direct: tuple[str, float] | None = None,
    relay: tuple[str, float] | None = None,
    note: str = "",
) -> Iterator[Result]:
    """Yield every way beside the others, and the ratio of either path to native, with their targets."""
    yield Beside(name, unit, taken)
    yield ratio_row(name, unit, taken["native"], taken["direct"], direct, note)
    yield ratio_row(f"{name}, relay", unit, taken["native"], taken["relay"], relay)


def turns(rounds: int, measure: Callable[[str, _Way], float], ways: Mapping[str, _Way]) -> dict[str, list[float]]:
    """Measure every way, by its name and itself, once in each round, and return what was taken of each."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(measure(name, way))
    return taken
