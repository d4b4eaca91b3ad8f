"""Make the page of a record: what was aimed at, plots, every way beside the others, and how all of it was run.

Whoever reads a record needs nothing of what measured it: this is used by ``docs/generate.py``, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from bench import plots
from bench.report import beside_of, number, rows_of
from bench.rows import SHARES, Row

Table = Callable[[tuple[str, ...], list[tuple[str, ...]]], str]

#: Title of a table of ways → what was measured of each, by name in the record.
_TABLES: dict[str, tuple[str, ...]] = {
    "Streams": (
        "send 1 MiB",
        "receive",
        "send, 16 streams",
        "receive, 16 streams",
        "64-byte round trip",
        "16-KiB round trip",
        "processor time for each GB",
    ),
    "Opens, one after the other": (
        "open",
        "open, without blocking",
        "open, by a name",
        "open, by a name not asked before",
        "open, refused by the other end",
        "open with TLS",
        "processor time of an open",
    ),
    "Opens per second, in processes": tuple(
        f"opens per second, {count} process{'es' if count > 1 else ''}" for count in (1, 4, 16, 64)
    ),
    "Opens per second, in threads of one process": tuple(f"opens per second, {count} threads" for count in (4, 16, 64)),
    "HTTP requests per second": tuple(
        f"{library}, {words}"
        for library in ("requests", "httpx", "aiohttp")
        for words in ("one connection", "a connection each")
    ),
    "With 20 ms of delay": ("open, 20 ms away", "64-byte round trip, 20 ms away"),
    "UDP": ("UDP, one way", "UDP, there and back"),
    "Under a guard, without a client": (
        "guarded, socket()",
        "guarded, connect",
        "guarded, connect, 4 threads",
        "guarded, opens per second, 8 processes",
        "guarded, send 1 MiB",
    ),
}
#: The files that :func:`pictures` makes of a whole record.
PICTURES = (
    "bench-throughput.svg",
    "bench-64-byte-round-trip.svg",
    "bench-open.svg",
    "bench-rate.svg",
    "bench-memory.svg",
)

_PAGE = """\
# Benchmark

<!-- Made by docs/generate.py; do not edit. -->

What outgate costs beside native sockets and beside what else carries or checks connections for programs, all in one
run: every round takes each way once, from a fresh client process, and a ratio is always of two figures of the same
round. Medians over {rounds} rounds{few}; in brackets the ratio to native, or the least and the most.
[performance.md](performance.md) says what bounds each figure.

{facts}

Run it on your machine with `make bench` (`make bench QUICK=1` for a rough one), and hold two runs against each other
with `make bench-compare OLD=FOLDER NEW=FOLDER`, which says which ratio moved beyond its spread.

## Pictures

{pictures}

## What was aimed at

{aims}

{whys}

## Every way beside the others

{tables}

## All ratios and figures

{rows}

## How the others were run

{peers}

{left_out}
"""


def _figure(row: Row) -> str:
    unit = "×" if row.kind == "x" else row.kind.replace("us", "µs")
    return f"{number(row.figure)} {unit}"


def _range(row: Row) -> str:
    return f"{number(row.least)} to {number(row.most)}"


def _bound(row: Row, bound: float) -> str:
    """Return a bound and whether the line keeps it."""
    assert row.target is not None
    is_kept = row._replace(target=(row.target[0], bound)).reached
    return f"{row.target[0].replace('>=', '≥').replace('<=', '≤')} {bound:,g}" + ("" if is_kept else " **missed**")


def bounds(row: Row, others: Sequence[float]) -> list[float]:
    """Return the bound of a line and the others that it has, from the one that is kept most easily on."""
    assert row.target is not None
    way, bound = row.target
    return sorted({bound, *others}, reverse=way == "<=")


def hint(hints: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return what docs/data/bench.toml says of a line; a ``*`` there stands for a number that hosts decide."""
    return next((said for pattern, said in hints["rows"].items() if fnmatchcase(name, pattern)), {})


def is_busy(facts: Mapping[str, Any]) -> bool:
    """Whether so much else ran before a run that what it says of aims is worth little."""
    return bool(facts.get("load_before", 0) > facts.get("cpus", 1))


def aims(record: Mapping[str, Any], hints: Mapping[str, Any], table: Table) -> tuple[str, str]:
    """Return the table of what was aimed at, and the reasons why some of it is missed.

    :param hints: docs/data/bench.toml: further bounds of lines, reasons, and what tests hold.
    """
    lines, whys = [], []
    unknown = "the machine was busy with other things." if is_busy(record["facts"]) else "not known yet."
    for name, row in rows_of(record).items():
        if row.target is None:
            continue
        said = hint(hints, name)
        verdicts = [_bound(row, bound) for bound in bounds(row, said.get("bounds", ()))]
        lines.append((name, _figure(row), _range(row), "; ".join(verdicts)))
        if not row.reached:
            whys.append(f"- **{name}**: {said.get('why', unknown)}")
    lines += [
        (each["name"], each["figure"], "", f"{each['aim']}, held by `{each['test']}`") for each in hints["tested"]
    ]
    told = "Why some are missed:\n\n" + "\n".join(whys) if whys else "All are reached."
    return table(("", "measured", "least to most", "aim"), lines), told


