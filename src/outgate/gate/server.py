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
from typing import Any, NoReturn

from outgate import __version__
from outgate.core import lease as life
from outgate.core.formats import messages
from outgate.core.policy.decide import Decision
from outgate.errors import ConfigError
from outgate.gate import requests
from outgate.gate.configuration import config
from outgate.gate.datagram.udp import Udp
from outgate.gate.decisionlog import record
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.ending import Ending, milliseconds_since
from outgate.gate.idle import Idle
from outgate.gate.kernel import dial, meter
from outgate.gate.kernel.closer import Closer
from outgate.gate.names.resolver import Resolver
from outgate.gate.reception import Reception
from outgate.gate.registry import App, Lease, Process, Registry
from outgate.gate.relay.relaying import Relaying
from outgate.gate.sharing import Sharing
from outgate.gate.sweep import Sweep
from outgate.gate.watch import Watch


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
        self.is_draining = False
        #: Whether the gate has made the socket that it listens at, and removes it at the end.
        self.owns_listener = True
        #: Ends the process at once, when another gate has taken everything over.
        self.leave: Callable[[], NoReturn] = _cannot_leave
        self.tasks: set[asyncio.Task[Any]] = set()
        self.handlers = requests.HANDLERS
        self.buffer = memoryview(bytearray(messages.MAX_PACKET + 1))
        self.looker = Closer("look")
        self.ending = Ending(self)
        self.fast_open = dial.fast_open_is_on()
        self.is_root = os.geteuid() == 0
        self.descriptors = raise_descriptors()
        self.reloader: Callable[[config.Settings], config.Settings] | None = None
        self._dial_threads: dict[str, ThreadPoolExecutor] = {}
        self.udp = Udp(self)
        self.relaying = Relaying(self)
        self.sharing = Sharing(self)
        self._watch = Watch(loop, self._on_dial_ended)
        self._sweep = Sweep(self)
        self._idle = Idle(self)
        self._adopt(settings)
        self.reception = Reception(self, listener)

    # --- processes ---------------------------------------------------------------------------------------------------

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

    def settle_later(self, lease: Lease) -> None:
        """Wait for the end of a dial that another gate began, or see it."""
        self.loop.call_soon(self._on_dial_ended, lease)
        self._watch.add(lease)

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
            self.reception.follow(settings.apps, settings.gate.socket_mode)
        except ConfigError as e:
            self.log.event("reload-failed", reason=str(e), policy=self.settings.number)
            return {"ok": False, "error": str(e), "policy": self.settings.number}
        self._adopt(settings)
        self.log.event("reload", policy=settings.number, source=settings.source)
        return {"ok": True, "policy": settings.number, "warnings": [str(w) for w in settings.warnings]}

    def drain(self, on: bool) -> None:
        """Open nothing new, and stop when nothing is open any more; or take that back."""
        if on != self.is_draining:
            self.log.event("drain" if on else "drain-cancelled", pid=os.getpid())
        self.is_draining = on
        self.reception.released()  # perhaps there is nothing to wait for

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
            "draining": self.is_draining,
            "channels": len(self.reception.channels),
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
        self._sweep.stop()
        self._idle.stop()
        self.sharing.stop()
        self.reception.stop_accepting()
        self.ending.stop()
        self.udp.stop()
        self.relaying.stop()
        self.reception.end_channels()
        self.ending.stop()
        self._end_tasks()
        self._watch.close()
        for app in self.registry.apps.values():
            app.resolver.stop()
            app.closer.stop(0.5)
        for pool in self._dial_threads.values():
            pool.shutdown(wait=False, cancel_futures=True)
        self.reception.stop()

    def _end_tasks(self) -> None:
        """Cancel the requests that wait for something, and let them end; the loop has stopped."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))


def _cannot_leave() -> NoReturn:
    raise RuntimeError("this gate has no process of its own")


def raise_descriptors() -> int:
    """Raise RLIMIT_NOFILE to its hard limit and return it."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
