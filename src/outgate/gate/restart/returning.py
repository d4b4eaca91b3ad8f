"""Go on where a gate died: log what ended meanwhile, take up again what is open, meter the rest until it comes back.

:func:`go_on` is the story, and :func:`go_on_with` what is left of it where a gate takes the place of one that runs; a
program that gives its sockets back is :mod:`outgate.gate.restart.claiming`.
"""

from __future__ import annotations

import os
import re
from _socket import socket as native
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from outgate.gate.kernel import fetch, meter
from outgate.gate.registry import Process
from outgate.gate.restart import keeping
from outgate.gate.restart.adopting import adopt, is_verified
from outgate.gate.restart.orphans import Orphan
from outgate.gate.restart.records import Past
from outgate.gate.takeover.taking import app_of

if TYPE_CHECKING:
    from outgate.gate.restart.records import Known
    from outgate.gate.server import Gate

#: Bytes of the log's end in which the line of an end is looked for that may or may not have been written.
_TAIL = 1 << 20
#: The beginning of such a line, as :mod:`outgate.gate.decisionlog.lines` orders it.
_END = re.compile(rb'"event":"end","lease":"([^"]+)"')


def take_identity(gate: Gate, past: Past) -> int:
    """Have a gate go on with the names, ids and descriptors of the one before, and return its generation."""
    header = past.header
    if header is None:
        return 0
    gate.boot = header.boot
    gate.generation = header.generation + 1
    gate.sharing.key = header.key
    gate.registry.first, gate.registry.last = header.first, past.reserved
    return gate.generation


def go_on(gate: Gate, past: Past, stored: Mapping[int, native], log_path: str) -> None:
    """Take up what the gate before this one had open. The loop does not run yet.

    :param stored: cookie → socket that the service manager has kept for us: those that no process had.
    :param log_path: where the decision log is, "-" if it is no file.
    """
    processes: dict[tuple[int, str], Process] = {}
    logged = _logged(log_path)
    _log_ends(gate, past, processes, logged)
    header = past.header
    is_same_boot = header is not None and header.kernel == keeping.kernel_boot()
    orphans: list[Orphan] = []
    for left in past.left.values():
        if gate.name_of(left.opened.id, left.opened.serial).encode() in logged:
            continue
        orphan = gate.orphans.make(left, _process(gate, left.known, processes))
        orphan.process.app.open += 1
        if left.opened.transport != "tcp" or left.opened.path != "direct" or not is_same_boot:
            gate.log_end(orphan, _last(orphan), "gate-died", incomplete=True, transport=left.opened.transport)
        elif (kept := stored.get(orphan.cookie)) is not None:
            adopt(gate, orphan, os.dup(kept.fileno()), orphan.process)
        else:
            orphans.append(orphan)
    taken = _fetch(gate, orphans)
    for orphan in gate.orphans.enter([orphan for orphan in orphans if orphan.cookie not in taken]):
        gate.log_end(orphan, _last(orphan), "gate-died", incomplete=True)
    for process in processes.values():
        if process.leases:  # it says itself when it closes, as soon as it has joined again; until then we look
            gate.ending.look([lease for lease in process.leases.values() if not gate.sharing.is_parked(lease)])
    gate.log.event(
        "returned",
        leases=len(gate.registry.leases),
        orphans=len(gate.orphans.known),
        reason=f"{past.damaged} lines of the state file are damaged" if past.damaged else None,
    )


def go_on_with(gate: Gate, past: Past, had: Iterable[tuple[int, int, int]]) -> None:
    """Meter on what the gate whose place this one has taken held no duplicate of.

    :param had: the ids of those, and their bytes sent and received as far as they are counted; the file, in which the
        rest stands, may lag behind.
    """
    processes = dict(gate.registry.processes)
    orphans: list[Orphan] = []
    for id, sent, received in had:
        left = past.left.get(id)
        if left is not None:
            left.sent, left.received = sent, received
            orphan = gate.orphans.make(left, _process(gate, left.known, processes))
            orphan.process.app.open += 1
            orphans.append(orphan)
    for orphan in gate.orphans.enter(orphans):
        gate.log_end(orphan, _last(orphan), "gate-died", incomplete=True)


def _log_ends(gate: Gate, past: Past, processes: dict[tuple[int, str], Process], logged: set[bytes]) -> None:
    """Write the lines of ends that the gate before this one had written down, and perhaps not logged any more."""
    for left, end in past.unlogged.values():
        if gate.name_of(end.id, end.serial).encode() in logged:
            continue
        left.sent, left.received = end.sent, end.received
        orphan = gate.orphans.make(left, _process(gate, left.known, processes))
        orphan.process.app.open += 1
        orphan.connect_ms = end.connect_ms
        reading = meter.Reading(meter.CLOSE, end.sent, end.received)
        gate.log_end(orphan, reading, end.how, transport=left.opened.transport, duration=end.duration)


def _logged(path: str) -> set[bytes]:
    """Return the leases whose ends stand at the end of a log."""
    if path == "-":
        return set()
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return set(_END.findall(file.read()))
    except OSError:
        return set()


def _process(gate: Gate, known: Known, processes: dict[tuple[int, str], Process]) -> Process:
    key = (known.uid, known.token)
    process = processes.get(key)
    if process is None:
        process = processes[key] = Process(app_of(gate, known.app), known.token, known.pid, known.uid, known.gid)
        process.program, process.parents, process.fenced = known.program, tuple(known.parents), known.fenced
        process.labels = known.labels
        process.is_returned = True
    return process


def _last(orphan: Orphan) -> meter.Reading:
    return meter.Reading(meter.CLOSE, orphan.noted_sent, orphan.noted_received)


def _fetch(gate: Gate, orphans: Iterable[Orphan]) -> set[int]:
    """Take duplicates from the programs themselves, where the kernel lets us, and return the cookies of those."""
    wanted = {orphan.inode: orphan for orphan in orphans}
    if not wanted:
        return set()
    found = fetch.find(wanted, {orphan.process.pid for orphan in wanted.values()})
    found |= fetch.find(wanted.keys() - found.keys())  # perhaps another process has it by now
    taken: set[int] = set()
    fetcher = fetch.Fetcher()
    try:
        for inode, (pid, number) in found.items():
            orphan = wanted[inode]
            try:
                fd = fetcher.take(pid, number)
            except OSError:
                continue
            if not is_verified(fd, orphan):
                orphan.process.app.closer.put(fd)  # the number is another file's by now: it may be slow to close
                continue
            adopt(gate, orphan, fd, orphan.process)
            taken.add(orphan.cookie)
    finally:
        fetcher.close()
    return taken
