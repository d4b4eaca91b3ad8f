"""Make the pages of the benchmark and its pictures from the record in ``docs/data``; :mod:`bench` has the words."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomllib

_DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(_DOCS.parent))

from bench import page as pages  # noqa: E402
from bench import report, scale  # noqa: E402

_RECORD = _DOCS / "data" / "bench.json"
PICTURES = tuple(f"docs/pictures/{name}" for name in pages.PICTURES)


def _hints() -> Mapping[str, Any]:
    return tomllib.loads((_DOCS / "data" / "bench.toml").read_text(encoding="utf-8"))


def page(table: pages.Table) -> str:
    """Return docs/benchmark.md."""
    return pages.page(report.read(_RECORD), _hints(), table)


def scale_page(table: pages.Table) -> str:
    """Return docs/scale.md."""
    return scale.page(report.read(_RECORD), table)


def picture(path: str) -> str:
    """Return one of :data:`PICTURES`."""
    return pages.pictures(report.read(_RECORD))[Path(path).name]


def write(folder: Path, table: pages.Table) -> None:
    """Write the page of the record in a folder beside it."""
    record = report.read(folder)
    (folder / "pictures").mkdir(exist_ok=True)
    for name, svg in pages.pictures(record).items():
        (folder / "pictures" / name).write_text(svg, encoding="utf-8")
    (folder / "benchmark.md").write_text(pages.page(record, _hints(), table), encoding="utf-8")
