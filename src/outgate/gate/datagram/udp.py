"""Keep the UDP sockets of all apps: what is decided for them, what they count as, and their lines in the log."""

from __future__ import annotations

import time
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from _socket import socket as native
from collections import Counter
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.policy.decide import ALLOW, Ask, Decision, decide
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.datagram.destination import Destination
from outgate.gate.datagram.nameservers import Forwarding, NameServers
from outgate.gate.decisionlog import record
from outgate.gate.kernel import births

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
        except BaseException:
            inside.close()
            theirs.close()
            raise
        self.sockets[made.id] = self.by_cookie[cookie] = made
        app = process.app
        self._of_app[app.name] += 1
        app.held += 1
        app.sockets += 1
        channel.after_reply(theirs.close)
        return births.Born(made.id, cookie, theirs.fileno())

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
            made.know(destination)
        if saved.first is not None:
            each = saved.first
            made.first = known.get(each.header) or Destination(each.header, each.host, each.name, each.decision)
            app.open += 1
        made.name, made.begun, made.peer = saved.name, saved.begun, saved.peer
        made.takes_strangers = saved.takes_strangers
        made.sent, made.sent_datagrams = saved.sent, saved.sent_datagrams
        made.received, made.received_datagrams = saved.received, saved.received_datagrams
        made.dropped, made.strangers = saved.dropped, saved.strangers

    def find(self, process: Process, id: int) -> Datagrams | None:
        """Return a socket that this process, or one it was forked from, has from us, or has adopted."""
        found = self.sockets.get(id)
        return found if found is not None and process.may_use(found.process, id) else None

    def may_begin(self, app: App) -> bool:
        """Tell whether an app may have one more open socket."""
        return life.may_hold(app.open, 1, self._gate.limit(app))

    def most_destinations(self, app: App) -> int:
        """Return how many destinations each socket of an app may have in its tables just now."""
        share = DESTINATIONS_OF_APP // max(1, self._of_app[app.name])
        return max(_FEWEST, min(DESTINATIONS, share))

    def owner(self, process: Process) -> tuple[int, int] | None:
        """Return whom a kernel socket is given to, so that firewall rules by owner see the app; root only."""
        return self._gate.owner(process)

    # --- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, app: App, host: str, address: str, port: int, name: str | None, scope: int) -> Decision:
        """Decide on one address as :func:`outgate.core.policy.decide.decide`, but for the host's own name servers.

        :param name: canonical name that the address was looked up by, ``None`` for an address alone.
        """
        bound = () if name is not None else app.bindings.names_for(address, time.monotonic())
        decision = decide(app.settings.policy, Ask(app.name, "udp", host, address, port, name, scope, bound))
        return self.or_name_server(decision, address, port)

    def or_name_server(self, decision: Decision, address: str, port: int) -> Decision:
        """Return the decision, or where it denies one of the host's own name servers the one that lets questions in."""
        if not decision.denied or not self.is_name_server(address, port):
            return decision
        return Decision(ALLOW, OWN_NAME_SERVER, "", decision.address_class, decision.what, decision.policy)

    def is_name_server(self, address: str, port: int) -> bool:
        """Tell whether the gate answers there under policy: the host's own name servers, by their addresses."""
        return port == DNS and address in self.name_servers

    # --- what a socket tells ------------------------------------------------------------------------------------------

    def begin(self, made: Datagrams) -> None:
        """Count a socket as open, at its first destination."""
        gate = self._gate
        made.name = f"{gate.boot}-{made.id - gate.registry.first}"
        made.begun = time.monotonic()
        made.process.app.open += 1

    def decided(self, made: Datagrams, destination: Destination) -> None:
        """Count and log what was decided on a destination that is new, or is judged otherwise than before."""
        app, decision = made.process.app, destination.decision
        address, port = destination.target[:2]
        if decision.denied:
            app.denied += 1
        else:
            app.connects += 1
            if self.is_name_server(address, port):
                destination.server = self._forwarding.ask
        if decision.verdict != ALLOW or self._gate.settings.gate.log_allowed:
            lease = "" if decision.denied else made.name
            record.decided(
                self._gate.log, made.process, destination.host, port, address, decision, lease, "udp", "relay"
            )

    def ended(self, made: Datagrams, how: str) -> None:
        """Strike a socket out, and log its end if it ever had a destination."""
        del self.sockets[made.id]
        self.by_cookie.pop(made.cookie, None)
        app = made.process.app
        self._of_app[app.name] -= 1
        app.held -= 1
        self._forwarding.forget(made)
        self._gate.sharing.forget(made)
        if made.first is not None:
            app.open -= 1
            app.leases_ended += 1
            app.sent += made.sent
            app.received += made.received
            record.ended_datagrams(self._gate.log, made, how)
        self._gate.reception.released()

    def stop(self) -> None:
        """End all of them."""
        for made in list(self.sockets.values()):
            made.end("gate-ended")
        self._forwarding.stop()
