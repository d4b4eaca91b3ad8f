"""Show the open sockets, page by page, and end single ones: what ``outgate ps`` and ``outgate kill`` ask for."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final

from outgate.core import lease as life
from outgate.core import tenure
from outgate.gate import wire
from outgate.gate.kernel import holders, meter
from outgate.gate.registry import Lease, Process
from outgate.gate.relay.relaying import reading
from outgate.gate.replies import Reply, refusal
from outgate.gate.restart.orphans import Orphan

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.fleet.guest import Guest
    from outgate.gate.registry import App
    from outgate.gate.server import Gate

#: Sockets in one reply: some 300 bytes each.
PAGE: Final = 100
#: Seconds of the loop that one slice of a page takes. A row is made in some 8 µs.
BUDGET: Final = 0.001
#: Seconds for which it is known who holds the sockets of the pages after the first.
FRESH: Final = 1.0
#: States of a lease that has something to show.
_SHOWN = (life.DIALLED, life.OPEN)


class Listing:
    """Makes the pages. One is made at a time, a slice each turn of the loop: many who look hold it no longer than one.

    :param gate: whose sockets.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._turn = asyncio.Lock()
        #: Inode → pids, of the sockets that were open when a first page was asked for; empty after :data:`FRESH`.
        self._holders: dict[int, set[int]] = {}
        self._expiry: asyncio.TimerHandle | None = None

    async def page(self, app: App | None, after: int) -> list[tuple[int, int, dict[str, Any]]]:
        """Return (id, inode, row) of the sockets behind the last one shown, in the order of their ids: their age.

        :param app: whose, ``None`` for all.
        :param after: id of that last one.
        """
        found: list[tuple[int, int, dict[str, Any]]] = []
        gate = self._gate
        async with self._turn:
            orphans = {orphan.id: orphan for orphan in gate.orphans.known.values()}
            until = time.perf_counter() + BUDGET
            for id in self._ids(app, after, orphans):
                if time.perf_counter() >= until:
                    await asyncio.sleep(0)
                    until = time.perf_counter() + BUDGET
                row = self._row(id, orphans)
                if row is not None:
                    found.append((id, row.pop("inode"), row))
                    if len(found) == PAGE:
                        break
            await asyncio.sleep(0)  # whose turn it is next begins with a turn of the loop of its own
        return found

    def _ids(self, app: App | None, after: int, orphans: dict[int, Orphan]) -> list[int]:
        registry, sockets, guests = self._gate.registry, self._gate.udp.sockets, self._gate.fleet.guests
        if app is None:
            ids = [*registry.leases, *sockets, *guests, *orphans]
        else:
            ids = [id for process in registry.processes.values() if process.app is app for id in process.leases]
            ids += [id for id, made in sockets.items() if made.process.app is app]
            ids += [id for id, guest in guests.items() if guest.process.app is app]
            ids += [id for id, orphan in orphans.items() if orphan.process.app is app]
        ids.sort()
        return ids[bisect_right(ids, after) :]

    def _row(self, id: int, orphans: dict[int, Orphan]) -> dict[str, Any] | None:
        """Return what is shown of a socket; ``None`` where it has ended meanwhile, or was not put to use yet."""
        gate = self._gate
        now = time.monotonic()
        lease = gate.registry.leases.get(id)
        if lease is not None:
            return _row_of_tcp(gate, lease, now) if lease.state in _SHOWN else None
        made = gate.udp.sockets.get(id)
        if made is not None:
            return _row_of_udp(gate, made, now) if made.name else None
        guest = gate.fleet.guests.get(id)
        if guest is not None:
            return _row_of_guest(gate, guest, now)
        orphan = orphans.get(id)
        return _row_of_orphan(gate, orphan, now) if orphan is not None and orphan.state in _SHOWN else None

    async def holders(self, inodes: frozenset[int], is_first: bool, is_last: bool) -> dict[int, set[int]]:
        """Return inode → pids of the processes that have it open, for one page.

        To look through ``/proc`` costs the same for one socket as for all. So where more pages follow the first, it is
        looked for all, and that is good for the pages that are asked for within :data:`FRESH`.
        """
        if not is_first and inodes <= self._holders.keys():
            return self._holders
        if not is_last:
            inodes |= {lease.inode for lease in self._gate.registry.leases.values()}
            inodes |= {guest.inode for guest in self._gate.fleet.guests.values()}
        loop = self._gate.loop
        found = await loop.run_in_executor(None, holders.find, inodes)
        if not is_last:
            self.stop()
            self._holders = found
            self._expiry = loop.call_later(FRESH, self.stop)
        return found

    def stop(self) -> None:
        """Forget who holds what."""
        self._holders = {}
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


