"""Keep what was used of each quota in a file, written on a thread, at most once a second.

One transaction for everything that has changed; what could not be written (disk full, file locked) is kept and written
with what comes next. Rows are the whole truth about their window, so one that is written twice counts once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable
from typing import Final

from outgate.core.quota.account import REMEMBERED, Kept
from outgate.errors import ConfigError
from outgate.gate.decisionlog.log import DecisionLog

#: The file below ``gate.state``.
NAME: Final = "quotas.sqlite"
#: ``user_version`` of its form. A gate refuses a file that is newer than itself.
VERSION: Final = 1
#: Transactions after which windows that nobody remembers are removed.
TIDY_EVERY: Final = 1000
#: Seconds that stop() waits for the disk.
PATIENCE: Final = 5.0
#: Seconds that a write waits for somebody else's.
_BUSY: Final = 2.0

_FORM: Final = """
CREATE TABLE IF NOT EXISTS windows (
    app TEXT NOT NULL, resource TEXT NOT NULL, per TEXT NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL,
    used INTEGER NOT NULL, said INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (app, resource, per, start, end)
) WITHOUT ROWID
"""
_PUT: Final = "INSERT OR REPLACE INTO windows VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_TIDY: Final = """
DELETE FROM windows WHERE per = ? AND (app, resource, start) IN (
    SELECT app, resource, start FROM (
        SELECT app, resource, start, row_number() OVER (PARTITION BY app, resource ORDER BY start DESC) AS age
        FROM windows WHERE per = ?
    ) WHERE age > ?
)
"""


class Store:
    """The file of one gate.

    One that cannot be read is set aside, and a disk that is full is tried again later, so that a gate starts.

    :raises ConfigError: the folder cannot be written, or the file is a newer gate's.
    """

    def __init__(self, folder: str, log: DecisionLog) -> None:
        self.path = os.path.join(folder, NAME)
        self._log = log
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._written = threading.Condition(self._lock)
        self._rows: dict[tuple[str, str, str, int, int], tuple[int, int, int]] = {}
        self._writing = self._stopping = self._is_failing = False
        self._count = 0
        self._db: sqlite3.Connection | None = None
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            try:
                self._begin()
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as e:  # no database, or a torn one
                self._set_aside(str(e))
                self._begin()
        except (OSError, sqlite3.Error) as e:
            if getattr(e, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                hint = "name a folder this gate may write"
                raise ConfigError(f"gate.state: {self.path} cannot be used: {e}; {hint}") from None
            self._fail(e)
        self._thread = threading.Thread(target=self._run, name="quotas", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        db = self._open()
        try:
            db.execute("SELECT sum(used) FROM windows").fetchone()  # a torn page shows when it is read
        except BaseException:
            db.close()
            raise
        self._db = db

    def _set_aside(self, why: str) -> None:
        """Rename a file that cannot be read, in the place of one that was before, and take away its journal."""
        aside = f"{self.path}.unreadable"
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path + suffix)
        reason = f"{self.path}: {why}; it is now {aside}, and quotas begin anew"
        self._log.event("quota-store-refused", reason=reason)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > VERSION:
                raise ConfigError(
                    f"gate.state: {self.path} is of version {version}, which this gate is too old for; "
                    f"it reads {VERSION}: upgrade it, or name another folder"
                )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            if version < VERSION:
                db.execute(_FORM)
                db.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            db.close()
            raise
        return db

    def load(self) -> dict[str, list[Kept]]:
        """Return what is stored, by app. Before the first :meth:`put`."""
        found: dict[str, list[Kept]] = {}
        if self._db is not None:
            for app, *row in self._db.execute("SELECT app, resource, per, start, end, used, said, last FROM windows"):
                found.setdefault(app, []).append(Kept(*row))
        return found

    def put(self, rows: Iterable[tuple[str, Kept]]) -> None:
        """Have windows of apps written, soon, and what could not be written so far. Never waits."""
        with self._lock:
            for app, row in rows:
                self._rows[app, row.resource, row.per, row.start, row.end] = row.used, row.said, row.last
            if not self._rows:
                return
        self._wake.set()

    def flush(self, limit: float = PATIENCE) -> bool:
        """Wait, at most ``limit`` seconds, until everything that was put is written, and say whether it is."""
        self._wake.set()
        with self._written:
            return self._written.wait_for(lambda: not self._rows and not self._writing, limit)

    def stop(self, limit: float = PATIENCE) -> None:
        """Write what is left, and close."""
        self.flush(limit)
        self._stopping = True
        self._wake.set()
        self._thread.join(limit)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                rows, self._rows = self._rows, {}
                self._writing = True
            is_written = not rows or self._write(rows)
            with self._written:
                self._writing = False
                if not is_written:
                    self._rows = {**rows, **self._rows}
                self._written.notify_all()
            if self._stopping:
                break
        if self._db is not None:
            self._db.close()

    def _write(self, rows: dict[tuple[str, str, str, int, int], tuple[int, int, int]]) -> bool:
        db = self._db
        try:
            if db is None:
                db = self._db = self._open()
            db.execute("BEGIN IMMEDIATE")
            db.executemany(_PUT, [(*key, *value) for key, value in rows.items()])
            if self._count % TIDY_EVERY == 0:
                for per, most in REMEMBERED.items():
                    db.execute(_TIDY, (per, per, most))
            db.execute("COMMIT")
        except sqlite3.Error as e:
            if db is not None:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            self._fail(e)
            return False
        self._count += 1
        if self._is_failing:
            self._is_failing = False
            self._log.event("quota-store-back", path=self.path)
        return True

    def _fail(self, error: Exception) -> None:
        if not self._is_failing:
            self._is_failing = True
            self._log.event("quota-store-failed", reason=f"{self.path}: {error}; quotas go on from memory")
