"""Read a ledger: what was used when by whom, up to when that is final, and where something is missing.

Nothing is written, so that it can be read while the gate runs, and while it does not.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import add
from typing import Final, NamedTuple

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.exc import DBAPIError

from outgate.core.bill.statement import Used
from outgate.core.bill.tally import Account, Counts, Destination
from outgate.core.bill.windows import DAY, HOUR, WINDOW, Slice, Span, cover
from outgate.errors import ConfigError
from outgate.gate.ledger import schema
from outgate.gate.ledger.schema import ACCOUNTS, COUNTS, DAYS, DRAFTS, GAPS, GATES, HOURS, RUNS, WINDOWS
from outgate.gate.ledger.store import connect

__all__ = ["Extent", "Gap", "Reader"]

_TABLES: Final[dict[int, Table]] = {DAY: DAYS, HOUR: HOURS, WINDOW: WINDOWS}


class Extent(NamedTuple):
    """How far a ledger goes.

    :ivar first: the first window in it, 0 where it is empty.
    :ivar last: the end of the last one.
    :ivar sealed: what lies before is final: every gate that writes there has sealed it.
    :ivar seen: when the last gate to write there wrote.
    """

    first: int
    last: int
    sealed: int
    seen: float


class Gap(NamedTuple):
    """When a gate was away, how that came, and how many sockets were open."""

    gate: str
    since: float
    until: float
    how: str
    sockets: int


class Reader:
    """A ledger that is read in one transaction, and so as of one moment. Made by :meth:`open`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._accounts: dict[int, Account] | None = None

    @classmethod
    @contextmanager
    def open(cls, url: str, engine: Engine | None = None) -> Iterator[Reader]:
        """Open a ledger for the time of a ``with``.

        :raises ConfigError: there is none, it cannot be opened, or it is newer than this outgate reads.
        """
        engine = engine or connect(url, read_only=True)
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execution_options(isolation_level="REPEATABLE READ")
                found = schema.version(connection)
                if not found:
                    raise ConfigError("there is no ledger yet")
                schema.show_as_newest(connection, found)
                yield cls(connection)
        except DBAPIError as error:
            why = " ".join(str(error.orig or error).split())
            raise ConfigError(f"the ledger cannot be read: {why}") from None
        finally:
            engine.dispose()

    def extent(self) -> Extent:
        """Return how far the ledger goes."""
        find = self.connection
        firsts = [find.scalar(select(func.min(table.c.start))) for table in (WINDOWS, DRAFTS)]
        lasts = [find.scalar(select(func.max(table.c.start))) for table in (WINDOWS, DRAFTS)]
        first = min((start for start in firsts if start is not None), default=0)
        last = max((start + WINDOW for start in lasts if start is not None), default=0)
        # A gate that has ended, with no draft left, holds nothing up.
        open = select(RUNS.c.gate).where(RUNS.c.ended.is_(None)).union(select(DRAFTS.c.gate))
        sealed = find.scalar(select(func.min(GATES.c.sealed)).where(GATES.c.id.in_(open)))
        if sealed is None:
            sealed = find.scalar(select(func.max(GATES.c.sealed))) or 0
        return Extent(first, last, sealed, find.scalar(select(func.max(RUNS.c.seen))) or 0.0)

    def gaps(self, since: int, until: int) -> list[Gap]:
        """Return when gates were away between two moments."""
        rows = self.connection.execute(
            select(GATES.c.name, GAPS.c.since, GAPS.c.until, GAPS.c.how, GAPS.c.sockets)
            .join(GATES, GATES.c.id == GAPS.c.gate)
            .where(GAPS.c.since < until, GAPS.c.until >= since)
            .order_by(GAPS.c.since)
        )
        return [Gap(*row) for row in rows]

    def accounts(self) -> dict[int, Account]:
        """Return every account by its number."""
        if self._accounts is None:
            rows = self.connection.execute(select(ACCOUNTS))
            self._accounts = {id: (app, labels, Destination(*destination)) for id, app, labels, *destination in rows}
        return self._accounts

    def used(self, slices: Sequence[Slice], app: str = "") -> list[Used]:
        """Return what was used in each slice, in their order, with what is not sealed yet.

        :param slices: in the order of time, none overlapping another.
        :param app: only what this one used; "" for all.
        """
        if not slices:
            return []
        accounts = self.accounts()
        sums: list[dict[int, tuple[int, ...]]] = [{} for _ in slices]
        starts, ends = [slice.since for slice in slices], [slice.until for slice in slices]
        for span, table in _spans(slices):
            for row in self._read(table, span):  # some ten thousand for a year by day
                start, account = row[:2]
                place = bisect_right(starts, start) - 1
                if start < ends[place]:
                    of = sums[place]
                    before = of.get(account)
                    of[account] = row[2:] if before is None else tuple(map(add, before, row[2:]))
        return [
            Used(slice.month, slice.period, accounts[account], Counts(*counts))
            for slice, of in zip(slices, sums, strict=True)
            for account, counts in sorted(of.items())
            if not app or app == accounts[account][0]
        ]

    def _read(self, table: Table, span: Span) -> Iterable[tuple[int, ...]]:
        """Give (start, account, counts…): rows as they are where each is a span of its own, else one row an account."""
        within = (table.c.start >= span.since, table.c.start < span.until)
        if span.unit:
            columns = (table.c.start, table.c.account, *(table.c[name] for name in COUNTS))
            with self.connection.execute(select(*columns).where(*within)) as found:
                assert found.cursor is not None, "rows come back"
                rows: list[tuple[int, ...]] = found.cursor.fetchall()  # type: ignore[assignment]
                return rows  # the driver's own: making SQLAlchemy's of them costs as much again
        sums = [func.sum(table.c[name]) for name in COUNTS]
        found = self.connection.execute(select(table.c.account, *sums).where(*within).group_by(table.c.account))
        return ((span.since, *map(int, row)) for row in found)


def _spans(slices: Sequence[Slice]) -> Iterator[tuple[Span, Table]]:
    """Give what is to be read where. A span's unit is kept where it is one of several rows, each of another slice."""
    yield Span(WINDOW, slices[0].since, slices[-1].until), DRAFTS
    run: Span | None = None
    for slice in slices:
        for span in cover(slice.since, slice.until):
            if span.until - span.since > span.unit:
                yield Span(0, span.since, span.until), _TABLES[span.unit]
            elif run is not None and run.unit == span.unit and run.until == span.since:
                run = run._replace(until=span.until)
            else:
                if run is not None:
                    yield run, _TABLES[run.unit]
                run = span
    if run is not None:
        yield run, _TABLES[run.unit]
