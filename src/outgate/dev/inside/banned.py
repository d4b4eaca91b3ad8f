"""Refuse ``import ssl`` where app.yaml does not list the library, as App Engine's Python 2.7 runtime did (S18)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["NAMES", "TEXT", "ban", "lifted"]

NAMES = ("ssl", "_ssl")
TEXT = "No module named _ssl: app.yaml does not list the library; add\nlibraries:\n- name: ssl\n  version: latest"


class _Ban(MetaPathFinder):
    """Find those two names first, and refuse."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in NAMES:
            raise ImportError(TEXT, name=fullname)


_ban = _Ban()


def ban() -> None:
    """Refuse it from now on, whether it has been imported or not; who has it keeps it."""
    for name in NAMES:
        sys.modules.pop(name, None)
    if _ban not in sys.meta_path:
        sys.meta_path.insert(0, _ban)


@contextmanager
def lifted() -> Iterator[None]:
    """Let what the block imports have it: the server of an instance imports it, whether the app may or not."""
    banned = _ban in sys.meta_path
    if banned:
        sys.meta_path.remove(_ban)
    try:
        yield
    finally:
        if banned:
            ban()
