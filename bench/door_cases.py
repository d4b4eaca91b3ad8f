"""Measure a SOCKS5 door beside microsocks, which does nothing but carry: the same clients, the same target."""

from __future__ import annotations

from collections.abc import Iterator

from bench import peers
from bench.gate import TOKEN
from bench.rows import Beside, Result, ratio_row, turns
from bench.world import Way, World

#: Processes that open at once.
_CLIENTS = 16


def opens_by_a_door(world: World) -> Iterator[Result]:
    """Open and close in many processes at once, by the door and by microsocks, with the most common library."""
    rival = next((each for each in world.peers.running if each.name == "microsocks"), None)
    if rival is None:
        world.leave_out("opens by a door: there is no microsocks to stand beside")
        return
    seconds = 0.3 if world.quick else 1.0
    port = peers.free_ports(1)
    with world.start_gate("door", door=port):
        door = peers.Peer("door", "socks5", port, rival.client, login=("default", TOKEN))

        def measure(_: str, way: Way) -> float:
            figures = world.ask("rate", way, ports=world.ports["open"], seconds=seconds, processes=_CLIENTS, threads=1)
            return float(figures["rate"])

        taken = turns(world.rounds, measure, {"microsocks": rival, "door": door})
    yield Beside("opens per second by SOCKS5", "1/s", taken)
    yield ratio_row(
        "opens per second by SOCKS5, door to microsocks",
        "1/s",
        taken["microsocks"],
        taken["door"],
        (">=", 0.5),
        f"{_CLIENTS} processes, {rival.client}; the door also asks for credentials, judges, meters and logs",
    )
