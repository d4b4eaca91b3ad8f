"""What one gate tells the next: every process, channel, socket and count, as plain data, with fds by number.

A file descriptor is its place in the list of those that travel along. Times are the kernel's monotonic clock, which is
one for all processes of a host.
"""

from __future__ import annotations

from typing import Optional

import msgspec

from outgate.core.policy.decision import Decision

#: Goes up whenever something here changes that the gate before could not do without, or would lose. A gate takes over
#: from those of :data:`OLDEST` on: what came later has a default, which says what there was before. The reverse is
#: refused, and the gate that runs goes on.
VERSION = 3
OLDEST = 2


class AppState(msgspec.Struct):
    """The counts of an app, and which names its addresses have: (address, name, until, leases)."""

    sockets: int
    connects: int
    denied: int
    leases_ended: int
    sent: int
    received: int
    bindings: list[tuple[str, str, float, int]]


class ProcessState(msgspec.Struct):
    """A program's process."""

    app: str
    token: str
    pid: int
    uid: int
    gid: int
    program: str
    parents: list[str]
    fenced: bool
    told_idle: float
    adopted: list[int]
    labels: str = ""
    narrowed: list[tuple[Optional[list[str]], list[str], Optional[list[str]]]] = []
    guarded: bool = False
    door: str = ""


class ChannelState(msgspec.Struct):
    """An open channel; ``process`` is a place in the list of processes, ``None`` before the hello."""

    fd: int
    pid: int
    uid: int
    gid: int
    app_name: str
    process: Optional[int]
    is_anchor: bool
    strays: bool


class RelayedState(msgspec.Struct):
    """What carries a relayed lease: see :class:`outgate.gate.relay.pair.Relayed`."""

    inside: int
    has_begun: bool
    held: int
    sent: int
    received: int
    rest_out: bytes
    rest_back: bytes
    counted: int
    failed: int
    active: float
    filled: int
    errno: int
    nagle: bool
    is_door: bool = False


class LeaseState(msgspec.Struct):
    """A TCP socket of the gate's: see :class:`outgate.gate.registry.Lease`."""

    id: int
    process: int
    fd: int
    cookie: int
    family: int
    state: str
    inode: int
    number: int
    begun: float
    connect_ms: Optional[float]
    asked: tuple[str, int]
    address: str
    decision: Optional[Decision]
    held_name: str
    noted: tuple[int, int]
    is_let_go: bool
    relayed: Optional[RelayedState]
    via: str = ""
    before: tuple[int, int] = (0, 0)


class DestinationState(msgspec.Struct):
    """An address that a UDP socket sends to."""

    header: bytes
    host: str
    name: Optional[str]
    decision: Decision


class DatagramsState(msgspec.Struct):
    """A UDP socket: see :class:`outgate.gate.datagram.datagrams.Datagrams`."""

    id: int
    process: int
    inside: int
    outside: Optional[int]
    family: int
    cookie: int
    name: str
    begun: float
    first: Optional[DestinationState]
    destinations: list[DestinationState]
    peer: bytes
    takes_strangers: bool
    sent: int
    sent_datagrams: int
    received: int
    received_datagrams: int
    dropped: int
    strangers: int
    inode: int
    active: float
    noted: tuple[int, int]


class LoanState(msgspec.Struct):
    """A lease of which descriptors are out: see :class:`outgate.gate.travel.sharing.Loan`."""

    item: int
    tenure: str
    made: int
    owed: int
    since: float
    holders: list[int]
    handed: Optional[int]
    generation: int
    claim: Optional[tuple[int, int]]


class KeepingState(msgspec.Struct):
    """The state file: the fd of its lock, its path, and the cookies of what the service manager keeps for us."""

    lock: int
    path: str
    stored: list[int]


class ListenerState(msgspec.Struct):
    """A socket at which programs reach the gate; ``app`` is "" for the gate's own."""

    fd: int
    app: str
    path: str


class DoorState(msgspec.Struct):
    """A listener for foreign programs: see :class:`outgate.gate.doors.listening.Door`."""

    fd: int
    kind: str
    wanted: str


class GateState(msgspec.Struct):
    """A whole gate.

    :ivar seal: the folder of its cgroup, "" where it has none of its own.
    :ivar orphans: connections that it holds no duplicate of: id, bytes sent and received as far as they are counted.
    """

    version: int
    pid: int
    boot: str
    generation: int
    started: float
    key: bytes
    first: int
    next: int
    policy: int
    owns_listener: bool
    listeners: list[ListenerState]
    apps: dict[str, AppState]
    processes: list[ProcessState]
    channels: list[ChannelState]
    leases: list[LeaseState]
    datagrams: list[DatagramsState]
    loans: list[LoanState]
    keeping: Optional[KeepingState]
    waits: list[tuple[int, int, int]]
    seal: str
    doors: list[DoorState] = []
    orphans: list[tuple[int, int, int]] = []
