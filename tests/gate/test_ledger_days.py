"""Days of a gate's ledger under a fake clock: every byte is in one window, whatever dies or is set wrong."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from sqlalchemy import select

from outgate.core.bill import statement
from outgate.core.bill.prices import read
from outgate.core.bill.tally import Account, Counts, Destination
from outgate.core.bill.windows import WINDOW, slices
from outgate.gate.ledger import checking
from outgate.gate.ledger.batch import Key, OnWire
from outgate.gate.ledger.ledger import Ledger
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import DRAFTS, GATES, WINDOWS
from support.ledger import Died, HandWriter

pytestmark = pytest.mark.usefixtures("closed_databases")

ACCOUNTS: list[Account] = [
    ("blog", "", Destination("tcp", "example.com", 443, "93.184.215.14")),
    ("blog", "job=17", Destination("tcp", "", 5432, "10.2.0.9")),
    ("mail", "", Destination("udp", "", 53, "9.9.9.9")),
]
#: Where a UDP socket sends to beside its first destination.
OTHERS: list[Account] = [
    ("mail", "", Destination("udp", "time.example.net", 123, "192.53.103.108")),
    ("mail", "", Destination("udp", "", 443, "93.184.215.14")),
]
#: Destination → bytes sent and received.
ByAccount = dict[Account, list[int]]
#: The evening before Berlin's clocks are set back: the day that follows has 25 hours.
BEGIN = datetime(2026, 10, 24, 20, 7, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
#: Which socket moves how much, each way.
MOVES = st.tuples(st.integers(0, 99), st.integers(0, 10**10), st.integers(0, 10**10))
SECONDS = st.one_of(st.integers(1, 100), st.integers(600, 4 * 3600))
WORK = st.lists(
    st.tuples(st.lists(MOVES, max_size=4), SECONDS, st.sampled_from(ACCOUNTS), st.sampled_from([0, 1, 2, 2, 2, 3])),
    min_size=1,
    max_size=5,
)
ZONES = [ZoneInfo(name) for name in ("Europe/Berlin", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe")]


def sums_of(shares: list[ByAccount]) -> ByAccount:
    """Add up."""
    sums: ByAccount = {}
    for share in shares:
        for account, counts in share.items():
            before = sums.get(account, [0, 0])
            sums[account] = [before[0] + counts[0], before[1] + counts[1]]
    return sums


def totals(shares: list[ByAccount]) -> list[int]:
    """Add up whatever the destination."""
    return [sum(counts[way] for share in shares for counts in share.values()) for way in (0, 1)]


@dataclass
class Sock:
    """A socket: what the kernel has counted, what the meters have noted, and what the ledger has counted of it.

    :ivar moved: of a UDP socket: what its destinations have moved since it was noted.
    :ivar past: the same of each time that it was noted.
    :ivar kept: how much of that the state file has, of one whose gate has died; ``None``: all.
    """

    id: int
    account: Account
    dial: int = 1
    kernel: list[int] = field(default_factory=lambda: [0, 0])
    noted_sent: int = 0
    noted_received: int = 0
    counted: list[int] = field(default_factory=lambda: [0, 0])
    durable: list[int] = field(default_factory=lambda: [0, 0])
    moved: ByAccount = field(default_factory=dict)
    past: list[ByAccount] = field(default_factory=list)
    kept: int | None = None

    @property
    def is_udp(self) -> bool:
        """Whether each datagram may have another destination, and the socket dies with its gate."""
        return self.account[2].transport == "udp"

    def move(self, sent: int, received: int) -> None:
        """Have bytes travel, of a UDP socket to and from a destination that the numbers say."""
        self.kernel[0] += sent
        self.kernel[1] += received
        to = [self.account, *OTHERS][(sent + received) % 3]
        self.moved = sums_of([self.moved, {to: [sent, received]}])

    def by_account(self, counts: list[int]) -> ByAccount:
        """Return whose these counts of the socket are, which have stood so when it was noted once."""
        if not self.is_udp:
            return {self.account: counts}
        left, upto = counts, 0
        while left != [0, 0]:
            more = totals(self.past[upto : upto + 1])
            left, upto = [left[0] - more[0], left[1] - more[1]], upto + 1
        return sums_of(self.past[:upto])


class Days(RuleBasedStateMachine):
    """The gate, with its meters and its state file, on a clock and a kernel of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite'}"
        self.wall, self.monotonic = BEGIN, 1000.0
        self.runs = 0
        self.socks: list[Sock] = []
        self.all: list[Sock] = []
        self.seen: dict[tuple[int, int], tuple[int, ...]] = {}
        self.sealed = 0
        self.gate: Ledger | None = None
        #: Closed since the last batch, and before it: their ends may be missing in the log when the gate is killed.
        self.ended: list[Sock] = []
        self.unlogged: list[Sock] = []
        self.start()

    def start(self, dies: int | None = None) -> None:
        """Start the gate: it takes up what is open, with what its state file says was noted.

        :param dies: at which statement of that it is killed.
        """
        self.runs += 1
        self.writer = HandWriter(self.url, "gate", f"run{self.runs}", lambda: self.wall, dies)
        clocks = {"clock": lambda: self.wall, "monotonic": lambda: self.monotonic}
        self.gate = Ledger(self.writer, **clocks)  # type: ignore[arg-type]
        self.gate.begin(0)
        for sock in (*self.ended, *self.unlogged):
            if sock.noted_sent or sock.noted_received:
                self.enter(sock, 0, 0)
                self.gate.end(sock.id)
                sock.counted = max(sock.counted, [sock.noted_sent, sock.noted_received], key=sum)
        # Only then, as in outgate.gate.main: what the store says of those that have ended is asked before it forgets.
        self.gate.keep_only(Key(sock.id, sock.dial) for sock in self.socks)

    def note(self, sock: Sock) -> None:
        """Do as the meters do."""
        assert self.gate is not None
        out, back = sock.kernel[0] - sock.noted_sent, sock.kernel[1] - sock.noted_received
        if not (out or back):
            return
        sock.noted_sent, sock.noted_received = sock.kernel
        sock.past.append(sock.moved)
        sock.moved = {}
        if sock.is_udp and self.gate.knows(sock.id):
            self.gate.add_shares(sock.id, out, back, self.shares(sock.past[-1:]))
        elif sock.is_udp:
            self.enter(sock, out, back, sock.past[-1:])
        else:
            for _ in self.gate.add([(sock, out, back)]):
                self.enter(sock, out, back)
        sock.counted = list(sock.kernel)

    def enter(self, sock: Sock, out: int, back: int, past: list[ByAccount] | None = None) -> None:
        """Do as Charging does.

        :param past: whose the growth is; ``None`` where an earlier gate noted it.
        """
        assert self.gate is not None
        wire = lambda: OnWire(sock.kernel[0] * 2, sock.kernel[1] * 2, not sock.is_udp, sock in self.socks)  # noqa: E731
        shares = self.shares(sock.past[: sock.kept][::-1] if past is None else past) if sock.is_udp else []
        self.gate.enter(Key(sock.id, sock.dial), sock, sock.account, wire, out, back, shares)

    def shares(self, past: list[ByAccount]) -> list[tuple[Account, Counts]]:
        """Return these as a ledger takes them; what is the first destination's may go without saying."""
        return [
            (account, Counts(*counts, 0, 0))
            for share in past
            for account, counts in share.items()
            if len(past) > 1 or account in OTHERS
        ]

    def written(self) -> None:
        """What was counted is in the store."""
        for sock in self.all:
            sock.durable = list(sock.counted)

    is_up = precondition(lambda self: self.gate is not None)

    def open(self, which: Account) -> None:
        """A program connects."""
        sock = Sock(len(self.all) + 1, which)
        self.socks.append(sock)
        self.all.append(sock)

    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.wall += seconds
        self.monotonic += seconds

    @rule(moves=st.lists(MOVES, min_size=1, max_size=5), seconds=SECONDS)
    def move(self, moves: list[tuple[int, int, int]], seconds: int) -> None:
        """Bytes travel and time passes, whether the gate is there or not."""
        for which, sent, received in moves:
            if self.socks:
                sock = self.socks[which % len(self.socks)]
                sock.move(sent, received)
        self.wait(seconds)

    @is_up
    @rule(
        moves=st.lists(MOVES, max_size=5), seconds=SECONDS, which=st.sampled_from(ACCOUNTS), metered=st.integers(0, 3)
    )
    def work(self, moves: list[tuple[int, int, int]], seconds: int, which: Account, metered: int) -> None:
        """Programs connect and send, time passes, meters are read and batches written."""
        self.open(which)
        self.move(moves, seconds)
        if metered > 0:
            self.meter()
        if metered > 1:
            self.flush()
        if metered > 2:
            self.every_byte_is_in_one_window()

    def meter(self) -> None:
        """The meters are read."""
        for sock in self.socks:
            self.note(sock)

    @is_up
    @precondition(lambda self: self.socks)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """A program closes, and the gate reads its last bytes."""
        assert self.gate is not None
        sock = data.draw(st.sampled_from(self.socks))
        self.note(sock)
        if not self.gate.knows(sock.id) and sock.kernel != [0, 0]:
            self.enter(sock, 0, 0)
        if self.gate.knows(sock.id):
            self.gate.end(sock.id)
        self.socks.remove(sock)
        self.ended.append(sock)

    def flush(self) -> None:
        """A batch is written."""
        assert self.gate is not None
        self.gate.flush()
        self.written()
        self.unlogged, self.ended = self.ended, []

    @rule(seconds=st.one_of(st.integers(-7200, 7200), st.sampled_from([-86400, 86400 * 30])))
    def step(self, seconds: int) -> None:
        """Somebody sets the clock."""
        self.wall += seconds

    @is_up
    @rule(at=st.one_of(st.none(), st.integers(0, 30)), noted=st.sampled_from(["all", "some", "none"]))
    def crash(self, at: int | None, noted: str) -> None:
        """The gate is killed: between batches, or at any statement of one."""
        assert self.gate is not None
        if at is not None:
            deaths = self.writer.deaths
            deaths.at, deaths.seen = at, 0
            try:
                self.gate.flush()
            except Died:
                pass
            else:
                self.written()
                self.unlogged, self.ended = self.ended, []
        self.writer.engine.dispose()
        self.gate = None
        for sock in self.all:
            sock.counted = list(sock.durable)
        for sock in self.socks:  # what the state file says was noted may be behind what the ledger has, or before it
            if sock.is_udp:
                sock.kept = {"all": len(sock.past), "some": len(sock.past) // 2, "none": 0}[noted]
                sock.noted_sent, sock.noted_received = totals(sock.past[: sock.kept])
                self.ended.append(sock)
            elif noted == "some":
                sock.noted_sent, sock.noted_received = sock.noted_sent // 2, sock.noted_received // 2
            elif noted == "none":
                sock.noted_sent = sock.noted_received = 0
        self.socks = [sock for sock in self.socks if not sock.is_udp]

    @is_up
    @rule()
    def hand_over(self) -> None:
        """Another gate takes this one's place."""
        assert self.gate is not None
        self.gate.close("handed-over")
        self.written()
        self.unlogged, self.ended = [], []
        self.start()

    @precondition(lambda self: self.gate is None)
    @rule(dies=st.one_of(st.none(), st.integers(0, 8)))
    def restart(self, dies: int | None) -> None:
        """The gate is started again."""
        try:
            self.start(dies)
        except Died:
            self.gate = None

        self.every_byte_is_in_one_window()

    def every_byte_is_in_one_window(self) -> None:
        """Windows and drafts together hold what the ledger counted, and what is sealed has not changed."""
        expected: dict[Account, list[int]] = {}
        for sock in self.all:
            expected = sums_of([expected, sock.by_account(sock.durable)])
        with Reader.open(self.url) as reader:
            assert list(checking.differences(reader.connection)) == []
            accounts = reader.accounts()
            held: dict[Account, list[int]] = {}
            windows = reader.connection.execute(select(WINDOWS)).all()
            for row in [*windows, *reader.connection.execute(select(DRAFTS))]:
                assert row.start % WINDOW == 0
                is_exact = accounts[row.account][2].transport == "tcp"
                assert row.wire_exact == (row.wire_sent + row.wire_received if is_exact else 0)
                sums = held.setdefault(accounts[row.account], [0, 0])
                sums[0] += row.sent
                sums[1] += row.received
            sealed = reader.connection.scalar(select(GATES.c.sealed)) or 0
        now = {(row.start, row.account): tuple(row) for row in windows}
        assert {key: now.get(key) for key in self.seen} == self.seen
        assert sealed >= self.sealed
        assert all(start >= self.sealed for start, _ in now.keys() - self.seen.keys())
        self.seen, self.sealed = now, sealed
        assert {key: sums for key, sums in held.items() if sums != [0, 0]} == {
            key: sums for key, sums in expected.items() if sums != [0, 0]
        }

    def teardown(self) -> None:
        """At the end everything that was ever noted is billed, in every calendar alike."""
        with self.folder:
            self.everything_is_billed()

    def everything_is_billed(self) -> None:
        """Read the meters a last time and make the bill."""
        if self.gate is None:
            self.start()
        assert self.gate is not None
        self.meter()
        self.flush()
        self.every_byte_is_in_one_window()
        prices = read(
            {"currency": "EUR", "rules": [{"to": "*", "sent": "0.07", "tiers": [{"above": 3, "sent": "0.05"}]}]}
        )
        with Reader.open(self.url) as reader:
            extent = reader.extent()
            for zone in ZONES:
                whole = statement.make(
                    reader.used(slices(extent.first, extent.last, "", zone, tiered=True)), ["app"], prices
                )
                for by in ("day", "hour") if extent.last - extent.first < 10 * 86400 else ("day",):
                    used = reader.used(slices(extent.first, extent.last, by, zone, tiered=True))
                    made = statement.make(used, [by, "app"], prices)
                    assert made.total.counts == whole.total.counts
                    assert sum(line.amount for line in made.lines) == made.total.amount == whole.total.amount
                    assert self.by_window(zone, by, reader) == {line.key: line.counts.sent for line in made.lines}
        assert [whole.total.counts.sent, whole.total.counts.received] == [
            sum(sock.counted[way] for sock in self.all) for way in (0, 1)
        ]
        self.gate.close()

    def by_window(self, zone: ZoneInfo, by: str, reader: Reader) -> dict[tuple[str, str], int]:
        """Add the windows up by a calendar of the standard library's, one by one."""
        sums: dict[tuple[str, str], int] = {}
        accounts = reader.accounts()
        for table in (WINDOWS, DRAFTS):
            for row in reader.connection.execute(select(table)):
                local = datetime.fromtimestamp(row.start, zone)
                name = local.date().isoformat()
                if by == "hour":
                    offset = local.isoformat()[-6:]
                    name = f"{local:%Y-%m-%d %H:00}{'Z' if offset == '+00:00' else offset}"
                key = (name, accounts[row.account][0])
                sums[key] = sums.get(key, 0) + row.sent
        return sums


TestDays = pytest.mark.timeout(180)(pytest.mark.slow(Days.TestCase))
TestDays.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDays.__doc__ = (
    "Whatever happens in a gate's days, every byte that it noted is in exactly one window and on the bill."
)


class _Draws:
    """Stands where hypothesis draws: the first of everything."""

    def draw(self, strategy: st.SearchStrategy[Sock], label: object = None) -> Sock:
        """Return the socket that a strategy would draw first."""
        return strategy.elements[0]  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("starts", [1, 2, 3])
def test_what_has_ended_is_counted_once_however_often_the_gate_dies_before_its_next_batch(starts: int) -> None:
    """A gate that settles what ended before it forgets it with the batch that says so, and not before."""
    days = Days()
    days.work(moves=[(0, 502, 480_280_473)], seconds=4997, which=ACCOUNTS[2], metered=2)
    days.close(data=_Draws())  # type: ignore[arg-type]
    for _ in range(starts):
        days.crash(at=None, noted="all")
        days.restart(dies=None)
    days.teardown()


@pytest.mark.parametrize("noted", ["all", "some", "none"])
@pytest.mark.parametrize("at", [None, 3, 30])
def test_what_a_udp_socket_moved_is_its_destinations_though_the_gate_is_killed(noted: str, at: int | None) -> None:
    """What the ledger had not yet of a UDP socket is booked by the next gate to the destinations that it was with."""
    days = Days()
    moves = [(0, number, 10 * number) for number in range(100, 105)]
    days.work(moves=moves, seconds=3, which=ACCOUNTS[2], metered=2)
    for size in (1000, 2001, 3002, 4000):
        days.move(moves=[(0, size, 7), (0, size + 1, 0)], seconds=1)
        days.meter()
    days.crash(at=at, noted=noted)
    days.restart(dies=None)
    days.crash(at=None, noted="all")
    days.restart(dies=None)
    days.teardown()


def test_a_connection_that_comes_back_under_another_object_is_owed_nothing() -> None:
    """An orphan that becomes a lease again between two batches has every byte booked that it had moved before."""
    days = Days()
    days.work(moves=[(0, 500, 50)], seconds=3, which=ACCOUNTS[0], metered=1)
    days.move(moves=[(0, 70, 7)], seconds=1)
    days.meter()
    (orphan,) = days.socks
    days.socks = days.all = [replace(orphan)]
    days.move(moves=[(0, 6, 0)], seconds=1)
    days.meter()
    days.teardown()
