"""Nothing that outgate has a name for is missing from the pages, and no page is missing from the site."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outgate import errors
from outgate.cli import main
from outgate.gate.configuration import keys
from outgate.gate.decisionlog.lines import FIELDS
from outgate.gate.metrics import table
from support import pages

SITE = {path.stem: path.read_text(encoding="utf-8") for path in pages.paths() if path.parent == pages.ROOT / "docs"}
INDEX = SITE["index"]
#: Of a picture that has a size, or one for each of light and dark.
_PICTURE = re.compile(r'<(?:img\s+src|source [^>]*srcset)="([^"]+)"')


@pytest.mark.parametrize("name", keys.KEYS)
def test_a_key_is_described(name: str) -> None:
    """The page of the configuration has a row for every key."""
    assert f"\n| `{name}` |" in SITE["configuration"]


@pytest.mark.parametrize("code", [str(row.code) for row in errors.TABLE.values()])
def test_an_error_is_described(code: str) -> None:
    """The page of errors has a section for every code."""
    assert f"\n### {code}\n" in SITE["errors"]


@pytest.mark.parametrize("command", main.COMMANDS)
def test_a_command_is_described(command: str) -> None:
    """The page of commands has a section for every command, with its examples."""
    section = SITE["commands"].partition(f"\n## outgate {command}")[2].partition("\n## ")[0]
    assert f"\n$ outgate {command}" in section


@pytest.mark.parametrize("command", main.COMMANDS)
def test_a_command_is_in_a_guide(command: str) -> None:
    """Some page that somebody wrote uses every command, so that it is known what it is for."""
    guides = [text for page, text in SITE.items() if page != "commands"]
    assert any(re.search(rf"outgate {command}\b", text) for text in guides)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_log_is_described(field: str) -> None:
    """The page of the log has a row for every field."""
    assert f"\n| `{field}` |" in SITE["log"]


@pytest.mark.parametrize("metric", [metric.name for metric in (*table.METRICS, *table.PROCESS)])
def test_a_metric_is_described(metric: str) -> None:
    """The page of metrics has a row for every one, whose name there is the one that Prometheus shows."""
    assert re.search(rf"^\| `{metric}(_total)?` \|", SITE["metrics"], re.M)


def test_every_page_has_its_place() -> None:
    """Each page is in one toctree of the index, once; Sphinx says so as well, where it is installed."""
    listed = [line for tree in re.findall(r"```{toctree}\n(.*?)```", INDEX, re.S) for line in tree.split("\n")]
    named = [line for line in listed if line and not line.startswith((":", "../"))]
    assert sorted(named) == sorted(set(SITE) - {"index"})


@pytest.mark.parametrize("path", pages.paths(), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """What a page links to in the tree is there; the site's build says so too, but not of the README."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + _PICTURE.findall(text):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("picture", sorted((pages.ROOT / "docs/images").iterdir()), ids=lambda path: path.name)
def test_a_picture_is_shown_and_small(picture: Path) -> None:
    """Every picture is on a page, and none keeps its reader waiting."""
    assert any(f"images/{picture.name}" in path.read_text(encoding="utf-8") for path in pages.paths())
    assert picture.stat().st_size < 200_000
