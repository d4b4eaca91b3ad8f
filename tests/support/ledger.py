"""A ledger without its thread: batches go to the store at once, and the process may end at any statement."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, event

from outgate.core.bill.tally import Account, Destination, Rows
from outgate.gate.ledger.batch import Batch, Begun, Key, Totals
from outgate.gate.ledger.store import Store, connect

WEB = Destination("tcp", "example.com", 443, "93.184.215.14")
DB = Destination("tcp", "", 5432, "10.2.0.9")


def account(app: str = "blog", labels: str = "", destination: Destination = WEB) -> Account:
    """Return who is charged."""
    return app, labels, destination


def batch(number: int, at: float, rows: Rows | None = None, seal: int = 0, **rest: Any) -> Batch:
    """Return a batch with nothing in it but what is said."""
    return Batch(
        number,
        at,
        seal,
        rows or {},
        rest.get("open", {}),
        rest.get("ended", frozenset()),
        rest.get("forget", frozenset()),
    )


def quick(engine: Engine) -> Engine:
    """Have an engine not wait for the disk: a process that is killed needs no more than the kernel's memory."""

    def prepare(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", prepare)
    return engine


class Died(BaseException):
    """The process is no more."""


class Deaths:
    """Ends the process before a statement of an engine, before a commit, or after it.

    :ivar at: the number of the event at which it dies, from 0 on; ``None`` for never.
    :ivar seen: how many there were.
    """

    def __init__(self, engine: Engine) -> None:
        self.at: int | None = None
        self.seen = 0
        event.listen(engine, "before_cursor_execute", self._on_event)
        event.listen(engine, "commit", self._on_event)

    def _on_event(self, *_rest: Any) -> None:
        here, self.seen = self.seen, self.seen + 1
        if here == self.at:
            raise Died


def die_at(number: int, engine: Engine) -> Callable[..., None]:
    """Have this process killed at that event: before a statement, before a commit, or when it is done.

    :returns: what is to be called at further events.
    """
    seen = 0

    def count(*_rest: object) -> None:
        nonlocal seen
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    event.listen(engine, "before_cursor_execute", count)
    event.listen(engine, "commit", count)
    return count


class HandWriter:
    """What :class:`outgate.gate.ledger.writer.Writer` is to a ledger, in the caller's thread."""

    failing: float | None = None
    why = ""
    waiting = 0

    def __init__(self, url: str, gate: str, run: str, now: Callable[[], float], dies: int | None = None) -> None:
        self.engine = quick(connect(url))
        self.deaths = Deaths(self.engine)
        self.deaths.at = dies
        self.store = Store(self.engine, gate, run)
        self.begun = self.store.begin(now())
        self.deaths.at = None
        self._now = now
        self._number = 0

    def wait(self, limit: float) -> Begun:
        """Return what the run found."""
        return self.begun

    def put(self, at: float, seal: int, rows: Rows, open: dict[Key, Totals], ended: set[Key], forget: set[Key]) -> None:
        """Write it."""
        self._number += 1
        self.store.write(Batch(self._number, at, seal, rows, open, frozenset(ended), frozenset(forget)))

    def keep_only(self, keys: frozenset[Key]) -> None:
        """Forget the others."""
        self.store.forget_except(keys)

    def close(self, how: str, limit: float) -> bool:
        """End the run."""
        self.store.end(self._now(), how)
        self.engine.dispose()
        return True
