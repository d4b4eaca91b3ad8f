"""Measure a gate while programs hold many connections: its memory, and how late its loop comes."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from statistics import median

from bench.rows import Result, row
from bench.world import World

#: At most so many: more want more ephemeral ports than one destination has.
_MOST = 25_000
#: A gate gives one app three quarters of its descriptors; of those the client's pool, and what it needs beside.
_OTHERS = 100
#: Seconds for which the loop is watched: a sweep comes every ten, the meter every one.
_WATCHED, _WATCHED_QUICKLY = 12.0, 3.0


def holding(world: World) -> Iterator[Result]:
    """Resident bytes of the gate for each connection that a program holds, and the lateness of its loop meanwhile."""
    limit = min(_MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[1] * 3 // 4 - _OTHERS)
    counts = [count for count in (10, 1000, 10_000) if count <= limit]
    if not world.quick and limit > counts[-1]:
        counts.append(limit)
    memory: dict[int, list[float]] = {count: [] for count in counts[1:]}
    late: dict[int, list[float]] = {}
    for _ in range(1 if world.quick else 2):
        with world.start_gate("holding", lag=True) as gate, world.holding(gate, counts) as more:
            before = gate.memory()
            for count in counts:
                more()
                if count in memory:
                    memory[count].append((gate.memory() - before) / count)
                if count in (counts[0], counts[-1], 10_000):
                    gate.lateness()
                    time.sleep(_WATCHED_QUICKLY if world.quick else _WATCHED)
                    in_order = sorted(gate.lateness())
                    late.setdefault(count, []).append(in_order[len(in_order) * 99 // 100] * 1e3)
    for count, figures in memory.items():
        yield row(f"gate memory, {count:,} held", "B", [], figures, figures, "B each", ("<=", 1024))
    few = median(late[counts[0]])
    for count, figures in late.items():
        note = "" if count == counts[0] else f"{few:.1f} ms with {counts[0]}"
        target = ("<=", 10.0) if count == 10_000 else None
        yield row(f"loop lag, 99 of 100, {count:,} held", "ms", [], figures, figures, "ms", target, note)
