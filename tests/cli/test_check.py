"""``outgate check``: what was understood of a file, its warnings, and the exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cli.conftest import config_text
from outgate.cli.main import main

Capture = pytest.CaptureFixture[str]
ETC = Path(__file__).parents[2] / "etc"


def test_what_was_understood(config: Path, capsys: Capture) -> None:
    """Every key is a line with the value in force; the ones that the file leaves out say (default)."""
    assert main(["check", str(config)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["apps.blog.except", '["10.2.0.0/16:5432"]'] in lines
    assert ["apps.blog.allow", '["public"]', "(default)"] in lines
    assert ["apps.unpaid.billing", "false"] in lines
    assert lines[-1] == [f"{config}:", "3", "apps,", "0", "warnings"]


def test_json(config: Path, capsys: Capture) -> None:
    """``--json`` has the values as what they are: numbers, booleans, lists."""
    assert main(["check", "--json", str(config)]) == 0
    answer = json.loads(capsys.readouterr().out)
    values = {line["key"]: line["value"] for line in answer["settings"]}
    assert answer["ok"] is True
    assert values["version"] == 1
    assert values["apps.blog.uid"] == [os.getuid()]
    assert values["apps.unpaid.billing"] is False
    assert answer["warnings"] == []


@pytest.fixture
def doubtful(tmp_path: Path) -> str:
    """A file that can be used, with one warning."""
    path = tmp_path / "outgate.toml"
    path.write_text(config_text(os.getuid()).replace("9.9.9.0/24", "203.0.113.0/24"), encoding="utf-8")
    return str(path)


def test_warnings(doubtful: str, capsys: Capture) -> None:
    """A warning is said on stderr with its place, and is no failure."""
    assert main(["check", doubtful]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("outgate: warning: apps.shop.allow[0]: ")
    assert output.out.endswith("3 apps, 1 warning\n")


def test_strict(doubtful: str, config: Path, capsys: Capture) -> None:
    """With ``--strict`` a warning is exit status 1, and a file without one still 0."""
    assert main(["check", "--strict", doubtful]) == 1
    assert main(["check", "--strict", str(config)]) == 0
    capsys.readouterr()


def test_warnings_in_json(doubtful: str, capsys: Capture) -> None:
    """In JSON a warning is an object with place, text and hint."""
    assert main(["check", "--json", doubtful]) == 0
    output = capsys.readouterr()
    (warning,) = json.loads(output.out)["warnings"]
    assert warning["place"] == "apps.shop.allow[0]"
    assert warning.keys() == {"place", "text", "hint"}
    assert output.err == ""


def test_a_bad_file(tmp_path: Path, capsys: Capture) -> None:
    """A file that cannot be used is exit status 2 with file, place and a way out, also in JSON."""
    path = tmp_path / "outgate.toml"
    path.write_text("version = 1\n[apps.a]\nbiling = true\n", encoding="utf-8")
    assert main(["check", str(path)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f'{path}: apps.a.biling: unknown key; did you mean "billing"?' in output.err
    assert main(["check", "--json", str(path)]) == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert "apps.a.biling" in answer["error"]


def test_nothing_on_the_terminal_but_text(tmp_path: Path, capsys: Capture) -> None:
    """What a file has in its names and values is written out where a terminal would obey it."""
    path = tmp_path / "outgate.toml"
    path.write_text('version = 1\n[gate]\nlog = "/tmp/\\u001b[2J"\n[apps.a]\nuid = [1]\nbilling = true\n')
    main(["check", str(path)])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["outgate.minimal.toml", "outgate.sample.toml"])
def test_the_samples(name: str, capsys: Capture) -> None:
    """The samples of this tree can be used as they are."""
    assert main(["check", str(ETC / name)]) == 0
    capsys.readouterr()
