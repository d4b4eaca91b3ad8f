"""What an app's page shows of a ledger: every hour or day of a stretch, and where the bytes went, adding up."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from outgate.console import usage
from outgate.core.bill.prices import read
from outgate.core.bill.tally import Destination
from outgate.errors import ConfigError
from outgate.lookout.ledger import Place
from support.ledger import HandWriter

BERLIN = ZoneInfo("Europe/Berlin")
#: A quarter past noon, a day after clocks were put back in Berlin.
NOW = datetime(2026, 10, 26, 12, 20, tzinfo=UTC).timestamp()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A ledger with twenty destinations at noon, and one the day before."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    writer = HandWriter(url, "web", "run", lambda: NOW - 90_000)
    noon = int(datetime(2026, 10, 26, 12, tzinfo=UTC).timestamp())
    rows = {
        ("blog", "", Destination("tcp", f"d{place}.example", 443, "93.184.215.14")): [place * 10, 5, 0, 0, 0]
        for place in range(1, 21)
    }
    rows["shop", "", Destination("tcp", "else.example", 443, "93.184.215.14")] = [7, 7, 7, 7, 0]
    early = {("blog", "", Destination("tcp", "d1.example", 443, "93.184.215.14")): [1000, 0, 0, 0, 0]}
    writer.put(NOW, noon - 86_400, {noon - 86_400: early, noon: rows}, {}, set(), set())
    writer.close("stopped", 1)
    prices = read({"currency": "EUR", "per": "B", "rules": [{"to": "*", "sent": "1"}]})
    return Place(url, BERLIN, prices, "", None)


def test_a_day(place: Place) -> None:
    """Twenty-four hours are twenty-four bars, the last one this hour's; those of other apps are not counted."""
    seen = usage.look(place, "blog", usage.RANGES["day"], NOW)
    assert len(seen.chart.bars) == 24
    assert seen.chart.bars[-1].title == "2026-10-26 13:00+01:00: sent 2.10 kB, received 100 B"
    assert (seen.sent, seen.received, seen.amount, seen.currency) == ("2.10 kB", "100 B", "2,100.00", "EUR")


def test_a_week_with_a_day_of_25_hours(place: Place) -> None:
    """Days are the zone's own, whatever its clocks did."""
    seen = usage.look(place, "blog", usage.RANGES["week"], NOW)
    assert [bar.title.partition(":")[0] for bar in seen.chart.bars] == [f"2026-10-{day}" for day in range(20, 27)]
    assert "2026-10-25: sent 1.00 kB" in seen.chart.bars[-2].title


def test_destinations(place: Place) -> None:
    """They are listed by their bytes, with their part of the whole, and those that are not listed are counted."""
    seen = usage.look(place, "blog", usage.RANGES["day"], NOW)
    assert [row.destination for row in seen.rows[:2]] == ["tcp://d20.example:443", "tcp://d19.example:443"]
    assert seen.rows[0].part == pytest.approx(205 / 2200, abs=1e-4)
    assert (len(seen.rows), seen.others) == (15, 5)


def test_an_app_without_usage(place: Place) -> None:
    """Nothing is shown as nothing: all bars are there, and no destination."""
    seen = usage.look(place, "nobody", usage.RANGES["month"], NOW)
    assert (len(seen.chart.bars), seen.rows, seen.sent, seen.amount) == (30, (), "0 B", "0.00")


def test_a_ledger_that_is_not_there(tmp_path: Path, place: Place) -> None:
    """Why it cannot be read is said."""
    with pytest.raises(ConfigError):
        usage.look(place._replace(url=f"sqlite:///{tmp_path}/no.sqlite"), "blog", usage.RANGES["day"], NOW)
