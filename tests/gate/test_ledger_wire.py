"""Bytes on the wire in the ledger: what is exact, what is an estimate, and what comes after the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from outgate.core.bill.tally import Counts
from outgate.gate.ledger import checking
from outgate.gate.ledger.batch import Key, OnWire
from outgate.gate.ledger.ledger import Ledger
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import BASELINES, DRAFTS, VERSION, WINDOWS
from outgate.gate.ledger.store import Store, connect
from support.ledger import HandWriter, account, batch, quick

pytestmark = pytest.mark.usefixtures("closed_databases")

T0 = 1_795_392_000
A = account()


class Sock:
    """A connection that has moved 100 bytes each way, and what it has put on the wire."""

    noted_sent = noted_received = 100

    def __init__(self, id: int, wire: OnWire | None) -> None:
        self.id = id
        self.on_wire = wire

    def wire(self) -> OnWire:
        """Return that, as long as somebody knows."""
        if self.on_wire is None:
            raise OSError("closed")
        return self.on_wire


class Loop:
    """An event loop that is turned by hand."""

    def __init__(self) -> None:
        self.later: list[Callable[[], object]] = []

    def call_later(self, _seconds: float, call: Callable[[], object]) -> Loop:
        """Take note of it."""
        self.later.append(call)
        return self

    def cancel(self) -> None:
        """Do not call what was noted last."""
        self.later.clear()

    def turn(self, times: int) -> None:
        """Have so many batches taken."""
        for _ in range(times):
            self.later.pop()()


class Books:
    """A ledger on a loop of our own."""

    def __init__(self, url: str, run: str = "one") -> None:
        self.url = url
        self.writer = HandWriter(url, "gate", run, lambda: T0)
        self.ledger = Ledger(self.writer, clock=lambda: T0 + 1, monotonic=lambda: 1.0)  # type: ignore[arg-type]
        self.ledger.begin(0)
        self.loop = Loop()
        self.ledger.run(self.loop)  # type: ignore[arg-type]

    def enter(self, sock: Sock, new: int = 100) -> None:
        """Have a connection move something."""
        self.ledger.enter(Key(sock.id, 1), sock, A, sock.wire, new, new)

    def booked(self) -> Counts:
        """Return what the ledger has, which agrees with itself."""
        return booked(self.url)


def booked(url: str) -> Counts:
    """Return what a ledger has, which agrees with itself."""
    with Reader.open(url) as reader:
        assert list(checking.differences(reader.connection)) == []
        names = [DRAFTS.c[name] for name in Counts._fields]
        found = reader.connection.execute(select(*names)).all()
        found += reader.connection.execute(select(*(WINDOWS.c[name] for name in Counts._fields))).all()
    return Counts(*map(sum, zip(*found, strict=True)))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger that is not there yet."""
    return f"sqlite:///{tmp_path / 'ledger.sqlite'}"


@pytest.fixture
def books(url: str) -> Iterator[Books]:
    """One gate's."""
    made = Books(url)
    yield made
    made.writer.engine.dispose()


def test_what_comes_after_the_end_is_counted(books: Books) -> None:
    """What was still to be sent when the gate closed a connection, and its FIN, are looked for until it has ended."""
    sock = Sock(1, OnWire(150, 140, is_exact=True, grows=True))
    books.enter(sock)
    books.ledger.end(sock.id)
    books.loop.turn(1)
    assert books.booked() == (100, 100, 150, 140, 290)
    sock.on_wire = OnWire(170, 150, is_exact=True, grows=True)
    books.loop.turn(12)
    assert books.booked() == (100, 100, 170, 150, 320)
    sock.on_wire = OnWire(222, 202, is_exact=True)
    books.loop.turn(12)
    assert books.booked() == (100, 100, 222, 202, 424)
    sock.on_wire = OnWire(999, 999, is_exact=True)  # of another one with this cookie: it is not asked for any more
    books.loop.turn(24)
    assert books.booked() == (100, 100, 222, 202, 424)
    with Reader.open(books.url) as reader:
        assert reader.connection.execute(select(BASELINES)).all() == [], "an end stays an end"


def test_a_gate_that_ends_looks_once_more(books: Books) -> None:
    """What has come since the last look is booked with the last batch."""
    sock = Sock(1, OnWire(150, 140, is_exact=True, grows=True))
    books.enter(sock)
    books.ledger.end(sock.id)
    sock.on_wire = OnWire(202, 192, is_exact=True)
    books.ledger.close()
    assert books.booked() == (100, 100, 202, 192, 394)


def test_one_that_nobody_knows_any_more_is_left_as_it_was(books: Books) -> None:
    """The kernel remembers a bounded number of ended connections; what was counted of the others stands."""
    for gone in (None, OnWire(5000, 5000)):
        sock = Sock(1, OnWire(150, 140, is_exact=True, grows=True))
        books.enter(sock)
        books.ledger.end(sock.id)
        sock.on_wire = gone
        books.loop.turn(24)
    assert books.booked() == (200, 200, 300, 280, 580)


def test_an_estimate_is_never_less_than_what_was_carried(books: Books) -> None:
    """Where a connection cannot be asked any more, its own bytes have been on the wire at least; that is no count."""
    for wire in (OnWire(40, 30), None):
        sock = Sock(1, wire)
        books.enter(sock)
        books.ledger.end(sock.id)
    books.loop.turn(1)
    assert books.booked() == (200, 200, 200, 200, 0)


def test_a_connection_that_is_counted_no_more_goes_on_as_an_estimate(url: str) -> None:
    """The gate after a killed one may not find the counters; what was exact stays so, and what is added is not."""
    first = Books(url)
    sock = Sock(1, OnWire(1000, 900, is_exact=True, grows=True))
    first.enter(sock)
    first.loop.turn(12)
    assert first.booked() == (100, 100, 1000, 900, 1900)
    first.writer.engine.dispose()
    second = Books(url, "two")
    sock.on_wire = OnWire(1500, 950)
    second.enter(sock, 0)
    second.ledger.end(sock.id)
    second.loop.turn(1)
    assert second.booked() == (100, 100, 1500, 950, 1900)
    second.writer.engine.dispose()


def test_a_ledger_of_version_1_is_brought_up(url: str) -> None:
    """Nothing that an older outgate has counted on the wire is exact; what is booked from now on may be."""
    store = Store(quick(connect(url)), "gate", "one")
    store.begin(T0)
    store.write(batch(1, T0 + 5, {T0: {A: [1, 2, 30, 40, 70]}}))
    store.close()
    _make_version_1(url)
    store = Store(quick(connect(url)), "gate", "two")
    store.begin(T0 + 9)
    store.write(batch(1, T0 + 10, {T0: {A: [1, 1, 10, 10, 20]}}, T0 + 900))
    store.close()
    assert booked(url) == (2, 3, 40, 50, 20)
    assert VERSION == 2


def _make_version_1(url: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        tables: list[Any] = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).all()
        for (name,) in tables:
            columns = connection.execute(text(f"PRAGMA table_info({name})")).all()
            if any(column.name == "wire_exact" for column in columns):
                connection.execute(text(f"ALTER TABLE {name} DROP COLUMN wire_exact"))
        connection.execute(text("UPDATE meta SET value = '1' WHERE key = 'version'"))
    engine.dispose()
