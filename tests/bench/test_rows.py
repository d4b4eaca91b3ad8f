"""What is made of the figures of each round."""

from __future__ import annotations

import pytest
from bench.rows import SHARES, against, is_speed, quantiles, ratio_row, row, spread, turns


def test_a_ratio_is_of_two_figures_of_the_same_round():
    """The figure is the median of the rounds' ratios, and not the ratio of the medians."""
    made = ratio_row("open", "us", [1.0, 100.0, 10.0], [5.0, 100.0, 20.0])
    assert (made.figure, made.least, made.most) == (2.0, 1.0, 5.0)
    assert (made.base, made.measured) == (10.0, 20.0)


@pytest.mark.parametrize(
    ("target", "figure", "reached"),
    [
        (("<=", 2.0), 2.0, True),
        (("<=", 2.0), 2.1, False),
        ((">=", 2.0), 2.0, True),
        ((">=", 2.0), 1.9, False),
        (None, 9.0, None),
    ],
)
def test_a_target_counts_as_reached_at_its_bound(target, figure, reached):
    """A line reaches its target at the bound itself; without one there is nothing to reach."""
    assert row("a", "us", [], [], [figure], "us", target).reached is reached


def test_quantiles_of_a_hundred_are_those_numbers():
    """Of the numbers from 0 to 99, so many per cent lie below the number of that name."""
    assert quantiles(list(range(99, -1, -1))) == list(SHARES)


def test_quantiles_of_one_measurement_are_that_one():
    """Where there is one measurement every quantile is it."""
    assert quantiles([7.0]) == [7.0] * len(SHARES)


def test_a_spread_is_the_median_over_rounds():
    """One round that went badly does not move the spread."""
    made = spread("open", "us", {"native": [[1.0], [1.0], [900.0]]})
    assert made.quantiles == {"native": [1.0] * len(SHARES)}


@pytest.mark.parametrize(("unit", "best"), [("us", "dante"), ("1/s", "squid")])
def test_the_best_rival_is_the_fastest(unit, best):
    """Of times the least is best and of speeds the most, and the line names who it is."""
    taken = {"direct": [8.0, 8.0], "dante": [2.0, 4.0], "squid": [4.0, 16.0]}
    (made,) = against("a", unit, taken, ["squid", "dante"], "direct")
    assert made.note == f"base: {best}"
    assert made.base == sum(taken[best]) / 2


def test_without_a_rival_there_is_no_line():
    """A comparison with nobody is not made."""
    assert list(against("a", "us", {"direct": [1.0]}, [], "direct")) == []


def test_rounds_take_every_way_in_turn():
    """Each round measures every way once, before the next round begins."""
    asked = []

    def measure(name, way):
        asked.append((name, way))
        return float(len(asked))

    assert turns(2, measure, {"native": 0, "direct": 1}) == {"native": [1.0, 3.0], "direct": [2.0, 4.0]}
    assert asked == [("native", 0), ("direct", 1)] * 2


def test_speeds_are_what_is_counted_by_the_second():
    """Of rates and of throughput more is better; of times, sizes and shares less."""
    assert [is_speed(unit) for unit in ("1/s", "GB/s", "us", "s", "B", "%")] == [True, True, False, False, False, False]
