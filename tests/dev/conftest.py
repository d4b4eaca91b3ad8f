"""What the tests of the development server share: its room's packages are there, and no gate comes from outside."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_gate_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the code under test find no gate and no queue but its own."""
    for name in ("OUTGATE_SOCKET", "OUTGATE_DEV_TASKS", "OUTGATE_DEV_SERVICE"):
        monkeypatch.delenv(name, raising=False)
