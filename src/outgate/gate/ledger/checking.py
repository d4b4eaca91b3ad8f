"""Add a ledger up again, each figure in two ways, and name what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, except_, func, select, true, union_all

from outgate.core.bill.windows import DAY, HOUR
from outgate.gate.ledger.schema import ACCOUNTS, BASELINES, COUNTS, DAYS, DRAFTS, GATES, HOURS, RUNS, SEALINGS, WINDOWS

__all__ = ["by_app", "differences", "of_run", "open_now", "runs"]

#: Differences of one kind that are named.
_NAMED: Final = 5


def differences(connection: Connection) -> Iterator[str]:
    """Give every way in which the ledger contradicts itself, as a sentence; nothing: it agrees."""
    for gate, name, sealed, sealings in connection.execute(
        select(GATES.c.id, GATES.c.name, GATES.c.sealed, GATES.c.sealings).order_by(GATES.c.id)
    ):
        yield from _sealings(connection, gate, name, sealings)
        yield from _runs(connection, gate, name)
        late = connection.scalar(select(func.count()).where(WINDOWS.c.gate == gate, WINDOWS.c.start >= sealed))
        early = connection.scalar(select(func.count()).where(DRAFTS.c.gate == gate, DRAFTS.c.start < sealed))
        if late:
            yield f"gate {name}: {late} windows are sealed that had not ended"
        if early:
            yield f"gate {name}: {early} drafts are of windows that are sealed"
    for table, unit in ((HOURS, HOUR), (DAYS, DAY)):
        yield from _sums(connection, table, unit)


def _sums_of(table: Table) -> list[ColumnElement[int]]:
    return [func.coalesce(func.sum(table.c[name]), 0) for name in COUNTS]


def _whole(row: Any) -> tuple[int, ...]:
    return tuple(map(int, row))


def _sealings(connection: Connection, gate: int, name: str, count: int) -> Iterator[str]:
    """Hold each sealing against the windows that came of it."""
    of_gate = WINDOWS.c.gate == gate
    rows = select(WINDOWS.c.sealing, func.count(), *_sums_of(WINDOWS)).where(of_gate).group_by(WINDOWS.c.sealing)
    found = {row[0]: _whole(row[1:]) for row in connection.execute(rows)}
    columns = (SEALINGS.c.number, SEALINGS.c.windows, *(SEALINGS.c[each] for each in COUNTS))
    said = {row[0]: _whole(row[1:]) for row in connection.execute(select(*columns).where(SEALINGS.c.gate == gate))}
    holes = sorted(set(range(1, count + 1)) ^ said.keys())
    if holes:
        yield f"gate {name}: sealings {holes[:_NAMED]} are missing or too many, of {count}"
    for number in [each for each in sorted(found.keys() | said.keys()) if found.get(each) != said.get(each)][:_NAMED]:
        yield f"gate {name}: sealing {number} says {said.get(number)}, and its windows hold {found.get(number)}"


def _runs(connection: Connection, gate: int, name: str) -> Iterator[str]:
    """Hold what the gate's runs have counted against what windows and drafts hold."""
    counted = _whole(connection.execute(select(*_sums_of(RUNS)).where(RUNS.c.gate == gate)).one())
    held = [0] * len(COUNTS)
    for table in (WINDOWS, DRAFTS):
        row = _whole(connection.execute(select(*_sums_of(table)).where(table.c.gate == gate)).one())
        held = [a + b for a, b in zip(held, row, strict=True)]
    if counted != tuple(held):
        yield f"gate {name} has counted {counted}, and its windows and drafts hold {tuple(held)}"


def _sums(connection: Connection, table: Table, unit: int) -> Iterator[str]:
    """Hold the sums by hour or day against the windows they are of."""
    start = (WINDOWS.c.start - WINDOWS.c.start % unit).label("start")
    sums = [column.label(name) for name, column in zip(COUNTS, _sums_of(WINDOWS), strict=True)]
    made = select(start, WINDOWS.c.account, *sums).group_by(start, WINDOWS.c.account)
    kept: Select[Any] = select(table.c.start, table.c.account, *(table.c[name] for name in COUNTS))
    for one, other in ((made, kept), (kept, made)):
        wrong = connection.execute(except_(one, other)).all()
        if wrong:
            first = ", ".join(f"{row[0]} of account {row[1]}" for row in wrong[:_NAMED])
            yield f"{table.name}: {len(wrong)} sums are not those of their windows: {first}"
            return


def by_app(connection: Connection, gate: str | None = None) -> dict[str, tuple[int, int]]:
    """Return the bytes sent and received of every app, sealed or not.

    :param gate: the name of the only one to be counted.
    """
    rows = union_all(
        *(
            select(table.c.account, table.c.sent, table.c.received).where(_is_of(table, gate))
            for table in (WINDOWS, DRAFTS)
        )
    ).subquery()
    found = connection.execute(
        select(ACCOUNTS.c.app, func.sum(rows.c.sent), func.sum(rows.c.received))
        .join(ACCOUNTS, ACCOUNTS.c.id == rows.c.account)
        .group_by(ACCOUNTS.c.app)
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in found}


def open_now(connection: Connection, gate: str | None = None) -> tuple[int, int]:
    """Return the bytes of connections that are open, and so have no line of their end in a decision log yet."""
    return _two(connection.execute(select(*_sums_of(BASELINES)[:2]).where(_is_of(BASELINES, gate))).one())


def of_run(connection: Connection, gate: str, run: str) -> tuple[int, int]:
    """Return the bytes that one run of a gate has booked; none where it has not begun."""
    return _two(connection.execute(select(*_sums_of(RUNS)[:2]).where(_is_of(RUNS, gate), RUNS.c.name == run)).one())


def runs(connection: Connection, gate: str | None = None) -> tuple[float, bool]:
    """Return when the first run began, and whether one has not ended."""
    columns = (func.min(RUNS.c.began), func.count() - func.count(RUNS.c.ended))
    began, running = connection.execute(select(*columns).where(_is_of(RUNS, gate))).one()
    return began or 0.0, running > 0


def _is_of(table: Table, gate: str | None) -> ColumnElement[bool]:
    if gate is None:
        return true()
    return table.c.gate == select(GATES.c.id).where(GATES.c.name == gate).scalar_subquery()


def _two(row: Any) -> tuple[int, int]:
    return int(row[0]), int(row[1])
