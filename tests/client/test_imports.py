"""What waits for a module is called when it is imported, at the right moment, and never otherwise."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.client import imports


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is looked in for modules, and forgotten with what came from it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    waiting = {name: ([*first], [*last]) for name, (first, last) in imports._waiting.items()}
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    imports._waiting.clear()
    imports._waiting.update(waiting)
    if not waiting and imports._Finder in sys.meta_path:
        sys.meta_path.remove(imports._Finder)


def test_before_and_after(folder: Path) -> None:
    """One act sees the module empty, the other sees what is in it; both are called once, with the module itself."""
    (folder / "awaited.py").write_text("thing = 1")
    seen: list[tuple[str, bool]] = []
    imports.before("awaited", lambda module: seen.append(("before", hasattr(module, "thing"))))
    imports.after("awaited", lambda module: seen.append(("after", hasattr(module, "thing"))))
    imports.after("awaited", lambda module: seen.append(("again", module is sys.modules["awaited"])))
    module = importlib.import_module("awaited")
    assert seen == [("before", False), ("after", True), ("again", True)]
    importlib.reload(module)
    assert len(seen) == 3


def test_what_is_there_already(folder: Path) -> None:
    """For a module that has been imported, what comes after it is done at once, and what comes before it never."""
    (folder / "early.py").write_text("")
    module = importlib.import_module("early")
    seen: list[object] = []
    imports.before("early", seen.append)
    imports.after("early", seen.append)
    assert seen == [module]


def test_a_module_that_fails_is_waited_for_again(folder: Path) -> None:
    """An import that raises does not use the act up: it is called when an import has worked."""
    (folder / "failing.py").write_text("import sys\nif not hasattr(sys, '_works'): raise ZeroDivisionError")
    seen: list[object] = []
    imports.after("failing", seen.append)
    with pytest.raises(ZeroDivisionError):
        importlib.import_module("failing")
    assert seen == []
    sys._works = True  # type: ignore[attr-defined]
    try:
        module = importlib.import_module("failing")
    finally:
        del sys._works  # type: ignore[attr-defined]
    assert seen == [module]


def test_a_module_that_is_not_there(folder: Path) -> None:
    """A module that does not exist raises what it raises without us."""
    imports.after("nowhere_to_be_found", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_to_be_found'"):
        importlib.import_module("nowhere_to_be_found")


def test_submodules_and_loaders(folder: Path) -> None:
    """A module within a package is waited for by its full name, keeps its own loader, and others are not touched."""
    (folder / "package").mkdir()
    (folder / "package/__init__.py").write_text("")
    (folder / "package/inner.py").write_text("")
    seen: list[object] = []
    imports.after("package.inner", seen.append)
    inner = importlib.import_module("package.inner")
    assert seen == [inner]
    assert inner.__spec__ is not None
    assert type(inner.__spec__.loader).__name__ == type(inner.__loader__).__name__ == "SourceFileLoader"
    assert importlib.util.find_spec("package") is sys.modules["package"].__spec__


def test_the_finder_goes_when_nothing_is_waited_for(folder: Path) -> None:
    """Nothing stays in the path of imports when the last module that was waited for has come."""
    imports._waiting.clear()
    (folder / "last.py").write_text("")
    imports.after("last", lambda _: None)
    assert imports._Finder in sys.meta_path
    importlib.import_module("last")
    assert imports._Finder not in sys.meta_path
