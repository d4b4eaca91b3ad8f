"""Who is connected, and what they hold: apps, processes and leases, as plain records."""

from __future__ import annotations

import os
import secrets
from _socket import socket as native
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.name.bindings import Bindings
from outgate.core.policy.narrow import NOT_NARROWED
from outgate.core.transitions import follow
from outgate.gate.kernel import meter
from outgate.gate.names.relearn import Relearning

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision
    from outgate.gate.channel import Channel
    from outgate.gate.configuration.config import AppSettings
    from outgate.gate.kernel.closer import Closer
    from outgate.gate.names.resolver import Resolver
    from outgate.gate.relay.relaying import Side
    from outgate.gate.wayout.passages import Passage


#: Of nearly all leases.
NOTHING_BEFORE = (0, 0)


class App:
    """An identity that policy, limits and counts are keyed on; lives on when the configuration is read again."""

    __slots__ = (
        "bindings",
        "closer",
        "connects",
        "denied",
        "ending",
        "held",
        "is_configured",
        "leases_ended",
        "name",
        "open",
        "processes",
        "received",
        "relearning",
        "resolver",
        "sent",
        "settings",
        "sockets",
        "vetted",
    )

    def __init__(self, settings: AppSettings, closer: Closer, resolver: Resolver) -> None:
        self.name = settings.name
        self.settings = settings
        #: Whether the configuration still has it. One that it has no more gets nothing.
        self.is_configured = True
        #: Digest of a policy that lets all through that is open now; ``b""`` where none is known to.
        self.vetted = b""
        self.closer = closer
        self.resolver = resolver
        #: Which names its look-ups gave an address, and how they are looked up again.
        self.bindings = Bindings()
        self.relearning = Relearning()
        #: Sockets the gate has open for it: born, dialled and connected.
        self.held = 0
        #: Those that have been dialled.
        self.open = 0
        #: Those of them that are being ended, on the thread which closes its sockets.
        self.ending = 0
        #: Processes that have a channel or a socket.
        self.processes = 0
        #: Counts since the gate started.
        self.sockets = self.connects = self.denied = self.leases_ended = 0
        self.sent = self.received = 0

    def adopt(self, settings: AppSettings) -> None:
        """Go on with what the configuration says now. Bindings stay: they are facts, rules decide what they open."""
        self.settings = settings
        self.is_configured = True
        self.resolver.forget()

    def dismiss(self, number: int) -> None:
        """Note that the configuration has it no more.

        :param number: of the policies in force.
        """
        self.is_configured = False
        # What its datagrams were judged by is not the policy in force any more.
        self.settings = replace(self.settings, policy=replace(self.settings.policy, number=number))

    def __repr__(self) -> str:
        return f"<App {self.name} held={self.held} open={self.open}>"


class Process:
    """A program's process, joined over its channels by the token it chose."""

    __slots__ = (
        *("adopted", "app", "channels", "fenced", "gid", "labels", "leases", "narrowed", "parents", "pid", "program"),
        *("door", "guarded", "is_returned", "token", "told_idle", "uid"),
    )

    def __init__(self, app: App, token: str, pid: int, uid: int, gid: int) -> None:
        self.app = app
        self.token = token
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.program = ""
        #: What its bytes are booked under beside its app (:mod:`outgate.core.bill.labels`).
        self.labels = ""
        self.parents: tuple[str, ...] = ()
        #: What it, or what started it, has given up (:mod:`outgate.gate.narrowing`).
        self.narrowed = NOT_NARROWED
        self.fenced = False
        #: Whether a guard answers its network calls, so that it may hold the kernel's sockets.
        self.guarded = False
        #: The kind of door that it comes by, "" for a process with a client. It holds no socket of the gate's then, and
        #: stands for all of an app's connections that come there from one address.
        self.door = ""
        self.channels = 0
        #: Seconds after which its idle sockets are taken wherever they are, as it was told; 0 for not at all.
        self.told_idle: float = 0
        #: Whether it was an earlier gate's, which has died, and has not joined this one yet.
        self.is_returned = False
        self.leases: dict[int, Lease] = {}
        #: Ids of sockets that other processes opened, and that came here in a way we did not see.
        self.adopted: set[int] = set()

    def may_use(self, opener: Process, id: int) -> bool:
        """Tell whether a socket is this process's to use: its own, of one it was forked from, adopted, or redeemed.

        :param opener: the process that has it from us.
        """
        if opener is self or id in self.adopted:
            return True
        return opener.uid == self.uid and opener.token in self.parents

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.program!r} app={self.app.name} leases={len(self.leases)}>"


