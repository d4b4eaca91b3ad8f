"""The rate of an app's lines: what is admitted, what is folded, and that none is lost count of."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from outgate.core.folding import BURST, INTERVAL, Folded, Folding
from support.examples import at_least

KINDS = ("allowed", "denied", "ended", "others")
STEPS = st.lists(
    st.tuples(st.sampled_from(["one", "two"]), st.sampled_from(KINDS), st.floats(0, 3), st.booleans()), max_size=200
)


@given(STEPS, st.integers(1, 5))
@at_least(200)
def test_every_line_is_admitted_or_told_of(steps, rate: int) -> None:
    """Lines admitted and lines told of are together all there were, by app and kind; over no time there are more than
    burst and rate."""
    folding, now = Folding(rate), 100.0
    asked: Counter[tuple[str, str]] = Counter()
    known: Counter[tuple[str, str]] = Counter()
    admitted: Counter[str] = Counter()
    for app, kind, pause, takes in steps:
        now += pause
        asked[app, kind] += 1
        is_in, is_first = folding.admits(app, kind, now)
        assert not (is_in and is_first)
        if is_in:
            known[app, kind] += 1
            admitted[app] += 1
        if takes:
            for told in folding.take(now):
                known.update({(told.app, each): count for each, count in told.counts.items()})
    for told in folding.take(now, everything=True):
        known.update({(told.app, each): count for each, count in told.counts.items()})
    assert known == asked
    assert folding.total == sum(asked.values()) - sum(admitted.values())
    assert all(count <= rate * BURST + rate * (now - 100.0) + 1 for count in admitted.values())
    assert folding.take(now, everything=True) == []


def test_a_flood() -> None:
    """After the burst a flood is folded into one telling a second, and the first line that is folded says so."""
    folding = Folding(2)
    assert [folding.admits("one", "denied", 5.0) for _ in range(2 * BURST)] == [(True, False)] * 2 * BURST
    assert folding.wait(5.0) is None
    assert folding.admits("one", "denied", 5.0) == (False, True)
    assert [folding.admits("one", kind, 5.1) for kind in ("denied", "ended")] == [(False, False)] * 2
    assert folding.wait(5.5) == INTERVAL - 0.5
    assert folding.take(5.9) == []
    assert folding.take(6.0) == [Folded("one", {"denied": 2, "ended": 1}, 1.0)]
    assert folding.wait(6.0) is None
    assert folding.admits("one", "denied", 6.0) == (True, False), "a second's worth has come"


def test_apps_do_not_pay_for_each_other() -> None:
    """One app's flood leaves the lines of another."""
    folding = Folding(1)
    for _ in range(10 * BURST):
        folding.admits("loud", "denied", 1.0)
    assert folding.admits("quiet", "denied", 1.0) == (True, False)


def test_no_limit() -> None:
    """With a rate of 0 everything goes in; a rate that is set later counts from then on."""
    folding = Folding(0)
    assert all(folding.admits("one", "denied", 1.0) == (True, False) for _ in range(1000))
    folding.rate = 1
    assert sum(folding.admits("one", "denied", 1.0)[0] for _ in range(1000)) == BURST


def test_a_clock_that_stands_still_or_goes_back() -> None:
    """A clock that goes back gives nothing away."""
    folding = Folding(1)
    for _ in range(BURST):
        folding.admits("one", "denied", 10.0)
    assert not folding.admits("one", "denied", 9.0)[0]
    assert folding.admits("one", "denied", 11.0)[0]
    assert not folding.admits("one", "denied", 10.5)[0]
