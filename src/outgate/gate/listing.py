"""Show the open sockets, page by page, and end single ones: what ``outgate ps`` and ``outgate kill`` ask for."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING, Any

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
    from outgate.gate.server import Gate

#: Sockets in one reply: some 300 bytes each.
PAGE = 100
#: States of a lease that has something to show.
_SHOWN = (life.DIALLED, life.OPEN)


async def list_sockets(gate: Gate, channel: Channel, process: Process, request: wire.List) -> Reply:
    """Return one page of the sockets that are open: all for the gate's operator, else those of the asker's app."""
    everything = gate.reception.is_operator(process.uid)
    page = list(itertools.islice(_shown(gate, request, None if everything else process), PAGE))
    inodes = {id: inode for id, inode, _ in page if inode}
    found: dict[int, set[int]] = {}
    if inodes and request.holders:
        find = partial(holders.find, frozenset(inodes.values()))
        found = await gate.loop.run_in_executor(None, find)
    for id, _, row in page:
        row["holders"] = sorted(found.get(inodes.get(id, 0), ()))
    last = page[-1][0] if len(page) == PAGE else None
    return {"answer": {"sockets": [row for _, _, row in page], "next": last}}


def _shown(gate: Gate, request: wire.List, asker: Process | None) -> Any:
    """Give (id, inode, row) of the sockets behind the last one shown, in the order of their ids, which is their age."""
    now = time.monotonic()
    items: list[Lease | Datagrams] = [
        lease for id, lease in gate.registry.leases.items() if id > request.after and lease.state in _SHOWN
    ]
    items += [made for id, made in gate.udp.sockets.items() if id > request.after and made.name]
    items += [orphan for orphan in gate.orphans.known.values() if orphan.id > request.after]
    for item in sorted(items, key=lambda item: item.id):
        app = item.process.app
        if (asker is None or app is asker.app) and request.app in ("", app.name):
            row = _row_of_tcp(gate, item, now) if isinstance(item, Lease) else _row_of_udp(gate, item, now)
            yield item.id, row.pop("inode"), row


def _row_of_tcp(gate: Gate, lease: Lease, now: float) -> dict[str, Any]:
    if isinstance(lease, Orphan):
        return _row_of_orphan(gate, lease, now)
    side = lease.side
    counted = meter.read(lease.sock) if side is None else reading(side)
    idle = meter.idle(lease.sock) if side is None else now - side.relayed.active
    row = _row(gate, lease, now - lease.begun, min(idle, now - lease.begun), counted.sent, counted.received)
    host, port = lease.asked
    row.update(lease=gate.lease_name(lease), transport="tcp", host=host, address=lease.address, port=port)
    row.update(path="direct" if side is None else "relay", state=lease.state, inode=lease.inode)
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
    gate: Gate, item: Lease | Datagrams, age: float, idle: float | None, sent: int, received: int
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
        "tenure": tenure.HELD if loan is None else loan.tenure,
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


def _named(gate: Gate, name: str) -> Lease | Datagrams | None:
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
    return made if made is not None and made.name else gate.orphans.find(id)
