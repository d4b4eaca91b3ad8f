"""Read which modules are run, which tests are excluded and which are known to fail, with the reason of each.

A reason holds for the versions it names, or for all: "3.12+" is 3.12 and what came after, "3.12-" 3.12 and what came
before. A pattern is a test's name, or one with ``*`` in it as a shell has it; it begins with the name of its module, so
that it is known where it must match.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

#: What takes longest, and so begins first: or one of them would run alone at the end.
_SLOW = ("test_asyncio.test_ssl", "test_ssl", "test_socket", "test_imaplib", "test_asyncio.test_events")
_HERE = Path(__file__).parent
_MODULE_KEYS = {"name", "connects", "fast", "only", "resources", "versions"}
_ENTRY_KEYS = {"tests", "reason", "rule", "versions", "paths"}


def is_among(version: str, versions: tuple[str, ...]) -> bool:
    """Whether a version is one of those, as "3.11", "3.12+" or "3.12-"; no versions are all."""
    return not versions or any(_is(version, each) for each in versions)


def _is(version: str, which: str) -> bool:
    this, that = _numbers(version), _numbers(which.rstrip("+-"))
    return this == that or (which.endswith("+") and this > that) or (which.endswith("-") and this < that)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


@dataclass(frozen=True)
class Module:
    """A module of CPython's tests: its name, whether its tests connect, what they need, whether it is in CI's run.

    :param only: patterns of those tests that are about sockets, none for all.
    """

    name: str
    connects: bool
    fast: bool
    resources: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    only: tuple[str, ...] = ()

    def is_for(self, version: str) -> bool:
        """Whether that version has it."""
        return is_among(version, self.versions)


@dataclass(frozen=True)
class Entry:
    """Patterns of tests, and why these are excluded or fail.

    :param rule: the rule of ours that forbids what they do, as S8; an exclusion has one.
    :param versions: of Python, none for all.
    :param paths: of the gate, "direct" and "relay"; none for both.
    """

    tests: tuple[str, ...]
    reason: str
    rule: str = ""
    versions: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def is_for(self, version: str, path: str) -> bool:
        """Whether it holds for that version of Python and that path of the gate."""
        return is_among(version, self.versions) and (not self.paths or path in self.paths)

    def patterns(self, module: str) -> list[str]:
        """Return its patterns for a module."""
        return [pattern for pattern in self.tests if pattern.startswith(f"{module}.")]


@dataclass(frozen=True)
class Lists:
    """What is to be run and expected of one version of Python on one path."""

    modules: tuple[Module, ...]
    excluded: tuple[Entry, ...]
    known_failures: tuple[Entry, ...]


def load(version: str, path: str, folder: Path = _HERE) -> Lists:
    """Return the lists for a version and a path.

    :raises ValueError: an unknown key, a reason that is missing, or a pattern of no module; the text says where.
    """
    modules = tuple(_module(each) for each in _read(folder / "modules.toml", "module", _MODULE_KEYS))
    names = [module.name for module in modules]
    excluded = _entries(folder / "excluded.toml", "exclusion", names)
    for entry in excluded:
        if not entry.rule:
            raise ValueError(f"excluded.toml: {entry.tests[0]}: no rule that forbids it")
    known = _entries(folder / "known_failures.toml", "failure", names)
    return Lists(
        tuple(module for module in modules if module.is_for(version)),
        tuple(entry for entry in excluded if entry.is_for(version, path)),
        tuple(entry for entry in known if entry.is_for(version, path)),
    )


def slow_first(modules: Iterable[Module]) -> list[Module]:
    """Return modules in the order in which some of them at a time are done soonest."""
    return sorted(modules, key=lambda module: module.name not in _SLOW)


def fits(test: str, entry: Entry) -> bool:
    """Whether a test is one of those that an entry is about."""
    return any(fnmatchcase(test, pattern) for pattern in entry.tests)


def _module(table: dict[str, Any]) -> Module:
    return Module(
        table["name"],
        table["connects"],
        table["fast"],
        tuple(table.get("resources", ())),
        tuple(table.get("versions", ())),
        tuple(table.get("only", ())),
    )


def _entries(path: Path, what: str, modules: list[str]) -> tuple[Entry, ...]:
    entries = []
    for table in _read(path, what, _ENTRY_KEYS):
        tests = table.get("tests", [])
        place = f"{path.name}: {tests[0] if tests else table}"
        if not tests or not table.get("reason"):
            raise ValueError(f"{place}: no tests, or no reason")
        for pattern in tests:
            if not any(pattern.startswith(f"{module}.") for module in modules):
                raise ValueError(f"{place}: {pattern} is of no module in modules.toml")
        versions, paths = tuple(table.get("versions", ())), tuple(table.get("paths", ()))
        entries.append(Entry(tuple(tests), table["reason"], table.get("rule", ""), versions, paths))
    return tuple(entries)


def _read(path: Path, what: str, keys: set[str]) -> list[dict[str, Any]]:
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    tables: list[dict[str, Any]] = document.pop(what, [])
    if document:
        raise ValueError(f"{path.name}: {next(iter(document))!r} is not {what!r}")
    for table in tables:
        if unknown := set(table) - keys:
            raise ValueError(f"{path.name}: unknown key {min(unknown)!r} in {table}")
    return tables
