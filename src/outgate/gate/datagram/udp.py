"""Keep the UDP sockets of all apps: what is decided for them, what they count as, and their lines in the log."""

from __future__ import annotations

import contextlib
import os
import time
from _socket import AF_INET, AF_INET6, AF_UNIX, MSG_DONTWAIT, SHUT_RD, SOCK_DGRAM, SOCK_SEQPACKET, socketpair
from _socket import socket as native
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.formats import frames
from outgate.core.policy.decide import ALLOW, Ask, Decision
from outgate.core.policy.narrow import NOT_NARROWED, Narrowed, decide, refusal
from outgate.core.wayout.choice import of_datagrams
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.datagram.destination import Destination
from outgate.gate.datagram.nameservers import Forwarding, NameServers
from outgate.gate.decisionlog import record
from outgate.gate.judging import may_open
from outgate.gate.kernel import births, meter
from outgate.gate.refusals import Asked

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate
    from outgate.gate.takeover.state import DatagramsState

#: Destinations that one socket has in its tables, and all sockets of an app together; the oldest goes first, and is
#: judged again when it comes again.
DESTINATIONS = 1024
DESTINATIONS_OF_APP = 16384
_FEWEST = 16
#: The port of name servers, and where the host's own are written.
DNS = 53
RESOLV_CONF = "/etc/resolv.conf"
#: What stands for a rule where the destination is one of the host's own name servers.
OWN_NAME_SERVER = "own name server"