class Lease:
    """One socket of the gate's in a program's hands."""

    __slots__ = (
        "_host",
        "_port",
        "address",
        "before",
        "begun",
        "born_on",
        "connect_ms",
        "cookie",
        "decision",
        "family",
        "held_name",
        "id",
        "inode",
        "is_charged",
        "noted_received",
        "noted_sent",
        "number",
        "passage",
        "process",
        "renewed",
        "sent_at",
        "side",
        "sock",
        "state",
        "via",
    )

    def __init__(self, id: int, process: Process, sock: native, cookie: int, family: int) -> None:
        self.id = id
        self.process = process
        self.sock = sock
        self.cookie = cookie
        #: 4 or 6.
        self.family = family
        self.state = life.BORN
        #: What the lists of open files in /proc call it; 0 where no program holds anything of it.
        self.inode = 0 if process.door else os.fstat(sock.fileno()).st_ino
        #: Counts dials: a socket whose connect failed may be dialled again, and that is a new line in the log.
        self.number = 0
        #: Bytes of this connection that have been counted (:mod:`outgate.gate.metering`).
        self.noted_sent = self.noted_received = 0
        #: When its meter was last found to have gone up by what was sent on the direct path (monotonic seconds).
        self.sent_at = 0.0
        #: When it was last in use as far as is known (monotonic seconds), where what is idle is always taken.
        self.renewed = 0.0
        #: Whether the quotas have counted it as a socket that is put to use.
        self.is_charged = False
        #: Of the last dial, for the log.
        self.begun = 0.0
        self.connect_ms: float | None = None
        self._host, self._port = "", 0
        self.address = ""
        self.decision: Decision | None = None
        #: The proxy that the last dial led to, "" for none; and what is under way with it.
        self.via = ""
        self.passage: Passage | None = None
        #: Bytes that the kernel has counted and that are not the app's: those of the gate's words with a proxy.
        self.before = NOTHING_BEFORE
        #: Canonical name that it keeps bound to its address as long as it lives, "" for none.
        self.held_name = ""
        #: Where the gate carries its bytes: the rest of what it keeps.
        self.side: Side | None = None
        #: The channel whose reply carried it, as long as that may be unread.
        self.born_on: Channel | None = None

    @property
    def transport(self) -> str:
        """What carries its bytes: ``tcp``, or ``udp`` where it is a UDP socket of a gate that died."""
        return "tcp"

    @property
    def shares(self) -> Sequence[tuple[str, str, int, int, int]]:
        """Where it is a UDP socket of a gate that died, as :attr:`.Left.shares`."""
        return ()

    @property
    def way(self) -> str:
        """How its bytes travel, ``direct`` or ``relay``."""
        return "direct" if self.side is None else "relay"

    @property
    def asked(self) -> tuple[str, int]:
        """The host and port that the program asked for; kept apart, for a tuple is 56 bytes."""
        return self._host, self._port

    @asked.setter
    def asked(self, host_and_port: tuple[str, int]) -> None:
        self._host, self._port = host_and_port

    def own(self, reading: meter.Reading) -> meter.Reading:
        """Return what is the app's of what the kernel has counted of its socket."""
        sent, received = self.before
        if not (sent or received):
            return reading
        return meter.Reading(reading.state, max(0, reading.sent - sent), max(0, reading.received - received))

    def see(self, event: str) -> None:
        """Go to the state that follows."""
        self.state = follow(life.TRANSITIONS, self.state, event)
        if self.held_name and self.state in (life.FAILED, life.ENDED):
            self.process.app.bindings.release(self.held_name, self.address)
            self.held_name = ""

    def bind(self, name: str) -> None:
        """Keep a name bound to the address just dialled until the connection has ended."""
        self.held_name = name
        if name:
            self.process.app.bindings.hold(name, self.address)

    def __repr__(self) -> str:
        return f"<Lease {self.id} {self.process.app.name} → {self.address or '?'} {self.state}>"


