"""Write docs/compatibility.md: the four lists of the socket module's names, the libraries, and CPython's own tests.

The lists are ``outgate.core.surface``; what was tried, when and with what result stands in docs/data, and is written
by the runs themselves. A file that is not there yet leaves its chapter with a sentence that says so.
"""

import textwrap
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tomllib

from outgate.core import surface
from outgate.core.surface import ABSENT, NATIVE, OURS, REFUSED, Row

DATA = Path(__file__).resolve().parent / "data"

Table = Callable[[tuple[str, ...], list[tuple[str, ...]]], str]

_PAGE = """\
# Compatibility

<!-- Made by docs/generate.py; do not edit. -->

What works natively works through the gate, unless a rule forbids it. The client runs in CPython 3.9 to {newest} on
Linux. A newer Python is named once, in one line on standard error, and its children do not say it again;
`outgate run -q` or `OUTGATE_UNTESTED=quiet` leaves the line out. Names of a newer `_socket` that outgate does not know
are there, and native. Where a Python has changed so much that the client cannot be built, `import socket` fails with a
sentence: there is no silent way round the gate.

- [Libraries](#libraries)
- [CPython's own tests](#cpythons-own-tests)
- [The last full run](#the-last-full-run)
- [The socket module](#the-socket-module)
- [What a program could notice](#what-a-program-could-notice)

## Libraries

{libraries}

## CPython's own tests

{cpython}

## The last full run

{full}

## The socket module

Every name of `socket` and `_socket` is in one of four lists; the tests hold that on every Python above, and that what
is said of a name is so. Names with a dot are of the class. A pattern stands for the constants that no other row names.
What Python 3.14 adds is listed; 3.14's way of starting processes (forkserver) is tested on every Python.

### Ours

outgate's own stands there, takes the same arguments and raises the same errors.

{ours}

### Refused

By an `OSError` with this errno and the reason, at the call: [errors](errors.md), [options](options.md).

{refused}

### Native

What the interpreter itself has there, untouched.

{plain}

{native}

### Absent

Other systems have them; outgate runs on Linux.

{absent}

## What a program could notice

- Its sockets are the kernel's own on the direct path. On the relay path, and for UDP, the program holds one end of a
  Unix socket pair: `os.fstat`, `/proc/net`, `ss` and `psutil` show that, as does `fcntl` or `ioctl` on the number.
- A few sockets are held ready at high fd numbers, with the channels to the gate; `socket()` gives the lowest free one.
- In the fence `/proc/net`, `ioctl` and `psutil` show no interfaces; `socket.if_nameindex()` has those of the gate's
  host.
- Sockets that C code makes (libpq, libcurl) go round the client: the fence stops them, visibly.
"""

#: Kind of a library in docs/data/libraries.toml → what stands before its table.
_KINDS = {
    "stdlib": "Of the standard library, unmodified, against real servers:",
    "sync": "Libraries that wait in the calling thread:",
    "async": "Libraries with an event loop:",
    "C": "What makes its sockets in C. The fence stops it, and it is named once on standard error with what to do:",
}
_NO_LIBRARIES = "The list is made by a run against real servers, which has not been recorded yet."
_TESTS = """\
The outbound part of CPython's own tests, unmodified, under `outgate run --dev`. A test that does not pass natively on
the machine of that run is left out, one that a rule forbids is excluded, and a known failure that passes turns the run
red. The share is of those that remain."""
_NO_TESTS = "No run has been recorded yet: `tests/cpython/run.py --record`."


