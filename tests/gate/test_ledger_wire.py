"""Bytes on the wire in the ledger: what is exact, what is an estimate, and what comes after the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import select, text

from outgate.core.bill.tally import Counts
from outgate.gate.ledger import checking
from outgate.gate.ledger.batch import Key, OnWire
from outgate.gate.ledger.ledger import FLUSH, Ledger
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
        self.now = 0.0
        self.later: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def call_later(self, seconds: float, call: Callable[..., object], *arguments: object) -> Handle:
        """Take note of it."""
        self.later.append((self.now + seconds, call, arguments))
        return Handle(self, call)

    def call_soon(self, call: Callable[..., object], *arguments: object) -> Handle:
        """Take note of it."""
        return self.call_later(0, call, *arguments)

    def pass_time(self, seconds: float) -> None:
        """Call what is due by then, in order."""
        until = self.now + seconds
        while due := sorted((each for each in self.later if each[0] <= until), key=lambda each: each[0]):
            self.later.remove(due[0])
            self.now, call, arguments = due[0]
            call(*arguments)
        self.now = until


class Handle(NamedTuple):
    """A call that was noted."""

    loop: Loop
    call: Callable[..., object]

    def cancel(self) -> None:
        """Forget it."""
        self.loop.later = [each for each in self.loop.later if each[1] != self.call]


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
    books.loop.pass_time(FLUSH)
    assert books.booked() == (100, 100, 150, 140, 290)
    sock.on_wire = OnWire(170, 150, is_exact=True, grows=True)
    books.loop.pass_time(FLUSH)
    assert books.booked() == (100, 100, 170, 150, 320)
    sock.on_wire = OnWire(222, 202, is_exact=True)
    books.loop.pass_time(FLUSH)
    assert books.booked() == (100, 100, 222, 202, 424)
    sock.on_wire = OnWire(999, 999, is_exact=True)  # of another one with this cookie: it is not asked for any more
    books.loop.pass_time(2 * FLUSH)
    assert books.booked() == (100, 100, 222, 202, 424)
    with Reader.open(books.url) as reader:
        assert reader.connection.execute(select(BASELINES)).all() == [], "an end stays an end"


def test_many_that_have_ended_are_asked_in_turns_of_the_loop(books: Books) -> None:
    """Some hundred at once, each once, and those that go on again a second later."""
    asked: list[int] = []

    class Asked(Sock):
        def wire(self) -> OnWire:
            asked.append(self.id)
            return super().wire()

    for id in range(1, 602):
        sock = Asked(id, OnWire(150, 140, is_exact=True, grows=True))
        books.enter(sock)
        books.ledger.end(id)
        sock.on_wire = OnWire(200, 150, is_exact=True, grows=id == 7)
    asked.clear()
    books.loop.pass_time(0.99)
    assert asked == []
    _, begin, _ = min(books.loop.later, key=lambda each: each[0])
    begin()
    assert asked == [*range(1, 251)]
    books.loop.later = [each for each in books.loop.later if each[1] != begin]
    books.loop.pass_time(0.5)
    assert asked == [*range(1, 602)]
    books.loop.pass_time(1)
    assert asked == [*range(1, 602), 7]
    books.ledger.close()
    assert books.booked() == (60_100, 60_100, 601 * 200, 601 * 150, 601 * 350)


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
        books.loop.pass_time(2 * FLUSH)
    assert books.booked() == (200, 200, 300, 280, 580)


def test_an_estimate_is_never_less_than_what_was_carried(books: Books) -> None:
    """Where a connection cannot be asked any more, its own bytes have been on the wire at least; that is no count."""
    for wire in (OnWire(40, 30), None):
        sock = Sock(1, wire)
        books.enter(sock)
        books.ledger.end(sock.id)
    books.loop.pass_time(FLUSH)
    assert books.booked() == (200, 200, 200, 200, 0)


def test_a_connection_that_is_counted_no_more_goes_on_as_an_estimate(url: str) -> None:
    """The gate after a killed one may not find the counters; what was exact stays so, and what is added is not."""
    first = Books(url)
    sock = Sock(1, OnWire(1000, 900, is_exact=True, grows=True))
    first.enter(sock)
    first.loop.pass_time(12 * FLUSH)
    assert first.booked() == (100, 100, 1000, 900, 1900)
    first.writer.engine.dispose()
    second = Books(url, "two")
    sock.on_wire = OnWire(1500, 950)
    second.enter(sock, 0)
    second.ledger.end(sock.id)
    second.loop.pass_time(FLUSH)
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
