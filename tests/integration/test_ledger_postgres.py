"""The ledger in a real PostgreSQL: the same windows as in SQLite, several gates at once, a server that goes away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from gate.test_ledger_store import BATCHES, EXPECTED, T0, killed_at
from gate.test_ledger_writer import Told
from outgate.core.bill.windows import WINDOW, Slice, slices
from outgate.errors import ConfigError
from outgate.gate.ledger import checking
from outgate.gate.ledger import writer as writing
from outgate.gate.ledger.reading import Reader
from outgate.gate.ledger.schema import ACCOUNTS, DRAFTS, GATES, RUNS, WINDOWS
from outgate.gate.ledger.store import Fenced, Store, connect
from outgate.gate.ledger.writer import Identity, Writer
from support.ledger import account, batch
from support.servers.postgresql import programs

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or programs() is None, reason="needs root and Debian's postgresql"),
]


class Server:
    """A PostgreSQL of our own at a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = programs()
        shutil.chown(folder, "postgres", "postgres")
        self._as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        options = ["--no-sync", "--no-locale", "-E", "UTF8", "-A", "trust", "-U", "outgate"]
        made = subprocess.run(
            [*self._as_postgres, f"{self.bin}/initdb", "-D", str(folder / "data"), *options],
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = ("listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "shared_buffers=1MB")
        words = [word for setting in settings for word in ("-c", setting)]
        command = [*self._as_postgres, f"{self.bin}/postgres", "-D", str(self.folder / "data"), *words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        ready = [f"{self.bin}/pg_isready", "-q", "-t", "1", "-h", str(self.folder)]
        deadline = time.monotonic() + 30
        while subprocess.run(ready).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline

    def stop(self) -> None:
        """End it at once, as a crash would: connections break."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def database(self, name: str) -> str:
        """Make a database and return its URL."""
        execute(self.url("postgres"), f"CREATE DATABASE {name}", isolation_level="AUTOCOMMIT")
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://outgate@/{name}?host={self.folder}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for the tests of this module."""
    folder = Path(tempfile.mkdtemp(prefix="outgate-postgres-"))
    folder.chmod(0o755)
    made = Server(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.fixture
def url(server: Server, request: pytest.FixtureRequest) -> str:
    """An empty database."""
    return server.database("t" + str(abs(hash(request.node.name))))


STORES: list[Store] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while STORES:
        STORES.pop().close()


def execute(url: str, statement: str, **options: str) -> None:
    """Execute one statement."""
    engine = connect(url)
    try:
        with engine.connect().execution_options(**options) as connection, connection.begin():
            connection.execute(text(statement))
    finally:
        engine.dispose()


def begun(url: str, run: str = "one", gate: str = "gate") -> Store:
    """Return a store whose run has begun."""
    store = Store(connect(url), gate, run)
    STORES.append(store)
    store.begin(T0)
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


def test_the_same_batches_make_the_same_windows(url: str) -> None:
    """Batches come to what they come to in SQLite, each once, and reports read the sums of hours and days."""
    store = begun(url)
    for each in BATCHES:
        assert store.write(each)
        assert not store.write(each)
    store.close()
    assert held(url) == EXPECTED
    with Reader.open(url) as reader:
        used = reader.used(slices(T0, T0 + 86400, "day", UTC, tiered=False))
        assert sum(each.counts.sent for each in used) == sum(EXPECTED.values())
        assert reader.used([Slice("", None, T0 + WINDOW, T0 + 3 * WINDOW)])[0].counts.sent == 1005


def test_a_kill_at_any_statement_loses_nothing_and_counts_nothing_twice(url: str) -> None:
    """Killed at every other statement and commit in turn, a gate's next run finds whole batches, and all is there."""
    begun(url, "made", "made")
    number, was_killed = 0, True
    while was_killed:
        gate = f"gate{number}"
        was_killed = killed_at(number, url, BATCHES, gate)
        with Reader.open(url) as reader:
            runs = select(RUNS.c.batch).join(GATES, GATES.c.id == RUNS.c.gate).where(GATES.c.name == gate)
            done = reader.connection.scalar(runs) or 0
        store = begun(url, "two", gate)
        for count, each in enumerate(BATCHES[done:], 1):
            store.write(each._replace(number=count))
        store.close()
        with Reader.open(url) as reader:
            sums = {app: sent for app, (sent, _) in checking.by_app(reader.connection, gate).items()}
        assert sums == {"blog": 111 + 1005, "mail": 8}
        number += 2
    assert done == 4
    assert number > 40
    with Reader.open(url) as reader:
        assert list(checking.differences(reader.connection)) == []


@pytest.mark.parametrize("statement", ["UPDATE windows SET sent = 0", "DELETE FROM windows", "DELETE FROM sealings"])
def test_the_database_holds_what_is_sealed(url: str, statement: str) -> None:
    """Sealed windows can be neither changed nor deleted."""
    store = begun(url)
    store.write(BATCHES[0]._replace(seal=T0 + WINDOW))
    with pytest.raises(DBAPIError, match="append-only"):
        execute(url, statement)


def test_the_next_run_shuts_the_one_before_out(url: str) -> None:
    """A gate that another has followed under its name writes nothing more."""
    old, new = begun(url), begun(url, "two")
    with pytest.raises(Fenced):
        old.write(BATCHES[0])
    assert new.write(BATCHES[0])
    assert held(url) == {(T0, "blog"): 100, (T0, "mail"): 7}


def test_gates_write_at_once(url: str) -> None:
    """Gates that begin and book the same new accounts at the same moment wait for one another, and all is there."""
    gates, failed = 4, []

    def run(name: str) -> None:
        try:
            store = begun(url, "one", name)
            for number in range(1, 21):
                rows = {T0: {account(f"app{app}", f"job={number}"): [1, 1, 1, 1, 0] for app in range(5)}}
                store.write(batch(number, T0 + number, rows, T0 + WINDOW if number == 20 else 0))
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=run, args=(f"gate{number}",)) for number in range(gates)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert sum(held(url).values()) == gates * 20 * 5
    with Reader.open(url) as reader:
        assert len(reader.connection.execute(select(ACCOUNTS)).all()) == 100


def test_a_server_that_goes_away_gets_everything(
    server: Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are counted while the server is away are booked when it is back, once."""
    monkeypatch.setattr(writing, "RETRY", 0.05)
    told = Told()
    writer = Writer(url, Identity("gate", "one", url), str(tmp_path), told)
    writer.wait(30)
    writer.put(T0, 0, {T0: {account(): [1, 0, 0, 0, 0]}}, {}, set(), set())
    server.stop()
    for number in range(100):
        writer.put(T0 + number, 0, {T0: {account(): [1, 0, 0, 0, 0]}}, {}, set(), set())
    told.wait_for("ledger-failed")
    server.start()
    told.wait_for("ledger-back")
    assert writer.close("stopped", 30)
    assert held(url) == {(T0, "blog"): 101}


def test_no_server(tmp_path: Path) -> None:
    """Reading where no server is says so."""
    with (
        pytest.raises(ConfigError, match="the ledger cannot be read"),
        Reader.open(f"postgresql://x@/x?host={tmp_path}"),
    ):
        pass
