"""Take everything over from the gate that runs: ask, receive, say that it has come, and go on where it stood."""

from __future__ import annotations

import array
import os
import socket
import time
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM
from _socket import socket as native
from typing import TYPE_CHECKING, Any

import msgspec

from outgate.core import lease as life
from outgate.core.formats import messages
from outgate.core.policy.decide import Policy
from outgate.errors import ConfigError
from outgate.gate.channel import Peer
from outgate.gate.configuration.settings import AppSettings
from outgate.gate.doors.listening import Door
from outgate.gate.kernel import meter, notify, patient
from outgate.gate.kernel.closer import Closer
from outgate.gate.names.resolver import Resolver
from outgate.gate.narrowing import narrowing
from outgate.gate.registry import App, Lease, Process
from outgate.gate.seal import cgroup
from outgate.gate.takeover.giving import ACCEPTED, ANSWER
from outgate.gate.takeover.state import OLDEST, VERSION, DatagramsState, DoorState, GateState, LeaseState, LoanState

if TYPE_CHECKING:
    from outgate.gate.server import Gate

_ROOM = socket.CMSG_SPACE(253 * 4)


class Taken:
    """What came over: the state, and the fds that belong to it."""

    def __init__(self, state: GateState, fds: list[int], listener: socket.socket) -> None:
        self.state = state
        self.fds = fds
        #: The gate's own; those of apps are among the fds.
        self.listener = listener
        self.doors = [door_of(each, fds[each.fd]) for each in state.doors]


def door_of(saved: DoorState, fd: int) -> Door:
    """Return a door at which the gate before has listened."""
    family = AF_INET6 if saved.wanted.startswith("[") else AF_INET
    return Door(saved.kind, saved.wanted, native(family, SOCK_STREAM, 0, fd), is_listening=True)


def take(path: str) -> Taken:
    """Ask the gate at a path for everything it has. It stops when this returns.

    :raises ConfigError: none answers there, it refuses, or it is of a version that this one does not take over from;
        it goes on then.
    """
    why: object = None
    for version in range(VERSION, OLDEST - 1, -1):
        try:
            return _take(path, version)
        except _OfAnother as refused:
            why = why or refused
        except OSError as e:
            why = why or e.strerror or e
            break
    raise ConfigError(f"--takeover: the gate at {path} hands nothing over: {why}")


class _OfAnother(Exception):
    """The other gate hands over in another form, and goes on."""


def _take(path: str, version: int) -> Taken:
    with socket.socket(AF_UNIX, SOCK_SEQPACKET) as sock:
        sock.settimeout(ANSWER)
        sock.connect(path)
        sock.send(_request(version))
        state, fds = _receive(sock)
        if state.seal:
            _see_that_it_can_be_entered(state.seal, path)
        own = next(each for each in state.listeners if not each.app)
        listener = socket.socket(AF_UNIX, SOCK_SEQPACKET, 0, fds[own.fd])
        # Before the other one ends, which the service manager would take for the end of the service.
        notify.Notifier.from_environ(os.environ, os.getpid()).main_pid(os.getpid())
        sock.send(ACCEPTED)
        return Taken(state, fds, listener)


def _see_that_it_can_be_entered(folder: str, path: str) -> None:
    """Enter the cgroup of the gate before and go back: outside of it nobody could dial what that gate has made.

    :raises ConfigError: this process may not.
    """
    try:
        cgroup.try_to_enter(folder)
    except OSError as e:
        raise ConfigError(
            f"--takeover: the gate at {path} seals its sockets, and its cgroup {folder} cannot be entered "
            f"({e.strerror}); take it over as its own user, where that is mounted"
        ) from None


def _request(version: int) -> bytes:
    hello = {"v": [messages.OLDEST, messages.VERSION], "role": "request", "token": os.urandom(16).hex()}
    return msgspec.json.encode({"op": messages.TAKE_OVER, "version": version, "hello": hello})


