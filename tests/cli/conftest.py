"""What the tests of commands share: a gate that runs, and a file that configures one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.commands import Served, serving

#: An app for whoever runs the suite, and two for others.
CONFIG = """\
version = 1

[apps.blog]
uid = [{uid}]
billing = true
trusted = true
except = ["10.2.0.0/16:5432"]

[apps.shop]
uid = [{other}]
billing = true
trusted = true
allow = ["9.9.9.0/24:443"]

[apps.unpaid]
uid = [{third}]
billing = false
trusted = true
"""


def config_text(uid: int) -> str:
    """Return the configuration with app ``blog`` for this user."""
    return CONFIG.format(uid=uid, other=uid + 1, third=uid + 2)


@pytest.fixture(autouse=True)
def _no_gate_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands that run in this process find no gate but the one they are given."""
    for name in ("OUTGATE_SOCKET", "NOTIFY_SOCKET", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with three apps, ``blog`` this user's."""
    path = tmp_path_factory.mktemp("config") / "outgate.toml"
    path.write_text(config_text(os.getuid()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[Served]:
    """A gate with that configuration, for all tests of a module: they only ask it."""
    with serving(tmp_path_factory.mktemp("gate"), "--config", str(config)) as served:
        yield served
