"""Meter the connections of a gate that died which nobody has given us back yet: the program holds the only end.

inet_diag tells each second how they stand. A program that comes back gives us a duplicate of each
(:mod:`outgate.gate.restart.claiming`). What ends before the kernel tells of, with its last counters
(:mod:`outgate.gate.restart.finals`); where it does not, that is counted to its last reading, and its line says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as native
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.gate.kernel import diag, meter
from outgate.gate.kernel.notices import Notices
from outgate.gate.onloop import call_on
from outgate.gate.registry import Lease, Process
from outgate.gate.restart.finals import Finals

if TYPE_CHECKING:
    from outgate.gate.registry import App
    from outgate.gate.restart.records import Left
    from outgate.gate.server import Gate

#: Seconds from the end of a round to the beginning of the next.
INTERVAL = 1.0
#: Seconds after which a thread that has not come back is asked nothing more.
HELD_UP = 0.5


class Orphan(Lease):
    """A lease of which we hold no duplicate.

    :ivar key: what inet_diag finds it by, ``None`` where it lists it not.
    :ivar is_missing: whether inet_diag has said that it is no more, and no last reading has come yet.
    :ivar lent: what is known of its descriptors, which can be redeemed again when it has come back.
    """

    __slots__ = ("_shares", "_transport", "_way", "is_missing", "key", "lent")

    def __init__(self, left: Left, process: Process, stand_in: native) -> None:
        """Make one of what was written down.

        :param stand_in: an unconnected socket: whatever asks the kernel about ours is told that it is none.
        """
        opened = left.opened
        super().__init__(opened.id, process, stand_in, opened.cookie, opened.family)
        self.key: tuple[int, bytes] | None = None
        self.is_missing = False
        self._transport, self._way = opened.transport, opened.path
        self.lent = left.lent
        self._shares = left.shares
        self.state = life.OPEN
        self.inode, self.number = opened.inode, opened.serial
        self.begun, self.connect_ms = opened.begun, opened.connect_ms
        self.asked, self.address = (opened.host, opened.port), opened.address
        self.via, self.before = opened.via, opened.before
        self.decision = opened.decision
        self.noted_sent, self.noted_received = left.sent, left.received

    @property
    def transport(self) -> str:
        return self._transport

    @property
    def shares(self) -> Sequence[tuple[str, str, int, int, int]]:
        return self._shares

    @property
    def way(self) -> str:
        return self._way


class Orphans:
    """The connections that a gate has from the one before it, and holds no duplicate of."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        #: By cookie.
        self.known: dict[int, Orphan] = {}
        self._diag: diag.Diag | None = None
        self._finals: Finals | None = None
        self._timer: asyncio.Handle | None = None
        self._stand_in: native | None = None

    def hear(self, told: Notices) -> None:
        """Have the kernel's notices say how each has ended.

        :param told: ours from now on.
        """
        self._finals = Finals(self._gate.loop, told)

    def statistics(self) -> dict[str, Any]:
        """Return what ``outgate status`` shows of it."""
        why = self._finals.why if self._finals is not None else "this gate does not listen"
        return {"closes": not why, "closes_why": why}

    def make(self, left: Left, process: Process) -> Orphan:
        """Return an orphan, which is not :meth:`enter`-ed yet."""
        if self._stand_in is None:
            self._stand_in = native(AF_UNIX, SOCK_STREAM)
        return Orphan(left, process, self._stand_in)

    def enter(self, orphans: Iterable[Orphan]) -> list[Orphan]:
        """Meter these from now on, and return those that the kernel has no more."""
        missing = {orphan.cookie: orphan for orphan in orphans}
        if not missing:
            return []
        try:
            self._diag = self._diag or diag.Diag()
            for each in missing.values():
                self._expect(each)  # before we look whether it is there
            for cookie, key in self._diag.listed():
                orphan = missing.pop(cookie, None)
                if orphan is None:
                    continue
                orphan.key = key
                self.known[orphan.cookie] = orphan
            known = iter(tuple(self.known.values()))
            while batch := tuple(islice(known, diag.BATCH)):
                self._look(batch)
        except OSError as e:
            # Without sock_diag nothing is known but whether its process lives; what comes back is metered exactly.
            self._gate.log.event("diag-failed", reason=e.strerror or str(e))
            for orphan in [each for each in missing.values() if _lives(each)]:
                self.known[orphan.cookie] = missing.pop(orphan.cookie)
        if self._timer is None and self.known:
            self._timer = self._gate.loop.call_later(INTERVAL, self._begin)
        for each in missing.values():
            self._forget(each)
        return list(missing.values())

    def _expect(self, orphan: Orphan) -> None:
        if self._finals is not None:
            self._finals.expect(orphan.cookie, partial(self._final, orphan))

    def _forget(self, orphan: Orphan) -> None:
        if self._finals is not None:
            self._finals.forget(orphan.cookie)

    def find(self, id: int) -> Orphan | None:
        """Return one by its id."""
        return next((orphan for orphan in self.known.values() if orphan.id == id), None)

    def remove(self, orphan: Orphan) -> None:
        """Strike out one that has come back, or has ended."""
        self.known.pop(orphan.cookie, None)
        self._forget(orphan)

    def end(self, orphan: Orphan, how: str, incomplete: bool = True) -> None:
        """Write the line of one that has ended, with its last reading."""
        self.remove(orphan)
        reading = meter.Reading(meter.CLOSE, orphan.noted_sent, orphan.noted_received)
        self._gate.log_end(orphan, reading, how, incomplete=incomplete)
        orphan.see(life.END)
        self._gate.sharing.forget(orphan)
        self._gate.reception.released()

    def _begin(self) -> None:
        self._go_on(iter(tuple(self.known.values())))

    def _go_on(self, orphans: Iterator[Orphan]) -> None:
        batch = tuple(islice(orphans, diag.BATCH))
        self._look([orphan for orphan in batch if orphan.cookie in self.known])
        loop = self._gate.loop
        if len(batch) == diag.BATCH:
            self._timer = loop.call_soon(self._go_on, orphans)
        elif self.known:
            self._timer = loop.call_later(INTERVAL, self._begin)
        else:
            self._timer = None

    def _look(self, orphans: Sequence[Orphan]) -> None:
        asked: list[Orphan] = []
        aside: dict[App, list[Orphan]] = {}
        for orphan in orphans:
            app = orphan.process.app
            if orphan.key is None:
                if not _lives(orphan):
                    self.end(orphan, "process-ended")
            elif app.settings.trusted:
                asked.append(orphan)
            elif app.closer.held_for < HELD_UP:  # by one that it was asked about before
                aside.setdefault(app, []).append(orphan)
        if self._diag is not None:
            self._seen(asked, _ask(self._diag, asked))
            for app, some in aside.items():
                app.closer.put(partial(self._look_aside, some))

    def _look_aside(self, orphans: Sequence[Orphan]) -> None:
        """Look on a thread: who holds a socket can keep the kernel from saying how it stands."""
        try:
            with contextlib.closing(diag.Diag()) as asks:
                answers = _ask(asks, orphans)
        except OSError as e:
            answers = e
        call_on(self._gate.loop, self._seen, orphans, answers)

    def _seen(self, orphans: Sequence[Orphan], answers: list[diag.Seen | None] | OSError) -> None:
        if isinstance(answers, OSError):
            self._gate.log.event("diag-failed", reason=answers.strerror or str(answers))
            return
        for orphan, seen in zip(orphans, answers, strict=True):
            if orphan.cookie not in self.known:
                continue  # it has come back meanwhile
            if seen is None or seen.cookie != orphan.cookie:
                # Its last reading may be on its way: the kernel's word comes a moment after it has gone.
                if orphan.is_missing or self._finals is None or self._finals.why:
                    self.end(orphan, "closed")
                orphan.is_missing = True
                continue
            self._note(orphan, seen.reading)
            if not seen.inode:  # nobody can send on it any more: what was sent is all there is
                self.end(orphan, "closed", incomplete=False)

    def _note(self, orphan: Orphan, reading: meter.Reading) -> bool:
        """Take a reading, and tell whether it can be one: of who has taken a connection apart the counters are gone."""
        reading = orphan.own(reading)
        is_whole = reading.sent >= orphan.noted_sent and reading.received >= orphan.noted_received
        if is_whole:
            self._gate.meters.note(orphan, reading.sent, reading.received)
        return is_whole

    def _final(self, orphan: Orphan, reading: meter.Reading) -> None:
        """Hear that one is no more, in the moment in which it is."""
        if orphan.cookie in self.known:
            self.end(orphan, "closed", incomplete=not self._note(orphan, reading))

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._diag is not None:
            self._diag.close()
        if self._finals is not None:
            self._finals.stop()
        if self._stand_in is not None:
            self._stand_in.close()
        self.known.clear()


def _ask(asks: diag.Diag, orphans: Sequence[Orphan]) -> list[diag.Seen | None] | OSError:
    if not orphans:
        return []
    try:
        return asks.look([orphan.key for orphan in orphans if orphan.key is not None])
    except OSError as e:
        return e


def _lives(orphan: Orphan) -> bool:
    return os.path.exists(f"/proc/{orphan.process.pid}")
