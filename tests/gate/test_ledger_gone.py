"""A database that is gone for an hour of a fake clock, while a gate counts, dies and comes again: no byte is lost."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from gate.test_ledger_writer import Away, Told, hurried, put  # noqa: F401  # hurried is a fixture
from outgate.core.bill.windows import WINDOW
from outgate.gate.ledger import checking, spool
from outgate.gate.ledger.batch import Key, OnWire, Totals
from outgate.gate.ledger.ledger import FLUSH, Ledger
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import BASELINES, DRAFTS, WINDOWS
from outgate.gate.ledger.store import connect
from outgate.gate.ledger.writer import Identity, Writer
from support.ledger import account, batch, die_at, quick

pytestmark = pytest.mark.usefixtures("closed_databases")

#: The beginning of a window.
T0 = 1_795_392_000
HOUR = 3600
A = account()


@dataclass
class Sock:
    """A socket whose meter the gate's state file always has; the gate may die, it lives on."""

    id: int
    noted_sent: int = 0
    noted_received: int = 0

    def wire(self) -> OnWire:
        """Return what it put on the wire."""
        return OnWire(self.noted_sent, self.noted_received)


class Life:
    """The gates of one name, one after the other, on a clock of our own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder / 'ledger.sqlite'}"
        self.now = 0.0
        self._base = time.monotonic()
        self.runs = 0
        self.socks: list[Sock] = []
        self.moved: dict[int, int] = {}
        self.dead: list[Writer] = []
        self.away = Away()
        self.start()

    def start(self) -> None:
        """Start a gate; what sockets have moved before, it is not told of as growth."""
        self.runs += 1
        self.told = Told()
        place = self.folder / f"state{self.runs}"
        place.mkdir(exist_ok=True)
        who = Identity("gate", f"run{self.runs}", self.url)
        self.writer = Writer(self.url, who, str(place), self.told, self.wall, connect=self.away)
        self.ledger = Ledger(self.writer, HOUR, True, self.wall, lambda: self._base + self.now)
        self.ledger.begin(20)
        self.ledger.keep_only(Key(sock.id, 1) for sock in self.socks)

    def wall(self) -> float:
        """Return what the clock shows."""
        return T0 + self.now

    def open(self) -> Sock:
        """Have a program connect."""
        self.socks.append(Sock(self.runs * 100 + len(self.socks)))
        return self.socks[-1]

    def move(self, sock: Sock, count: int) -> None:
        """Have bytes travel, and the meters read."""
        sock.noted_sent += count
        sock.noted_received += 2 * count
        window = int(self.wall()) // WINDOW * WINDOW
        self.moved[window] = self.moved.get(window, 0) + count
        for unknown, out, back in self.ledger.add([(sock, count, 2 * count)]):
            self.ledger.enter(Key(sock.id, 1), unknown, A, sock.wire, out, back)

    def close(self, sock: Sock) -> None:
        """Have the program close it."""
        if not self.ledger.knows(sock.id) and sock.noted_sent:
            self.ledger.enter(Key(sock.id, 1), sock, A, sock.wire)
        if self.ledger.knows(sock.id):
            self.ledger.end(sock.id)
        self.socks.remove(sock)

    def work(self, seconds: float, every: Callable[[int], None] | None = None) -> None:
        """Let time pass, with bytes on all sockets, and a batch every five seconds."""
        for turn in range(int(seconds / FLUSH)):
            for sock in self.socks:
                self.move(sock, 1000 + sock.id + turn)
            if every is not None:
                every(turn)
            self.now += FLUSH
            self.ledger.flush()

    def kill(self) -> None:
        """Have the gate end without a word: what is on the disk by now is all that the next one has."""
        self.dead.append(self.writer)
        before = self.folder / f"state{self.runs}"
        shutil.copytree(before, self.folder / f"state{self.runs + 1}", ignore=shutil.ignore_patterns("*.new"))
        self.away = Away()  # the dead one's never comes back
        self.away.mode = "away"
        self.start()

    def lose(self) -> None:
        """Have the database go away, and wait until that is known."""
        self.away.mode = "away"
        self.work(FLUSH)
        self.told.wait_for("ledger-failed")
        self.writer.failing = self._base + self.now  # by our clock

    def come_back(self) -> None:
        """Have the database be there again, with everything that waited."""
        self.away.mode = ""
        self.told.wait_for("ledger-back")

    def finish(self) -> None:
        """Close what is open and the gate with it."""
        for sock in list(self.socks):
            self.close(sock)
        assert self.ledger.close("stopped", 20)
        for writer in self.dead:
            assert not writer.close("stopped", 20)

    def booked(self) -> dict[int, int]:
        """Return what the ledger has, by windows."""
        with Reader.open(self.url) as reader:
            assert list(checking.differences(reader.connection)) == []
            assert reader.connection.execute(select(BASELINES)).all() == []
            found: dict[int, int] = {}
            for table in (WINDOWS, DRAFTS):
                for row in reader.connection.execute(select(table)):
                    assert row.received == 2 * row.sent
                    found[row.start] = found.get(row.start, 0) + row.sent
        return found


def test_gone_for_an_hour(tmp_path: Path) -> None:
    """Every byte of the hour is in the window in which it moved, though the database takes all of it in one batch.

    Opens go on for the hour of grace, and not after it; what is kept meanwhile is a row a window, whatever moves.
    """
    life = Life(tmp_path)
    kept, short = life.open(), []

    def some_are_short(turn: int) -> None:
        if turn % 7 == 0:
            short.append(life.open())
        elif turn % 7 == 3 and short:
            life.close(short.pop())

    life.work(600, some_are_short)
    life.lose()
    life.work(HOUR - 60, some_are_short)
    assert not life.ledger.refuses
    assert life.writer.waiting <= 5 * len(set(life.moved))
    life.work(120)
    assert life.ledger.refuses
    life.come_back()
    assert not life.ledger.refuses
    life.work(300, some_are_short)
    assert kept in life.socks
    life.finish()
    assert life.booked() == life.moved
    assert spool.leftovers(str(tmp_path / "state1"), "") == []


@pytest.mark.parametrize("when", [0, 5, 600])
def test_gone_for_an_hour_in_which_the_gate_dies(tmp_path: Path, when: int) -> None:
    """A gate that is killed while its database is away, and followed by one that finds it away, loses no byte.

    What the first had noted and not put beside the database yet is counted when it is back, of sockets that live and of
    those that ended meanwhile.
    """
    life = Life(tmp_path)
    _, idle, other = life.open(), life.open(), life.open()
    life.work(300)
    life.socks.remove(idle)  # it moves nothing for a while
    life.lose()
    life.work(when)
    life.socks.append(idle)
    for sock in life.socks:
        life.move(sock, 77)  # noted, and in no batch yet
    life.kill()
    life.close(other)  # the next gate has read no byte of it
    life.work(1800)
    life.close(idle)
    life.come_back()
    life.work(60)
    life.finish()
    assert sum(life.booked().values()) == sum(life.moved.values())


def _killed_at(number: int, url: str, folder: Path) -> bool:
    """Be a gate that takes in what was left, in a process that is killed on the way; return whether it was."""
    child = os.fork()
    if child == 0:
        try:
            engine = quick(connect(url))
            event = die_at(number, engine)
            remove = spool.remove

            def removed(path: str) -> None:
                event()
                remove(path)
                event()

            spool.remove = removed
            writer = Writer(
                url, Identity("gate", "two", url), str(folder), Told(), lambda: T0, connect=lambda _: engine
            )
            writer.wait(20)
            put(writer, 9)
            writer.close("stopped", 20)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_at_each_write_while_what_was_left_is_taken_in(tmp_path: Path) -> None:
    """Of batches that a gate left beside its database each is booked once, wherever the gate that books them is killed.

    The database has the first of them already: the one that left them died before it heard of that.
    """
    number, was_killed = 0, True
    while was_killed:
        folder = tmp_path / str(number)
        folder.mkdir()
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        first = Writer(url, Identity("gate", "one", url), str(folder), Told(), lambda: T0)
        put(first, 5)
        assert first.close("handed-over", 20)
        with connect(url).begin() as ledger:
            ledger.exec_driver_sql("UPDATE runs SET ended = NULL, how = NULL")  # as of one that was killed
        left = [
            batch(at, T0 + at, {T0: {A: [sent, 0, 0, 0, 0]}}, open={Key(1, 1): Totals(total, 0, 0, 0)})
            for at, sent, total in ((1, 5, 5), (2, 50, 55), (3, 500, 555))
        ]
        spool.save(spool.path_of(str(folder), "one"), spool.Spooled("gate", "one", url, T0, left))
        was_killed = _killed_at(number, url, folder)
        last = Writer(url, Identity("gate", "three", url), str(folder), Told(), lambda: T0)
        begun = last.wait(20)
        assert begun is not None
        assert begun.open[Key(1, 1)].sent in (555, 9)  # the second's own says 9, where it came to that
        assert last.close("stopped", 20)
        with Reader.open(url) as reader:
            assert list(checking.differences(reader.connection)) == []
            assert checking.of_run(reader.connection, "gate", "one") == (555, 0)
            assert checking.by_app(reader.connection)["blog"][0] in (555, 564)
        assert spool.leftovers(str(folder), "") == []
        number += 1
    assert number > 30
