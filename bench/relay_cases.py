"""Measure what else the relay path does: holding, and datagrams, which take it on either path."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from statistics import median

from bench.rows import Beside, Result, ratio_row, row, turns
from bench.world import Way, World


def relay_memory(world: World) -> Iterator[Result]:
    """Resident bytes of the gate for each relayed socket that a program holds and that is idle."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    counts = [count for count in (1000, 5000) if 2 * count + 200 < most]  # the gate has two of each
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(1 if world.quick else min(3, world.rounds)):
        with world.start_gate("relay-memory", path="relay") as gate, world.holding(gate, counts) as more:
            before = gate.memory()
            for count in counts:
                more()
                taken[count].append((gate.memory() - before) / count)
    for count, figures in taken.items():
        yield row(f"gate memory, {count:,} relayed", "B", [], figures, figures, "B each", ("<=", 16384))


def datagrams(world: World) -> Iterator[Result]:
    """64-byte datagrams: as many as arrive of those sent in a loop, and there and back one at a time."""
    ways = {"native": None, "relay": world.relay, **{peer.name: peer for peer in world.peers.running if peer.has_udp}}
    count = 40_000 if world.quick else 150_000
    lost: dict[str, list[float]] = {name: [] for name in ways}

    def arriving(name: str, way: Way) -> float:
        figures = world.ask("datagrams", way, port=world.ports["udp_sink"][0], count=count, control=_control(world))
        lost[name].append(1 - figures["arrived"] / count)
        return float(figures["rate"])

    taken = turns(world.rounds, arriving, ways)
    losses = "; ".join(f"{name} {median(each):.1%}" for name, each in lost.items())
    yield from _datagram_rows("UDP, one way", taken, f"lost: {losses}")

    count = 2000 if world.quick else 8000

    def there_and_back(_: str, way: Way) -> float:
        return float(world.ask("datagram_round_trips", way, port=world.ports["udp_echo"][0], count=count)["rate"])

    yield from _datagram_rows("UDP, there and back", turns(world.rounds, there_and_back, ways), "")


def _control(world: World) -> int:
    return world.ports["udp_control"][0]


def _datagram_rows(name: str, taken: dict[str, list[float]], note: str) -> Iterator[Result]:
    yield Beside(name, "1/s", taken)
    yield ratio_row(name, "1/s", taken["native"], taken["relay"], (">=", 0.25), note)
    for peer in taken.keys() - {"native", "relay"}:
        yield ratio_row(f"{name}, to {peer}", "1/s", taken[peer], taken["relay"], (">=", 1.0), f"base: {peer}")
