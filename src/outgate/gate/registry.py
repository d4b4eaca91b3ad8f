"""Who is connected, and what they hold: apps, processes and leases, as plain records."""

from __future__ import annotations

import os
import secrets
from _socket import socket as native
from typing import TYPE_CHECKING, Any

from outgate.core import lease as life
from outgate.core.name.bindings import Bindings
from outgate.gate.names.relearn import Relearning

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision
    from outgate.gate.channel import Channel
    from outgate.gate.configuration.config import AppSettings
    from outgate.gate.kernel.closer import Closer
    from outgate.gate.names.resolver import Resolver
    from outgate.gate.relay.relaying import Side


class App:
    """An identity that policy, limits and counts are keyed on; lives on when the configuration is read again."""

    __slots__ = (
        "bindings",
        "closer",
        "connects",
        "denied",
        "held",
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
    )

    def __init__(self, settings: AppSettings, closer: Closer, resolver: Resolver) -> None:
        self.name = settings.name
        self.settings = settings
        self.closer = closer
        self.resolver = resolver
        #: Which names its look-ups gave an address, and how they are looked up again.
        self.bindings = Bindings()
        self.relearning = Relearning()
        #: Sockets the gate has open for it: born, dialled and connected.
        self.held = 0
        #: Those that have been dialled.
        self.open = 0
        #: Processes that have a channel or a socket.
        self.processes = 0
        #: Counts since the gate started.
        self.sockets = self.connects = self.denied = self.leases_ended = 0
        self.sent = self.received = 0

    def adopt(self, settings: AppSettings) -> None:
        """Go on with what the configuration says now. Bindings stay: they are facts, rules decide what they open."""
        self.settings = settings
        self.resolver.forget()

    def __repr__(self) -> str:
        return f"<App {self.name} held={self.held} open={self.open}>"


class Process:
    """A program's process, joined over its channels by the token it chose."""

    __slots__ = ("adopted", "app", "channels", "fenced", "gid", "leases", "parents", "pid", "program", "token", "uid")

    def __init__(self, app: App, token: str, pid: int, uid: int, gid: int) -> None:
        self.app = app
        self.token = token
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.program = ""
        self.parents: tuple[str, ...] = ()
        self.fenced = False
        self.channels = 0
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
        "address",
        "asked",
        "begun",
        "born_on",
        "connect_ms",
        "cookie",
        "decision",
        "family",
        "held_name",
        "id",
        "inode",
        "number",
        "process",
        "side",
        "sock",
        "state",
    )

    def __init__(self, id: int, process: Process, sock: native, cookie: int, family: int) -> None:
        self.id = id
        self.process = process
        self.sock = sock
        self.cookie = cookie
        #: 4 or 6.
        self.family = family
        self.state = life.BORN
        #: What the lists of open files in /proc call it.
        self.inode = os.fstat(sock.fileno()).st_ino
        #: Counts dials: a socket whose connect failed may be dialled again, and that is a new line in the log.
        self.number = 0
        #: Of the last dial, for the log.
        self.begun = 0.0
        self.connect_ms: float | None = None
        self.asked: tuple[str, int] = ("", 0)
        self.address = ""
        self.decision: Decision | None = None
        #: Canonical name that it keeps bound to its address as long as it lives, "" for none.
        self.held_name = ""
        #: Where the gate carries its bytes: the rest of what it keeps.
        self.side: Side | None = None
        #: The channel whose reply carried it, as long as that may be unread.
        self.born_on: Channel | None = None

    def see(self, event: str) -> None:
        """Go to the state that follows."""
        self.state = life.after(self.state, event)
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

    def forget(self, process: Process) -> None:
        """Strike out a process that has neither channels nor sockets."""
        key = (process.uid, process.token)
        if not process.channels and not process.leases and self.processes.pop(key, None) is not None:
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

    def statistics(self) -> dict[str, Any]:
        """Return counts per app, as ``outgate stats`` shows them."""
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
            for name, app in sorted(self.apps.items())
        }
