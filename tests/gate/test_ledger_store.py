"""The store takes each batch once, whatever statement it is killed at, and sealed windows never change."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError

from outgate.core.bill.windows import WINDOW, Slice
from outgate.errors import ConfigError
from outgate.gate.ledger import checking, schema
from outgate.gate.ledger.batch import Batch, Key, Totals
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import BASELINES, DRAFTS, GATES, RUNS, WINDOWS
from outgate.gate.ledger.store import Fenced, Store, connect
from support.ledger import DB, WEB, account, batch, die_at, quick

pytestmark = pytest.mark.usefixtures("closed_databases")

T0 = 1_795_392_000
A, B = account("blog"), account("mail", "job=17", DB)


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger that is not there yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


def begun(url: str, run: str = "one", now: float = T0, gate: str = "gate") -> Store:
    """Return a store whose run has begun."""
    store = Store(quick(connect(url)), gate, run)
    store.begin(now)
    return store


def held(url: str) -> dict[tuple[int, str], int]:
    """Return the bytes sent of every window and app, sealed or not."""
    with Reader.open(url) as reader:
        assert list(checking.differences(reader.connection)) == []
        accounts = reader.accounts()
        rows = [row for table in (WINDOWS, DRAFTS) for row in reader.connection.execute(select(table))]
    found: dict[tuple[int, str], int] = {}
    for row in rows:
        key = (row.start, accounts[row.account][0])
        found[key] = found.get(key, 0) + row.sent
    return found


BATCHES: list[Batch] = [
    batch(1, T0 + 5, {T0: {A: [100, 1, 150, 2, 0], B: [7, 0, 9, 0, 9]}}, open={Key(1, 1): Totals(100, 1, 150, 2)}),
    batch(2, T0 + 10, {T0: {A: [11, 0, 11, 0, 0]}}, T0, open={Key(1, 1): Totals(111, 1, 161, 2)}),
    batch(3, T0 + WINDOW + 5, {T0: {B: [1, 1, 1, 1, 0]}, T0 + WINDOW: {A: [1000, 0, 1000, 0, 0]}}, T0 + WINDOW),
    batch(
        4,
        T0 + 2 * WINDOW,
        {T0: {A: [5, 0, 5, 0, 0]}},
        T0 + 2 * WINDOW,
        ended=frozenset({Key(1, 1)}),
        forget=frozenset({Key(1, 1)}),
    ),
]
TABLES = {"drafts", "windows", "hours", "days", "sealings", "gaps", "baselines"}
#: What they come to. The last one's bytes are of a window that is sealed by then: they go to the next.
EXPECTED = {(T0, "blog"): 111, (T0, "mail"): 8, (T0 + WINDOW, "blog"): 1005}


def test_batches_become_windows(url: str) -> None:
    """Drafts are windows when their time has come, each byte in one, and what comes late goes to the next."""
    store = begun(url)
    assert [store.write(each) for each in BATCHES] == [True] * 4
    store.close()
    assert held(url) == EXPECTED
    with Reader.open(url) as reader:
        assert reader.connection.execute(select(DRAFTS)).all() == []
        assert reader.connection.execute(select(BASELINES)).all() == []
        assert reader.extent()[:3] == (T0, T0 + 2 * WINDOW, T0 + 2 * WINDOW)


def test_a_batch_counts_once(url: str) -> None:
    """A batch that is written again, because its answer was lost, changes nothing; one that is missing is noticed."""
    store = begun(url)
    assert store.write(BATCHES[0])
    assert not store.write(BATCHES[0])
    with pytest.raises(Fenced, match="missing"):
        store.write(BATCHES[2])
    store.close()
    assert held(url) == {(T0, "blog"): 100, (T0, "mail"): 7}


def test_the_watermark_never_goes_back(url: str) -> None:
    """A batch that would seal less than is sealed, after a clock was set back, unseals nothing."""
    store = begun(url)
    store.write(BATCHES[0]._replace(seal=T0 + 4 * WINDOW))
    store.write(BATCHES[1]._replace(seal=T0))
    store.close()
    assert held(url) == {(T0, "blog"): 100, (T0, "mail"): 7, (T0 + 4 * WINDOW, "blog"): 11}
    with Reader.open(url) as reader:
        assert reader.extent().sealed == T0 + 4 * WINDOW


def killed_at(number: int, url: str, batches: list[Batch], gate: str = "gate") -> bool:
    """Begin and write in a process that is killed on the way; return whether it was."""
    child = os.fork()
    if child == 0:
        try:
            engine = quick(connect(url))
            die_at(number, engine)
            store = Store(engine, gate, "one")
            store.begin(T0)
            for each in batches:
                store.write(each)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_kill_at_any_statement_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    """Killed at each statement and commit in turn, the next run finds whole batches, and with the rest all is there."""
    made = tmp_path / "made.sqlite"
    begun(f"sqlite:///{made}").close()
    number, was_killed = 0, True
    while was_killed:
        path = shutil.copy(made, tmp_path / f"{number}.sqlite")
        url = f"sqlite:///{path}"
        was_killed = killed_at(number, url, BATCHES)
        with closing(sqlite3.connect(path)) as raw:
            sealed = set(raw.execute("SELECT * FROM windows"))
            done = raw.execute("SELECT batch FROM runs").fetchone()[0]
            known = raw.execute("SELECT sent FROM baselines").fetchall()
        assert known == [[], [(100,)], [(111,)], [(111,)], []][done]
        store = begun(url, "two", T0 + 3 * WINDOW)
        for count, each in enumerate(BATCHES[done:], 1):
            store.write(each._replace(number=count))
        store.close()
        assert held(url) == EXPECTED
        with closing(sqlite3.connect(path)) as raw:
            assert sealed <= set(raw.execute("SELECT * FROM windows"))
            since = (T0, T0 + 5, T0 + 10, T0 + 905, T0 + 1800)[done]
            assert raw.execute("SELECT how, since FROM gaps").fetchall() == [("crashed", since)]
        number += 1
    assert done == 4
    assert number > 40


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_kill_while_the_ledger_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    """Killed at each statement that makes the tables, there is no ledger or all of it, and the next run begins."""
    number, was_killed = 0, True
    while was_killed:
        path = tmp_path / f"{number}.sqlite"
        was_killed = killed_at(number, f"sqlite:///{path}", [])
        with closing(sqlite3.connect(path)) as raw:
            tables = {row[0] for row in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables in (set(), {"meta", "gates", "runs", "accounts", *TABLES})
        store = begun(f"sqlite:///{path}", "two")
        store.write(BATCHES[0])
        store.close()
        assert held(f"sqlite:///{path}") == {(T0, "blog"): 100, (T0, "mail"): 7}
        number += 1
    assert number > 20


def test_what_ended_is_known_until_the_next_batch(url: str) -> None:
    """A run that is killed before its first batch has not made the next forget what ended in the last one."""
    store = begun(url)
    store.write(BATCHES[0])
    store.write(batch(2, T0 + 10, ended=frozenset({Key(7, 1)})))
    store.close()
    begun(url, "two").close()
    third = Store(connect(url), "gate", "three")
    assert third.begin(T0 + 20).ended == {Key(7, 1)}
    third.write(batch(1, T0 + 30))
    third.close()
    fourth = Store(connect(url), "gate", "four")
    assert fourth.begin(T0 + 40).ended == frozenset()
    fourth.close()


def test_windows_of_a_crash_are_marked(url: str) -> None:
    """Windows in which the gate was away without a word are incomplete; those before and after are not."""
    store = begun(url)
    store.write(BATCHES[0])
    store.close()
    again = begun(url, "two", T0 + 3 * WINDOW + 1)
    late = T0 + 4 * WINDOW
    again.write(batch(1, late + 5, {T0 + 3 * WINDOW: {A: [1, 0, 0, 0, 0]}, late: {A: [2, 0, 0, 0, 0]}}, late + WINDOW))
    again.close()
    with Reader.open(url) as reader:
        rows = reader.connection.execute(select(WINDOWS.c.start, WINDOWS.c.complete)).all()
        assert {(row.start, row.complete) for row in rows} == {(T0, False), (T0 + 3 * WINDOW, False), (late, True)}
        assert [(gap.since, gap.until, gap.sockets) for gap in reader.gaps(T0, late)] == [
            (T0 + 5, T0 + 3 * WINDOW + 1, 1)
        ]
        assert reader.gaps(late, late + WINDOW) == []


@pytest.mark.parametrize(("how", "marked"), [("handed-over", False), ("stopped", True)])
def test_a_gate_that_stops_with_sockets_open_leaves_a_gap(url: str, how: str, marked: bool) -> None:
    """A stop with direct connections open leaves them unwatched until the next gate; a hand-over does not."""
    store = begun(url)
    store.write(BATCHES[0])
    store.end(T0 + 6, how)
    found = Store(connect(url), "gate", "two").begin(T0 + 60)
    assert found.open == {Key(1, 1): Totals(100, 1, 150, 2)}
    assert found.lost == 0
    with Reader.open(url) as reader:
        assert bool(reader.gaps(T0, T0 + WINDOW)) == marked


def test_the_next_run_shuts_the_one_before_out(url: str) -> None:
    """A gate that another has followed under its name writes nothing more."""
    old, new = begun(url), begun(url, "two")
    with pytest.raises(Fenced, match="is over"):
        old.write(BATCHES[0])
    assert new.write(BATCHES[0])
    assert held(url) == {(T0, "blog"): 100, (T0, "mail"): 7}


def test_beginning_twice_is_beginning_once(url: str) -> None:
    """A run whose beginning was not answered begins again as itself, and leaves no gap."""
    begun(url)
    again = begun(url)
    assert again.write(BATCHES[0])
    with Reader.open(url) as reader:
        assert len(reader.connection.execute(select(RUNS)).all()) == 1
        assert reader.gaps(0, T0 * 2) == []


def test_several_gates_share_a_ledger(url: str) -> None:
    """Each gate has windows, sealings and a watermark of its own; final is what all have sealed."""
    one, other = begun(url), begun(url, "one", gate="other")
    one.write(BATCHES[0]._replace(seal=T0 + WINDOW))
    other.write(BATCHES[0]._replace(seal=T0))
    one.close()
    other.close()
    assert held(url) == {(T0, "blog"): 200, (T0, "mail"): 14}
    with Reader.open(url) as reader:
        assert reader.extent().sealed == T0


@pytest.mark.parametrize(
    "statement",
    ["UPDATE windows SET sent = 0", "DELETE FROM windows", "UPDATE sealings SET at = 0", "DELETE FROM sealings"],
)
def test_the_database_holds_what_is_sealed(url: str, statement: str) -> None:
    """Sealed windows and sealings can be neither changed nor deleted, by whoever writes SQL."""
    store = begun(url)
    store.write(BATCHES[0]._replace(seal=T0 + WINDOW))
    with pytest.raises(DBAPIError, match="append-only"), connect(url).begin() as connection:
        connection.execute(text(statement))


def test_verify_names_what_was_altered(url: str) -> None:
    """Whoever gets round the triggers is found: sums, sealings and runs are each held against the windows."""
    store = begun(url)
    for each in BATCHES:
        store.write(each)
    store.close()
    with connect(url).begin() as connection:
        connection.execute(text("DROP TRIGGER windows_no_update"))
        connection.execute(text("UPDATE windows SET sent = sent - 1 WHERE sent = 111"))
        connection.execute(text("UPDATE gates SET sealings = 3"))
        connection.execute(text("INSERT INTO drafts VALUES (1, 0, 1, 0, 0, 0, 0, 0)"))
    with Reader.open(url) as reader:
        found = list(checking.differences(reader.connection))
    assert [
        part
        for part in (
            "sealing 1 says",
            "has counted",
            "hours: 1 sums",
            "days: 1 sums",
            "[3] are missing",
            "1 drafts are",
        )
        if not any(part in each for each in found)
    ] == []


def test_a_newer_ledger_is_not_opened(url: str) -> None:
    """A ledger of a newer outgate is refused, to write and to read, and says what to do; nothing in it changes."""
    begun(url).close()
    with connect(url).begin() as connection:
        connection.execute(text("UPDATE meta SET value = '99' WHERE key = 'version'"))
    for act in (lambda: begun(url, "two"), lambda: Reader.open(url).__enter__()):
        with pytest.raises(ConfigError, match="version 99, newer than this outgate reads, which is 2; upgrade outgate"):
            act()


def test_migrations_run_once_and_in_order(url: str) -> None:
    """A ledger is brought up step by step, and a step that fails leaves it as it was."""
    begun(url).close()
    ran: list[int] = []

    def step(number: int) -> Callable[[Connection], None]:
        def run(connection: Connection) -> None:
            ran.append(number)
            connection.execute(text(f"ALTER TABLE gaps ADD COLUMN new{number} INTEGER"))
            if number == newest + 3:
                raise RuntimeError

        return run

    newest = schema.VERSION
    steps = {number: step(number) for number in range(1, newest + 3)}
    engine = connect(url)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        schema.migrate(connection, {**steps, newest + 3: step(newest + 3)})
    assert ran == [newest + 1, newest + 2, newest + 3]
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT value FROM meta")) == str(newest)
        schema.migrate(connection, steps)
    assert ran[3:] == [newest + 1, newest + 2]
    with engine.begin() as connection:
        schema.migrate(connection, steps)
        assert connection.scalar(text("SELECT value FROM meta")) == str(newest + 2)
    assert len(ran) == 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://root@db/x", "mysql keeps no ledger"),
        ("nonsense", "is no URL"),
        ("sqlite://", "a ledger is a file"),
    ],
)
def test_other_databases_are_refused(url: str, said: str) -> None:
    """What is neither SQLite nor PostgreSQL is refused with what to write."""
    with pytest.raises(ConfigError, match=said):
        connect(url)


def test_reading_needs_a_ledger(tmp_path: Path) -> None:
    """Reading makes nothing: where there is no file, or another database's, it says so."""
    with pytest.raises(ConfigError, match="cannot be read"), Reader.open(f"sqlite:///{tmp_path / 'none'}"):
        pass
    with closing(sqlite3.connect(tmp_path / "empty")) as other:
        other.execute("CREATE TABLE x (y)")
    with pytest.raises(ConfigError, match="there is no ledger yet"), Reader.open(f"sqlite:///{tmp_path / 'empty'}"):
        pass
    assert not (tmp_path / "none").exists()


def test_odd_paths_are_paths(tmp_path: Path) -> None:
    """A file whose name has what means something in a URL is that file."""
    store = Store(connect("sqlite:///" + str(tmp_path / "a%3Fb%23c%25 d").replace(" ", "%20")), "g", "r")
    store.begin(T0)
    store.close()
    assert len(list(tmp_path.iterdir())) >= 1


def test_one_app_alone(url: str) -> None:
    """Usage of one app leaves the others out, and wire bytes travel along."""
    store = begun(url)
    store.write(BATCHES[0])
    with Reader.open(url) as reader:
        whole = [Slice("", None, T0, T0 + WINDOW)]
        assert [each.account for each in reader.used(whole)] == [A, B]
        assert [(each.account, each.counts) for each in reader.used(whole, "mail")] == [(B, (7, 0, 9, 0, 9))]
        assert reader.used([]) == []
        assert reader.connection.scalar(select(GATES.c.name)) == "gate"
    assert WEB != DB
