"""The gate: accept channels, know who is connected, and keep the state that requests work on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import socket
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from outgate import __version__
from outgate.core import lease as life
from outgate.core.formats import messages
from outgate.core.policy.decide import Decision, Policy
from outgate.errors import ConfigError, build
from outgate.gate import requests, wire
from outgate.gate.channel import Channel, network_namespace, peer_of
from outgate.gate.configuration import config
from outgate.gate.datagram.udp import Udp
from outgate.gate.decisionlog import record
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.ending import Ending, milliseconds_since
from outgate.gate.kernel import births, dial, meter
from outgate.gate.kernel.closer import Closer
from outgate.gate.names.resolver import Resolver
from outgate.gate.registry import App, Lease, Process, Registry
from outgate.gate.relay.relaying import Relaying
from outgate.gate.sweep import Sweep
from outgate.gate.watch import Watch

#: Channels of one user: a request channel per thread in flight, and free ones. Fewer where descriptors are few.
MOST_CHANNELS = 4096


class Gate:
    """The service itself. Everything runs on its loop; threads only close, resolve and write the log."""

    def __init__(
        self, settings: config.Settings, listener: socket.socket, log: DecisionLog, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.loop = loop
        self.settings = settings
        self.log = log
        self.boot = secrets.token_hex(4)
        self.started = time.time()
        self.registry = Registry()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.handlers = requests.HANDLERS
        self.buffer = memoryview(bytearray(messages.MAX_PACKET + 1))
        self.looker = Closer("look")
        self.ending = Ending(self)
        self.fast_open = dial.fast_open_is_on()
        self.is_root = os.geteuid() == 0
        self.descriptors = raise_descriptors()
        self.reloader: Callable[[config.Settings], config.Settings] | None = None
        #: Called whenever a channel or a socket has gone.
        self.on_release: Callable[[], None] | None = None
        self._namespace = network_namespace("self")
        self._dial_threads: dict[str, ThreadPoolExecutor] = {}
        self._channels: dict[Channel, int] = {}
        self._by_uid: dict[int, int] = {}
        self._most_channels = min(MOST_CHANNELS, max(8, self.descriptors // 8))
        self._stray_closers: dict[int, Closer] = {}
        self._ungreeted: set[Channel] = set()
        self.udp = Udp(self)
        self.relaying = Relaying(self)
        self._watch = Watch(loop, self._on_dial_ended)
        self._sweep = Sweep(self)
        self._listener = listener
        self._strays = not births.take_no_fds(listener)
        #: Root and the gate's own user may ask about the gate without being an app.
        self.operator = App(
            config.AppSettings("", Policy.build("", allow=()), billing=False), Closer("operator"), Resolver("operator")
        )
        self._adopt(settings)
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._on_connection)
        self._housekeeping = loop.call_later(1.0, self._keep_house)

    # --- channels and processes ---------------------------------------------------------------------------------------

    def _on_connection(self) -> None:
        for _ in range(64):
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as e:  # EMFILE: the channels that are open go on
                self.log.event("accept-failed", reason=str(e))
                self.loop.remove_reader(self._listener.fileno())
                self.loop.call_later(0.1, self._accept_again)
                return
            peer = peer_of(sock)
            if self._by_uid.get(peer.uid, 0) >= self._most_channels:
                self.stray_closer(peer.uid).put(sock)
                continue
            self._by_uid[peer.uid] = self._by_uid.get(peer.uid, 0) + 1
            channel = Channel(self, sock, peer, self._strays)
            self._channels[channel] = peer.uid
            self._ungreeted.add(channel)

    def stray_closer(self, uid: int) -> Closer:
        """Return what closes the things of a user that are no app's: channels without a hello, fds that came in."""
        closer = self._stray_closers.get(uid)
        if closer is None:
            closer = self._stray_closers[uid] = Closer(f"strays-{uid}")
        return closer

    def _accept_again(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.loop.add_reader(self._listener.fileno(), self._on_connection)

    def is_operator(self, uid: int) -> bool:
        """Whether this user runs the gate, or could take it over anyway."""
        return uid in (0, os.getuid())

    def join(self, channel: Channel, hello: wire.Greeting, asks: bool = False) -> Process:
        """Return the process that a greeting belongs to, known or new.

        :param asks: whether its request is about the gate, which its operator may ask without being an app.
        :raises outgate.errors.GateError: no app is configured for its user, or no protocol version in common.
        """
        oldest, newest = hello.v
        if newest < messages.OLDEST or oldest > messages.VERSION:
            raise build("version", {"client": newest, "gate": messages.VERSION})
        peer = channel.peer
        self._ungreeted.discard(channel)
        known = self.registry.processes.get((peer.uid, hello.token))
        if known is not None:
            if not known.channels:
                self.ending.taken_back(known)
            return known
        settings = self.settings.find(peer.uid, peer.gid)
        if settings is not None:
            app = self.registry.apps[settings.name]
        elif asks and self.is_operator(peer.uid):
            app = self.operator
        else:
            raise build("no-app", {"uid": peer.uid})
        process = Process(app, hello.token, peer.pid, peer.uid, peer.gid)
        process.parents = tuple(hello.parents)
        process.program = hello.program
        namespace = network_namespace(peer.pid)
        process.fenced = namespace is not None and namespace != self._namespace
        self.registry.join(process)
        return process

    def greeting(self, process: Process) -> dict[str, Any]:
        """Return the gate's side of HELLO."""
        return {
            "v": messages.VERSION,
            "boot": self.boot,
            "gate": __version__,
            "app": process.app.name,
            "fenced": process.fenced,
            "path": process.app.settings.way,
            "dev": self.is_dev(process),
        }

    def is_dev(self, process: Process) -> bool:
        """Whether the process may listen on loopback.

        What listens in the fence would listen in the gate's network: nobody in the fence could reach it.
        """
        return process.app.settings.listen == "loopback" and not process.fenced

    def left(self, channel: Channel) -> None:
        """Note that a channel has ended; with its last one a process has, unless it still holds sockets."""
        uid = self._channels.pop(channel)
        self._by_uid[uid] -= 1
        if not self._by_uid[uid]:
            del self._by_uid[uid]
        self._ungreeted.discard(channel)
        process = channel.process
        if process is None:
            return
        process.channels -= 1
        if process.channels:
            return
        if process.leases:
            self.ending.look(list(process.leases.values()))
        else:
            self.registry.forget(process)
        self.released()

    def released(self) -> None:
        """Say that a channel or a socket has gone."""
        if self.on_release is not None:
            self.on_release()

    def _keep_house(self) -> None:
        now = self.loop.time()
        for channel in [c for c in self._ungreeted if now >= c.greeted_by]:
            channel.end(f"no hello within {messages.HELLO_LIMIT:g} s")
        self._housekeeping = self.loop.call_later(1.0, self._keep_house)

    def owner(self, process: Process) -> tuple[int, int] | None:
        """Return whom kernel sockets are given to, so that firewall rules by owner see the app; root only."""
        return (process.uid, process.gid) if self.is_root and process.uid != 0 else None

    # --- limits -------------------------------------------------------------------------------------------------------

    def limit(self, app: App) -> int:
        """Return how many sockets the app may have open."""
        return min(app.settings.open_sockets, self._room(app))

    def held_limit(self, app: App) -> int:
        """Return how many sockets the gate may hold for the app: its limit, and what lies in its processes' pools."""
        return min(app.settings.open_sockets + 2 * messages.POOL * app.processes, self._room(app))

    def _room(self, app: App) -> int:
        """Return how many sockets the gate has descriptors for: a relayed one takes two."""
        return max(1, self._share // 2) if app.settings.is_relayed else self._share

    def dial_threads(self, app: App) -> ThreadPoolExecutor:
        """Return the app's threads for connects where fast open is switched off."""
        pool = self._dial_threads.get(app.name)
        if pool is None:
            pool = self._dial_threads[app.name] = ThreadPoolExecutor(16, thread_name_prefix=f"dial-{app.name}")
        return pool

    # --- leases -------------------------------------------------------------------------------------------------------

    def lease_name(self, lease: Lease) -> str:
        """Return what joins the log lines of a lease: unique over restarts and redials."""
        return f"{self.boot}-{lease.id - self.registry.first}" + (f".{lease.number}" if lease.number > 1 else "")

    def dialled(self, lease: Lease, process: Process) -> None:
        """Log the decision, and find out how the dial ends."""
        decision = lease.decision
        assert decision is not None
        if decision.verdict != "allow" or self.settings.gate.log_allowed:
            self.log_decision(process, *lease.asked, lease.address, decision, lease)
        if lease.state == life.DIALLED:
            self.settle(lease)
            if lease.state == life.DIALLED:
                self._watch.add(lease)

    def settle(self, lease: Lease) -> None:
        """Look once how a dial or connection stands."""
        side = lease.side
        if side is not None and lease.state != life.DIALLED:
            return  # whoever carries its bytes hears of its end first
        state = meter.state(lease.sock)
        if state in meter.PENDING:
            return
        self._watch.discard(lease)
        dialled = lease.state == life.DIALLED
        if dialled:
            lease.connect_ms = milliseconds_since(lease.begun)
        if state == meter.CLOSE:
            self.log_end(lease, meter.read(lease.sock), "failed" if dialled else "reset")
            lease.see(life.RESET)
        elif dialled:
            lease.see(life.CONNECTED)
        if side is not None:
            self.relaying.dial_ended(lease, side)

    def _on_dial_ended(self, lease: Lease) -> None:
        if lease.state == life.DIALLED:
            self.settle(lease)

    def unwatch(self, lease: Lease) -> None:
        """Stop waiting for the end of a dial."""
        self._watch.discard(lease)

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
        path = path or process.app.settings.way
        record.decided(self.log, process, host, port, address, decision, name, transport, path)

    def log_end(self, lease: Lease, reading: meter.Reading, how: str) -> None:
        """Write the line of a lease's end and add its bytes to the app's."""
        decision = lease.decision
        if decision is None:
            return  # never dialled, or the end of its last dial is in the log already
        lease.decision = None
        app = lease.process.app
        app.open -= 1
        app.leases_ended += 1
        app.sent += reading.sent
        app.received += reading.received
        record.ended(self.log, lease, self.lease_name(lease), decision, reading, how)

    # --- the gate as a whole ------------------------------------------------------------------------------------------

    def _adopt(self, settings: config.Settings) -> None:
        self.settings = settings
        self._share = life.share(self.descriptors, len(settings.apps))
        for name, app in settings.apps.items():
            known = self.registry.apps.get(name)
            if known is None:
                self.registry.apps[name] = App(app, Closer(name), Resolver(name))
            else:
                known.adopt(app)

    def reload(self) -> dict[str, Any]:
        """Read the configuration again. A bad one changes nothing and says why."""
        if self.reloader is None:
            return {"ok": False, "error": "this gate was started without a configuration file"}
        try:
            settings = self.reloader(self.settings)
        except ConfigError as e:
            self.log.event("reload-failed", reason=str(e), policy=self.settings.number)
            return {"ok": False, "error": str(e), "policy": self.settings.number}
        self._adopt(settings)
        self.log.event("reload", policy=settings.number, source=settings.source)
        return {"ok": True, "policy": settings.number, "warnings": [str(w) for w in settings.warnings]}

    def statistics(self) -> dict[str, Any]:
        """Return what ``outgate status`` and ``outgate stats`` show."""
        return {
            "version": __version__,
            "pid": os.getpid(),
            "boot": self.boot,
            "uptime": round(time.time() - self.started, 3),
            "policy": self.settings.number,
            "source": self.settings.source,
            "log": self.settings.gate.log,
            "log_dropped": self.log.dropped,
            "channels": len(self._channels),
            "processes": len(self.registry.processes),
            "fast_open": self.fast_open,
            "descriptors": self.descriptors,
            "apps": self.registry.statistics(),
        }

    def fault(self, error: BaseException, request: object) -> None:
        """Log a fault of our own with its traceback; the gate goes on."""
        text = "".join(traceback.format_exception(error))[-4000:]
        self.log.event("fault", reason=f"{type(error).__name__}: {error}", request=type(request).__name__, trace=text)

    def stop(self) -> None:
        """Stop serving: programs keep their direct connections, and learn of our end by their channels'."""
        self._housekeeping.cancel()
        self._sweep.stop()
        self.loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self.ending.stop()
        self.udp.stop()
        self.relaying.stop()
        for channel in list(self._channels):
            channel.close("gate-ended")
        self.ending.stop()
        self._end_tasks()
        self._watch.close()
        self.operator.resolver.stop()
        for app in self.registry.apps.values():
            app.resolver.stop()
            app.closer.stop(0.5)
        for pool in self._dial_threads.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for closer in self._stray_closers.values():
            closer.stop(0.5)

    def _end_tasks(self) -> None:
        """Cancel the requests that wait for something, and let them end; the loop has stopped."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))


def raise_descriptors() -> int:
    """Raise RLIMIT_NOFILE to its hard limit and return it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
