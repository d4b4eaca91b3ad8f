"""Give everything to the gate that takes this one's place, in one piece: between two turns of the loop, or not at all.

:func:`take_over` is the whole story on this side. Nothing is read, answered or carried between the moment in which the
state is written down and the next gate's word that it has it; without that word this gate goes on as if nothing had
happened.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from outgate.gate import wire
from outgate.gate.registry import Lease, Process
from outgate.gate.replies import Reply, refusal
from outgate.gate.takeover.state import (
    VERSION,
    AppState,
    ChannelState,
    DatagramsState,
    DestinationState,
    DoorState,
    GateState,
    KeepingState,
    LeaseState,
    ListenerState,
    LoanState,
    ProcessState,
    RelayedState,
)

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.datagram.destination import Destination
    from outgate.gate.server import Gate
    from outgate.gate.travel.sharing import Loan

#: Seconds that requests at work have to end; what is not answered by then is asked again by its client.
PATIENCE = 1.0
#: Seconds that the next gate has to say that it has everything.
ANSWER = 5.0
#: Fds in one packet: below SCM_MAX_FD (253).
BATCH = 200
ACCEPTED = b"taken"


async def take_over(gate: Gate, channel: Channel, process: Process, request: wire.TakeOver) -> Reply:
    """Give everything to the process at the other end of this channel, for the gate's own user or root."""
    if not gate.reception.may_manage(process):
        return refusal("no-app", uid=process.uid)
    if request.version != VERSION:
        return {"answer": {"ok": False, "error": f"this gate hands over as version {VERSION}, not {request.version}"}}
    paused = gate.reception.pause(channel)
    gate.passages.give_up()
    gate.doors.pause()
    mine = asyncio.current_task()
    others = [task for task in gate.tasks if task is not mine]
    if others:
        await asyncio.wait(others, timeout=PATIENCE)
    gate.passages.give_up()  # those that have begun since
    gate.doors.abandon()
    gate.relaying.cut_secured()
    gate.keeping.hold()
    gate.books.hand_over()
    taken = _give(gate, channel)
    if not taken:
        gate.keeping.release()
        gate.books.take_back()
        gate.reception.resume(paused)
        gate.doors.resume()
        return {"answer": {"ok": False, "error": "the next gate did not take it"}}
    gate.leave()


class _Fds:
    """The fds that travel, each once."""

    def __init__(self) -> None:
        self.all: list[int] = []

    def add(self, fd: int) -> int:
        self.all.append(fd)
        return len(self.all) - 1


def _give(gate: Gate, channel: Channel) -> bool:
    fds = _Fds()
    gate.quotas.let_go()
    state = _write_down(gate, channel, fds)
    text = msgspec.json.encode(state)
    memory = os.memfd_create("outgate takeover", os.MFD_CLOEXEC)
    try:
        _write_all(memory, text)
        return channel.hand_over([memory, *fds.all], BATCH, ANSWER) == ACCEPTED
    finally:
        os.close(memory)


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]


def _write_down(gate: Gate, channel: Channel, fds: _Fds) -> GateState:
    registry = gate.registry
    gate.underway.look()
    processes = [each for each in registry.processes.values() if each is not channel.process]
    places = {process: place for place, process in enumerate(processes)}
    leases = [lease for lease in registry.leases.values() if lease.process in places]
    return GateState(
        version=VERSION,
        pid=os.getpid(),
        boot=gate.boot,
        generation=gate.generation,
        started=gate.started,
        key=gate.sharing.key,
        first=registry.first,
        next=registry.last,
        policy=gate.settings.number,
        seal=gate.seal.folder,
        owns_listener=gate.owns_listener,
        listeners=[
            ListenerState(fds.add(sock.fileno()), app, path) for sock, app, path in gate.reception.all_listeners()
        ],
        apps={
            name: AppState(
                app.sockets, app.connects, app.denied, app.leases_ended, app.sent, app.received, app.bindings.saved()
            )
            for name, app in registry.apps.items()
        },
        processes=[_process(process) for process in processes],
        channels=[
            _channel(each, places, fds) for each in gate.reception.channels if each is not channel and not each.is_busy
        ],
        leases=[_lease(gate, lease, places, fds) for lease in leases],
        datagrams=[_datagrams(made, places, fds) for made in gate.udp.sockets.values() if made.process in places],
        loans=[_loan(loan, places, fds) for loan in gate.sharing.loans.values()],
        keeping=_keeping(gate, fds),
        doors=[DoorState(fds.add(door.sock.fileno()), door.kind, door.wanted) for door in gate.doors.listening],
        orphans=[(each.id, each.noted_sent, each.noted_received) for each in gate.orphans.known.values()],
        waits=[(id, places[process], count) for id, process, count in gate.waits.all() if process in places],
    )


