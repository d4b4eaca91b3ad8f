"""Two runs held against each other."""

from __future__ import annotations

import pytest
from bench.report import rows_of
from bench.rows import row

from bench import compare, report
from support.bench_records import record


def _row(*figures, unit="us"):
    return row("open", unit, [], figures, figures, "x")


@pytest.mark.parametrize(
    ("old", "new", "unit", "word"),
    [
        ((1, 2, 3), (2, 3, 4), "us", ""),
        ((1, 2, 3), (3, 4, 5), "us", ""),
        ((1, 2, 3), (4, 5, 6), "us", "worse"),
        ((4, 5, 6), (1, 2, 3), "us", "better"),
        ((1, 2, 3), (4, 5, 6), "1/s", "better"),
        ((4, 5, 6), (1, 2, 3), "1/s", "worse"),
    ],
)
def test_a_figure_has_moved_when_its_ranges_do_not_touch(old, new, unit, word):
    """Ranges that touch say nothing; apart, it is better or worse by whether more of the unit is better."""
    (move,) = compare.moves({"open": _row(*old, unit=unit)}, {"open": _row(*new, unit=unit)})
    assert move.word == word


def test_what_moved_is_told_and_what_one_run_lacks():
    """The lines have what moved with both ranges, a count, and the names that only one run has."""
    lines = compare.told({"open": _row(1, 1), "gone": _row(1)}, {"open": _row(2, 3), "come": _row(1)})
    assert lines == [
        "open  1.00 x (1.00 to 1.00)  →  2.50 x (2.00 to 3.00)  worse",
        "1 of 1 figures moved beyond their spread",
        "only in the old: gone",
        "only in the new: come",
    ]


def test_a_run_beside_itself_has_not_moved(tmp_path, capsys):
    """A run is read by its folder or by its file, and beside itself nothing moved."""
    report.write(tmp_path / report.FILE, record())
    assert compare.main([str(tmp_path), str(tmp_path / report.FILE)]) == 0
    count = len(rows_of(record()))
    assert capsys.readouterr().out == f"0 of {count} figures moved beyond their spread\n"


def test_another_machine_is_said_so(tmp_path, capsys):
    """Runs of two kernels are compared, and the difference comes first."""
    other = record()
    other["facts"] = {**other["facts"], "kernel": "7.0"}
    report.write(tmp_path / "old.json", record())
    report.write(tmp_path / "new.json", other)
    assert compare.main([str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 0
    assert capsys.readouterr().out.startswith("other kernel: 6.1 → 7.0\n")


@pytest.mark.parametrize("text", ["", "[]", '{"v": 1}', None])
def test_what_is_no_record_is_refused(text, tmp_path, capsys):
    """A file that is absent, damaged, or of another version ends the comparison with its name and a reason."""
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    assert compare.main([str(path), str(path)]) == 2
    assert f"bench: {path}: " in capsys.readouterr().err