def pictures(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the plots of a record: name of a file → SVG. What was not measured is not drawn."""
    beside, made = beside_of(record), {}
    streams = {name: beside[name] for name in _TABLES["Streams"][:4] if name in beside}
    if streams:
        groups = {name: {way: _middle(each) for way, each in taken.items()} for name, (_, taken) in streams.items()}
        made["bench-throughput.svg"] = plots.bars("Throughput, GB/s", "GB/s", groups)
    for spread in record["spreads"]:
        if spread["name"] in ("open", "64-byte round trip"):
            title = f"{spread['name'][0].upper()}{spread['name'][1:]}: how the single ones are distributed"
            file = f"bench-{spread['name'].replace(' ', '-')}.svg"
            made[file] = plots.curves(title, "µs", SHARES, spread["quantiles"])
    rates = [name for name in _TABLES["Opens per second, in processes"] if name in beside]
    if len(rates) > 1:
        ways: dict[str, list[tuple[float, float]]] = {}
        for name in rates:
            clients = float(name.partition(",")[2].split()[0])
            for way, taken in beside[name][1].items():
                ways.setdefault(way, []).append((clients, median(taken)))
        words = ("processes that open at once", "opens per second")
        made["bench-rate.svg"] = plots.lines("Opens per second against clients", words, ways)
    held = _held(record)
    if any(len(points) > 1 for points in held.values()):
        words = ("sockets held", "MB of resident memory that the gate has grown by")
        made["bench-memory.svg"] = plots.lines("Memory of the gate against held sockets", words, held)
    return made


def missing(record: Mapping[str, Any]) -> list[str]:
    """Return what a record lacks for a picture that the page of a whole one has."""
    made = pictures(record)
    return [f"what {name} is drawn of" for name in PICTURES if name not in made]


def _held(record: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Return for each path how many sockets were held, and the MB that they took."""
    found: dict[str, list[tuple[float, float]]] = {}
    for name, row in rows_of(record).items():
        words = name.replace(",", "").split()
        if words[:2] == ["gate", "memory"] and words[3] in ("held", "relayed"):
            path = {"held": "direct", "relayed": "relay"}[words[3]]
            found.setdefault(path, []).append((float(words[2]), float(words[2]) * row.figure / 1e6))
    return found


def _middle(taken: Sequence[float]) -> tuple[float, float, float]:
    return median(taken), min(taken), max(taken)


def _tables(record: Mapping[str, Any], table: Table) -> Iterator[str]:
    """Yield a table for each title, a line for each way: its medians, and their ratios to native of the same round."""
    beside = beside_of(record)
    for title, names in _TABLES.items():
        there = [name for name in names if name in beside]
        if not there:
            continue
        ways = list(dict.fromkeys(way for name in there for way in beside[name][1]))
        lines = [(way, *(_cell(beside[name][1], way) for name in there)) for way in ways]
        head = ("", *(f"{name}, {beside[name][0].replace('us', 'µs')}" for name in there))
        yield f"### {title}\n\n{table(head, lines)}"


def _cell(taken: Mapping[str, Sequence[float]], way: str) -> str:
    if way not in taken:
        return ""
    figure = number(median(taken[way]))
    if way == "native" or "native" not in taken:
        return figure
    ratio = median(each / plain for plain, each in zip(taken["native"], taken[way], strict=True))
    return f"{figure} ({number(ratio)} ×)"


def _peers(record: Mapping[str, Any]) -> str:
    parts = []
    for each in record["peers"]:
        parts.append(f"**{each['name']}** {each['version']}: `{each['command']}`")
        if each["configuration"]:
            parts.append(f"```text\n{each['configuration'].strip()}\n```")
    return "\n\n".join(parts) or "None was there."


def page(record: Mapping[str, Any], hints: Mapping[str, Any], table: Table) -> str:
    """Return the page of a record.

    :param table: makes a table of a head and lines.
    """
    rows = rows_of(record)
    aimed, whys = aims(record, hints, table)
    facts = [(name.replace("_", " "), str(value)) for name, value in record["facts"].items()]
    minutes = f"{record['seconds'] / 60:.0f} min" + (", a quick run: rough figures" if record["quick"] else "")
    if is_busy(record["facts"]):
        minutes += ", on a machine that was **busy with other things**: take another one's figures"
    drawn = [f"![{name.removesuffix('.svg')}](pictures/{name})" for name in pictures(record)]
    left_out = "\n".join(f"- {line}" for line in record["left_out"])
    return _PAGE.format(
        rounds=record["rounds"],
        few="" if record["quick"] else ", of what takes long over three",
        facts=table(("", ""), [*facts, ("the run took", minutes)]),
        aims=aimed,
        whys=whys,
        pictures="\n\n".join(drawn),
        tables="\n\n".join(_tables(record, table)),
        rows=table(
            ("", "base", "measured", "unit", "figure", "least to most", ""),
            [
                (
                    name,
                    number(row.base),
                    number(row.measured),
                    row.unit.replace("us", "µs"),
                    _figure(row),
                    _range(row),
                    row.note.replace("us of", "µs of"),
                )
                for name, row in rows.items()
            ],
        ),
        peers=_peers(record),
        left_out=f"Left out:\n\n{left_out}" if left_out else "Nothing was left out.",
    )
