"""The gate: accept channels, know who is connected, and keep the state that requests work on."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from outgate import __version__
from outgate.core import lease as life
from outgate.core.formats import messages
from outgate.core.policy.decide import Decision
from outgate.gate import requests
from outgate.gate.answering.streams import Answering
from outgate.gate.aside import Asides
from outgate.gate.configuration import config, outputs
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.datagram.udp import Udp
from outgate.gate.decisionlog import record
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.doors.doors import Doors
from outgate.gate.ending import Ending, milliseconds_since
from outgate.gate.fetching.fetches import Fetches
from outgate.gate.fleet import alone
from outgate.gate.judging import way
from outgate.gate.kernel import dial, meter
from outgate.gate.kernel.closer import Closer
from outgate.gate.kernel.host import raise_descriptors
from outgate.gate.ledger.nobooks import NOTHING as NO_BOOKS
from outgate.gate.ledger.nobooks import NoBooks
from outgate.gate.limits import Limits
from outgate.gate.listing import Listing
from outgate.gate.live.rejudging import Rejudging
from outgate.gate.metering.meters import Meters
from outgate.gate.metering.rounds import Rounds
from outgate.gate.metrics.counts import Counts
from outgate.gate.names.resolver import Resolver
from outgate.gate.narrowing import Narrowings
from outgate.gate.quota.quotas import Quotas
from outgate.gate.reception import Reception
from outgate.gate.reclaim.always import Always
from outgate.gate.reclaim.pressure import Idle
from outgate.gate.reclaim.renewing import Waits
from outgate.gate.refusals import Refusals
from outgate.gate.registry import App, Lease, Process, Registry
from outgate.gate.relay.relaying import Relaying
from outgate.gate.restart.keeping import NOTHING, NoKeeping
from outgate.gate.restart.orphans import Orphans
from outgate.gate.restart.store import Store
from outgate.gate.seal.seal import Seal
from outgate.gate.shared import unshared
from outgate.gate.sweep import Sweep
from outgate.gate.travel.sharing import Sharing
from outgate.gate.travel.underway import Underway
from outgate.gate.watch import Watch
from outgate.gate.wayout.passages import Passages


class Gate:
    """The service itself. Everything runs on its loop; threads only close, resolve and write the log."""

    def __init__(
        self, settings: config.Settings, listener: socket.socket, log: DecisionLog, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.log = log
        self.boot = secrets.token_hex(4)
        #: How many gates with this name for their leases have died or stopped before this one.
        self.generation = 0
        self.started = time.time()
        self.registry = Registry()
        self.counts = Counts()
        self.meters = Meters(self._log_tampering)
        self.is_draining = False
        #: What keeps programs from turning the sockets that they hold.
        self.seal = Seal()
        #: Whether the gate has made the socket that it listens at, and removes it at the end.
        self.owns_listener = True
        #: Ends the process at once, when another gate has taken everything over.
        self.leave: Callable[[], NoReturn] = _cannot_leave
        self.tasks: set[asyncio.Task[Any]] = set()
        self.handlers = requests.HANDLERS
        self.one_way = requests.ONE_WAY
        self.buffer = memoryview(bytearray(messages.MAX_PACKET + 1))
        self.looker = Closer("look")
        self.aside = Asides(self)
        self.ending = Ending(self)
        self.fast_open = dial.fast_open_is_on()
        self.is_root = os.geteuid() == 0
        self.limits = Limits(self, raise_descriptors())
        self.reloader: Callable[[config.Settings], config.Settings] | None = None
        self.dial_threads = dial.Threads()
        self.udp = Udp(self)
        self.relaying = Relaying(self)
        self.answering = Answering(self)
        self.fetches = Fetches(self)
        self.doors = Doors(self)
        self.sharing = Sharing(self)
        #: The other gates, and what is shared with them; of most gates there are none.
        self.fleet: alone.NoFleet = alone.NO_FLEET
        self.shared: unshared.Unshared = unshared.UNSHARED
        self.directory: unshared.NoDirectory = unshared.NO_DIRECTORY
        self.narrowings = Narrowings(self)
        self.refusals = Refusals()
        self._watch = Watch(loop, self._on_dial_ended)
        self.passages = Passages(self)
        self._sweep = Sweep(self)
        self._idle = Idle(self)
        self._always = Always(self)
        self.waits = Waits()
        self.underway = Underway(self)
        self._rounds = Rounds(self)
        #: What is written down for the gate that comes after this one, and what came from the one before.
        self.keeping: NoKeeping = NOTHING
        self.books: NoBooks = NO_BOOKS
        self.orphans = Orphans(self)
        self.store = Store()
        self.quotas = Quotas(self)
        #: Held by who reads the configuration again.
        self.reloading = asyncio.Lock()
        self.rejudging = Rejudging(self)
        self.listing = Listing(self)
        self.adopt(settings)
        self.reception = Reception(self, listener)

    # --- processes ---------------------------------------------------------------------------------------------------

    def is_dev(self, process: Process) -> bool:
        """Whether the process may listen on loopback.

        What listens in the fence would listen in the gate's network: nobody in the fence could reach it.
        """
        return process.app.settings.listen == "loopback" and not process.fenced

    def owner(self, process: Process) -> tuple[int, int] | None:
        """Return whom kernel sockets are given to, so that firewall rules by owner see the app; root only."""
        return (process.uid, process.gid) if self.is_root and process.uid != 0 else None

    # --- leases -------------------------------------------------------------------------------------------------------

    def name_of(self, id: int, number: int = 1) -> str:
        """Return what joins the log lines of a lease: unique over restarts and redials.

        :param number: which dial of the socket it is.
        """
        return f"{self.boot}-{id - self.registry.first}" + (f".{number}" if number > 1 else "")

    def lease_name(self, lease: Lease) -> str:
        """Return the name of a TCP socket's present dial."""
        return self.name_of(lease.id, lease.number)

    def dialled(self, lease: Lease, process: Process) -> None:
        """Log the decision, and find out how the dial ends."""
        decision = lease.decision
        assert decision is not None
        if decision.verdict != "allow" or self.settings.gate.log_allowed:
            self.log_decision(process, *lease.asked, lease.address, decision, lease, path=lease.way)
        else:
            self.counts.decided(process.app.name, decision, "tcp")
        if lease.state == life.DIALLED:
            self.settle(lease)
            if lease.state == life.DIALLED:
                self._watch.add(lease)
        if lease.decision is not None and lease.passage is None:  # it has not failed already
            self.keeping.opened(lease)

    def settle(self, lease: Lease) -> None:
        """Look once how a dial or connection stands."""
        side = lease.side
        if side is not None and lease.state != life.DIALLED:
            return  # whoever carries its bytes hears of its end first
        state = meter.state(lease.sock)
        if state in meter.PENDING:
            return
        self._watch.discard(lease)
        if lease.state == life.DIALLED:
            # It may have been connected, used, and closed or reset by both sides before we look.
            connected = state != meter.CLOSE or meter.was_connected(lease.sock)
            if lease.passage is not None:
                self.passages.reached(lease, connected)
                return
            self.joined(lease, connected)
        elif state == meter.CLOSE:
            self._unconnected(lease, "reset")
        if side is not None:
            self.relaying.dial_ended(lease, side)

    def joined(self, lease: Lease, connected: bool) -> None:
        """Note how a dial has ended."""
        lease.connect_ms = milliseconds_since(lease.begun)
        self.counts.dialled(lease.connect_ms / 1000, connected)
        if connected:
            lease.see(life.CONNECTED)
        else:
            self._unconnected(lease, "failed")

    def _unconnected(self, lease: Lease, how: str) -> None:
        self.log_end(lease, lease.own(meter.read(lease.sock)), how)
        lease.see(life.RESET)

    def settle_later(self, lease: Lease) -> None:
        """Wait for the end of a dial that another gate began, or see it."""
        self.loop.call_soon(self._on_dial_ended, lease)
        self._watch.add(lease)

    def _on_dial_ended(self, lease: Lease) -> None:
        self.aside.first(lease, self.settle_unless_ended, lease)

    def settle_unless_ended(self, lease: Lease) -> None:
        """Look once how it stands, if it still may be a connection."""
        if lease.state in (life.DIALLED, life.OPEN):
            self.settle(lease)

    def unwatch(self, lease: Lease) -> None:
        """Stop waiting for the end of a dial, and of what a proxy says to it."""
        self._watch.discard(lease)
        if lease.passage is not None:
            self.passages.discard(lease)

    def log_decision(
        self,
        process: Process,
        host: str,
        port: int,
        address: str,
        decision: Decision,
        lease: Lease | None,
        transport: str = "tcp",
        path: str = "",
    ) -> None:
        """Write the line of a decision."""
        name = self.lease_name(lease) if lease is not None else ""
        path, via = path or way(self, process), lease.via if lease is not None else ""
        self.counts.decided(process.app.name, decision, transport)
        record.decided(self.log, process, host, port, address, decision, name, transport, path, via)

    def log_end(self, lease: Lease, reading: meter.Reading, how: str, **unseen: Any) -> None:
        """Write the line of a lease's end and add its bytes to the app's.

        :param unseen: of a connection that ended without a gate, what :func:`.record.ended` takes.
        """
        decision = lease.decision
        if decision is None:
            return  # never dialled, or the end of its last dial is in the log already
        if reading.state == meter.CLOSE and lease.side is None:
            carried = self.seal.carried(lease.cookie)
            if reading[1:] == (0, 0):
                reading = lease.own(meter.Reading(meter.CLOSE, *carried))
        counted = reading
        if reading.sent < lease.noted_sent or reading.received < lease.noted_received:
            # Who has zeroed the counters meanwhile has not undone what was counted before.
            counted = meter.Reading(
                reading.state, max(reading.sent, lease.noted_sent), max(reading.received, lease.noted_received)
            )
        self.meters.note(lease, reading.sent, reading.received)
        self.books.end(lease)
        if reading.state == meter.CLOSE and lease.side is None:
            self.seal.forget(lease.cookie)  # before another dial of this socket
        lease.noted_sent = lease.noted_received = 0  # another dial counts anew
        lease.decision = None
        app = lease.process.app
        app.open -= 1
        app.leases_ended += 1
        self.counts.ended(app.name, "tcp", how)
        record.ended(self.log, lease, self.lease_name(lease), decision, counted, how, **unseen)
        self.keeping.ended(lease, lease.number, counted, how)

    def _log_tampering(self, item: Lease | Datagrams, sent: int, received: int) -> None:
        """Say that a counter went down: whoever holds the socket has zeroed it, and bytes may be missing."""
        name = item.name if isinstance(item, Datagrams) else self.lease_name(item)
        self.log.event("meter-tampered", lease=name, app=item.process.app.name, sent=sent, received=received)

    # --- the gate as a whole ------------------------------------------------------------------------------------------

    def adopt(self, settings: config.Settings) -> None:
        """Put settings into force for whatever is opened from now on."""
        self.settings = settings
        self.limits.share_out(len(settings.apps))
        for name, app in settings.apps.items():
            known = self.registry.apps.get(name)
            if known is None:
                self.registry.apps[name] = App(app, Closer(name), Resolver(name, looked_up=self.counts.looked_up))
            else:
                known.adopt(app)
        for name in self.registry.apps.keys() - settings.apps.keys():
            self.registry.apps[name].dismiss(settings.number)
        self._always.follow()
        self.aside.follow()
        keys = settings.gate
        self.log.configure(outputs.size(keys.log_rotate), keys.log_keep, keys.log_rate)
        self.quotas.adopt(settings)
        self.fleet.follow()

    def drain(self, on: bool) -> None:
        """Open nothing new, and stop when nothing is open any more; or take that back."""
        if on != self.is_draining:
            self.log.event("drain" if on else "drain-cancelled", pid=os.getpid())
        self.is_draining = on
        self.reception.released()  # perhaps there is nothing to wait for

    def statistics(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what ``outgate status`` and ``outgate stats`` show, with the counts of these apps."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "boot": self.boot,
            "started": self.started,
            "uptime": round(time.time() - self.started, 3),
            "policy": self.settings.number,
            "source": self.settings.source,
            "path": self.settings.path,
            "log": self.settings.gate.log,
            "log_dropped": self.log.dropped,
            "ledger": self.books.statistics(),
            "fleet_state": self.directory.state(self.shared),
            "draining": self.is_draining,
            "channels": len(self.reception.channels),
            "processes": len(self.registry.processes),
            "fast_open": self.fast_open,
            "descriptors": self.limits.descriptors,
            "doors": self.doors.statistics(),
            **self.seal.statistics(),
            **self.orphans.statistics(),
            "apps": self.registry.statistics(names),
        }

    def fault(self, error: BaseException, request: object) -> None:
        """Log a fault of our own with its traceback; the gate goes on."""
        text = "".join(traceback.format_exception(error))[-4000:]
        self.counts.faults += 1
        self.log.event("fault", reason=f"{type(error).__name__}: {error}", request=type(request).__name__, trace=text)

    def stop(self) -> None:
        """Stop serving: programs keep their direct connections, and learn of our end by their channels'."""
        self.aside.stop()
        self.keeping.stop()
        self.store.stop()
        self.rejudging.stop()
        self.listing.stop()
        self.orphans.stop()
        self._sweep.stop()
        self._idle.stop()
        self._always.stop()
        self.underway.stop()
        self._rounds.stop()
        self.directory.stop()
        self.quotas.let_go()
        self.fleet.stop()
        self.sharing.stop()
        self.reception.stop_accepting()
        self.doors.stop()
        self.ending.stop()
        self.udp.stop()
        self.answering.stop()
        self.relaying.stop()
        self.reception.end_channels()
        self.ending.stop()
        self.quotas.stop()
        self._end_tasks()
        self.fetches.stop()
        self._watch.close()
        self.passages.stop()
        for app in self.registry.apps.values():
            app.resolver.stop()
            app.closer.stop(0.5)
        self.dial_threads.stop()
        self.reception.stop()

    def _end_tasks(self) -> None:
        """Cancel the requests that wait for something, and let them end; the loop has stopped."""
        tasks = [*self.tasks, *self.answering.tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))


def _cannot_leave() -> NoReturn:
    raise RuntimeError("this gate has no process of its own")
