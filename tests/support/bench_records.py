"""Records as the benchmark writes them, small enough to read."""

from __future__ import annotations

from typing import Any

from bench.peers import Shown
from bench.rows import Beside, Result, ratio_row, row, spread

from bench import report

_FACTS = {"date": "2026-03-01 14:00", "processor": "a processor", "cpus": 2, "kernel": "6.1", "python": "3.11.7"}
_NATIVE, _DIRECT, _RELAY, _PEER = [10.0, 12.0, 11.0], [50.0, 72.0, 55.0], [90.0, 96.0, 88.0], [30.0, 60.0, 33.0]


def results() -> list[Result]:
    """Return results of every kind: all that the pages and their pictures are made of."""
    taken = {"native": _NATIVE, "direct": _DIRECT, "relay": _RELAY, "squid, PySocks": _PEER}
    made: list[Result] = []
    for name, unit in (("send 1 MiB", "GB/s"), ("receive", "GB/s"), ("open", "us"), ("64-byte round trip", "us")):
        made.append(Beside(name, unit, taken))
        made.append(spread(name, unit, {way: [figures, figures] for way, figures in taken.items()}))
    made += [Beside(f"opens per second, {clients}", "1/s", taken) for clients in ("1 process", "4 processes")]
    made.append(ratio_row("open", "us", _NATIVE, _DIRECT, ("<=", 6.0)))
    made.append(ratio_row("send 1 MiB", "GB/s", _NATIVE, _DIRECT, (">=", 0.98)))
    for name, figure in (
        ("gate, processor time of an open, direct", 200.0),
        ("gate, processor time of an open, relay", 400.0),
        ("client, processor time of an open, direct", 100.0),
        ("gate, processor time for each GB relayed", 0.5),
        ("gate memory, 1,000 held", 700.0),
        ("gate memory, 10,000 held", 600.0),
        ("gate memory, 1,000 relayed", 2000.0),
        ("gate memory, 5,000 relayed", 2200.0),
        ("gate, 10,000 sockets sending", 10.0),
    ):
        made.append(row(name, "us", [], [figure], [figure], "us"))
    return made


def record() -> dict[str, Any]:
    """Return the record of them."""
    shown = [Shown("squid", "5.7", "squid -N", "http_port 127.0.0.1:PORT\n")]
    return report.record(_FACTS, 3, False, 61.0, results(), shown, ["dante: not installed"])