def _keeping(gate: Gate, fds: _Fds) -> KeepingState | None:
    lock = gate.keeping.fileno()
    return None if lock < 0 else KeepingState(fds.add(lock), gate.keeping.path, gate.store.kept())


def _process(process: Process) -> ProcessState:
    return ProcessState(
        app=process.app.name,
        token=process.token,
        pid=process.pid,
        uid=process.uid,
        gid=process.gid,
        program=process.program,
        labels=process.labels,
        parents=list(process.parents),
        fenced=process.fenced,
        guarded=process.guarded,
        door=process.door,
        told_idle=process.told_idle,
        adopted=list(process.adopted),
        narrowed=[
            (None if allow is None else list(allow), list(deny), None if names is None else list(names))
            for allow, deny, names in process.narrowed.policies
        ],
    )


def _channel(channel: Channel, places: dict[Process, int], fds: _Fds) -> ChannelState:
    peer = channel.peer
    return ChannelState(
        fd=fds.add(channel.fileno()),
        pid=peer.pid,
        uid=peer.uid,
        gid=peer.gid,
        app_name=channel.app_name,
        process=places.get(channel.process) if channel.process is not None else None,
        is_anchor=channel.is_anchor,
        strays=channel.takes_strays,
    )


def _lease(gate: Gate, lease: Lease, places: dict[Process, int], fds: _Fds) -> LeaseState:
    return LeaseState(
        id=lease.id,
        process=places[lease.process],
        fd=fds.add(lease.sock.fileno()),
        cookie=lease.cookie,
        family=lease.family,
        state=lease.state,
        inode=lease.inode,
        number=lease.number,
        begun=lease.begun,
        connect_ms=lease.connect_ms,
        asked=lease.asked,
        address=lease.address,
        decision=lease.decision,
        held_name=lease.held_name,
        noted=(lease.noted_sent, lease.noted_received),
        is_let_go=gate.ending.is_let_go(lease),
        relayed=_relayed(lease, fds),
        via=lease.via,
        before=lease.before,
    )


def _relayed(lease: Lease, fds: _Fds) -> RelayedState | None:
    side = lease.side
    if side is None:
        return None
    relayed = side.relayed
    held, rest_out, rest_back, counted = relayed.in_between()
    return RelayedState(
        inside=fds.add(relayed.inside.fileno()),
        has_begun=relayed.outside is not None,
        held=held,
        sent=relayed.sent,
        received=relayed.received,
        rest_out=rest_out,
        rest_back=rest_back,
        counted=counted,
        failed=relayed.errno,
        active=relayed.active,
        filled=side.filled,
        errno=side.errno,
        nagle=side.nagle,
        is_door=bool(lease.process.door),
    )


def _datagrams(made: Datagrams, places: dict[Process, int], fds: _Fds) -> DatagramsState:
    return DatagramsState(
        id=made.id,
        process=places[made.process],
        inside=fds.add(made.inside.fileno()),
        outside=None if made.outside is None else fds.add(made.outside.fileno()),
        family=made.family,
        cookie=made.cookie,
        name=made.name,
        begun=made.begun,
        first=None if made.first is None else _destination(made.first),
        destinations=[_destination(each) for each in made.destinations],
        peer=made.peer,
        takes_strangers=made.takes_strangers,
        sent=made.sent,
        sent_datagrams=made.sent_datagrams,
        received=made.received,
        received_datagrams=made.received_datagrams,
        dropped=made.dropped,
        strangers=made.strangers,
        inode=made.inode,
        active=made.active,
        noted=(made.noted_sent, made.noted_received),
    )


def _destination(destination: Destination) -> DestinationState:
    return DestinationState(destination.header, destination.host, destination.name, destination.decision)


def _loan(loan: Loan, places: dict[Process, int], fds: _Fds) -> LoanState:
    return LoanState(
        item=loan.item.id,
        tenure=loan.tenure,
        made=loan.made,
        owed=loan.owed,
        since=loan.since,
        holders=[places[process] for process in loan.holders if process in places],
        handed=None if loan.handed is None else fds.add(loan.handed.fileno()),
        generation=loan.generation,
        claim=(places[loan.claim[0]], loan.claim[1]) if loan.claim is not None and loan.is_claimed else None,
    )
