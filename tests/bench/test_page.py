"""The page of a record."""

from __future__ import annotations

import json
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.rows import ratio_row

from bench import page, report
from support.bench_records import record, results

_DATA = Path(__file__).parents[2] / "docs" / "data"
_RECORDED = report.read(_DATA / report.FILE)
_HINTS = tomllib.loads((_DATA / "bench.toml").read_text(encoding="utf-8"))
_NOTHING = {"rows": {}, "tested": []}


def _table(head, rows):
    return "\n".join(" | ".join(line) for line in (head, *rows))


def _record(*rows, facts=None):
    return report.record(facts or {}, 1, False, 1.0, rows, (), ())


def test_a_record_survives_being_written(tmp_path):
    """What is written is read back, to four digits."""
    report.write(tmp_path / report.FILE, record())
    read = report.read(tmp_path)
    assert read == json.loads(json.dumps(report._short(record())))
    assert list(report.rows_of(read)) == [row.name for row in report.rows_of(record()).values()]


def test_bounds_go_from_the_easiest_to_the_hardest():
    """Every bound of a line is said to be missed or not, the one that is kept most easily first."""
    row = ratio_row("open", "us", [10.0], [50.0], ("<=", 6.0))
    hints = {"rows": {"open": {"bounds": [4, 7], "why": "two wake-ups."}}, "tested": []}
    told, whys = page.aims(_record(row), hints, _table)
    assert told.endswith("≤ 7; ≤ 6; ≤ 4 **missed**")
    assert whys == "All are reached."
    assert page.bounds(ratio_row("rate", "1/s", [1.0], [1.0], (">=", 0.6)), [0.7, 0.5]) == [0.5, 0.6, 0.7]


def test_what_is_missed_has_its_reason():
    """A line that misses its own bound is listed with the reason that is known."""
    row = ratio_row("open", "us", [10.0], [90.0], ("<=", 6.0))
    hints = {"rows": {"open": {"why": "two wake-ups."}}, "tested": []}
    _, whys = page.aims(_record(row), hints, _table)
    assert whys == "Why some are missed:\n\n- **open**: two wake-ups."


@pytest.mark.parametrize(("load", "says"), [(0.5, "not known yet."), (2.5, "the machine was busy with other things.")])
def test_a_miss_without_a_reason_is_said_so(load, says):
    """Where no reason is known the page says that, or that the machine was busy."""
    row = ratio_row("open", "us", [10.0], [90.0], ("<=", 6.0))
    facts = {"cpus": 2, "load_before": load}
    assert page.aims(_record(row, facts=facts), _NOTHING, _table)[1].endswith(f"- **open**: {says}")


def test_a_number_of_the_hosts_may_stand_in_a_name():
    """A reason for a line whose name has a number in it is found whatever the number."""
    hints = {"rows": {"gate, * sockets sending": {"why": "TCP_INFO."}}}
    assert page.hint(hints, "gate, 9,500 sockets sending") == {"why": "TCP_INFO."}
    assert page.hint(hints, "gate, memory") == {}


def test_what_tests_hold_is_said_too():
    """What no run measures stands among the aims with the test that holds it."""
    hints = {"rows": {}, "tested": [{"name": "meter", "figure": "0", "aim": "0", "test": "tests/a.py"}]}
    told, _ = page.aims(_record(), hints, _table)
    assert told.endswith("meter | 0 |  | 0, held by `tests/a.py`")


def test_the_page_has_every_way_and_every_peer():
    """The page has each way with its ratio to native, how each peer was run, and what was left out."""
    text = page.page(record(), _NOTHING, _table)
    assert "squid, PySocks | 33.00 (3.00 ×)" in text
    assert "**squid** 5.7: `squid -N`\n\n```text\nhttp_port 127.0.0.1:PORT\n```" in text
    assert "Left out:\n\n- dante: not installed" in text


def test_every_picture_is_made_of_a_whole_record():
    """A record with every case makes all pictures, each well formed; one without makes fewer, and no error."""
    made = page.pictures(record())
    assert sorted(made) == sorted(page.PICTURES)
    for svg in made.values():
        ElementTree.fromstring(svg)
    assert page.pictures(report.record({}, 1, True, 0, results()[-1:], (), ())) == {}


def test_every_miss_on_the_page_has_a_reason():
    """What the recorded run misses docs/data/bench.toml gives a reason for, unless the machine was busy."""
    missed = [row.name for row in report.rows_of(_RECORDED).values() if row.reached is False]
    unsaid = [name for name in missed if not page.hint(_HINTS, name).get("why")]
    assert page.is_busy(_RECORDED["facts"]) or not unsaid, "say in docs/data/bench.toml why these are missed"


@pytest.mark.parametrize("pattern", _HINTS["rows"])
def test_every_reason_is_of_a_line_with_a_target(pattern):
    """docs/data/bench.toml speaks of lines that are in the recorded run and have a target."""
    assert any(row.target and fnmatchcase(name, pattern) for name, row in report.rows_of(_RECORDED).items())


@pytest.mark.parametrize("test", [each["test"] for each in _HINTS["tested"]])
def test_what_is_held_by_a_test_names_one(test):
    """The tests that the page names are there."""
    assert (_DATA.parents[1] / test).is_file()
