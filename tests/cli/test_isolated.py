"""Command lines whose Python does not load the client are recognised, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from outgate.cli.isolated import isolating_option


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("python3 -I x.py", "python3 -I"),
        ("/usr/bin/python3.12 -E x.py", "python3.12 -E"),
        ("python -uS -c pass", "python -uS"),
        ("python -X dev -I x.py", "python -I"),
        ("python -W error -Xdev -Ic pass", "python -Ic"),
        ("python --check-hash-based-pycs never -E x.py", "python -E"),
        ("pypy3 -S x.py", "pypy3 -S"),
        ("env -i A=b python3 -I x.py", "python3 -I"),
        ("/usr/bin/env python3 -I x.py", "python3 -I"),
        ("python3 x.py -I", ""),
        ("python3 -c pass -S", ""),
        ("python3 -m mod -E", ""),
        ("python3 -cIES", ""),
        ("python3 -Werror::ImportWarning x.py", ""),
        ("python3 -s -P -B -u x.py", ""),
        ("python3 - -I", ""),
        ("python3 --version -I", "python3 -I"),
        ("python3", ""),
        ("node -I x.js", ""),
        ("env", ""),
    ],
)
def test_command_lines(command: str, option: str) -> None:
    """The options before the program are Python's, what follows them is the program's own."""
    assert isolating_option(command.split()) == option


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("#!/usr/bin/python3 -Es", "python3 -Es"),
        ("#! /usr/bin/env -S python3 -I", "python3 -I"),
        ("#!/usr/bin/python3", ""),
        ("#!/bin/sh -I", ""),
        ("#!", ""),
        ("\x7fELF", ""),
        ("", ""),
    ],
)
def test_scripts(tmp_path: Path, line: str, option: str) -> None:
    """A script's first line counts as the kernel reads it."""
    script = tmp_path / "script"
    script.write_text(line + "\npass\n", encoding="utf-8")
    assert isolating_option([str(script), "-I"]) == option


def test_a_script_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script without a slash in its name is looked for where exec looks."""
    (tmp_path / "tool").write_text("#!/usr/bin/python3 -I\n", encoding="utf-8")
    monkeypatch.setenv("PATH", f"/nonexistent:{tmp_path}")
    assert isolating_option(["tool"]) == "python3 -I"
