"""Define the ledger's tables, and bring the ledger of an older outgate up to them.

:data:`STEPS` is the history: step *n* makes version *n* of version *n-1*, in one transaction with the number. A step
that has been released is never changed. A ledger that is newer than this outgate is not opened.

Sealed windows and the list of sealings are append-only, and the database itself holds that: triggers refuse to change
or delete them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)

from outgate.core.bill.tally import Counts
from outgate.errors import ConfigError

__all__ = [
    "ACCOUNTS",
    "BASELINES",
    "COUNTS",
    "DAYS",
    "DRAFTS",
    "GAPS",
    "GATES",
    "HOURS",
    "META",
    "RUNS",
    "SEALINGS",
    "VERSION",
    "WINDOWS",
    "migrate",
    "show_as_newest",
    "version",
]

_TABLES: Final = MetaData()


#: The columns of what is counted, in this order: those of :class:`~outgate.core.bill.tally.Counts`.
COUNTS: Final = Counts._fields


def _counts() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False, default=0, server_default=text("0")) for name in COUNTS]


#: The version, under the key ``version``.
META: Final = Table(
    "meta", _TABLES, Column("key", String(32), primary_key=True), Column("value", String(200), nullable=False)
)
#: Every gate that writes here. ``sealed``: it counts no byte in a window before that moment any more ("complete
#: before"); ``sealings``: how many there have been.
GATES: Final = Table(
    "gates",
    _TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("sealed", BigInteger, nullable=False),
    Column("sealings", BigInteger, nullable=False),
)
#: Each time that a gate was started. ``batch`` is the last that was taken, at ``seen``, and ``closed`` are the
#: connections whose end was in it, or in the last of an earlier run; counts are of the whole run.
RUNS: Final = Table(
    "runs",
    _TABLES,
    Column("id", Integer, primary_key=True),
    Column("gate", Integer, nullable=False),
    Column("name", String(64), nullable=False),
    Column("began", Double, nullable=False),
    Column("seen", Double, nullable=False),
    Column("ended", Double),
    Column("how", String(32)),
    Column("batch", BigInteger, nullable=False),
    Column("closed", Text, nullable=False),
    *_counts(),
    UniqueConstraint("gate", "name"),
)
#: Who is charged for what.
ACCOUNTS: Final = Table(
    "accounts",
    _TABLES,
    Column("id", Integer, primary_key=True),
    Column("app", String(63), nullable=False),
    Column("labels", String(1024), nullable=False),
    Column("transport", String(3), nullable=False),
    Column("host", String(253), nullable=False),
    Column("port", Integer, nullable=False),
    Column("address", String(64), nullable=False),
    UniqueConstraint("app", "labels", "transport", "host", "port", "address"),
)
#: Windows that are still open.
DRAFTS: Final = Table(
    "drafts",
    _TABLES,
    Column("gate", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("account", Integer, primary_key=True, autoincrement=False),
    *_counts(),
    sqlite_with_rowid=False,
)
#: Windows that are sealed, one row per account. ``complete`` is false where the gate was away in the window, and what
#: sockets moved then that it never saw again is missing.
WINDOWS: Final = Table(
    "windows",
    _TABLES,
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("gate", Integer, primary_key=True, autoincrement=False),
    Column("sealing", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    *_counts(),
    Index("windows_by_sealing", "gate", "sealing"),
    sqlite_with_rowid=False,
)
#: Sums of sealed windows, by hours and days of UTC: made with them in one transaction, and can be made again from them.
HOURS, DAYS = (
    Table(
        name,
        _TABLES,
        Column("start", BigInteger, primary_key=True, autoincrement=False),
        Column("account", Integer, primary_key=True, autoincrement=False),
        *_counts(),
        sqlite_with_rowid=False,
    )
    for name in ("hours", "days")
)
#: Every sealing of a gate, numbered without holes: windows before ``before``, when, in which run, and what they hold.
SEALINGS: Final = Table(
    "sealings",
    _TABLES,
    Column("gate", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("before", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("run", Integer, nullable=False),
    Column("windows", BigInteger, nullable=False),
    *_counts(),
)
#: When a gate was away while sockets may have been moving bytes.
GAPS: Final = Table(
    "gaps",
    _TABLES,
    Column("id", Integer, primary_key=True),
    Column("gate", Integer, nullable=False),
    Column("since", Double, nullable=False),
    Column("until", Double, nullable=False),
    Column("how", String(32), nullable=False),
    Column("sockets", Integer, nullable=False),
)
#: Connections that are open, and how far they are counted in drafts and windows.
BASELINES: Final = Table(
    "baselines",
    _TABLES,
    Column("gate", Integer, primary_key=True, autoincrement=False),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("dial", Integer, primary_key=True, autoincrement=False),
    *_counts(),
)


def _first(connection: Connection) -> None:
    """Make the tables, and have the database hold what is append-only."""
    _TABLES.create_all(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(
            text(
                "CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
            )
        )
    for table in ("windows", "sealings"):
        if connection.dialect.name == "postgresql":
            connection.execute(
                text(
                    f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                    "FOR EACH ROW EXECUTE FUNCTION append_only()"
                )
            )
            continue
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                text(
                    f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
            )


def _second(connection: Connection) -> None:
    """Keep apart how much of what was on the wire is exact. Of what an older outgate has counted nothing is."""
    preparer = connection.dialect.identifier_preparer
    for table in _TABLES.tables.values():
        if "wire_exact" not in table.c or any(
            column["name"] == "wire_exact" for column in inspect(connection).get_columns(table.name)
        ):
            continue  # a ledger that was made just now
        name = preparer.format_table(table)
        connection.execute(text(f"ALTER TABLE {name} ADD COLUMN wire_exact BIGINT NOT NULL DEFAULT 0"))


#: Version → what makes it of the one before.
STEPS: Final[dict[int, Callable[[Connection], None]]] = {1: _first, 2: _second}
#: The version of this tree.
VERSION: Final = max(STEPS)


def version(connection: Connection, newest: int = VERSION) -> int:
    """Return the version of the ledger; 0 where there is none yet.

    :raises ConfigError: it is newer than this outgate reads.
    """
    found = 0
    if inspect(connection).has_table("meta"):
        found = int(connection.scalar(select(META.c.value).where(META.c.key == "version")) or 0)
    if found > newest:
        raise ConfigError(
            f"the ledger has version {found}, newer than this outgate reads, which is {newest}; upgrade outgate"
        )
    return found


def show_as_newest(connection: Connection, found: int) -> None:
    """Have a ledger of an older outgate look like one of this tree to who reads it, for as long as that lasts.

    It may be that of a gate that runs, or of a file that nobody may write: no table is touched.
    """
    if found >= 2:
        return
    is_sqlite = connection.dialect.name == "sqlite"
    own = "main" if is_sqlite else f'"{connection.scalar(select(func.current_schema()))}"'
    for table in _TABLES.tables.values():
        if "wire_exact" in table.c:
            # What is temporary is found before what is not, by both databases.
            made = f"CREATE TEMPORARY VIEW {table.name} AS SELECT *, 0 AS wire_exact FROM {own}.{table.name}"
            connection.execute(text(made))


def migrate(connection: Connection, steps: dict[int, Callable[[Connection], None]] | None = None) -> None:
    """Bring the ledger up to this version, within the transaction of ``connection``.

    :raises ConfigError: it is newer than this outgate reads.
    """
    steps = STEPS if steps is None else steps
    found = version(connection, max(steps))
    for number in range(found + 1, max(steps) + 1):
        steps[number](connection)
        if number == 1:
            connection.execute(insert(META).values(key="version", value="1"))
        else:
            connection.execute(update(META).where(META.c.key == "version").values(value=str(number)))
