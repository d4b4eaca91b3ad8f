"""Take batches to the store on a thread of their own, and keep them where the store does not take them.

What waits while the database is away is added up, so its size is bounded by the apps, labels and destinations that
there are, and not by the time. A batch whose commit was not answered is tried again under its number until it is known
to be in; only then is the next one made of what has gathered meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outgate.core.bill.tally import Rows, merge
from outgate.errors import ConfigError
from outgate.gate.ledger import spool
from outgate.gate.ledger.batch import Batch, Begun, Key, Totals

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from outgate.gate.ledger.store import Store

__all__ = ["Identity", "Writer"]

#: Seconds between attempts while the database does not take anything.
RETRY: Final = 2.0
#: Seconds between writes of the spool meanwhile.
SPOOL: Final = 10.0


class Identity(NamedTuple):
    """Who writes: the gate's name, this run of it, and the ledger's URL without its password."""

    gate: str
    run: str
    ledger: str


class Writer:
    """The thread.

    :param url: of the database.
    :param spool_folder: folder for files of what it does not take.
    :param tell: called from the thread, with the name and fields of a line for the log.
    :param connect: makes an engine of the URL, where not the usual one is wanted.
    :ivar failing: since when it has not taken anything (monotonic seconds); ``None`` while all is well.
    :ivar why: the reason.
    :ivar fault: an error that waiting does not mend.
    """

    def __init__(
        self,
        url: str,
        who: Identity,
        spool_folder: str,
        tell: Callable[..., None],
        now: Callable[[], float] = time.time,
        connect: Callable[[str], Engine] | None = None,
    ) -> None:
        self._url, self._who, self._folder = url, who, spool_folder
        self._spool_path = spool.path_of(spool_folder, who.run)
        self._tell, self._now, self._connect = tell, now, connect
        self._began = now()
        self.failing: float | None = None
        self.why = ""
        self.fault: ConfigError | None = None
        self.begun: Begun | None = None
        #: Everything every window before is sealed to, as far as it is known here.
        self.sealed = 0
        #: Rows that wait.
        self.waiting = 0
        self._lock = threading.Lock()
        self._gathered: Batch | None = None
        self._flight: Batch | None = None
        self._keep: frozenset[Key] | None = None
        self._number = 0
        self._engine: Engine | None = None
        self._store: Store | None = None
        self._is_spooled = False
        self._spooled_at = float("-inf")
        #: Files for another ledger, which have been told of.
        self._let_lie: set[str] = set()
        self._wake = threading.Event()
        self._settled = threading.Event()
        self._end: str | None = None
        self._thread = threading.Thread(target=self._run, name="outgate-ledger", daemon=True)
        self._thread.start()

    # --- from the loop ------------------------------------------------------------------------------------------------

    @property
    def run(self) -> str:
        """The name of the run."""
        return self._who.run

    def wait(self, limit: float) -> Begun | None:
        """Wait until the run has begun or the first attempt has failed, and return what it found.

        :raises ConfigError: this ledger cannot be used; waiting does not help.
        """
        self._settled.wait(limit)
        if self.fault is not None:
            raise self.fault
        return self.begun

    def put(self, at: float, seal: int, rows: Rows, open: dict[Key, Totals], ended: set[Key], forget: set[Key]) -> None:
        """Hand over what has been counted."""
        with self._lock:
            before = self._gathered
            if before is None:
                self._gathered = Batch(0, at, seal, rows, open, frozenset(ended), frozenset(forget))
            else:
                merge(before.rows, rows)
                known = {key: totals for key, totals in before.open.items() if key not in ended}
                known.update(open)
                both = before.ended | ended, before.forget | forget
                self._gathered = Batch(0, at, seal, before.rows, known, *both)
            self._count()
        self._wake.set()

    def keep_only(self, keys: frozenset[Key]) -> None:
        """Have every other connection forgotten."""
        self._keep = keys
        self._wake.set()

    def _count(self) -> None:
        batches = (self._gathered, self._flight)
        self.waiting = sum(len(of) for batch in batches if batch is not None for of in batch.rows.values())

    def close(self, how: str, limit: float) -> bool:
        """Write what waits and end the run, or leave it in the spool; return whether the database has it all.

        :param how: ``stopped`` or ``handed-over``.
        :param limit: seconds.
        """
        self._end = how
        self._wake.set()
        self._thread.join(limit)
        if self._thread.is_alive():
            self._save()  # it waits for the database still, and does not outlive the process
        return not self._thread.is_alive() and self.failing is None

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        finally:
            if self._engine is not None:
                self._engine.dispose()

    def _work(self) -> None:
        from sqlalchemy.exc import DBAPIError

        from outgate.gate.ledger import store

        while True:
            try:
                if self._store is None:
                    self._begin(store)
                self._write()
            except ConfigError as error:
                self.fault = error
                self._fail(str(error))
                self._settled.set()
                return
            except store.Fenced as error:
                self._fail(str(error))
                return
            except (DBAPIError, OSError, ValueError) as error:
                self._fail(_reason(error))
            else:
                self._recovered()
            self._settled.set()
            done = self._end is not None and (self.failing is not None or self._is_idle())
            if done:
                self._finish(DBAPIError)
                return
            if self.failing is None:
                self._wake.wait()
                self._wake.clear()
            else:
                self._pause()

    def _pause(self) -> None:
        """Do not try at every batch what has just failed."""
        deadline = time.monotonic() + RETRY
        while self._end is None and (left := deadline - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()

    def _begin(self, store: Any) -> None:
        """Give the database what an earlier gate has left, then begin this run."""
        if self._engine is None:
            self._engine = (self._connect or store.connect)(self._url)
        engine = self._engine
        for path in spool.leftovers(self._folder, self._who.run):
            self._take_in(path, store, engine)
        made = store.Store(engine, self._who.gate, self._who.run)
        self.begun = made.begin(self._began)
        self.sealed = self.begun.sealed
        self._store = made

    def _take_in(self, path: str, store: Any, engine: Engine) -> None:
        try:
            left = spool.load(path)
        except ConfigError:  # a ValueError as well, and no damage: a newer outgate has left it
            raise
        except ValueError as error:
            self._tell("ledger-spool-damaged", reason=str(error))
            spool.put_aside(path, "damaged")
            return
        if left is None or left.gate != self._who.gate:
            return
        if left.ledger != self._who.ledger:
            if path not in self._let_lie:
                self._let_lie.add(path)
                self._tell("ledger-spool-kept", reason=_of_another_ledger(path, left.ledger, self._who.ledger))
            return
        earlier = store.Store(engine, left.gate, left.run)
        try:
            earlier.begin(left.began)
            for batch in left.batches:
                earlier.write(batch)
        except store.Fenced as error:  # the run after it has counted what was open from where the ledger had it
            self._tell("ledger-spool-late", reason=f"{path} is not booked: {error}; it is now {path}.late")
            spool.put_aside(path, "late")
            return
        earlier.end(left.batches[-1].at if left.batches else left.began, "spooled")
        spool.remove(path)
        self._tell("ledger-spool-taken", reason=path)

    def _is_idle(self) -> bool:
        with self._lock:
            return self._gathered is None and self._flight is None

    def _write(self) -> None:
        store = self._store
        assert store is not None
        while True:
            if self._flight is None:
                with self._lock:
                    if self._gathered is None:
                        break
                    self._flight = self._gathered._replace(number=self._number + 1)
                    self._gathered = None
            flight = self._flight
            store.write(flight)
            self._number = flight.number
            self.sealed = max(self.sealed, flight.seal)
            with self._lock:
                self._flight = None
                self._count()
        if self._keep is not None:
            store.forget_except(self._keep)
            self._keep = None
        if self._is_spooled:
            spool.remove(self._spool_path)
            self._is_spooled = False

    def _fail(self, why: str) -> None:
        if self.failing is None:
            self.failing = time.monotonic()
            self._tell("ledger-failed", reason=why, ledger=self._who.ledger)
        self.why = why
        if time.monotonic() - self._spooled_at >= SPOOL or self._end is not None:
            self._save()

    def _save(self) -> None:
        """Leave what waits in the spool, in case that the gate ends before the database is back."""
        with self._lock:
            flight, gathered = self._flight, self._gathered
            batches = [batch for batch in (flight,) if batch is not None]
            if gathered is not None:
                # A copy: while the file is written put() adds to these rows, and the totals would not be theirs.
                rows = {window: dict(of) for window, of in gathered.rows.items()}
                batches.append(gathered._replace(number=(flight.number if flight else self._number) + 1, rows=rows))
        if not batches:
            return
        self._spooled_at = time.monotonic()
        try:
            spool.save(self._spool_path, spool.Spooled(*self._who, self._began, batches))
            self._is_spooled = True
        except OSError as error:
            self._tell("ledger-spool-failed", reason=str(error))

    def _recovered(self) -> None:
        if self.failing is not None:
            self._tell("ledger-back", seconds=round(time.monotonic() - self.failing, 1))
            self.failing, self.why = None, ""

    def _finish(self, errors: Any) -> None:
        if self._store is None or self.failing is not None:
            return
        try:
            self._store.end(self._now(), self._end or "stopped")
        except errors as error:
            self._fail(_reason(error))


def _of_another_ledger(path: str, its: str, ours: str) -> str:
    return (
        f"{path} has bytes for the ledger {its}, and this gate's is {ours}: they are not booked here; "
        "start this gate once with that ledger, or take the file away"
    )


def _reason(error: Exception) -> str:
    """Return the database's own words, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split())[:300]
