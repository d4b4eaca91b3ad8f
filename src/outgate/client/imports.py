"""Act when a program imports a module, and cost nothing until it does.

A library that makes its sockets in C goes round the stand-in, and one that takes methods from the socket class keeps
what it found there; what to do about such a one is done when it comes.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    Act = Callable[[ModuleType], None]

#: Full name of a module → what is called with it before it is executed, and after.
_waiting: dict[str, tuple[list[Act], list[Act]]] = {}


def before(name: str, act: Act) -> None:
    """Call a function with a module that is about to be executed, while it is empty; nothing if it has been."""
    if name not in sys.modules:
        _wait(name)[0].append(act)


def after(name: str, act: Act) -> None:
    """Call a function with a module as soon as it has been executed, at once if it has been.

    Whoever imports it sees it only after that. A module that fails to import is waited for again.
    """
    here = sys.modules.get(name)
    if here is not None:
        act(here)
    else:
        _wait(name)[1].append(act)


def _wait(name: str) -> tuple[list[Act], list[Act]]:
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    return _waiting.setdefault(name, ([], []))


def find(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
    """Return the spec of a module that is waited for, as the others find it, with a loader that tells us."""
    if fullname not in _waiting:
        return None
    for finder in list(sys.meta_path):
        find_spec = None if finder is _Finder else getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec and find_spec(fullname, path, target)
        if spec is not None:
            if spec.loader is not None:
                spec.loader = _Loader(spec.loader)  # type: ignore[assignment]
            return spec
    return None


class _Finder:
    """Let the others find a module, and have its loader tell us."""

    find_spec = staticmethod(find)


class _Loader:
    """Load as another loader does, leave no trace of this one, and act."""

    def __init__(self, native: Any) -> None:
        self._native = native

    def __getattr__(self, name: str) -> Any:
        return getattr(self._native, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._native.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._native
        if module.__spec__ is not None:
            module.__spec__.loader = self._native
        first, last = _waiting.get(module.__name__, ([], []))
        for act in first:
            act(module)
        self._native.exec_module(module)
        _waiting.pop(module.__name__, None)
        if not _waiting and _Finder in sys.meta_path:
            sys.meta_path.remove(_Finder)
        for act in last:
            act(module)
