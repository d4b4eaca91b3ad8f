"""Measure each figure natively and through the gate, turn by turn, and hold it against its target.

Every round takes one native measurement and one through the gate, each from a fresh client process, and a ratio is
always of two from the same round: what else the machine does then weighs on both.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import decisions
from bench.booking_cases import booked_opens, charging, metering, usage_of_a_million
from bench.gate import DENIED
from bench.relay_cases import datagrams, relay_memory, relay_opens
from bench.rows import Row, ratio_row, row, turns
from bench.sharing_cases import parked_memory, passing_on, sweeps
from bench.streams import round_trip, throughput
from bench.world import Gate, Way, World, native_environment, pinned
from outgate.core.paths import SOCKET_VARIABLE

# --- opening ----------------------------------------------------------------------------------------------------------


def opens(world: World) -> Iterator[Row]:
    """socket() and connect(), blocking, and with close(); and a bare request to the gate."""
    count = 500 if world.quick else 1200
    opened: tuple[list[float], list[float]] = ([], [])
    closed: tuple[list[float], list[float]] = ([], [])
    bare: list[float] = []
    for _ in range(world.rounds):
        for at, gate in enumerate((None, world.gate)):
            times = world.ask("open", gate, ports=world.ports["open"], count=count)
            opened[at].append(median(times["open"]))
            closed[at].append(median(times["close"]))
        bare.append(median(world.ask("request", world.gate, count=count)["times"]))
    yield ratio_row("open", "us", *opened, ("<=", 8.0))
    yield ratio_row("open and close", "us", *closed)
    note = "base: a request without work"
    yield ratio_row("open to a bare request", "us", bare, opened[1], ("<=", 2.0), note)


def opens_on_one_core(world: World) -> Iterator[Row]:
    """The same with gate and client on one core and the target on the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    count = 500 if world.quick else 1200
    core, others = cores[-1], cores[:-1]
    with world.start_gate("pinned", core=core) as gate, pinned(world.target.pid, *others):

        def measure(through: Way) -> float:
            times = world.ask("open", through, ports=world.ports["open"], count=count, core=core)
            return median(times["open"])

        taken = turns(world.rounds, measure, {"native": None, "direct": gate})
    yield ratio_row("open, one core", "us", taken["native"], taken["direct"], ("<=", 5.5))


def opens_per_second(world: World) -> Iterator[Row]:
    """Open and close in several processes at once."""
    seconds = 0.6 if world.quick else 1.2
    for clients in (1, 4, 16):
        cost: list[float] = []
        errors = 0

        def measure(gate: Gate | None, clients: int = clients, cost: list[float] = cost) -> float:
            nonlocal errors
            before = gate.cpu() if gate is not None else 0.0
            figures = world.ask_many(clients, "rate", gate, ports=world.ports["open"], seconds=seconds)
            errors += sum(each["errors"] for each in figures)
            if gate is not None:
                cost.append((gate.cpu() - before) * 1e6 / sum(each["opens"] for each in figures))
            return float(sum(each["opens"] / each["seconds"] for each in figures))

        taken = turns(world.rounds, measure, {"native": None, "direct": world.gate})
        name = f"opens, {clients} client" + ("s" if clients > 1 else "")
        target = (">=", 0.5) if clients == 16 else None
        note = f"gate: {median(cost):.0f} us of CPU each" + (f"; {errors} errors" if errors else "")
        yield ratio_row(name, "1/s", taken["native"], taken["direct"], target, note)


# --- deciding ---------------------------------------------------------------------------------------------------------


def deciding(world: World) -> Iterator[Row]:
    """The pure decision under a policy of ten thousand rules."""
    count = 2000 if world.quick else 10_000
    taken: dict[str, list[float]] = {}
    for _ in range(world.rounds):
        for name, figure in decisions.medians(count).items():
            taken.setdefault(name, []).append(figure)
    for name, figures in taken.items():
        yield row(f"decision, {name}", "us", [], figures, figures, "us", ("<=", 5.0), f"{decisions.RULES:,} rules")


def look_ups(world: World) -> Iterator[Row]:
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


def starts(world: World) -> Iterator[Row]:
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


# --- holding ----------------------------------------------------------------------------------------------------------


def memory(world: World) -> Iterator[Row]:
    """Resident bytes of the gate for each socket that a program holds."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    counts = [count for count in (1000, 5000) if count + 200 < most]
    taken: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(1 if world.quick else min(3, world.rounds)):
        with world.start_gate("memory") as gate, world.holding(gate, counts) as more:
            before = gate.memory()
            for count in counts:
                more()
                taken[count].append((gate.memory() - before) / count)
    for count, figures in taken.items():
        yield row(f"gate memory, {count:,} held", "B", [], figures, figures, "B each", ("<=", 1024))


CASES: tuple[Callable[[World], Iterator[Row]], ...] = (
    throughput,
    round_trip,
    opens,
    opens_on_one_core,
    opens_per_second,
    deciding,
    look_ups,
    starts,
    memory,
    relay_opens,
    relay_memory,
    datagrams,
    passing_on,
    parked_memory,
    sweeps,
    charging,
    booked_opens,
    metering,
    usage_of_a_million,
)

#: Words for several cases.
GROUPS: dict[str, tuple[str, ...]] = {
    "relay": ("throughput", "round_trip", "relay_opens", "relay_memory"),
    "udp": ("datagrams",),
    "booking": ("charging", "booked_opens", "metering", "usage_of_a_million"),
    "sharing": ("passing_on", "parked_memory", "sweeps"),
}
