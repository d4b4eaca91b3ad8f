"""A run of the benchmark."""

from __future__ import annotations

import pytest

from bench import report, run

pytestmark = pytest.mark.slow


def test_a_run_writes_a_record_and_its_page(tmp_path, capsys):
    """A run of one case leaves a record with every way in it and a page, and ends well."""
    assert run.main(["--quick", "--rounds", "1", "--only", "other_opens", "--into", str(tmp_path)]) == 0
    recorded = report.read(tmp_path)
    unit, taken = report.beside_of(recorded)["open, refused by the other end"]
    assert unit == "us"
    assert {way: len(figures) for way, figures in taken.items()} == {"native": 1, "direct": 1, "relay": 1}
    assert "open, by a name" in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
    assert f"written: {tmp_path}" in capsys.readouterr().out


def test_what_is_no_case_is_refused(capsys):
    """A case that there is not ends the run before anything starts, with the names that there are."""
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "nothing"])
    assert "no case nothing; there are relay, " in capsys.readouterr().err


def test_the_pages_want_every_case(capsys):
    """A part of the cases is not written into the pages."""
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "opens", "--record"])
    assert "leave --only away" in capsys.readouterr().err
