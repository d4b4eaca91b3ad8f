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
from typing import NamedTuple

from bench import decisions
from bench.gate import DENIED
from bench.world import Gate, World, native_environment, pinned
from outgate.core.paths import SOCKET_VARIABLE

_MIB = 1 << 20


class Row(NamedTuple):
    """One line of the table.

    :ivar native: median over the rounds, in ``unit``; ``None`` where there is no native counterpart.
    :ivar direct: the same through the gate.
    :ivar figure: what is held against the target: the median over the rounds, with its least and most.
    :ivar kind: ``x`` (a ratio), or the unit of a difference or an absolute figure.
    :ivar target: the bound, least (``>=``) or most (``<=``); ``None`` where there is none.
    """

    name: str
    unit: str
    native: float | None
    direct: float | None
    figure: float
    least: float
    most: float
    kind: str
    target: tuple[str, float] | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the figure reaches its target."""
        if self.target is None:
            return None
        way, bound = self.target
        return self.figure >= bound if way == ">=" else self.figure <= bound


def _row(
    name: str,
    unit: str,
    native: list[float],
    direct: list[float],
    figures: list[float],
    kind: str,
    target: tuple[str, float] | None = None,
    note: str = "",
) -> Row:
    return Row(
        name,
        unit,
        median(native) if native else None,
        median(direct) if direct else None,
        median(figures),
        min(figures),
        max(figures),
        kind,
        target,
        note,
    )


def _ratios(native: list[float], direct: list[float]) -> list[float]:
    return [through / plain for plain, through in zip(native, direct, strict=True)]


def _differences(native: list[float], direct: list[float]) -> list[float]:
    return [through - plain for plain, through in zip(native, direct, strict=True)]


def _turns(rounds: int, measure: Callable[[Gate | None], float], gate: Gate) -> tuple[list[float], list[float]]:
    pairs = [(measure(None), measure(gate)) for _ in range(rounds)]
    return [plain for plain, _ in pairs], [through for _, through in pairs]


# --- once a connection is open ----------------------------------------------------------------------------------------


def throughput(world: World) -> Iterator[Row]:
    """One stream, 1 MiB calls, to the last byte read by the other side."""
    size = (512 if world.quick else 2048) * _MIB
    for case, port, name in (("send", "sink", "send 1 MiB"), ("receive", "source", "receive")):

        def measure(gate: Gate | None, case: str = case, port: str = port) -> float:
            return float(world.ask(case, gate, port=world.ports[port][0], size=size)["rate"]) / 1e9

        native, direct = _turns(world.rounds, measure, world.gate)
        yield _row(name, "GB/s", native, direct, _ratios(native, direct), "x", (">=", 0.97))


def round_trip(world: World) -> Iterator[Row]:
    """64 bytes there and back, TCP_NODELAY."""
    count = 1500 if world.quick else 4000

    def measure(gate: Gate | None) -> float:
        return median(world.ask("round_trips", gate, port=world.ports["echo"][0], count=count)["times"])

    native, direct = _turns(world.rounds, measure, world.gate)
    yield _row("64-byte round trip", "us", native, direct, _ratios(native, direct), "x", ("<=", 1.05))


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
    yield _row("open", "us", *opened, _ratios(*opened), "x", ("<=", 8.0))
    yield _row("open and close", "us", *closed, _ratios(*closed), "x")
    note = "native: a request without work"
    yield _row("open to a bare request", "us", bare, opened[1], _ratios(bare, opened[1]), "x", ("<=", 2.0), note)


def opens_on_one_core(world: World) -> Iterator[Row]:
    """The same with gate and client on one core and the target on the others."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return
    count = 500 if world.quick else 1200
    core, others = cores[-1], cores[:-1]
    with world.start_gate("pinned", core=core) as gate, pinned(world.target.pid, *others):

        def measure(through: Gate | None) -> float:
            times = world.ask("open", through, ports=world.ports["open"], count=count, core=core)
            return median(times["open"])

        native, direct = _turns(world.rounds, measure, gate)
    yield _row("open, one core", "us", native, direct, _ratios(native, direct), "x", ("<=", 5.5))


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

        native, direct = _turns(world.rounds, measure, world.gate)
        name = f"opens, {clients} client" + ("s" if clients > 1 else "")
        target = (">=", 0.5) if clients == 16 else None
        note = f"gate: {median(cost):.0f} us of CPU each" + (f"; {errors} errors" if errors else "")
        yield _row(name, "1/s", native, direct, _ratios(native, direct), "x", target, note)


# --- deciding ---------------------------------------------------------------------------------------------------------


def deciding(world: World) -> Iterator[Row]:
    """The pure decision under a policy of ten thousand rules."""
    count = 2000 if world.quick else 10_000
    taken: dict[str, list[float]] = {}
    for _ in range(world.rounds):
        for name, figure in decisions.medians(count).items():
            taken.setdefault(name, []).append(figure)
    for name, figures in taken.items():
        yield _row(f"decision, {name}", "us", [], figures, figures, "us", ("<=", 5.0), f"{decisions.RULES:,} rules")


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
    note = "native: a request without work"
    yield _row("cached look-up to a bare request", "us", bare, cached, _ratios(bare, cached), "x", ("<=", 2.0), note)
    for name, figures in taken.items():
        yield _row(name.replace("_", " "), "us", [], figures, figures, "us", ("<=", 1000.0))


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
    return _row(name, "ms", native, direct, more, "ms", ("<=", bound))


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
        yield _row(f"gate memory, {count:,} held", "B", [], figures, figures, "B each", ("<=", 1024))


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
)
