"""Write the ledger to its database: one transaction a batch, each batch once, windows sealed as their time comes.

The same code for SQLite and PostgreSQL, by SQLAlchemy Core. Who imports this loads SQLAlchemy, which takes some 0.2 s:
the gate does it on the ledger's own thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    Table,
    and_,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from outgate.core.bill.tally import Account, Destination
from outgate.core.bill.windows import DAY, HOUR, WINDOW
from outgate.errors import ConfigError
from outgate.gate.ledger import schema
from outgate.gate.ledger.batch import Batch, Begun, Key, Totals
from outgate.gate.ledger.schema import ACCOUNTS, BASELINES, COUNTS, DRAFTS, GAPS, GATES, RUNS, SEALINGS, WINDOWS

__all__ = ["Fenced", "Store", "connect"]

#: Seconds that a statement waits for a lock somebody else has.
PATIENCE: Final = 5.0
#: Rows of one statement: SQLite takes 32,766 parameters.
_CHUNK: Final = 1000
_DIALECTS: Final[dict[str, Any]] = {"sqlite": sqlite, "postgresql": postgresql}


class Fenced(Exception):
    """Another run of this gate has begun: what this one writes would be counted twice."""


def connect(url: str, *, read_only: bool = False) -> Engine:
    """Return an engine for a ledger; nothing is opened yet.

    :param url: as SQLAlchemy has it, ``sqlite:////path`` or ``postgresql://user@host/name``.
    :raises ConfigError: it is neither, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"ledger.url: {url!r} is no URL; as in sqlite:////var/lib/outgate/ledger.sqlite") from None
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        return _sqlite(parsed, read_only)
    if kind != "postgresql":
        raise ConfigError(f"ledger.url: {kind} keeps no ledger; write sqlite:////path or postgresql://user@host/name")
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    arguments: dict[str, Any] = {}
    if parsed.get_driver_name() == "psycopg":
        options = f"-c lock_timeout={int(PATIENCE * 1000)} -c statement_timeout={int(6 * PATIENCE * 1000)}"
        arguments = {"connect_timeout": int(PATIENCE), "options": options}
    try:
        return create_engine(parsed, pool_size=1, max_overflow=0, pool_pre_ping=False, connect_args=arguments)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(f"ledger.url: {error}; pip install 'outgate[postgres]'") from None


def _sqlite(url: URL, read_only: bool) -> Engine:
    path = url.database
    if not path or path == ":memory:":
        raise ConfigError("ledger.url: a ledger is a file, as in sqlite:////var/lib/outgate/ledger.sqlite")
    quoted = re.sub(r"[?#%]", lambda match: f"%{ord(match[0]):02X}", os.path.abspath(path))
    url = url.set(database=f"file:{quoted}", query={"uri": "true", "mode": "ro" if read_only else "rwc"})
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"timeout": PATIENCE})
    opened: list[os.stat_result] = []

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # sqlite3 begins no transaction by itself, and never commits before DDL
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # what is sealed outlives a loss of power, too
            opened[:] = [os.stat(path)]

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        for file in opened:
            _see_that_it_is_there(path, file)
        # A deferred transaction that has read and then writes is refused at once where somebody else wrote between.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _see_that_it_is_there(path: str, opened: os.stat_result) -> None:
    """Raise ``OSError`` where a file that was opened has another path by now, or none.

    SQLite would write on to what nobody finds again ("How To Corrupt An SQLite Database File", 2.4).
    """
    try:
        if os.path.samestat(os.stat(path), opened):
            return
    except OSError:
        pass
    raise FileNotFoundError(f"{path} was moved or removed; put it back, or restart the gate to begin another one")


