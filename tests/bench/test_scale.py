"""What one gate carries, by measured costs."""

from __future__ import annotations

import pytest
from bench.report import rows_of

from bench import scale
from support.bench_records import record

_COSTS = scale.costs(rows_of(record()))


def test_costs_are_those_of_the_record():
    """Each cost is read from its line; memory from the line of most sockets, and the meter's for one socket."""
    assert _COSTS == (200.0, 400.0, 100.0, 0.5, 600.0, 2200.0, 10.0)


def test_what_is_missing_is_named():
    """A record without a line that the costs are in is refused with the name of that line."""
    rows = rows_of(record())
    assert scale.missing(rows) == []
    del rows["gate, processor time of an open, direct"], rows["gate, 10,000 sockets sending"]
    with pytest.raises(ValueError, match=r"lacks gate, processor time of an open, direct; gate, # sockets sending$"):
        scale.costs(rows)


@pytest.mark.parametrize(
    ("cores", "gates", "opens"),
    [(64, 1, 5000.0), (64, 2, 10_000.0), (2, 1, 5000.0), (1, 1, 1e6 / 300), (2, 9, 2e6 / 300)],
)
def test_either_the_gates_or_the_host_end_first(cores, gates, opens):
    """A gate ends at its core; on a small host programs and gates end together, at that of all cores."""
    assert scale.opens_per_second(_COSTS, cores, gates) == pytest.approx(opens)


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
def test_a_further_gate_gains_little(cores):
    """One gate more than are worth running serves less than one gate's opens more, and one fewer never more."""
    gates = scale.gates_worth_running(_COSTS, cores)
    here, more = (scale.opens_per_second(_COSTS, cores, each) for each in (gates, gates + 1))
    assert more - here < 1e6 / _COSTS.open
    assert scale.opens_per_second(_COSTS, cores, gates - 1) <= here


def test_the_page_divides():
    """The page has what one core is enough for, from the costs in the record."""
    text = scale.page(record(), lambda head, rows: "\n".join(" | ".join(line) for line in (head, *rows)))
    assert "an open and its close, direct | 200.0 µs | 5,000 a second" in text
    assert "64 | 5,000 | 43 | 213,333" in text
