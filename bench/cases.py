"""Measure deciding, looking up and starting; and list every case that there is.

Every round takes one native measurement and one through the gate, each from a fresh client process, and a ratio is
always of two from the same round: what else the machine does then weighs on both.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import decisions
from bench.apart import in_a_namespace
from bench.booking_cases import booked_opens, charging, metering, usage_of_a_million
from bench.door_cases import opens_by_a_door
from bench.fleet_cases import between_hosts
from bench.gate import DENIED
from bench.guarded_cases import guarded
from bench.holding_cases import holding
from bench.open_cases import cost_of_opens, opens, opens_on_one_core, opens_per_second, other_opens
from bench.relay_cases import datagrams, relay_memory
from bench.rows import Result, Row, ratio_row, row
from bench.sharing_cases import parked_memory, passing_on, sweeps
from bench.streams import round_trip, streams, throughput
from bench.web_cases import handshakes, requests
from bench.world import World, native_environment
from outgate.core.paths import SOCKET_VARIABLE

# --- deciding ---------------------------------------------------------------------------------------------------------


def deciding(world: World) -> Iterator[Result]:
    """The pure decision under a policy of ten thousand rules."""
    count = 2000 if world.quick else 10_000
    taken: dict[str, list[float]] = {}
    for _ in range(world.rounds):
        for name, figure in decisions.medians(count).items():
            taken.setdefault(name, []).append(figure)
    for name, figures in taken.items():
        yield row(f"decision, {name}", "us", [], figures, figures, "us", ("<=", 5.0), f"{decisions.RULES:,} rules")


def look_ups(world: World) -> Iterator[Result]:
    """A look-up that the gate remembers, and what a refusal takes."""
    count = 500 if world.quick else 1500
    bare: list[float] = []
    taken: dict[str, list[float]] = {}
    for _ in range(world.rounds):
        times = world.ask("look_ups", world.gate, count=count, denied=DENIED)
        bare.append(median(times.pop("bare")))
        for name, each in times.items():
            taken.setdefault(name, []).append(median(each))
    cached = taken.pop("cached")
    note = "base: a request without work"
    yield ratio_row("cached look-up to a bare request", "us", bare, cached, ("<=", 2.0), note)
    for name, figures in taken.items():
        yield row(name.replace("_", " "), "us", [], figures, figures, "us", ("<=", 1000.0))


# --- starting ---------------------------------------------------------------------------------------------------------


def starts(world: World) -> Iterator[Result]:
    """What ``outgate run`` and loading the client add to the start of a program."""
    script = Path(sys.executable).with_name("outgate")
    outgate = [str(script)] if script.exists() else [sys.executable, "-m", "outgate"]
    plain = native_environment()
    true = shutil.which("true") or "/bin/true"
    log = f"{world.scratch}/run.log"
    with_gate = {**plain, SOCKET_VARIABLE: world.gate.path}
    commands = (
        ("run -- true, own gate", [*outgate, "run", "-q", "--log", log, "--", true], plain, 350.0),
        ("run -- true, running gate", [*outgate, "run", "-q", "--", true], with_gate, 40.0),
    )
    count = 3 if world.quick else 10
    for name, argv, environ, bound in commands:
        world.seconds(argv, environ)  # compiles what is not compiled yet
        yield _started(world, name, count, ([true], plain), (argv, environ), bound)
    argv = [sys.executable, "-c", "pass"]
    world.seconds(argv, world.gate.environment)
    yield _started(world, "python -c pass", 10 * count, (argv, plain), (argv, world.gate.environment), 5.0)


def _started(
    world: World,
    name: str,
    count: int,
    without: tuple[list[str], dict[str, str]],
    with_outgate: tuple[list[str], dict[str, str]],
    bound: float,
) -> Row:
    """Measure pairs, and take the median of each round's differences."""
    native, direct, more = [], [], []
    for _ in range(world.rounds):
        pairs = [(1000 * world.seconds(*without), 1000 * world.seconds(*with_outgate)) for _ in range(count)]
        native.append(median(plain for plain, _ in pairs))
        direct.append(median(through for _, through in pairs))
        more.append(median(through - plain for plain, through in pairs))
    return row(name, "ms", native, direct, more, "ms", ("<=", bound))


CASES: tuple[Callable[[World], Iterator[Result]], ...] = (
    throughput,
    streams,
    round_trip,
    opens,
    other_opens,
    opens_on_one_core,
    opens_per_second,
    cost_of_opens,
    opens_by_a_door,
    handshakes,
    requests,
    deciding,
    look_ups,
    starts,
    holding,
    relay_memory,
    datagrams,
    passing_on,
    parked_memory,
    sweeps,
    charging,
    booked_opens,
    metering,
    usage_of_a_million,
    guarded,
    in_a_namespace,
    between_hosts,
)

#: Words for several cases.
GROUPS: dict[str, tuple[str, ...]] = {
    "relay": ("throughput", "streams", "round_trip", "opens", "relay_memory"),
    "udp": ("datagrams",),
    "booking": ("charging", "booked_opens", "metering", "usage_of_a_million"),
    "guard": ("guarded",),
    "fleet": ("between_hosts",),
    "sharing": ("passing_on", "parked_memory", "sweeps"),
}