class Store:
    """One run of one gate in its ledger. Used by one thread; every method may raise SQLAlchemy's ``DBAPIError``.

    :param gate: the gate's name, which no other gate that writes there has.
    :param run: the name of this run of it.
    """

    def __init__(self, engine: Engine, gate: str, run: str) -> None:
        self._engine = engine
        self._dialect = _DIALECTS[engine.dialect.name]
        self._name, self._run_name = gate, run
        self._gate = self._run = 0
        self._accounts: dict[Account, int] = {}
        self._new: list[Account] = []
        self._texts: dict[tuple[str, bool], tuple[str, bool]] = {}

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Do something in one transaction; where it fails no id that was made in it is remembered."""
        self._new.clear()
        try:
            with self._engine.begin() as connection:
                yield connection
        except BaseException:
            for account in self._new:
                self._accounts.pop(account, None)
            raise

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    # --- the beginning and the end of a run ---------------------------------------------------------------------------

    def begin(self, now: float) -> Begun:
        """Begin the run: make or migrate the tables, end the run before, note a gap if that one did not end itself.

        :raises ConfigError: the ledger is newer than this outgate reads.
        :raises Fenced: it had begun, and another run of this gate has since.
        """
        with self._transaction() as connection:
            self._lock(connection)
            schema.migrate(connection)
            found = connection.execute(select(GATES.c.id, GATES.c.sealed).where(GATES.c.name == self._name)).first()
            if found is None:
                made = connection.execute(insert(GATES).values(name=self._name, sealed=0, sealings=0))
                self._gate, sealed = _id(made), 0
            else:
                self._gate, sealed = found
            rows = connection.execute(
                select(BASELINES.c.id, BASELINES.c.dial, *(BASELINES.c[name] for name in COUNTS)).where(
                    BASELINES.c.gate == self._gate
                )
            )
            open = {Key(*row[:2]): Totals(*row[2:]) for row in rows}
            of_gate = RUNS.c.gate == self._gate
            columns = (RUNS.c.id, RUNS.c.name, RUNS.c.seen, RUNS.c.ended, RUNS.c.how, RUNS.c.closed)
            last = connection.execute(select(*columns).where(of_gate).order_by(RUNS.c.id.desc()).limit(1)).first()
            ended = frozenset(map(_key, last.closed.split())) if last is not None else frozenset()
            if last is not None and last.name == self._run_name:  # the answer to an earlier try was lost
                self._run = last.id
                return Begun(sealed, open, frozenset(), 0.0)
            if connection.scalar(select(RUNS.c.id).where(of_gate, RUNS.c.name == self._run_name)) is not None:
                raise self._is_over()
            lost = self._end_last(connection, now, len(open), last) if last is not None else 0.0
            # A run that dies before its first batch leaves the next one to know what ended in the last batch there was.
            closed = last.closed if last is not None else ""
            made = connection.execute(
                insert(RUNS).values(gate=self._gate, name=self._run_name, began=now, seen=now, batch=0, closed=closed)
            )
            self._run = _id(made)
            return Begun(sealed, open, ended, lost)

    def _lock(self, connection: Connection) -> None:
        """Have gates that begin at the same moment do it one after the other."""
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(7306089)"))  # SQLite has locked all of it

    def _end_last(self, connection: Connection, now: float, sockets: int, last: Any) -> float:
        """End the run before this one, and note from when to when nobody was looking at sockets."""
        crashed = last.ended is None
        connection.execute(
            update(RUNS).where(RUNS.c.gate == self._gate, RUNS.c.ended.is_(None)).values(ended=now, how="crashed")
        )
        if crashed or (sockets and last.how == "stopped"):
            since, until = min(last.seen, now), max(last.seen, now)
            how = "crashed" if crashed else "stopped"
            connection.execute(insert(GAPS).values(gate=self._gate, since=since, until=until, how=how, sockets=sockets))
        return max(0.0, now - last.seen) if crashed else 0.0

    def end(self, now: float, how: str) -> None:
        """End the run: nothing more comes of it.

        :param how: ``stopped``, or ``handed-over`` to a gate that has every socket now.
        """
        with self._transaction() as connection:
            connection.execute(
                update(RUNS).where(RUNS.c.id == self._run, RUNS.c.ended.is_(None)).values(ended=now, seen=now, how=how)
            )

    def forget_except(self, keys: Iterable[Key]) -> None:
        """Forget every connection but these: nobody has the others any more."""
        kept = frozenset(keys)
        with self._transaction() as connection:
            known = select(BASELINES.c.id, BASELINES.c.dial).where(BASELINES.c.gate == self._gate)
            found = {Key(*row) for row in connection.execute(known)}
            self._forget(connection, found - kept)

    # --- batches ------------------------------------------------------------------------------------------------------

    def write(self, batch: Batch) -> bool:
        """Write a batch, and seal the windows whose time has come; return whether it was new.

        :raises Fenced: another run of this gate has begun.
        """
        with self._transaction() as connection:
            totals = [0] * len(COUNTS)
            for of in batch.rows.values():
                for counts in of.values():
                    totals = [a + b for a, b in zip(totals, counts, strict=True)]
            taken = connection.execute(
                update(RUNS)
                .where(RUNS.c.id == self._run, RUNS.c.batch == batch.number - 1, RUNS.c.ended.is_(None))
                .values(
                    batch=batch.number,
                    seen=batch.at,
                    closed=" ".join(f"{id}.{dial}" for id, dial in batch.ended),
                    **{name: RUNS.c[name] + count for name, count in zip(COUNTS, totals, strict=True)},
                )
            )
            if taken.rowcount == 0:
                row = connection.execute(select(RUNS.c.batch, RUNS.c.ended).where(RUNS.c.id == self._run)).one()
                if row.batch >= batch.number:
                    return False
                raise self._is_over() if row.ended else Fenced("a batch is missing")
            sealed = connection.scalar(select(GATES.c.sealed).where(GATES.c.id == self._gate)) or 0
            self._draft(connection, batch, sealed)
            self._forget(connection, batch.forget)
            self._remember(connection, batch.open)
            if batch.seal > sealed:
                self._seal(connection, batch.seal, batch.at)
            return True

    def _is_over(self) -> Fenced:
        return Fenced(f"run {self._run_name} of gate {self._name} is over")

    def _upsert(self, connection: Connection, table: Table, rows: Sequence[tuple[int, ...]], *, add: bool) -> None:
        """Insert rows; to those that are there already add the counts, or put them in their place.

        :param rows: in the order of the table's columns.
        """
        if not rows:
            return
        # The statement is handed to the driver as text: SQLAlchemy's way with each row costs twice what the row does.
        text, by_name = self._upsert_text(table, add)
        names = table.columns.keys()
        parameters: Sequence[Any] = [dict(zip(names, row, strict=True)) for row in rows] if by_name else rows
        for place in range(0, len(rows), _CHUNK):
            connection.exec_driver_sql(text, parameters[place : place + _CHUNK])

    def _upsert_text(self, table: Table, add: bool) -> tuple[str, bool]:
        """Return the statement, and whether its parameters go by name; else they are the columns in their order."""
        found = self._texts.get((table.name, add))
        if found is None:
            statement = self._dialect.insert(table)
            new = statement.excluded
            values = {name: table.c[name] + new[name] if add else new[name] for name in COUNTS}
            statement = statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=values)
            compiled = statement.compile(dialect=self._engine.dialect)
            assert compiled.positiontup in (None, table.columns.keys()), "nothing but the row is a parameter"
            found = self._texts[table.name, add] = str(compiled), compiled.positiontup is None
        return found

    def _draft(self, connection: Connection, batch: Batch, sealed: int) -> None:
        """Add what was counted to the open windows. A window that is sealed takes nothing more: the next one does."""
        added: dict[tuple[int, int], list[int]] = {}
        ids = self._ids(connection, {account for of in batch.rows.values() for account in of})
        for start, of in batch.rows.items():
            for account, counts in of.items():
                place = (max(start, sealed), ids[account])
                before = added.get(place)
                added[place] = counts if before is None else [a + b for a, b in zip(before, counts, strict=True)]
        rows = [(self._gate, *place, *counts) for place, counts in added.items()]
        self._upsert(connection, DRAFTS, rows, add=True)

    def _ids(self, connection: Connection, accounts: set[Account]) -> dict[Account, int]:
        """Return the numbers of accounts, and make those that are new."""
        names = ACCOUNTS.columns.keys()[1:]
        columns = [ACCOUNTS.c[name] for name in names]
        new = sorted((app, labels, *destination) for app, labels, destination in accounts - self._accounts.keys())
        for place in range(0, len(new), _CHUNK):
            some = new[place : place + _CHUNK]
            statement = self._dialect.insert(ACCOUNTS).on_conflict_do_nothing()
            connection.execute(statement, [dict(zip(names, each, strict=True)) for each in some])
            for id, app, labels, *rest in connection.execute(
                select(ACCOUNTS.c.id, *columns).where(tuple_(*columns).in_(some))
            ):
                account = (app, labels, Destination(*rest))
                self._accounts[account] = id
                self._new.append(account)
        return self._accounts

    def _remember(self, connection: Connection, open: dict[Key, Totals]) -> None:
        gate = self._gate
        rows = [(gate, *key, *totals) for key, totals in open.items()]  # all that is busy, every few seconds
        self._upsert(connection, BASELINES, rows, add=False)

    def _forget(self, connection: Connection, keys: Iterable[Key]) -> None:
        listed = [tuple(key) for key in keys]
        for place in range(0, len(listed), _CHUNK):
            some = tuple_(BASELINES.c.id, BASELINES.c.dial).in_(listed[place : place + _CHUNK])
            connection.execute(delete(BASELINES).where(BASELINES.c.gate == self._gate, some))

    def _seal(self, connection: Connection, before: int, at: float) -> None:
        """Make windows of the drafts that ended before a moment, and say that there will be no more of them."""
        due = and_(DRAFTS.c.gate == self._gate, DRAFTS.c.start < before)
        columns = [DRAFTS.c[name] for name in COUNTS]
        sums = connection.execute(select(func.count(), *map(func.sum, columns)).where(due)).one()
        number = (connection.scalar(select(GATES.c.sealings).where(GATES.c.id == self._gate)) or 0) + bool(sums[0])
        if sums[0]:
            away = and_(
                GAPS.c.gate == self._gate, GAPS.c.since < DRAFTS.c.start + WINDOW, GAPS.c.until >= DRAFTS.c.start
            )
            complete = case((select(GAPS.c.id).where(away).exists(), False), else_=True)
            names = ["start", "account", "gate", "sealing", "complete", *COUNTS]
            rows = select(DRAFTS.c.start, DRAFTS.c.account, DRAFTS.c.gate, literal(number), complete, *columns)
            connection.execute(insert(WINDOWS).from_select(names, rows.where(due)))
            for table, unit in ((schema.HOURS, HOUR), (schema.DAYS, DAY)):
                self._sum_up(connection, table, unit, due)
            counts = {name: int(count) for name, count in zip(COUNTS, sums[1:], strict=True)}
            connection.execute(
                insert(SEALINGS).values(
                    gate=self._gate, number=number, before=before, at=at, run=self._run, windows=sums[0], **counts
                )
            )
            connection.execute(delete(DRAFTS).where(due))
        connection.execute(update(GATES).where(GATES.c.id == self._gate).values(sealed=before, sealings=number))

    def _sum_up(self, connection: Connection, table: Table, unit: int, due: Any) -> None:
        begin = DRAFTS.c.start - DRAFTS.c.start % unit
        columns = [func.sum(DRAFTS.c[name]) for name in COUNTS]
        rows = connection.execute(
            select(begin, DRAFTS.c.account, *columns)
            .where(due)
            .group_by(begin, DRAFTS.c.account)
            .order_by(begin, DRAFTS.c.account)
        )
        self._upsert(connection, table, [tuple(map(int, row)) for row in rows], add=True)


def _key(text: str) -> Key:
    id, _, dial = text.partition(".")
    return Key(int(id), int(dial))


def _id(made: CursorResult[Any]) -> int:
    """Return the number of the row that was just made."""
    key = made.inserted_primary_key
    assert key is not None
    return int(key[0])
