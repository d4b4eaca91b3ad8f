"""The compatibility page follows from the lists and from what runs have recorded, and says where they have not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from outgate.core.surface import ROWS

ROOT = Path(__file__).parents[1]

LIBRARIES = """
[[library]]
name = "pycurl"
version = "7.45"
kind = "C"
tested_with = "nginx"
direct = false
relay = false
note = "its sockets | are C's"

[[library]]
name = "requests"
version = "2.34.2"
kind = "sync"
tested_with = "nginx, vsftpd"
direct = true
relay = true
note = ""
"""
RECORD = """
["3.11"]
python = "3.11.7"
date = 2026-01-02
outgate = "0.1"

["3.11".modules."test_socket"]
tests = 1100
passed = 990
not_applicable = 60
excluded = 40
known_failures = 10
failed = 0
sockets = 5
connects = 4000

["3.11".reasons."test_socket"]
"only TCP and UDP" = 40
"counts references" = 10

["3.12"]
python = "3.12.1"
date = 2026-01-03
outgate = "0.1"

["3.12".modules."test_ssl"]
tests = 10
passed = 10
"""


def load(name: str) -> Any:
    """Return a script of docs as a module."""
    spec = importlib.util.spec_from_file_location(f"outgate_docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes the page from a folder of data of its own."""
    compatibility = load("compatibility")
    monkeypatch.setattr(compatibility, "DATA", tmp_path)
    return lambda: compatibility.page(load("generate")._table, "3.13")


def test_without_records(page: Any, tmp_path: Path) -> None:
    """Without the files, and with empty ones, the page says that nothing has been recorded yet."""
    bare = page()
    assert "which has not been recorded yet" in bare
    assert "No run has been recorded yet" in bare
    (tmp_path / "libraries.toml").write_text("")
    (tmp_path / "cpython.toml").write_text("# nothing\n")
    assert page() == bare


def test_every_row_is_on_the_page(page: Any) -> None:
    """Each row of the four lists is named on the page, and each reason given."""
    text = page()
    assert [row.name for row in ROWS if f"`{row.name}`" not in text] == []
    assert [row.what for row in ROWS if row.what not in text] == []


def test_records(page: Any, tmp_path: Path) -> None:
    """Libraries and test runs are tables: sums by version, the share of what applies, each reason with its counts."""
    (tmp_path / "libraries.toml").write_text(LIBRARIES)
    (tmp_path / "cpython.toml").write_text(RECORD)
    lines = page().splitlines()
    requests = lines.index("| requests | 2.34.2 | nginx, vsftpd | yes | yes |  |")
    assert requests < lines.index("| pycurl | 7.45 | nginx | no | no | its sockets \\| are C's |")
    assert not any("event loop" in line for line in lines)
    assert "| 3.11.7 | 2026-01-02 | 1,100 | 60 | 40 | 10 | 0 | 990 | 4,000 | 99.00% |" in lines
    assert "| 3.12.1 | 2026-01-03 | 10 | 0 | 0 | 0 | 0 | 10 | 0 | 100.00% |" in lines
    assert "| only TCP and UDP | 40 |  |" in lines
    assert "Modules: `test_socket`, `test_ssl`." in lines
