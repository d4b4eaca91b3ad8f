"""A run of the benchmark."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
from bench.rows import row

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


def test_a_record_that_is_not_whole_is_not_written_into_the_pages(tmp_path, capsys, monkeypatch):
    """It stays in the folder of its run; one line says what the pages lack, and the run fails."""

    def memory(_):
        yield row("gate memory, 10 held", "B", [], [1.0], [1.0], "B")

    world = SimpleNamespace(shown=(), left_out=())
    monkeypatch.setattr(run, "CASES", (memory,))
    monkeypatch.setattr(run, "World", lambda *_: contextlib.nullcontext(world))
    monkeypatch.setattr(run, "_ROOT", tmp_path)
    monkeypatch.setattr(run, "subprocess", SimpleNamespace(run=lambda *_, **__: None))
    assert run.main(["--record", "--into", str(tmp_path / "run")]) == 1
    assert report.rows_of(report.read(tmp_path / "run")).keys() == {"gate memory, 10 held"}
    assert not (tmp_path / "docs").exists()
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "not whole" in line)
    assert said.startswith("not recorded: the record is not whole: it lacks gate, processor time of an open, direct; ")
    assert "gate memory, # relayed; gate, # sockets sending; " in said
    assert "# held" not in said
    assert said.endswith("; what bench-memory.svg is drawn of")