class Registry:
    """Every process and socket the gate knows."""

    def __init__(self) -> None:
        self.apps: dict[str, App] = {}
        self.processes: dict[tuple[int, str], Process] = {}
        self.leases: dict[int, Lease] = {}
        self.by_cookie: dict[int, Lease] = {}
        #: Ids begin anywhere: a client may close what an earlier gate made, and must not hit what this one made.
        self.first = self.last = secrets.randbits(48)

    def number(self) -> int:
        """Return the id of a new socket."""
        self.last += 1
        return self.last

    def add(self, process: Process, sock: native, cookie: int, family: int, channel: Channel | None = None) -> Lease:
        """Enter a born socket that leaves over a channel."""
        lease = Lease(self.number(), process, sock, cookie, family)
        lease.born_on = channel
        self.enter(lease)
        process.app.sockets += 1
        return lease

    def enter(self, lease: Lease) -> None:
        """Enter a socket that the gate holds."""
        self.leases[lease.id] = lease.process.leases[lease.id] = self.by_cookie[lease.cookie] = lease
        lease.process.app.held += 1

    def change_hands(self, lease: Lease, process: Process, cookie: int, inode: int) -> None:
        """Enter a socket as another process's of the same app.

        :param cookie: of what that process holds of it; so is the inode.
        """
        before = lease.process
        del before.leases[lease.id], self.by_cookie[lease.cookie]
        lease.process, lease.cookie, lease.inode = process, cookie, inode
        process.leases[lease.id] = self.by_cookie[cookie] = lease
        self.forget(before)

    def remove(self, lease: Lease) -> None:
        """Strike out a socket that the gate holds no more."""
        del self.leases[lease.id]
        self.by_cookie.pop(lease.cookie, None)
        process = lease.process
        del process.leases[lease.id]
        process.app.held -= 1
        self.forget(process)

    def join(self, process: Process) -> None:
        """Enter a process that has said hello."""
        self.processes[process.uid, process.token] = process
        process.app.processes += 1

    def set_aside(self, process: Process) -> None:
        """Keep a process with what it has, and have nobody join it any more."""
        del self.processes[process.uid, process.token]
        process.token = secrets.token_hex(16)
        self.processes[process.uid, process.token] = process

    def forget(self, process: Process) -> None:
        """Strike out a process that has neither channels nor sockets."""
        if process.channels or process.leases:
            return
        if self.processes.pop((process.uid, process.token), None) is not None:
            process.app.processes -= 1

    def find(self, process: Process, id: int) -> Lease | None:
        """Return a socket that this process, or one it was forked from, has from us, or has adopted."""
        lease = process.leases.get(id)
        if lease is None:
            lease = self.leases.get(id)
            if lease is not None and not process.may_use(lease.process, id):
                return None
        return lease

    def opened(self) -> int:
        """Return how many sockets are open, of all apps."""
        return sum(app.open for app in self.apps.values())

    def statistics(self, names: Iterable[str]) -> dict[str, Any]:
        """Return counts of these apps, as ``outgate stats`` shows them."""
        return {
            name: {
                "processes": app.processes,
                "sockets": app.sockets,
                "connects": app.connects,
                "denied": app.denied,
                "held": app.held,
                "open": app.open,
                "ended": app.leases_ended,
                "sent": app.sent,
                "received": app.received,
            }
            for name, app in ((name, self.apps[name]) for name in names)
        }
