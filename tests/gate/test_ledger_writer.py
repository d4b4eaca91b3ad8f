"""The writer's thread: what the database does not take is kept, bounded, and written once when it is back."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import OperationalError

from outgate.core.bill.windows import WINDOW
from outgate.errors import ConfigError
from outgate.gate.ledger import checking, spool
from outgate.gate.ledger import writer as writing
from outgate.gate.ledger.batch import Key, OnWire, Totals
from outgate.gate.ledger.ledger import Ledger
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import RUNS
from outgate.gate.ledger.store import connect
from outgate.gate.ledger.writer import Identity, Writer
from support.ledger import account, batch, quick

pytestmark = pytest.mark.usefixtures("closed_databases")

T0 = 1_795_392_000
A = account()


class Told:
    """The lines that the writer has for the log, to be waited for."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self._changed = threading.Condition()

    def __call__(self, name: str, /, **fields: Any) -> None:
        """Take a line."""
        with self._changed:
            self.lines.append((name, fields))
            self._changed.notify_all()

    def wait_for(self, name: str) -> dict[str, Any]:
        """Return the fields of the first line of that name."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(line[0] == name for line in self.lines), 20), self.lines
            return next(fields for line, fields in self.lines if line == name)


class Away:
    """A database that can be taken away, and that can lose the answer to a commit.

    :ivar mode: ``""``, ``away``, or ``answer``: the next commit is made, and its answer lost.
    """

    def __init__(self) -> None:
        self.mode = ""
        self.tried = threading.Semaphore(0)
        self.back = threading.Event()

    def __call__(self, url: str) -> Engine:
        """Return an engine that obeys."""
        engine = quick(connect(url))
        commit = engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            commit(connection)
            if self.mode == "answer":
                self.mode = ""
                raise sqlite3.OperationalError("the answer is lost")

        engine.dialect.do_commit = do_commit  # type: ignore[method-assign]
        event.listen(engine, "before_cursor_execute", self._refuse)
        return engine

    def _refuse(self, *_rest: Any) -> None:
        if self.mode == "away":
            self.tried.release()
            raise OperationalError("statement", {}, sqlite3.OperationalError("database or disk is full"))
        if self.mode == "hangs":
            self.tried.release()
            self.back.wait()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger that is not there yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it try again, and spool, without a pause."""
    monkeypatch.setattr(writing, "RETRY", 0.01)
    monkeypatch.setattr(writing, "SPOOL", 0.0)


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    """What starts writers, which are ended with the test."""
    made: list[Writer] = []

    def start(
        run: str = "one", told: Callable[..., None] = lambda *_, **__: None, url: str = url, **more: Any
    ) -> Writer:
        made.append(Writer(url, Identity("gate", run, url), str(tmp_path), told, lambda: T0, **more))
        return made[-1]

    yield start
    for writer in made:
        writer.close("stopped", 5)


def put(writer: Writer, sent: int, at: float = T0 + 1) -> None:
    """Hand over some bytes."""
    writer.put(at, T0, {T0: {A: [sent, 0, 0, 0, 0]}}, {Key(1, 1): Totals(sent, 0, 0, 0)}, set(), set())


def held(url: str) -> int:
    """Return the bytes that the ledger has, which must agree with itself."""
    with Reader.open(url) as reader:
        assert list(checking.differences(reader.connection)) == []
        return sum(sent for sent, _ in checking.by_app(reader.connection).values())


def test_what_was_put_is_there_when_it_has_closed(start: Callable[..., Writer], url: str) -> None:
    """Close writes what waits, ends the run, and says that the database has it all."""
    writer = start()
    for sent in (1, 10, 100):
        put(writer, sent)
    assert writer.close("stopped", 20)
    assert held(url) == 111
    with Reader.open(url) as reader:
        assert reader.connection.execute(select(RUNS.c.how)).all() == [("stopped",)]


def test_a_lost_answer_counts_nothing_twice(start: Callable[..., Writer], url: str) -> None:
    """A commit that was made and could not be answered is recognised by its number when it is tried again."""
    away, told = Away(), Told()
    writer = start(told=told, connect=away)
    writer.wait(20)
    away.mode = "answer"
    put(writer, 7)
    assert "answer is lost" in told.wait_for("ledger-failed")["reason"]
    told.wait_for("ledger-back")
    put(writer, 70)
    assert writer.close("stopped", 20)
    assert held(url) == 77


