"""Write down which leases are open and what they have moved, so that the next gate can go on where this one dies.

Every method is called on the loop, says what there is to say in a record, and leaves making a line of it and writing
that to the thread of :class:`~outgate.gate.restart.writer.Writer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, Union

from outgate.core import lease as life
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.kernel import meter
from outgate.gate.registry import NOTHING_BEFORE, Lease, Process
from outgate.gate.restart import records
from outgate.gate.restart.orphans import Orphan
from outgate.gate.restart.records import line
from outgate.gate.restart.statefile import StateFile
from outgate.gate.restart.writer import Begin, Commit, Fresh, Writer
from outgate.gate.sweep import find_unheld

if TYPE_CHECKING:
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

    Metered = Union[Lease, Datagrams]
    Growth = Sequence[tuple[Metered, int, int]]

#: Seconds between the writing down of what has moved: at most as much as is missing of what ends unseen.
INTERVAL: Final = 1.0
#: Records made in one turn of the loop, at some 1 to 2 µs each, and readings in one of them.
SLICE: Final = 500
READINGS: Final = 50
#: Ids that are reserved at a time: the next gate begins behind them.
IDS: Final = 1 << 20
#: Bytes below which a file is not said anew, and how many times its size after that it may grow to.
SMALL: Final = 1 << 20
GROWTH: Final = 4
#: Seconds between attempts to say the file anew, where it could not be written.
RETRY: Final = 1.0
_KERNEL: Final = "/proc/sys/kernel/random/boot_id"


def kernel_boot() -> str:
    """Return what tells one boot of this host from another (random(4))."""
    with open(_KERNEL, encoding="ascii") as file:
        return file.read().strip()


def network() -> int:
    """Return the inode of our network namespace, 0 where it cannot be seen."""
    try:
        return os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return 0


class NoKeeping:
    """Keeps nothing: a gate that ends with its program has nobody to come after it."""

    def opened(self, item: Metered) -> None:
        """A connection has begun."""

    def ended(self, item: Metered, serial: int, reading: meter.Reading, how: str) -> None:
        """A connection has ended, and its line is on its way into the log."""

    def lent(self, loan: Loan) -> None:
        """Something has changed about who may redeem a lease."""

    def noted(self, grown: Growth) -> None:
        """Bytes have moved: a listener of the meters."""

    def leaves(self, item: Metered) -> bool:
        """Tell whether a lease is left to the next gate when this one stops."""
        return False

    def fileno(self) -> int:
        """Return the fd that makes the file ours, -1 for none."""
        return -1

    @property
    def path(self) -> str:
        """Where the file is, "" for none."""
        return ""

    def hold(self) -> None:
        """Write nothing until :meth:`release`: another gate is about to go on with the file."""

    def release(self) -> None:
        """Write on."""

    def stop(self) -> None:
        """Say no more."""

    def close(self) -> None:
        """Write what waits, and let go of the file; the log has been closed."""


NOTHING: Final = NoKeeping()


class Keeping(NoKeeping):
    """Keeps the state of a gate in a file."""

    def __init__(self, gate: Gate, file: StateFile, generation: int) -> None:
        """Say in the file what the gate has now, and go on from there.

        :param generation: how many gates have been there before.
        """
        self._gate = gate
        self._file = file
        self._kernel = kernel_boot()
        self._network = network()
        self._generation = generation
        self._reserved = 0
        self._numbers: dict[Process, int] = {}
        self._dirty: dict[int, Metered] = {}
        self._shares: list[records.Shared] = []
        self._is_saying = False
        self._is_stopping = False
        self._leaves_some = True
        self._left: set[int] = set()
        self._said = 0
        self._writer = Writer(file, gate.log.mark, self._tell)
        gate.meters.listeners.append(self.noted)
        self._handle: asyncio.Handle | None = None
        self._timer = gate.loop.call_later(INTERVAL, self._on_timer)
        self.say_anew()

    @property
    def path(self) -> str:
        return self._file.path

    def fileno(self) -> int:
        return self._file.fileno()

    # --- what happens -------------------------------------------------------------------------------------------------

    def opened(self, item: Metered) -> None:
        if item.id + IDS // 2 > self._reserved:
            self._reserve()
        for record in self._opened(item):
            self._writer.put(record)

    def ended(self, item: Metered, serial: int, reading: meter.Reading, how: str) -> None:
        self._dirty.pop(item.id, None)
        self._write_shares()
        connect_ms = item.connect_ms if isinstance(item, Lease) else None
        duration = round(time.monotonic() - item.begun, 6)
        sent, received = reading.sent, reading.received
        self._writer.put(records.Ended(item.id, serial, sent, received, duration, connect_ms, how))

    def lent(self, loan: Loan) -> None:
        self._writer.put(_lent(loan))

    def noted(self, grown: Growth) -> None:
        self._dirty.update([(item.id, item) for item, _, _ in grown])
        item = grown[0][0]
        if not isinstance(item, Lease) and len(item.destinations) > 1:
            shares = [(each.name, each.address, each.port, each.sent, each.received) for each in item.shares]
            self._shares.append(records.Shared(item.id, shares))

    # --- now and then -------------------------------------------------------------------------------------------------

    def _on_timer(self) -> None:
        if self._writer.failed or self._writer.size > max(SMALL, GROWTH * self._said):
            self.say_anew()
        dirty, self._dirty = self._dirty, {}
        self._write_shares()
        self._write_readings(iter(dirty.values()))

    def _write_shares(self) -> None:
        shares, self._shares = self._shares, []
        if shares:
            self._writer.put(b"".join(map(line, shares)))

    def _write_readings(self, items: Iterator[Metered]) -> None:
        slice_ = [(item.id, item.noted_sent, item.noted_received) for item in islice(items, SLICE)]
        if slice_:
            # Several to a line cost a third of what a line each does; a line that is spoiled costs them all a second.
            lines = [line(records.Reads(slice_[at : at + READINGS])) for at in range(0, len(slice_), READINGS)]
            self._writer.put(b"".join(lines))
        loop = self._gate.loop
        if len(slice_) == SLICE:
            self._timer = loop.call_soon(self._write_readings, items)  # type: ignore[assignment]
        else:
            self._timer = loop.call_later(INTERVAL, self._on_timer)

    def _tell(self, problem: str) -> None:
        """Say that the file could not be written, or is whole again. Called on the writer's thread."""
        self._gate.log.event("state-failed" if problem else "state-kept", reason=problem or None, file=self._file.path)

    # --- all of it ----------------------------------------------------------------------------------------------------

    def say_anew(self) -> None:
        """Write a file with what is open now, a slice at a time, and put it in the place of the one there is."""
        if self._is_saying:
            return
        self._is_saying = True
        gate = self._gate
        registry = gate.registry
        self._numbers.clear()
        self._reserved = registry.last + IDS
        header = records.Header(
            records.VERSION,
            self._kernel,
            self._network,
            gate.boot,
            self._generation,
            registry.first,
            self._reserved,
            gate.sharing.key,
        )
        self._writer.put(Begin())
        self._writer.put(Fresh(line(header)))
        items: list[Metered] = [*registry.leases.values(), *gate.udp.sockets.values(), *gate.orphans.known.values()]
        self._say(iter(items), len(line(header)))

    def _say(self, items: Iterator[Metered], size: int) -> None:
        slice_ = tuple(islice(items, SLICE))
        pieces: list[bytes] = []
        for item in slice_:
            said = self._opened(item)
            if not said:
                continue
            pieces += map(line, said)
            pieces.append(line(records.Read(item.id, item.noted_sent, item.noted_received)))
            loan = self._gate.sharing.loans.get(item.id)
            if loan is not None:
                pieces.append(line(_lent(loan)))
            elif isinstance(item, Orphan) and item.lent is not None:
                pieces.append(line(item.lent))
        data = b"".join(pieces)
        self._writer.put(Fresh(data))
        size += len(data)
        if len(slice_) == SLICE and not self._is_stopping:
            self._handle = self._gate.loop.call_soon(self._say, items, size)
            return
        self._writer.put(Commit())
        self._said = size
        self._is_saying = False

    def _opened(self, item: Metered) -> list[records.Record]:
        """Return the record of an open connection, after that of its process where the file has it not yet; or none."""
        if isinstance(item, Lease):
            decision = item.decision
            if decision is None or item.state not in (life.DIALLED, life.OPEN):
                return []
            (host, port), address = item.asked, item.address
            transport, path, serial, inode, connect_ms = "tcp", item.way, item.number, item.inode, item.connect_ms
            via, before = item.via, item.before
        else:
            first = item.first
            if first is None or item.is_ended:
                return []
            decision, host = first.decision, first.host
            address, port = first.target[:2]
            transport, path, serial, inode, connect_ms = "udp", "relay", 1, 0, None
            via, before = "", NOTHING_BEFORE
        process = item.process
        number = self._numbers.get(process)
        said: list[records.Record] = []
        if number is None:
            number = self._numbers[process] = len(self._numbers) + 1
            said.append(_known(number, process))
        opened = records.Opened(
            item.id,
            number,
            item.cookie,
            inode,
            item.family,
            transport,
            path,
            serial,
            item.begun,
            connect_ms,
            host,
            port,
            address,
            decision,
            via,
            before,
        )
        said.append(opened)
        return said

    def _reserve(self) -> None:
        self._reserved = self._gate.registry.last + IDS
        self._writer.put(records.Reserved(self._reserved))

    # --- the end ------------------------------------------------------------------------------------------------------

    def leaves(self, item: Metered) -> bool:
        return item.id in self._left

    def _is_left(self, lease: Lease) -> bool:
        if lease.side is not None or lease.decision is None or lease.state not in (life.DIALLED, life.OPEN):
            return False
        return not self._gate.sharing.is_parked(lease) or self._gate.store.keeps(lease)

    def hold(self) -> None:
        self._writer.hold()

    def release(self) -> None:
        self._writer.release()

    def stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        self._timer.cancel()
        if self._handle is not None:
            self._handle.cancel()
        with contextlib.suppress(ValueError):
            self._gate.meters.listeners.remove(self.noted)
        # As much as there is to say, in one go: the loop has stopped.
        gate = self._gate
        leases = [lease for lease in gate.registry.leases.values() if self._is_left(lease)]
        # A program may have ended just before, and nobody has looked yet.
        unheld = find_unheld({lease.inode: lease.process.pid for lease in leases if not gate.store.keeps(lease)})
        for lease in leases:
            if lease.inode not in unheld:
                self._left.add(lease.id)
                with contextlib.suppress(OSError):
                    reading = lease.own(meter.read(lease.sock))
                    if reading.state != meter.CLOSE:
                        gate.meters.note(lease, reading.sent, reading.received)
        self._leaves_some = bool(gate.orphans.known or self._left)
        self._is_saying = False
        self.say_anew()

    def close(self) -> None:
        self._writer.close()
        if not self._leaves_some:
            self._file.remove()
        self._file.close()


def _known(number: int, process: Process) -> records.Known:
    return records.Known(
        number,
        process.app.name,
        process.token,
        process.pid,
        process.uid,
        process.gid,
        process.program,
        list(process.parents),
        process.fenced,
        process.labels,
    )


def _lent(loan: Loan) -> records.Lent:
    return records.Lent(loan.item.id, loan.tenure, loan.made, loan.owed, loan.generation)