def _read(name: str) -> dict[str, Any]:
    file = DATA / name
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _libraries(table: Table) -> str:
    kinds: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _KINDS}
    for row in _read("libraries.toml").get("library", ()):
        kinds[row["kind"]].append(row)
    if not any(kinds.values()):
        return _NO_LIBRARIES
    keys = ("name", "version", "tested_with", "direct", "relay", "note")
    head = tuple(key.replace("_", " ") for key in keys)
    return "\n\n".join(
        f"{_KINDS[kind]}\n\n" + table(head, [tuple(_cell(row[key]) for key in keys) for row in rows])
        for kind, rows in kinds.items()
        if rows
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


_FULL = """\
`make check-full` runs what CI runs, and what takes longer; `make check-full PARTS="deep bench"` runs some of it."""


def _cpython(table: Table) -> str:
    document = {version: entry for version, entry in _read("cpython.toml").items() if entry.get("modules")}
    if not document:
        return _NO_TESTS
    keys = ("tests", "not_applicable", "excluded", "known_failures", "failed", "passed", "connects")
    rows, reasons = [], defaultdict(dict)
    for version, entry in document.items():
        sums = {key: sum(numbers.get(key, 0) for numbers in entry["modules"].values()) for key in keys}
        applicable = sums["tests"] - sums["not_applicable"] - sums["excluded"]
        share = f"{sums['passed'] / applicable:.2%}" if applicable else ""
        rows.append((entry["python"], str(entry["date"]), *(f"{sums[key]:,}" for key in keys), share))
        for counts in entry.get("reasons", {}).values():
            for reason, count in counts.items():
                reasons[reason][version] = reasons[reason].get(version, 0) + count
    modules = sorted({module for entry in document.values() for module in entry["modules"]})
    head = ("Python", "run on", "tests", "not here natively", "excluded", "known failures", "failed", "passed")
    parts = [
        _TESTS,
        table((*head, "connects by the gate", "share"), rows),
        "Modules: " + ", ".join(f"`{module}`" for module in modules) + ".",
    ]
    if reasons:
        versions = tuple(document)
        lines = [(reason, *(str(of.get(each, "")) for each in versions)) for reason, of in sorted(reasons.items())]
        parts.append("Why tests are excluded, or fail:")
        parts.append(table(("why", *versions), lines))
    return "\n\n".join(parts)


def _full(table: Table) -> str:
    entries = _read("full.toml")
    if not entries:
        return "Not recorded yet: `make check-full`."
    lines = []
    for name, entry in entries.items():
        ended = "passed" if entry["status"] == 0 else f"failed ({entry['status']})"
        closing = "; ".join(entry["closing"])
        lines.append((name, str(entry["date"]), entry["python"], f"{entry['minutes']:g}", ended, closing))
    return "\n\n".join((_FULL, table(("part", "run on", "Python", "minutes", "ended", "last words"), lines)))


def _names(rows: Iterable[Row]) -> str:
    """Return the names of rows; those that not every Python has together, with what they need."""
    some: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        of = ", ".join(filter(None, (row.since and f"from {row.since} on", row.needs and f"if built with {row.needs}")))
        some[of].append(f"`{row.name}`")
    return "; ".join(", ".join(names) + (f" ({of})" if of else "") for of, names in some.items())


def _by(row: Row) -> str:
    return surface.BY.get(row.by) or f"socket() of `{row.by}`"


def _rows(kind: str) -> list[Row]:
    return [row for row in surface.ROWS if row.list == kind]


def _grouped(rows: list[Row], key: Callable[[Row], tuple[str, ...]]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [(_names(group), *what) for what, group in groups.items()]


def page(table: Table, newest: str) -> str:
    """Return docs/compatibility.md.

    :param table: makes a table of a head and rows.
    :param newest: the newest Python that the client is tested with.
    """
    native = _rows(NATIVE)
    return _PAGE.format(
        newest=newest,
        libraries=_libraries(table),
        cpython=_cpython(table),
        full=_full(table),
        ours=table(("name", "what differs"), _grouped(_rows(OURS), lambda row: (row.what,))),
        refused=table(
            ("names", "errno", "why", "by"),
            _grouped(_rows(REFUSED), lambda row: (row.errno, row.what, _by(row))),
        ),
        plain=textwrap.fill(_names([row for row in native if not row.what]) + ".", 120, break_on_hyphens=False),
        native=table(("name", "to be known"), _grouped([row for row in native if row.what], lambda row: (row.what,))),
        absent=table(("names", "are"), _grouped(_rows(ABSENT), lambda row: (row.what,))),
    )
