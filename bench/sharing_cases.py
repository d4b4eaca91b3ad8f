"""Measure what passing sockets on costs: sharing, redeeming, pickling, and keeping what nobody has."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from bench.rows import Row, ratio_row, row
from bench.world import Failed, World
from outgate.core.lease import share
from outgate.gate.kernel import births
from outgate.gate.registry import Process
from outgate.gate.server import Gate
from outgate.gate.travel import sharing
from outgate.testing.running import ThreadGate

#: Parked leases, where descriptors allow.
_PARKED = 10_000


def passing_on(world: World) -> Iterator[Row]:
    """A descriptor made, one redeemed, and both as a pickle; beside a bare request of the same run."""
    count = 500 if world.quick else 1500
    for name, gate in (("direct", world.gate), ("relay", world.relay)):
        taken: dict[str, list[float]] = {}
        for _ in range(world.rounds):
            times = world.ask("passing_on", gate, port=world.ports["hold"][0], count=count)
            for call, each in times.items():
                taken.setdefault(call, []).append(median(each))
        bare = taken.pop("bare")
        for call, figures in taken.items():
            target = ("<=", 60.0) if (name, call) == ("direct", "redeem") else None
            yield row(f"{call}, {name}", "us", bare, figures, figures, "us", target, "base: a request without work")
        yield ratio_row(f"redeem to a bare request, {name}", "us", bare, taken["redeem"])


def parked_memory(world: World) -> Iterator[Row]:
    """Resident bytes of the gate for each lease that was shared and closed, and that nobody has redeemed."""
    count = _fits(_PARKED // 4 if world.quick else _PARKED)
    figures = []
    for _ in range(1 if world.quick else min(3, world.rounds)):
        with world.start_gate("parked") as gate, world.holding(gate, [100, count], case="park") as more:
            more()
            before = gate.memory()
            more()
            figures.append((gate.memory() - before) / (count - 100))
    yield row(f"gate memory, {count:,} parked", "B", [], figures, figures, "B each", ("<=", 1024))


def sweeps(world: World) -> Iterator[Row]:
    """What the loop spends on each lease when it looks through all of them, and the longest turn that takes."""
    count = _fits(_PARKED)
    for name in ("parked", "held"):
        each, longest = [], []
        for _ in range(world.rounds):
            turns = _look_through(count, name == "parked")
            each.append(sum(turns) * 1e6 / count)
            longest.append(max(turns) * 1e3)
        yield row(f"sweep, {count:,} {name}", "us", [], each, each, "us each", ("<=", 2.5))
        yield row(f"sweep, {name}, longest turn", "ms", [], longest, longest, "ms", ("<=", 5.0))


def _look_through(count: int, parked: bool) -> list[float]:
    """Return the seconds of processor time of each turn of a look through so many leases, of a gate in this process."""
    taken: list[float] = []
    done = threading.Event()

    def timed(owner: Any, name: str, last: bool) -> None:
        function: Callable[..., None] = getattr(owner, name)

        def call(*arguments: Any) -> None:
            begun = time.thread_time()  # what else the machine does is not the loop's
            function(*arguments)
            taken.append(time.thread_time() - begun)
            if last and (not parked or len(taken) == count // sharing.SLICE + 1):
                done.set()

        setattr(owner, name, call)

    with ThreadGate() as thread:
        gate = thread.gate
        thread.call(lambda: _fill(gate, count, parked))
        if parked:
            timed(gate.sharing, "_sift", last=True)
            thread.call(gate.sharing.begin)
        else:
            timed(gate._sweep, "_gather", last=False)
            timed(gate._sweep, "_found", last=True)
            thread.call(gate._sweep.begin)
        if not done.wait(30):
            raise Failed("a look through the leases did not end")
    return taken


def _fill(gate: Gate, count: int, parked: bool) -> None:
    """Give a gate so many sockets, on its loop."""
    process = Process(gate.registry.apps["default"], "bench", os.getpid(), os.getuid(), os.getgid())
    process.channels = 1
    gate.registry.join(process)
    for _ in range(count):
        sock, cookie = births.make(4)
        lease = gate.registry.add(process, sock, cookie, 4)
        if parked:
            gate.sharing.lend(lease, process)
            gate.sharing.keeps(lease)


def _fits(count: int) -> int:
    """Return the number, or what the limit of descriptors leaves of it: a direct lease takes one of the gate's."""
    return min(count, share(resource.getrlimit(resource.RLIMIT_NOFILE)[1], apps=1))
