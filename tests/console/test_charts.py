"""Charts show every figure at its size, whatever figures come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outgate.console import charts

COUNTS = st.integers(0, 10**18)


@given(st.lists(st.tuples(st.text(max_size=5), COUNTS, COUNTS), max_size=60))
def test_bars_are_as_high_as_their_figures(periods: list[tuple[str, int, int]]) -> None:
    """Parts stand on one another from the base, none is higher than the drawing, and heights are as the figures."""
    chart = charts.bars(periods)
    assert len(chart.bars) == len(periods)
    room = chart.base - 8
    top = charts.ceiling(max((sent + received for _, sent, received in periods), default=0))
    for bar, (_, sent, received) in zip(chart.bars, periods, strict=True):
        assert bar.sent[0] >= 7.9
        assert abs(bar.received[0] + bar.received[1] - chart.base) < 0.02
        assert abs(bar.sent[0] + bar.sent[1] - bar.received[0]) < 0.02
        assert abs(bar.sent[1] - sent / top * room) < 0.01
        assert abs(bar.received[1] - received / top * room) < 0.01
        assert 0 < bar.width <= chart.width


@given(st.floats(0, 1e18))
def test_a_scale_ends_above_what_it_shows(most: float) -> None:
    """The end of a scale is no less than the most, and no more than two and a half times it."""
    top = charts.ceiling(most)
    assert most <= top
    assert most <= 1 or top <= most * 2.5


def test_a_chart_in_words() -> None:
    """Who cannot see the bars hears the sums and the peak; every bar has its own sentence."""
    chart = charts.bars([("2026-03-01 10:00Z", 1000, 0), ("2026-03-01 11:00Z", 5000, 2000)])
    assert chart.summary == "sent 6.00 kB, received 2.00 kB; most in 2026-03-01 11:00Z, 7.00 kB"
    assert chart.bars[1].title == "2026-03-01 11:00Z: sent 5.00 kB, received 2.00 kB"
    assert [bar.label for bar in chart.bars] == ["10:00", "11:00"]
    assert [text for _, text in chart.lines] == ["5.00 kB", "10.0 kB"]


def test_few_labels() -> None:
    """Of many bars only so many have a name below that there is room for."""
    chart = charts.bars([(f"2026-03-{day:02d}", day, 0) for day in range(1, 31)])
    assert [bar.label for bar in chart.bars if bar.label] == [
        "03-01", "03-05", "03-09", "03-13", "03-17", "03-21", "03-25", "03-29",
    ]  # fmt: skip


def test_nothing_to_draw() -> None:
    """Without figures there is an empty chart and no line, and no division by nothing."""
    assert charts.bars([]).bars == ()
    assert charts.bars([("2026-03-01", 0, 0)]).summary == "sent 0 B, received 0 B"
    assert charts.line([], 0, 100, 10, 5) == ""


def test_a_line_ends_at_the_right() -> None:
    """The latest value is at the right, the highest at the top of its scale, older ones than there is room for gone."""
    assert charts.line([9, 0, 10], 10, 100, 10, 3) == "M0.0 1.0L50.0 10.0L100.0 0.0"
    assert charts.line([7, 9, 0, 10], 10, 100, 10, 3) == "M0.0 1.0L50.0 10.0L100.0 0.0"
    assert charts.line([10], 10, 100, 10, 3) == "M100.0 0.0"
