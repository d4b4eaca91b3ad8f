"""What commands print: tables, colour only where it is seen, nothing that a terminal would obey."""

from __future__ import annotations

import io
import sys

import pytest

from outgate.cli import output


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_colour_on_a_terminal() -> None:
    """On a terminal a style is a sequence around the text."""
    assert output.paint("denied", "red", Screen()) == "\x1b[31mdenied\x1b[0m"


def test_no_colour_elsewhere() -> None:
    """In a pipe or a file text is as it is."""
    assert output.paint("denied", "red", io.StringIO()) == "denied"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_declined(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """NO_COLOR and a dumb terminal are respected."""
    monkeypatch.setenv(name, value)
    assert output.paint("denied", "red", Screen()) == "denied"


def test_an_empty_no_color_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR counts when it is not empty, as its page says."""
    monkeypatch.setenv("NO_COLOR", "")
    assert output.is_colourful(Screen())


def test_what_a_terminal_would_obey_is_written_out() -> None:
    """Escape sequences and line ends in data are shown, not sent."""
    assert output.printable("a\x1b[2Jb\nc → d") == r"a\x1b[2Jb\nc → d"


def test_a_locale_without_the_character() -> None:
    """A character that the stream's encoding lacks is written out in place of a traceback."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    output.say("blog → db", stream)
    stream.seek(0)
    assert stream.read() == "blog \\u2192 db\n"


def test_table_aligns() -> None:
    """Columns are as wide as their widest cell, figures to the right, and no line ends in blanks."""
    rows = [("app", "sent", ""), ("blog", "1,234", "x"), ("b", "7", "")]
    assert output.table(rows, right=[1]) == ["app    sent", "blog  1,234  x", "b         7"]


def test_a_printed_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first row is the heading, and the rows behind it have the styles that are given, if any."""
    rows = [("app", "used"), ("blog", "7"), ("shop", "90")]
    for styles, second in (([], "shop    90"), (["", "red"], "\x1b[31mshop    90\x1b[0m")):
        monkeypatch.setattr(sys, "stdout", screen := Screen())
        output.print_table(rows, [1], styles)
        assert screen.getvalue() == f"\x1b[1mapp   used\x1b[0m\nblog     7\n{second}\n"


def test_failure_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A failure prints nothing on standard output, which a program may read."""
    assert output.fail("check", "no", 2) == 2
    assert capsys.readouterr() == ("", "outgate check: no\n")
