"""Show what a run of CPython's tests gave: a table, JSON, and the record that the compatibility page is made from."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cpython.judging import Verdict

RECORD = Path(__file__).parents[2] / "docs" / "data" / "cpython.toml"

_COLUMNS = ("tests", "passed", "n/a", "excluded", "known", "failed", "sockets", "connects")
_HEAD = """\
# What became of CPython's own tests, run through a gate: written by tests/cpython/run.py --record, one table a version.
#
# tests            the module has on the machine of that run
# not_applicable   do not pass natively there either
# excluded         do what a rule forbids: tests/cpython/excluded.toml says which, and why
# known_failures   fail, and tests/cpython/known_failures.toml says why
# failed           fail, and nobody knows why; 0 in a green run
# sockets          that the gate made for the module, and connects that it dialled
"""


def counts(verdict: Verdict) -> dict[str, int]:
    """Return the numbers of a verdict under the names that the record has for them."""
    return {
        "tests": verdict.tests,
        "passed": len(verdict.passed),
        "not_applicable": len(verdict.not_applicable),
        "excluded": len(verdict.excluded),
        "known_failures": len(verdict.known_failures),
        "failed": len(verdict.failed),
        "sockets": verdict.sockets,
        "connects": verdict.connects,
    }


def table(verdicts: Iterable[Verdict]) -> list[str]:
    """Return the lines of a table, a module a line, with the sum and the share that passed of what applies."""
    rows = [(verdict.module, *counts(verdict).values()) for verdict in verdicts]
    rows.append(("all", *(sum(column) for column in list(zip(*rows, strict=True))[1:])))
    width = max(len(str(row[0])) for row in rows)
    lines = [f"{'':{width}}" + "".join(f"{column:>10}" for column in _COLUMNS)]
    lines += [f"{row[0]:{width}}" + "".join(f"{number:>10,}" for number in row[1:]) for row in rows]
    return [*lines, f"{share(verdicts):.2%} of what applies passes"]


def share(verdicts: Iterable[Verdict]) -> float:
    """Return which part of the applicable tests passes, from 0 to 1."""
    verdicts = list(verdicts)
    applicable = sum(verdict.applicable for verdict in verdicts)
    return sum(len(verdict.passed) for verdict in verdicts) / applicable if applicable else 1.0


def as_json(python: str, path: str, verdicts: list[Verdict]) -> str:
    """Return all of it as one JSON object: every test that did not simply pass is named."""
    modules = {
        verdict.module: {
            **counts(verdict),
            "red": verdict.red,
            "tests_not_applicable": {
                test: f"{outcome.word}: {outcome.why}" for test, outcome in verdict.not_applicable.items()
            },
            "tests_excluded": verdict.excluded,
            "tests_known_to_fail": verdict.known_failures,
            "tests_failed": {test: f"{outcome.word}: {outcome.why}" for test, outcome in verdict.failed.items()},
            "tests_passed_the_second_time": {
                test: f"{outcome.word}: {outcome.why}" for test, outcome in verdict.second_time.items()
            },
        }
        for verdict in verdicts
    }
    return json.dumps({"python": python, "path": path, "share": share(verdicts), "modules": modules}, indent=2)


def record(version: str, python: str, outgate: str, verdicts: Iterable[Verdict], file: Path = RECORD) -> None:
    """Write the numbers of a version into the record; other versions, and modules that did not run, stay.

    :param version: as "3.11".
    :param python: the whole version, as "3.11.7".
    :param outgate: our version.
    """
    document: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    before = document.get(version, {})
    modules = dict(before.get("modules", {}))
    reasons = {module: dict(each) for module, each in before.get("reasons", {}).items()}
    for verdict in verdicts:
        modules[verdict.module] = counts(verdict)
        reasons[verdict.module] = dict(Counter(verdict.excluded.values()) + Counter(verdict.known_failures.values()))
    today = datetime.datetime.now(datetime.UTC).date()
    document[version] = {"python": python, "date": today, "outgate": outgate, "modules": modules, "reasons": reasons}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([_HEAD, *_toml(document)]), encoding="utf-8")


def _toml(document: dict[str, Any]) -> Iterable[str]:
    for version in sorted(document, key=lambda each: [int(part) for part in each.split(".")]):
        entry = document[version]
        yield f'["{version}"]'
        yield f'python = "{entry["python"]}"'
        yield f"date = {entry['date']}"
        yield f'outgate = "{entry["outgate"]}"\n'
        for module, numbers in sorted(entry["modules"].items()):
            yield f'["{version}".modules."{module}"]'
            yield from (f"{name} = {number}" for name, number in numbers.items())
            yield ""
        for module, reasons in sorted(entry["reasons"].items()):
            if reasons:
                yield f'["{version}".reasons."{module}"]'
                yield from (f"{json.dumps(reason, ensure_ascii=False)} = {n}" for reason, n in sorted(reasons.items()))
                yield ""
