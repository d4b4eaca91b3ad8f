"""Measure open streams natively, on both paths of the gate and through its peers, all in the same rounds."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.peers import Peer
from bench.rows import Beside, Result, against, both_paths, row, spread, turns
from bench.world import Gate, Way, World

_MIB = 1 << 20
_STREAMS = 16


def throughput(world: World) -> Iterator[Result]:
    """One stream, 1 MiB calls, to the last byte read by the other side; and the processor time of the gate for it."""
    size = (384 if world.quick else 1024) * _MIB
    less = size // 3  # for peers, which are slow
    costs: dict[str, list[float]] = {}
    for case, port, name in (("send", "sink", "send 1 MiB"), ("receive", "source", "receive")):

        def measure(name: str, way: Way, case: str = case, port: str = port) -> float:
            count = less if isinstance(way, Peer) else size
            used = way.cpu() if way is not None else 0.0
            rate = float(world.ask(case, way, port=world.ports[port][0], size=count)["rate"]) / 1e9
            if way is not None:
                costs.setdefault(name, []).append((way.cpu() - used) * 1e9 / count)
            return rate

        taken = turns(world.rounds, measure, world.ways)
        yield from both_paths(name, "GB/s", taken, (">=", 0.98), (">=", 0.7))
        copying = [peer.name for peer in world.peers.running]
        yield from against(f"{name}, relay to the best peer", "GB/s", taken, copying, "relay", (">=", 2.0))
    yield Beside("processor time for each GB", "s", costs)
    yield row("gate, processor time for each GB relayed", "s", [], costs["relay"], costs["relay"], "s")


def streams(world: World) -> Iterator[Result]:
    """Sixteen streams at once, from one process with a thread for each."""
    size = (192 if world.quick else 768) * _MIB
    for case, port in (("send", "sink"), ("receive", "source")):

        def measure(name: str, way: Way, case: str = case, port: str = port) -> float:
            count = size if way is None or isinstance(way, Gate) else size // 3
            figures = world.ask(case, way, port=world.ports[port][0], size=count, streams=_STREAMS)
            return float(figures["rate"]) / 1e9

        taken = turns(world.few, measure, world.ways)
        yield from both_paths(f"{case}, {_STREAMS} streams", "GB/s", taken)


def round_trip(world: World) -> Iterator[Result]:
    """64 bytes there and back, and 16 KiB; TCP_NODELAY."""
    for size, name, count in ((64, "64-byte round trip", 4000), (16384, "16-KiB round trip", 2000)):
        count = count // 3 if world.quick else count
        times: dict[str, list[list[float]]] = {}
        for _ in range(world.rounds):
            for way, through in world.ways.items():
                asked = world.ask("round_trips", through, port=world.ports["echo"][0], count=count, size=size)
                times.setdefault(way, []).append(asked["times"])
        taken = {way: [median(each) for each in rounds] for way, rounds in times.items()}
        small = size == 64
        yield from both_paths(name, "us", taken, ("<=", 1.03) if small else None, ("<=", 1.3) if small else None)
        yield spread(name, "us", times)
        rivals = [peer.name for peer in world.peers.running]
        yield from against(f"{name}, relay to the best peer", "us", taken, rivals, "relay")