def _receive(sock: socket.socket) -> tuple[GateState, list[int]]:
    fds: list[int] = []
    expected = -1
    while len(fds) != expected:
        packet, ancillary, _, _ = sock.recvmsg(messages.MAX_PACKET, _ROOM, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds += array.array("i", data[: len(data) // 4 * 4])
        said: dict[str, Any] = msgspec.json.decode(packet) if packet else {"error": "it ended the channel"}
        if "fds" not in said:
            why = str(said.get("answer", said).get("error"))
            raise _OfAnother(why) if "version" in why else ConnectionAbortedError(0, why)
        expected = int(said["fds"])
    memory = fds.pop(0)
    with open(memory, "rb") as file:
        file.seek(0)
        return msgspec.json.decode(file.read(), type=GateState), fds


def restore(gate: Gate, taken: Taken) -> None:
    """Have a new gate go on where the last one stood. Its loop does not run yet."""
    state, fds = taken.state, taken.fds
    gate.boot, gate.generation = state.boot, state.generation
    gate.started = state.started
    gate.owns_listener = state.owns_listener
    gate.sharing.key = state.key
    registry = gate.registry
    registry.first, registry.last = state.first, state.next
    for name, counts in state.apps.items():
        app = app_of(gate, name)
        app.sockets, app.connects, app.denied = counts.sockets, counts.connects, counts.denied
        app.leases_ended, app.sent, app.received = counts.leases_ended, counts.sent, counts.received
        app.bindings.restore(counts.bindings)
    processes: list[Process] = []
    for each in state.processes:
        app = registry.apps.get(each.app) or gate.reception.operator
        process = Process(app, each.token, each.pid, each.uid, each.gid)
        process.program, process.parents, process.fenced = each.program, tuple(each.parents), each.fenced
        process.labels, process.guarded, process.door = each.labels, each.guarded, each.door
        process.told_idle = each.told_idle
        process.adopted.update(each.adopted)
        registry.join(process)
        gate.narrowings.hold(process, [narrowing(*lists) for lists in each.narrowed])
        processes.append(process)
    for listening in state.listeners:
        if listening.app:
            sock = socket.socket(AF_UNIX, SOCK_SEQPACKET, 0, fds[listening.fd])
            gate.reception.listen_again(sock, listening.app, listening.path)
    for lease in state.leases:
        _restore_lease(gate, lease, processes[lease.process], fds)
    for made in state.datagrams:
        _restore_datagrams(gate, made, processes[made.process], fds)
    for loan in state.loans:
        _restore_loan(gate, loan, processes, fds)
    for id, place, count in state.waits:
        gate.waits.note(processes[place], id, count)
    for channel in state.channels:
        sock = socket.socket(AF_UNIX, SOCK_SEQPACKET, 0, fds[channel.fd])
        peer = Peer(channel.pid, channel.uid, channel.gid)
        owner = None if channel.process is None else processes[channel.process]
        gate.reception.readmit(sock, peer, channel.strays, channel.app_name, owner, channel.is_anchor)
    for process in processes:
        if not process.channels:  # its own was busy, or it had none: it joins again, or has ended
            gate.ending.look(list(process.leases.values()))
            registry.forget(process)


def app_of(gate: Gate, name: str) -> App:
    """Return an app; one that the configuration names no more goes on with what it has open, and gets nothing new."""
    known = gate.registry.apps.get(name)
    if known is not None:
        return known
    settings = AppSettings(name, Policy.build(name, allow=()), billing=False)
    app = gate.registry.apps[name] = App(settings, Closer(name), Resolver(name, looked_up=gate.counts.looked_up))
    return app


def _restore_lease(gate: Gate, saved: LeaseState, process: Process, fds: list[int]) -> None:
    if saved.relayed is not None:
        sock = patient.take(fds[saved.fd], saved.family, native)
    else:
        state = meter.SYN_SENT if saved.state == life.DIALLED else meter.ESTABLISHED
        counted = saved.noted[0] + saved.before[0], saved.noted[1] + saved.before[1]
        sock = gate.aside.take(fds[saved.fd], saved.family, process.app, state, counted)
    lease = Lease(saved.id, process, sock, saved.cookie, saved.family)
    lease.state, lease.inode, lease.number = saved.state, saved.inode, saved.number
    lease.begun, lease.connect_ms = saved.begun, saved.connect_ms
    lease.asked, lease.address = saved.asked, saved.address
    lease.decision, lease.held_name = saved.decision, saved.held_name
    lease.noted_sent, lease.noted_received = saved.noted
    lease.via, lease.before = saved.via, saved.before
    lease.is_charged = saved.number > 0
    lease.renewed = time.monotonic()  # what it was is not worth a field: nobody loses a socket by it
    gate.registry.enter(lease)
    if lease.decision is not None:
        process.app.open += 1
    if saved.relayed is not None:
        kind = AF_UNIX
        if saved.relayed.is_door:
            kind = AF_INET if saved.family == 4 else AF_INET6
        inside = native(kind, SOCK_STREAM, 0, fds[saved.relayed.inside])
        gate.relaying.restore(lease, inside, saved.relayed)
    if saved.state == life.DIALLED:
        gate.settle_later(lease)
    if saved.is_let_go:
        gate.ending.look((lease,))


def _restore_datagrams(gate: Gate, saved: DatagramsState, process: Process, fds: list[int]) -> None:
    inside = native(AF_UNIX, SOCK_SEQPACKET, 0, fds[saved.inside])
    outside = None
    if saved.outside is not None:
        family = socket.AF_INET if saved.family == 4 else socket.AF_INET6
        outside = native(family, socket.SOCK_DGRAM, 0, fds[saved.outside])
    gate.udp.restore(saved, process, inside, outside)


def _restore_loan(gate: Gate, saved: LoanState, processes: list[Process], fds: list[int]) -> None:
    item = gate.registry.leases.get(saved.item) or gate.udp.sockets.get(saved.item)
    if item is None:
        return
    handed = None if saved.handed is None else native(AF_UNIX, SOCK_STREAM, 0, fds[saved.handed])
    holders = tuple(processes[place] for place in saved.holders)
    claim = None if saved.claim is None else (processes[saved.claim[0]], saved.claim[1])
    gate.sharing.restore(
        item, saved.tenure, saved.made, saved.owed, saved.since, holders, handed, saved.generation, claim
    )