def test_a_database_that_was_away_gets_everything(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """While the disk is full batches add up, in the spool too; when it is not, all of it is written, once."""
    away, told = Away(), Told()
    writer = start(told=told, connect=away)
    writer.wait(20)
    away.mode = "away"
    put(writer, 1)
    assert told.wait_for("ledger-failed") == {"reason": "database or disk is full", "ledger": url}
    for _ in range(100):
        put(writer, 1)
    for _ in range(3):  # at the third attempt what failed before is in the spool
        away.tried.acquire()
    assert writer.waiting <= 2
    assert writer.why == "database or disk is full"
    assert spool.path_of(str(tmp_path), "one") in [str(path) for path in tmp_path.iterdir()]
    away.mode = ""
    told.wait_for("ledger-back")
    assert writer.close("stopped", 20)
    assert writer.failing is None
    assert held(url) == 101
    assert spool.leftovers(str(tmp_path), "") == []


def test_the_next_gate_writes_what_was_left(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """A gate that ends while the database is away leaves its bytes in the spool, and the next one books them first."""
    away, told = Away(), Told()
    writer = start(told=told, connect=away)
    put(writer, 5)
    writer.wait(20)
    away.mode = "away"
    put(writer, 50)
    told.wait_for("ledger-failed")
    assert not writer.close("stopped", 20)
    assert held(url) in (0, 5)
    told = Told()
    begun = start("two", told).wait(20)
    assert begun is not None
    assert begun.open == {Key(1, 1): Totals(50, 0, 0, 0)}
    told.wait_for("ledger-spool-taken")
    assert held(url) == 55
    assert spool.leftovers(str(tmp_path), "") == []


def test_a_database_that_hangs_at_the_end_loses_nothing(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """What the database does not answer for when a gate ends is in the spool; if it is booked after all, once."""
    away = Away()
    writer = start(connect=away)
    writer.wait(20)
    away.mode = "hangs"
    put(writer, 50)
    away.tried.acquire()
    assert not writer.close("stopped", 0.01)
    left = spool.load(spool.path_of(str(tmp_path), "one"))
    assert left is not None
    assert [each.rows for each in left.batches] == [{T0: {A: [50, 0, 0, 0, 0]}}]
    away.mode = ""
    away.back.set()
    assert writer.close("stopped", 20)
    assert held(url) == 50
    assert spool.leftovers(str(tmp_path), "") == []


def test_a_gate_that_never_reached_its_database_loses_nothing(start: Callable[..., Writer], url: str) -> None:
    """Bytes of a gate that ran and ended while the database was away are booked by the next one, as that run's."""
    away = Away()
    away.mode = "away"
    writer = start(connect=away)
    assert writer.wait(20) is None
    put(writer, 9)
    assert not writer.close("stopped", 20)
    assert start("two").wait(20) is not None
    assert held(url) == 9
    with Reader.open(url) as reader:
        assert reader.connection.execute(select(RUNS.c.name, RUNS.c.how)).all() == [("one", "spooled"), ("two", None)]


def test_a_spool_that_was_taken_already_counts_once(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """A spool of batches that the database has does no harm: they are known by their numbers."""
    writer = start()
    put(writer, 3)
    writer.close("stopped", 20)
    again = batch(1, T0 + 1, {T0: {A: [3, 0, 0, 0, 0]}})
    spool.save(spool.path_of(str(tmp_path), "one"), spool.Spooled("gate", "one", url, T0, [again]))
    start("two").wait(20)
    assert held(url) == 3


def test_a_spool_is_taken_to_its_own_ledger_alone(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """Its bytes are not counted in another one: what the first has taken of them nobody knows there."""
    writer = start()
    put(writer, 7)
    assert writer.close("stopped", 20)
    path = spool.path_of(str(tmp_path), "one")
    left = batch(1, T0 + 1, {T0: {A: [7, 0, 0, 0, 0]}})
    spool.save(path, spool.Spooled("gate", "one", url, T0, [left]))  # as of one that was killed before it heard of that
    other, told, away = f"sqlite:///{tmp_path / 'other.sqlite'}", Told(), Away()
    away.mode = "away"
    second = start("two", told, url=other, connect=away)
    for _ in range(3):
        away.tried.acquire()
    away.mode = ""
    told.wait_for("ledger-back")
    assert second.close("stopped", 20)
    assert (held(url), held(other)) == (7, 0)
    (kept,) = [fields["reason"] for name, fields in told.lines if name == "ledger-spool-kept"]
    assert kept.startswith(f"{path} has bytes for the ledger {url}, and this gate's is {other}: they are not booked")
    start("three", told).wait(20)
    told.wait_for("ledger-spool-taken")
    assert (held(url), os.path.exists(path)) == (7, False)


def test_a_spool_that_comes_too_late_is_put_aside(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """Where another run has begun since, it has counted what was open itself: the file is not booked, and said."""
    writer = start()
    put(writer, 7)
    assert writer.close("stopped", 20)
    writer = start("two")
    put(writer, 1)
    assert writer.close("stopped", 20)
    path = spool.path_of(str(tmp_path), "one")
    late = batch(2, T0 + 2, {T0: {A: [1, 0, 0, 0, 0]}}, open={Key(1, 1): Totals(8, 0, 0, 0)})
    spool.save(path, spool.Spooled("gate", "one", url, T0, [late]))
    told = Told()
    writer = start("three", told)
    put(writer, 10)
    assert writer.close("stopped", 20)
    reason = f"{path} is not booked: run one of gate gate is over; it is now {path}.late"
    assert told.lines == [("ledger-spool-late", {"reason": reason})]
    assert held(url) == 18
    assert [file.name for file in tmp_path.glob("*.spool*")] == ["ledger-one.spool.late"]


def test_what_is_put_while_the_spool_is_written_is_not_half_in_it(
    start: Callable[..., Writer], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows and totals in the spool are of one moment: were they not, the next gate would count bytes twice."""
    away, save, written = Away(), spool.save, threading.Semaphore(0)
    writer = start(connect=away)
    writer.wait(20)
    total = 0
    seen: list[tuple[int, int]] = []

    def put_one() -> None:
        nonlocal total
        total += 1
        writer.put(T0 + 1, T0, {T0: {A: [1, 0, 0, 0, 0]}}, {Key(1, 1): Totals(total, 0, 0, 0)}, set(), set())

    def save_slowly(path: str, left: spool.Spooled) -> None:
        put_one()  # the loop does not wait for the disk
        save(path, left)
        found = spool.load(path)
        assert found is not None
        seen.append((sum(each.rows[T0][A][0] for each in found.batches), found.batches[-1].open[Key(1, 1)].sent))
        written.release()

    monkeypatch.setattr(spool, "save", save_slowly)
    away.mode = "away"
    put_one()
    for _ in range(3):
        assert written.acquire(timeout=20)
    away.mode = ""
    assert writer.close("stopped", 20)
    assert seen[:3] == [(1, 1), (2, 2), (3, 3)]
    assert held(url) == total


def test_a_damaged_spool_is_put_aside(start: Callable[..., Writer], tmp_path: Path) -> None:
    """A file that is no spool is said and put aside, and the run begins."""
    path = spool.path_of(str(tmp_path), "zero")
    Path(path).write_text('{"version": 1, "gate"')
    told = Told()
    assert start(told=told).wait(20) is not None
    assert "is damaged" in told.wait_for("ledger-spool-damaged")["reason"]
    assert os.path.exists(path + ".damaged")


def test_a_spool_comes_back_as_it_was(tmp_path: Path) -> None:
    """What is spooled is read back the same, is only its owner's, and of a newer version is refused."""
    path = str(tmp_path / "new" / "x.spool")
    full = batch(
        4,
        T0 + 0.5,
        {T0: {A: [1, 2, 3, 4, 5]}},
        9,
        open={Key(1, 2): Totals(1, 2, 3, 4, 5)},
        ended=frozenset({Key(3, 1)}),
        forget=frozenset({Key(3, 1)}),
    )
    left = spool.Spooled("gate", "one", "sqlite:////l", 1.5, [full, batch(5, 6)])
    spool.save(path, left)
    assert spool.load(path) == left
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert spool.load(path + "x") is None
    plain = json.loads(Path(path).read_text())
    of_old = [row[:-1] for row in plain["batches"][0]["rows"]]
    batches = [{**plain["batches"][0], "rows": of_old, "open": [[1, 2, 1, 2, 3, 4]]}]
    Path(path).write_text(json.dumps({**plain, "version": 1, "batches": batches}))
    (found,) = (spool.load(path) or left).batches
    assert found == full._replace(rows={T0: {A: [1, 2, 3, 4, 0]}}, open={Key(1, 2): Totals(1, 2, 3, 4)})
    Path(path).write_text(json.dumps({**plain, "version": 3}))
    with pytest.raises(ValueError, match="newer than this outgate reads"):
        spool.load(path)


def test_a_locked_file_is_waited_for(start: Callable[..., Writer], url: str, tmp_path: Path) -> None:
    """While somebody else has the file locked nothing is lost, and what waits is written when it is free."""
    told = Told()
    writer = start(told=told, connect=lambda url: quick(_impatient(connect(url))))
    writer.wait(20)
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    put(writer, 8)
    assert "locked" in told.wait_for("ledger-failed")["reason"]
    other.execute("ROLLBACK")
    told.wait_for("ledger-back")
    other.close()
    assert writer.close("stopped", 20)
    assert held(url) == 8


def _impatient(engine: Engine) -> Engine:
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA busy_timeout = 1"))
    return engine


def test_a_ledger_that_cannot_be_used_says_so_at_once(start: Callable[..., Writer], url: str) -> None:
    """A ledger of a newer outgate is an error of the start, and nothing is tried again."""
    start().close("stopped", 20)
    with connect(url).begin() as connection:
        connection.execute(text("UPDATE meta SET value = '9' WHERE key = 'version'"))
    with pytest.raises(ConfigError, match="newer than this outgate"):
        start("two").wait(20)


def test_a_gate_that_was_followed_says_so(start: Callable[..., Writer], url: str) -> None:
    """A writer whose gate another has followed stops, and says why."""
    told = Told()
    old = start(told=told)
    old.wait(20)
    start("two").wait(20)
    put(old, 1)
    assert "is over" in told.wait_for("ledger-failed")["reason"]
    assert held(url) == 0


class Held:
    """A socket to the ledger."""

    noted_sent = noted_received = 0


@pytest.mark.parametrize(("is_strict", "after"), [(False, False), (True, True)])
def test_the_grace(start: Callable[..., Writer], is_strict: bool, after: bool) -> None:
    """Without its database a gate opens sockets for the grace; after that as it is told; and again when it is back."""
    away, told = Away(), Told()
    now = [0.0]
    writer = start(told=told, connect=away)
    ledger = Ledger(writer, 3600, is_strict, lambda: T0 + now[0], lambda: base + now[0])
    base = time.monotonic()
    ledger.begin(20)
    away.mode = "away"
    sock = Held()
    sock.noted_sent = 4
    ledger.enter(Key(1, 1), sock, A, lambda: OnWire(0, 0), 4, 0)
    ledger.flush()
    told.wait_for("ledger-failed")
    assert (ledger.refuses, ledger.why) == (False, "database or disk is full")
    now[0] = 3599
    assert not ledger.refuses
    now[0] = 3700
    assert ledger.refuses == after
    assert ledger.statistics()["failing"] > 3600
    away.mode = ""
    told.wait_for("ledger-back")
    assert (ledger.refuses, ledger.why) == (False, "")


def test_an_end_that_was_counted_is_not_counted_again(start: Callable[..., Writer], url: str) -> None:
    """The next gate tells ends that were in the last batch from those that were not, when it finds them unlogged."""
    first = Ledger(start(), clock=lambda: T0 + 5, monotonic=lambda: 5.0)
    first.begin(20)
    counted, lost = Held(), Held()
    counted.noted_sent = lost.noted_sent = 4
    first.enter(Key(1, 1), counted, A, lambda: OnWire(0, 0), 4, 0)
    first.end(1)
    first.flush()
    first._writer.close("stopped", 20)
    second = Ledger(start("two"), clock=lambda: T0 + 6, monotonic=lambda: 6.0)
    second.begin(20)
    for key, sock in ((Key(1, 1), counted), (Key(2, 1), lost)):
        second.enter(key, sock, A, lambda: OnWire(0, 0))
        second.end(key.id)
    second.close("stopped", 20)
    assert held(url) == 8


def test_a_finished_gate_seals_everything(start: Callable[..., Writer], url: str) -> None:
    """Where no gate of the name follows, the window that is open is sealed with the end."""
    writer = start()
    ledger = Ledger(writer, clock=lambda: T0 + 5, monotonic=lambda: 5.0)
    ledger.begin(20)
    sock = Held()
    sock.noted_sent = 4
    ledger.enter(Key(1, 1), sock, A, lambda: OnWire(10, 20), 4, 0)
    ledger.end(1)
    assert ledger.close("finished", 20)
    with Reader.open(url) as reader:
        assert reader.extent()[:3] == (T0, T0 + WINDOW, T0 + WINDOW)
    assert held(url) == 4