async def list_sockets(gate: Gate, channel: Channel, process: Process, request: wire.List) -> Reply:
    """Return one page of the sockets that are open: all for the gate's operator, else those of the asker's app."""
    is_operator = gate.reception.is_operator(process.uid)
    app = gate.registry.apps.get(request.app) if request.app else None if is_operator else process.app
    may_see = app is process.app or (is_operator and (app is not None or not request.app))
    page = await gate.listing.page(app, request.after) if may_see else []
    inodes = frozenset(inode for _, inode, _ in page if inode)
    last = page[-1][0] if len(page) == PAGE else None
    found: dict[int, set[int]] = {}
    if inodes and request.holders:
        found = await gate.listing.holders(inodes, is_first=request.after < 0, is_last=last is None)
    for _, inode, row in page:
        row["holders"] = sorted(found.get(inode, ()))
    return {"answer": {"sockets": [row for _, _, row in page], "next": last}}


def _row_of_tcp(gate: Gate, lease: Lease, now: float) -> dict[str, Any]:
    side = lease.side
    if side is None:
        counted, idle = meter.look(lease.sock)
        counted = lease.own(counted)
    else:
        counted, idle = reading(side), now - side.relayed.active
    row = _row(gate, lease, now - lease.begun, min(idle, now - lease.begun), counted.sent, counted.received)
    host, port = lease.asked
    row.update(lease=gate.lease_name(lease), transport="tcp", host=host, address=lease.address, port=port)
    row.update(path="direct" if side is None else "relay", state=lease.state, inode=lease.inode)
    row["readable"] = gate.aside.is_readable(lease)
    row["elsewhere"] = sorted({visit.at for visit in gate.fleet.visits.get(lease.id, ())})
    return row


def _row_of_guest(gate: Gate, guest: Guest, now: float) -> dict[str, Any]:
    row = _row(gate, guest, now - guest.begun, now - guest.active, guest.sent, guest.received)
    facts = guest.facts
    row.update(lease=gate.name_of(guest.id), transport="tcp")
    row.update(host=facts["host"], address=facts["address"], port=facts["port"])
    row.update(path="relay", state=life.OPEN, inode=guest.inode, gate=guest.owner, lease_there=facts["lease"])
    return row


def _row_of_orphan(gate: Gate, orphan: Orphan, now: float) -> dict[str, Any]:
    row = _row(gate, orphan, now - orphan.begun, None, orphan.noted_sent, orphan.noted_received)
    host, port = orphan.asked
    row.update(lease=gate.lease_name(orphan), transport="tcp", host=host, address=orphan.address, port=port)
    row.update(path=orphan.way, state="orphan", inode=orphan.inode)
    return row


def _row_of_udp(gate: Gate, made: Datagrams, now: float) -> dict[str, Any]:
    row = _row(gate, made, now - made.begun, None, made.sent, made.received)
    first = made.first
    host, (address, port) = (first.host, first.target[:2]) if first is not None else ("", ("", 0))
    row.update(lease=made.name, transport="udp", host=host, address=address, port=port)
    row.update(path="relay", state=life.OPEN, inode=0)
    return row


def _row(
    gate: Gate, item: Lease | Datagrams | Guest, age: float, idle: float | None, sent: int, received: int
) -> dict[str, Any]:
    process = item.process
    loan = gate.sharing.loans.get(item.id)
    return {
        "lease": "",
        "app": process.app.name,
        "pid": process.pid,
        "uid": process.uid,
        "program": process.program,
        "age": round(age, 3),
        "idle": None if idle is None else round(max(0.0, idle), 3),
        "sent": sent,
        "received": received,
        "readable": True,
        "tenure": tenure.HELD if loan is None else loan.tenure,
        "elsewhere": [],
        "gate": "",
    }


async def kill(gate: Gate, channel: Channel, process: Process, request: wire.Kill) -> Reply:
    """Reset one connection, for the gate's operator: the program gets ECONNRESET, the peer a reset, the log why."""
    if not gate.reception.may_manage(process):
        return refusal("no-app", uid=process.uid)
    item = _named(gate, request.lease)
    if item is None:
        return {"answer": {"ok": False, "error": f"no socket {request.lease} is open"}}
    if isinstance(item, Orphan):
        said = f"{request.lease} was opened by a gate that has died; only its program {item.process.pid} can close it"
        return {"answer": {"ok": False, "error": said}}
    if isinstance(item, Lease):
        gate.ending.cut(item, "killed")
    else:
        item.end("killed")
    return {"answer": {"ok": True, "lease": request.lease}}


def _named(gate: Gate, name: str) -> Lease | Datagrams | Guest | None:
    boot, _, number = name.partition("-")
    number, _, dial = number.partition(".")
    if boot != gate.boot or not number.isdecimal() or len(number) > 20:
        return None
    id = int(number) + gate.registry.first
    lease = gate.registry.leases.get(id)
    if lease is not None:
        is_it = lease.state in _SHOWN and (not dial or gate.lease_name(lease) == name)
        return lease if is_it else None
    made = gate.udp.sockets.get(id)
    if made is not None and made.name:
        return made
    return gate.fleet.guests.get(id) or gate.orphans.find(id)
