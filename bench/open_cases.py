"""Measure opens: one after the other and as many as can be, natively, through the gate and through every peer."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from statistics import median

from bench.rows import Beside, Result, against, both_paths, ratio_row, row, spread, turns
from bench.world import Gate, Way, World, pinned

#: How many open at once, and what a quick run is content with.
_CLIENTS, _QUICK_CLIENTS = (1, 4, 16, 64), (1, 16)


def opens(world: World) -> Iterator[Result]:
    """socket() and connect(), blocking, and with close(); and a bare request to the gate."""
    count = 300 if world.quick else 1000
    opened: dict[str, list[list[float]]] = {}
    closed: dict[str, list[float]] = {}
    bare: list[float] = []
    for _ in range(world.rounds):
        for name, way in world.opening_ways.items():
            times = world.ask("open", way, ports=world.ports["open"], count=count)
            opened.setdefault(name, []).append(times["open"])
            closed.setdefault(name, []).append(median(times["close"]))
        bare.append(median(world.ask("request", world.gate, count=count)["times"]))
    taken = {name: [median(each) for each in rounds] for name, rounds in opened.items()}
    yield from both_paths("open", "us", taken, ("<=", 6.0))
    yield spread("open", "us", opened)
    yield from both_paths("open and close", "us", closed)
    yield ratio_row("open to a bare request", "us", bare, taken["direct"], ("<=", 1.7), "base: a request without work")
    asked = [peer.name for peer in world.peers.opening if peer.is_asked]
    yield from against("open, direct to the fastest peer", "us", taken, asked, "direct", ("<=", 0.7))
    yield from against("open, relay to the fastest peer", "us", taken, asked, "relay")


def opens_on_one_core(world: World) -> Iterator[Result]:
    """The same with gate and client on one core and the target on the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        world.leave_out("opens on one core: there is one core")
        return
    count = 500 if world.quick else 1200
    core, others = cores[-1], cores[:-1]
    with world.start_gate("pinned", core=core) as gate, pinned(world.target.pid, *others):

        def measure(_: str, through: Way) -> float:
            times = world.ask("open", through, ports=world.ports["open"], count=count, core=core)
            return median(times["open"])

        taken = turns(world.rounds, measure, {"native": None, "direct": gate})
    yield ratio_row("open, one core", "us", taken["native"], taken["direct"], ("<=", 4.0))


def other_opens(world: World) -> Iterator[Result]:
    """Opens without blocking, opens by a name that is remembered, and opens that the other end refuses."""
    count = 300 if world.quick else 1000
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # and does not listen
        ports = {"ports": world.ports["open"]}
        cases = {
            "open, without blocking": ("open_polled", ports),
            "open, by a name": ("open", {**ports, "host": "localhost"}),
            "open, refused by the other end": ("open_refused", {"port": sock.getsockname()[1]}),
        }
        for name, (case, parameters) in cases.items():

            def measure(_: str, way: Way, case: str = case, parameters: dict[str, object] = parameters) -> float:
                return median(world.ask(case, way, count=count, **parameters)["open"])

            yield from both_paths(name, "us", turns(world.rounds, measure, world.own_ways))


def opens_per_second(world: World) -> Iterator[Result]:
    """Open and close in several processes at once; and in several threads of one, on both paths."""
    for clients in _QUICK_CLIENTS if world.quick else _CLIENTS:
        yield from _at_once(world, clients, "processes" if clients > 1 else "process", world.opening_ways)
    for clients in () if world.quick else _CLIENTS[1:]:
        yield from _at_once(world, clients, "threads", world.own_ways)


def _at_once(world: World, clients: int, kind: str, ways: dict[str, Way]) -> Iterator[Result]:
    seconds = 0.3 if world.quick else 0.5
    name = f"opens per second, {clients} {kind}"
    at_once = {"processes": 1, "threads": clients} if kind == "threads" else {"processes": clients, "threads": 1}
    failed: dict[str, int] = {}
    costs: dict[str, list[float]] = {}

    def measure(name: str, way: Way) -> float:
        used = way.cpu() if way is not None else 0.0
        figures = world.ask("rate", way, ports=world.ports["open"], seconds=seconds, **at_once)
        if figures["errors"]:
            failed[name] = failed.get(name, 0) + figures["errors"]
        if way is not None and figures["opens"]:
            costs.setdefault(name, []).append((way.cpu() - used) * 1e6 / figures["opens"])
        return float(figures["rate"])

    is_aim = at_once["processes"] == 16
    taken = turns(world.rounds if is_aim else world.few, measure, ways)
    note = f"gate: {median(costs['direct']):.0f} us of processor time each"
    note += "".join(f"; {count} errors of {way}" for way, count in failed.items())
    yield from both_paths(name, "1/s", taken, (">=", 0.6) if is_aim else None, note=note)
    if is_aim:
        asked = [peer.name for peer in world.peers.opening if peer.is_asked]
        yield from against(f"{name}, direct to the best peer", "1/s", taken, asked, "direct", (">=", 1.5))


def cost_of_opens(world: World) -> Iterator[Result]:
    """The processor time of an open and its close: of the gate on each path, of the client beside it, and of peers."""
    count = 500 if world.quick else 2000
    taken: dict[str, list[float]] = {}
    client: dict[str, list[float]] = {}
    for _ in range(world.few):
        for name, way in world.ways.items():
            if isinstance(way, Gate):
                figures = world.ask("cost", way, ports=world.ports["open"], count=count, gate=way.pid)
                taken.setdefault(name, []).append(figures["gate"])
                client.setdefault(name, []).append(figures["client"])
            elif way is not None:
                used = way.cpu()
                world.ask("open", way, ports=world.ports["open"], count=count, warm_up=0)
                taken.setdefault(name, []).append((way.cpu() - used) * 1e6 / count)
    yield Beside("processor time of an open", "us", taken)
    for name in ("direct", "relay"):
        yield row(f"gate, processor time of an open, {name}", "us", [], taken[name], taken[name], "us")
        yield row(f"client, processor time of an open, {name}", "us", [], client[name], client[name], "us")
