"""Run everything, part by part, and write down when and how each part ended: ``make check-full``.

A part goes on where the one before it failed; the exit status is 1 if any has. What is recorded stands in
docs/data/full.toml, and docs/compatibility.md shows it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from support.pythons import interpreters

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "docs" / "data" / "full.toml"
HEAD = """\
# How each part of `make check-full` ended when it was last run: written by tests/full.py.
"""
#: What pytest ends with, and what the harness of CPython's tests does.
CLOSING = re.compile(r"(\d+ (?:passed|failed|error).* in [0-9.]+s.*|[0-9.]+ ?% of .*)")


class Part(NamedTuple):
    """One part: what it is for people, the words to run, and what to add to the environment."""

    what: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = MappingProxyType({})


def make(*words: str) -> tuple[str, ...]:
    """Return the command for words of the Makefile, and variables."""
    return ("make", "--no-print-directory", *words)


def parts() -> dict[str, Part]:
    """Return every part by its name, in the order in which they run."""
    pytest = (sys.executable, "-m", "pytest")
    spread = ("--numprocesses", "auto", "--dist", "worksteal")
    found = {
        "lint": Part("style and types", make("lint")),
        "test": Part("the fast suite", make("test")),
        "programs": Part("whole programs, other Pythons, slow tests", make("programs")),
        "integration": Part("real servers", make("integration")),
    }
    known = interpreters()
    for version in ("3.12", "3.13"):
        if version in known:
            words = make("test", "programs", f"PYTHON={known[version]}", f"VENV=.venv-{version}")
            found[f"test-{version}"] = Part(f"the fast suite and whole programs on Python {version}", words)
    found["cpython"] = Part("CPython's own tests", make("cpython"))
    found["full"] = Part("the other Pythons, every moment of a client's end", (*pytest, "-m", "full", *spread))
    deep = (*pytest, "-m", "hypothesis and not integration and not pythons", "--timeout", "3000", *spread)
    found["deep"] = Part("more examples of every property", deep, {"HYPOTHESIS_PROFILE": "deep"})
    found["bench"] = Part("the benchmark", make("bench"))
    return found


def run(name: str, part: Part) -> dict[str, object]:
    """Run a part, its output passed on, and return what is recorded of it."""
    print(f"== {name}: {part.what}", flush=True)
    began = time.monotonic()
    process = subprocess.Popen(
        part.command,
        cwd=ROOT,
        env={**os.environ, **part.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    closing: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line)
        match = CLOSING.search(line)
        if match is not None:
            closing.append(match[1].strip("= \n"))
    status = process.wait()
    return {
        "date": datetime.date.today(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "status": status,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "closing": closing,
    }


def record(results: dict[str, dict[str, object]]) -> None:
    """Write the results, and the pages that show them; leave those of other parts as they are."""
    known = tomllib.loads(RECORD.read_text()) if RECORD.exists() else {}
    known.update(results)
    text = HEAD
    for name in parts():
        if name in known:
            text += f"\n[{json.dumps(name)}]\n"
            for key, value in known[name].items():
                text += f"{key} = {value if isinstance(value, datetime.date) else json.dumps(value)}\n"
    RECORD.write_text(text)
    # At once: the parts that follow hold the pages against what they are made from.
    subprocess.run([sys.executable, "docs/generate.py", "--write"], cwd=ROOT, check=True)


def main() -> int:
    """Run the parts that are named, or all of them."""
    names = list(parts())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help=f"any of {', '.join(names)}; default: all")
    chosen = parser.parse_args().part or names
    unknown = set(chosen) - set(names)
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    failed = []
    for name in chosen:
        result = run(name, parts()[name])
        record({name: result})
        if result["status"]:
            failed.append(name)
    print("all parts passed" if not failed else f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
