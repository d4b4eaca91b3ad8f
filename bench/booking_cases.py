"""Measure what quotas, the ledger and metrics cost: on an open, on each socket that lives, and to ask for a bill."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from datetime import timezone
from pathlib import Path
from statistics import median

from sqlalchemy import insert, select

from bench.rows import Row, ratio_row, row, turns
from bench.world import BOOKED, Way, World
from outgate.core.bill import statement
from outgate.core.bill.prices import read
from outgate.core.bill.tally import Destination
from outgate.core.bill.windows import DAY, HOUR, WINDOW, slices
from outgate.core.quota.book import Book, charge
from outgate.core.quota.quotas import APP_ENGINE, DEFAULT, Quota
from outgate.gate.ledger import schema
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.store import Store, connect

_BEGIN = 1_767_225_600
#: A million windows: so many accounts, each in every quarter of an hour of most of a year.
_ACCOUNTS, _WINDOWS = 40, 25_000
#: Live sockets, where descriptors allow, and seconds for which they are watched.
_LIVE, _WATCHED = 10_000, 10.0


def charging(world: World) -> Iterator[Row]:
    """What a connect costs in quotas: the default one, and App Engine's fourteen."""
    count = 20_000 if world.quick else 100_000
    ways: dict[str, tuple[Quota, ...]] = {"default": DEFAULT, "App Engine's": APP_ENGINE}
    for name, quotas in ways.items():
        book = Book("bench", [quota._replace(limit=10**9) for quota in quotas], timezone.utc)
        plan = book.plan((("create", 1), ("connect", 1)))
        figures = []
        for _ in range(world.rounds):
            now = time.time()
            figures.append(_each(lambda now=now: charge(plan, now), count))
        yield row(f"quotas of a connect, {name}", "us", [], figures, figures, "us each", ("<=", 3.0))


def _each(function: Callable[[], object], count: int) -> float:
    begun = time.thread_time()
    for _ in range(count):
        function()
    return (time.thread_time() - begun) * 1e6 / count


def booked_opens(world: World) -> Iterator[Row]:
    """An open through gates that keep ledger and metrics, and a state file beside them, and through one with none."""
    count = 500 if world.quick else 1200
    with (
        world.start_gate("booked", booked=("ledger", "metrics")) as booked,
        world.start_gate("kept", booked=BOOKED) as kept,
    ):

        def opened(_: str, gate: Way) -> float:
            return median(world.ask("open", gate, ports=world.ports["open"], count=count)["open"])

        taken = turns(world.rounds, opened, {"none": world.gate, "booked": booked, "kept": kept})
    note = "base: a gate that keeps none"
    yield ratio_row("open, with ledger and metrics", "us", taken["none"], taken["booked"], ("<=", 1.05), note)
    yield ratio_row("open, with ledger, metrics and state file", "us", taken["none"], taken["kept"], note=note)


def metering(world: World) -> Iterator[Row]:
    """The share of a core that the gate takes while all its sockets send and each is metered every second."""
    most = min(_LIVE, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2 - 500)
    count = most // 4 if world.quick else most
    figures = []
    with world.start_gate("metering", booked=BOOKED) as gate, world.holding(gate, [count], case="drip") as more:
        more()
        time.sleep(2)  # until the ledger knows them all
        for _ in range(1 if world.quick else min(3, world.rounds)):
            used, begun = gate.cpu(), time.monotonic()
            time.sleep(_WATCHED / 3 if world.quick else _WATCHED)
            figures.append((gate.cpu() - used) / (time.monotonic() - begun) * 100)
    yield row(f"gate, {count:,} sockets sending", "%", [], figures, figures, "% of a core", ("<=", 5.0))


def usage_of_a_million(world: World) -> Iterator[Row]:
    """A bill by day of a million sealed windows, on SQLite."""
    url = f"sqlite:///{_million(Path(world.scratch))}"
    figures = []
    for _ in range(world.rounds):
        begun = time.perf_counter()
        with Reader.open(url) as reader:
            extent = reader.extent()
            used = reader.used(slices(extent.first, extent.last, "day", timezone.utc, tiered=False))
        made = statement.make(used, ["day"], read({}))
        figures.append((time.perf_counter() - begun) * 1e3)
        assert len(made.lines) == -(-_WINDOWS * WINDOW // DAY)
    yield row("usage by day, 1,000,000 windows", "ms", [], figures, figures, "ms", ("<=", 200.0))


def _million(folder: Path) -> Path:
    """Fill a ledger with a million sealed windows, as a gate would have sealed them, and return its file."""
    path = folder / "million.sqlite"
    engine = connect(f"sqlite:///{path}")
    store = Store(engine, "bench", "run")
    store.begin(_BEGIN)
    with engine.begin() as connection:
        for number in range(_ACCOUNTS):
            to = Destination("tcp", f"host{number}.example.com", 443, "192.0.2.1")
            values = {"app": f"app{number % 10}", "labels": "", **to._asdict()}
            connection.execute(insert(schema.ACCOUNTS).values(**values))
        accounts = connection.scalars(select(schema.ACCOUNTS.c.id)).all()
        counts = {"sent": 123_456_789, "received": 5, "wire_sent": 130_000_000, "wire_received": 9}
        for at in range(_BEGIN, _BEGIN + _WINDOWS * WINDOW, 500 * WINDOW):
            rows = [
                {"start": start, "account": account, "gate": 1, "sealing": 1, "complete": True, **counts}
                for start in range(at, at + 500 * WINDOW, WINDOW)
                for account in accounts
            ]
            connection.execute(insert(schema.WINDOWS), rows)
        for table, unit in ((schema.HOURS, HOUR), (schema.DAYS, DAY)):
            sums = ", ".join(f"sum({name})" for name in counts)
            into = f"{table.name} (start, account, {', '.join(counts)})"
            begin = f"start - start % {unit}"
            connection.exec_driver_sql(f"INSERT INTO {into} SELECT {begin}, account, {sums} FROM windows GROUP BY 1, 2")
        connection.execute(schema.GATES.update().values(sealed=_BEGIN + _WINDOWS * WINDOW))
    store.close()
    return path