class Udp:
    """The UDP sockets of a gate."""

    def __init__(self, gate: Gate) -> None:
        self.loop = gate.loop
        self.sockets: dict[int, Datagrams] = {}
        self.by_cookie: dict[int, Datagrams] = {}
        self._gate = gate
        self._of_app: Counter[str] = Counter()
        self.name_servers = NameServers(RESOLV_CONF)
        self._forwarding = Forwarding(gate)

    def make(self, process: Process, family: int, channel: Channel) -> births.Born:
        """Make a socket, whose end for the program is not kept when it has gone out, so that its close is its end.

        :param family: 4 or 6.
        :param channel: whose reply carries it.
        :raises OSError: the gate has no descriptor left.
        """
        inside, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        try:
            cookie = births.cookie_of(theirs)
            made = Datagrams(self, self._gate.registry.number(), process, inside, family, cookie)
            made.inode = births.inode_of(theirs)
        except BaseException:
            inside.close()
            theirs.close()
            raise
        self.sockets[made.id] = self.by_cookie[cookie] = made
        app = process.app
        self._of_app[app.name] += 1
        app.held += 1
        app.sockets += 1
        made.limit = self._gate.quotas.datagram_limit(app)
        channel.after_reply(theirs.close)
        return births.Born(made.id, cookie, theirs.fileno())

    def change_hands(self, made: Datagrams, handed: native) -> native:
        """Give a socket another pair, which nobody has yet, and return the program's end of it.

        :param handed: the program's end of its pair, which others have as well.
        :raises OSError: the gate has no descriptor left.
        """
        inside, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        births.copy_options(handed, theirs)
        old, put = made.inside, made.process.app.closer.put
        with contextlib.suppress(OSError):
            old.shutdown(SHUT_RD)  # from here on they can send nothing
        # What they have sent is sent, what they have not received the new holder does, as far as the pair has room.
        _carry_over(births.receiver(old, put), theirs)
        del self.by_cookie[made.cookie]
        made.change_pair(inside, births.cookie_of(theirs), births.inode_of(theirs))
        self.by_cookie[made.cookie] = made
        _carry_over(lambda size: handed.recv(size, MSG_DONTWAIT), inside)
        put(old)
        return theirs

    def make_outside(self, made: Datagrams) -> native:
        """Return a socket of the kernel's for one of a program's, bound where the app says from where it leaves.

        :raises OSError: no descriptor is left, or the host has not that address (EADDRNOTAVAIL).
        """
        outside = native(AF_INET if made.family == 4 else AF_INET6, SOCK_DGRAM)
        owner = self._gate.owner(made.process)
        if owner is not None:
            os.fchown(outside.fileno(), *owner)
        source = made.process.app.settings.out.default.source
        if source:
            try:
                outside.bind((source, 0))
            except OSError:
                outside.close()
                raise
        return outside

    def restore(self, saved: DatagramsState, process: Process, inside: native, outside: native | None) -> None:
        """Go on with a socket of the gate whose place this one takes; its destinations are judged again when used."""
        made = Datagrams(self, saved.id, process, inside, saved.family, saved.cookie)
        self.sockets[made.id] = self.by_cookie[made.cookie] = made
        app = process.app
        self._of_app[app.name] += 1
        app.held += 1
        if outside is not None:
            made.carry(outside)
        known = {
            each.header: Destination(each.header, each.host, each.name, each.decision) for each in saved.destinations
        }
        for destination in known.values():
            made.destinations.put(destination)  # judged when it is used
        if saved.first is not None:
            each = saved.first
            made.first = known.get(each.header) or Destination(each.header, each.host, each.name, each.decision)
            app.open += 1
        made.name, made.begun, made.peer = saved.name, saved.begun, saved.peer
        made.takes_strangers = saved.takes_strangers
        made.sent, made.sent_datagrams = saved.sent, saved.sent_datagrams
        made.received, made.received_datagrams = saved.received, saved.received_datagrams
        made.dropped, made.strangers = saved.dropped, saved.strangers
        made.noted_sent, made.noted_received = saved.noted
        made.is_charged = made.first is not None
        made.limit = self._gate.quotas.datagram_limit(app)
        made.inode, made.active, made.renewed = saved.inode, saved.active, time.monotonic()

    def find(self, process: Process, id: int) -> Datagrams | None:
        """Return a socket that this process, or one it was forked from, has from us, or has adopted."""
        found = self.sockets.get(id)
        return found if found is not None and process.may_use(found.process, id) else None

    def may_begin(self, made: Datagrams) -> bool:
        """Tell whether a socket that was never used may be, and charge it: its program need not have asked."""
        app = made.process.app
        may_hold = life.may_hold(app.open, 1, self._gate.limits.open(app))
        is_free = may_hold and may_open(self._gate, made.process) is None
        return is_free and self._gate.quotas.charge_socket(made) is None

    def most_destinations(self, app: App) -> int:
        """Return how many destinations each socket of an app may have in its tables just now."""
        share = DESTINATIONS_OF_APP // max(1, self._of_app[app.name])
        return max(_FEWEST, min(DESTINATIONS, share))

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide(
        self,
        app: App,
        host: str,
        address: str,
        port: int,
        name: str | None,
        scope: int,
        narrowed: Narrowed = NOT_NARROWED,
    ) -> Decision:
        """Decide on one address as :func:`outgate.core.policy.narrow.decide`, but for the host's own name servers.

        :param name: canonical name that the address was looked up by, ``None`` for an address alone.
        :param narrowed: what those who have the socket have left themselves.
        """
        bound = () if name is not None else app.bindings.names_for(address, time.monotonic())
        decision = decide(app.settings.policy, Ask(app.name, "udp", host, address, port, name, scope, bound), narrowed)
        return self.or_name_server(decision, address, port)

    def led(self, app: App, decision: Decision, ask: Ask, family: int) -> Decision:
        """Return a decision, or the denial where the app's way out takes no datagrams.

        What the gate answers itself, at the host's own name servers, needs no way out.
        """
        settings, address = app.settings, str(ask.address)
        if settings.out.is_straight or decision.denied or self.is_name_server(address, ask.port):
            return decision
        return of_datagrams(settings.out, decision, ask, settings.policy.locate(address).judged, family)

    def judge(self, made: Datagrams, known: Destination | None, ask: Ask) -> Decision:
        """Decide on one address that a socket sends to, as its app and those who have the socket are now.

        Of one that was let in before, a new policy has the last word only where the operator wants it so
        (:mod:`outgate.gate.live.rejudging`); a narrowing always has.

        :param ask: without the names that are bound to the address.
        """
        rejudging, app, address, port = self._gate.rejudging, made.process.app, str(ask.address), ask.port
        if ask.name is None:
            ask = ask._replace(bound=app.bindings.names_for(address, time.monotonic()))
        decision = rejudging.of_app(made.process)
        if decision is None:
            decision = self.or_name_server(decide(app.settings.policy, ask), address, port)
        if known is None or known.is_denied:
            decision = self.led(app, decision, ask, made.family)
        else:
            decision = rejudging.destination_judged(made, known, decision)
        if not decision.denied:
            narrower = refusal(ask, self.narrowed(made), app.settings.policy.number)
            if narrower is not None:
                decision = self.or_name_server(narrower, address, port)
        return decision

    def or_name_server(self, decision: Decision, address: str, port: int) -> Decision:
        """Return the decision, or where it denies one of the host's own name servers the one that lets questions in."""
        if not decision.denied or not self.is_name_server(address, port):
            return decision
        return Decision(ALLOW, OWN_NAME_SERVER, "", decision.address_class, decision.what, decision.policy)

    def is_name_server(self, address: str, port: int) -> bool:
        """Tell whether the gate answers there under policy: the host's own name servers, by their addresses."""
        return port == DNS and address in self.name_servers

    def narrowed(self, made: Datagrams) -> Narrowed:
        """Return what the maker of a socket has left itself, and those that it was passed on to."""
        narrowed = made.process.narrowed
        for process in made.shared_with:
            narrowed = narrowed.also(process.narrowed)
        return narrowed

    def narrow(self, process: Process) -> None:
        """Judge anew what the sockets of a process may send to, which has narrowed itself."""
        for made in self.sockets.values():
            if made.process is process or process in made.shared_with:
                _judge_anew(made)

    def share(self, made: Datagrams, process: Process) -> None:
        """Have a socket that a narrowed process comes by be narrowed as that is, for all that have it."""
        if process is not made.process and process not in made.shared_with:
            made.shared_with += (process,)
            _judge_anew(made)

    # --- what a socket tells ------------------------------------------------------------------------------------------

    def begin(self, made: Datagrams) -> None:
        """Count a socket as open, at its first destination."""
        gate = self._gate
        made.name = gate.name_of(made.id)
        made.begun = time.monotonic()
        made.process.app.open += 1
        gate.keeping.opened(made)

    def decided(self, made: Datagrams, destination: Destination) -> None:
        """Count and log what was decided on a destination that is new, or is judged otherwise than before."""
        app, decision = made.process.app, destination.decision
        address, port = destination.target[:2]
        self._gate.counts.decided(app.name, decision, "udp")
        if decision.denied:
            app.denied += 1
            self._gate.refusals.decided(made.process, Asked("send", "udp", destination.host, port, address), decision)
        else:
            app.connects += 1
            if self.is_name_server(address, port):
                destination.server = self._forwarding.ask
        if decision.verdict != ALLOW or self._gate.settings.gate.log_allowed:
            lease = "" if decision.denied else made.name
            record.decided(
                self._gate.log, made.process, destination.host, port, address, decision, lease, "udp", "relay"
            )

    def note(self, made: Datagrams) -> None:
        """Pass on what a socket has moved since it was last noted."""
        self._gate.meters.note_datagrams(made)

    def ended(self, made: Datagrams, how: str) -> None:
        """Strike a socket out, and log its end if it ever had a destination."""
        del self.sockets[made.id]
        self.by_cookie.pop(made.cookie, None)
        app = made.process.app
        self._of_app[app.name] -= 1
        app.held -= 1
        self._forwarding.forget(made)
        self._gate.sharing.forget(made)
        self._gate.waits.forget(made.id)
        if made.first is not None:
            app.open -= 1
            app.leases_ended += 1
            self._gate.counts.ended(app.name, "udp", how)
            self.note(made)
            self._gate.books.end(made)
            record.ended_datagrams(self._gate.log, made, how)
            self._gate.keeping.ended(made, 1, meter.Reading(meter.CLOSE, made.sent, made.received), how)
        self._gate.reception.released()

    def stop(self) -> None:
        """End all of them."""
        for made in list(self.sockets.values()):
            made.end("gate-ended")
        self._forwarding.stop()


def _judge_anew(made: Datagrams) -> None:
    for destination in made.destinations:
        destination.policy = None


def _carry_over(take: Callable[[int], bytes], end: native) -> None:
    """Send what can be taken into one end of a pair."""
    with contextlib.suppress(OSError):  # nothing is left, or no room
        while packet := take(frames.MAX_FRAME):
            end.send(packet, MSG_DONTWAIT)
