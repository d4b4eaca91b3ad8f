"""Measure an open stream natively, on both paths of the gate and through its peers, all in the same rounds."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.peers import Peer
from bench.rows import Row, ratio_row, turns
from bench.world import Way, World

_MIB = 1 << 20


def throughput(world: World) -> Iterator[Row]:
    """One stream, 1 MiB calls, to the last byte read by the other side."""
    size = (384 if world.quick else 1024) * _MIB
    less = size // 3  # for peers, which are slow
    for case, port, name in (("send", "sink", "send 1 MiB"), ("receive", "source", "receive")):

        def measure(way: Way, case: str = case, port: str = port) -> float:
            count = less if isinstance(way, Peer) else size
            return float(world.ask(case, way, port=world.ports[port][0], size=count)["rate"]) / 1e9

        taken = turns(world.rounds, measure, world.ways)
        yield ratio_row(name, "GB/s", taken["native"], taken["direct"], (">=", 0.97))
        yield ratio_row(f"{name}, relay", "GB/s", taken["native"], taken["relay"], (">=", 0.6))
        for peer in world.peers.running:
            note = f"base: {peer.name}"
            yield ratio_row(
                f"{name}, relay to {peer.name}", "GB/s", taken[peer.name], taken["relay"], (">=", 2.0), note
            )


def round_trip(world: World) -> Iterator[Row]:
    """64 bytes there and back, TCP_NODELAY."""
    count = 1500 if world.quick else 4000

    def measure(way: Way) -> float:
        return median(world.ask("round_trips", way, port=world.ports["echo"][0], count=count)["times"])

    taken = turns(world.rounds, measure, world.ways)
    yield ratio_row("64-byte round trip", "us", taken["native"], taken["direct"], ("<=", 1.05))
    yield ratio_row("64-byte round trip, relay", "us", taken["native"], taken["relay"], ("<=", 1.4))
    for peer in world.peers.running:
        name, note = f"64-byte round trip, relay to {peer.name}", f"base: {peer.name}"
        yield ratio_row(name, "us", taken[peer.name], taken["relay"], None, note)
