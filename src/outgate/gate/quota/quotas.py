"""Keep every app within its quotas: the one place where requests, meters and carriers ask.

Requests are charged before anything is looked up or dialled. The bytes of a relayed socket, and every datagram, are
reserved before they go, so those stop exactly. The bytes of a direct socket are the kernel's: they are counted when
meters are read, each second, and between two readings the kernel keeps a pace that leaves half of what is left
(:mod:`outgate.core.quota.pace`).
"""

from __future__ import annotations

import asyncio
import time
import zoneinfo
from typing import TYPE_CHECKING, Any, Final

from outgate.core import lease as life
from outgate.core.quota.account import FULL, Account
from outgate.core.quota.book import Book, charge
from outgate.gate.quota.app import AppQuotas, DatagramLimit, RelayLimit
from outgate.gate.quota.direct import Pacer
from outgate.gate.quota.store import Store
from outgate.gate.quota.warning import Hook
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from outgate.gate.configuration.settings import Settings
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.quota.fleetwide import Fleetwide
    from outgate.gate.registry import App
    from outgate.gate.replies import Reply
    from outgate.gate.server import Gate

__all__ = ["Quotas"]

#: Seconds between looks. The end of a minute is looked at as well: so long before it, and so long after it.
INTERVAL: Final = 1.0
_BEFORE, _AFTER = 0.02, 0.005
_MINUTE: Final = 60


class Quotas:
    """The quotas of all apps of a gate.

    :ivar clock: seconds since 1970; a test has its own.
    """

    def __init__(self, gate: Gate) -> None:
        """Open the book of every app, with what an earlier gate has stored below ``gate.state``.

        :raises ConfigError: that cannot be used.
        """
        self.clock = time.time
        self._gate = gate
        self._apps: dict[str, AppQuotas] = {}
        self._hook = Hook(gate.log)
        self._store = Store(gate.settings.gate.state, gate.log) if gate.settings.gate.state else None
        self._kept = self._store.load() if self._store is not None else {}
        self._pacer = Pacer(gate.loop)
        #: What it shares with other gates; ``None``: nothing.
        self._fleetwide: Fleetwide | None = None
        fleet = gate.settings.fleet
        if fleet is not None and fleet.shared is not None:
            from outgate.gate.quota.fleetwide import Fleetwide

            self._fleetwide = Fleetwide(gate, fleet.reservation, self._apps, self._go_on)
        self._timer: asyncio.Handle = gate.loop.call_later(INTERVAL, self.tick)

    def now(self) -> float:
        """Return the time by the clock, which may be another one from now on."""
        return self.clock()

    def share(self) -> None:
        """Share them with other gates, by the gate's line: it is there now."""
        if self._fleetwide is not None:
            self._fleetwide.begin()

    def adopt(self, settings: Settings) -> None:
        """Go on with what the configuration says now, at once: what waits for a quota that is raised goes on."""
        pool = later = None
        if self._fleetwide is not None and settings.fleet is not None:
            pool, later = self._fleetwide.pool, self._fleetwide.later
            pool.share = settings.fleet.reservation
        for name, app in settings.apps.items():
            zone = zoneinfo.ZoneInfo(app.zone)
            known = self._apps.get(name)
            if known is None:
                book = Book(name, app.quotas, zone, self._kept.pop(name, ()), pool)
                self._apps[name] = AppQuotas(book, self.now, later)
            else:
                known.book.adopt(app.quotas, zone)
                known.look_again()
        gate = self._gate
        self._listen()
        for lease in gate.registry.leases.values():
            side = lease.side
            if side is not None:
                gate.meters.note(lease, side.relayed.sent, side.relayed.received)  # counted as it was limited so far
                side.relayed.limit = self.limit(lease)
        for made in gate.udp.sockets.values():
            gate.udp.note(made)
            made.limit = self.datagram_limit(made.process.app)
        self._look()

    def _listen(self) -> None:
        """Hear of growth only where there is a quota of bytes: it is told for each busy socket, each second."""
        listeners = self._gate.meters.listeners
        is_wanted = any(app.has_bytes for app in self._apps.values())
        if is_wanted != (self._grown in listeners):
            (listeners.append if is_wanted else listeners.remove)(self._grown)

    # --- what requests ask --------------------------------------------------------------------------------------------

    def charge_look_up(self, app: App) -> Reply | None:
        """Charge a look-up, and return the refusal of one that is above a quota, or ``None``."""
        found = self._apps.get(app.name)
        if found is None or not found.look_up:
            return None
        now = self.clock()
        account = charge(found.look_up, now)
        return None if account is None else found.refusal(account, now)

    def charge_socket(self, item: Lease | Datagrams, *uses: str) -> Reply | None:
        """Charge what is done with a socket, and at its first use the socket itself: all of it, or nothing.

        An app that is cut because its bytes are used up is refused whatever it is.

        :param uses: resources; none where the first use is a datagram.
        :returns: the refusal where there is not enough of something.
        """
        app = self._apps.get(item.process.app.name)
        if app is None:
            return None
        if app.has_binds and not item.is_charged and isinstance(item, Lease) and item.side is None:
            uses += ("bind",) if item.sock.getsockname()[1] else ()  # the kernel has bound it, and we hear of it now
        now = self.clock()
        account = app.spent(now) or charge((app.uses if item.is_charged else app.first_uses)[uses], now)
        if account is not None:
            return app.refusal(account, now)
        item.is_charged = True
        return None

    def has_binds(self, app: App) -> bool:
        """Tell whether an app has a quota of binds."""
        found = self._apps.get(app.name)
        return found is not None and bool(found.has_binds)

    def spent(self, app: App) -> Reply | None:
        """Return the refusal of an app that is cut because its bytes are used up, or ``None``."""
        found, now = self._apps.get(app.name), self.clock()
        account = None if found is None else found.spent(now)
        return None if found is None or account is None else found.refusal(account, now)

    def pace(self, lease: Lease) -> None:
        """Have the kernel keep to the quotas' pace from the first byte on, before a direct socket is dialled."""
        app = self._apps.get(lease.process.app.name)
        if app is not None and app.has_bytes and lease.side is None:
            self._pacer.begin(app, lease, self.clock())

    # --- what carriers ask --------------------------------------------------------------------------------------------

    def limit(self, lease: Lease) -> RelayLimit | None:
        """Return what a relayed socket is to ask before it moves bytes, ``None`` where nothing limits it."""
        app = self._apps.get(lease.process.app.name)
        return RelayLimit(app, lease, self.now, self._cut_soon) if app is not None and app.has_bytes else None

    def datagram_limit(self, app: App) -> DatagramLimit | None:
        """Return what the UDP sockets of an app are to ask before each datagram, ``None`` where nothing limits them."""
        found = self._apps.get(app.name)
        return DatagramLimit(found, self.now) if found is not None and found.has_datagrams else None

    def _grown(self, grown: Sequence[tuple[Lease | Datagrams, int, int]]) -> None:
        """Count bytes that the kernel has carried; those that the gate carries were reserved before they went."""
        now = self.clock()
        for item, sent, received in grown:
            app = self._apps.get(item.process.app.name)
            if app is None or not app.has_bytes:
                continue
            if isinstance(item, Lease):
                if item.side is not None:
                    if item.side.relayed.limit is not None:
                        continue
                elif sent:
                    app.busy.add(item)
            elif item.limit is not None:
                continue
            if sent:
                app.book.count("bytes_sent", sent, now)
            if received:
                app.book.count("bytes_received", received, now)

    # --- each second --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Tell what is new, store what has changed, cut, pace, and let go on what waits."""
        self._timer.cancel()
        self._look()
        if self._fleetwide is not None:
            self._fleetwide.tick()
        left = _MINUTE - self.clock() % _MINUTE
        until = left - _BEFORE if left > 2 * _BEFORE else left + _AFTER
        self._timer = self._gate.loop.call_later(min(INTERVAL, until), self.tick)

    def _look(self) -> None:
        now = self.clock()
        direct: dict[str, list[Lease]] = {}
        limited = {name for name, app in self._apps.items() if app.has_bytes or app.paces or app.closed}
        if limited:
            for lease in tuple(self._gate.registry.leases.values()):
                if lease.state == life.OPEN and lease.process.app.name in limited:
                    direct.setdefault(lease.process.app.name, []).append(lease)
        for name, app in self._apps.items():
            if app.spent(now) is not None:
                for lease in direct.pop(name, ()):
                    self._cut(lease)
            if name in limited:
                self._pacer.round(app, [lease for lease in direct.get(name, ()) if lease.side is None], now)
            _resume(app)
            self._tell(app, now)
        if self._store is not None:
            self._store.put([(name, row) for name, app in self._apps.items() for row in app.book.kept()])

    def _go_on(self) -> None:
        """Let go on what has waited for an answer of the fleet's pool."""
        for app in self._apps.values():
            if app.waits_out or app.waits_in:
                _resume(app)

    def _cut_soon(self, lease: Lease) -> None:
        self._gate.loop.call_soon(self._cut, lease)

    def _cut(self, lease: Lease) -> None:
        if lease.state == life.OPEN:
            self._gate.ending.cut(lease, "quota")

    def _tell(self, app: AppQuotas, now: float) -> None:
        """Log, and tell the operator's command, of each quota that has come to its share or its end, once a window."""
        app.empty()
        for account in app.book:
            news = account.news(now)
            if not news:
                continue
            event = "quota-exceeded" if news == FULL else "quota-warning"
            standing = account.standing(now)
            fields: dict[str, Any] = {
                **standing.facts(app.book.app),
                "over": account.quota.over,
                "share": round(standing.share, 4),
                "reason": standing.text,
            }
            self._gate.log.event(event, **fields)
            self._hook.tell(self._gate.settings.gate.warn_command, {"event": event, **fields})

    # --- what is shown, and the end -----------------------------------------------------------------------------------

    def standings(self, name: str) -> list[dict[str, Any]]:
        """Return how each quota of an app stands, as ``outgate quota`` shows it."""
        app = self._apps.get(name)
        if app is None:
            return []
        app.empty()
        return [
            {
                **each.facts(name),
                "resource": each.quota.resource,
                "per": each.quota.per,
                "share": round(each.share, 4),
                "over": each.quota.over,
                "start": each.start,
                "end": each.end,
                "runs_out_in": None if each.runs_out_in is None else round(each.runs_out_in, 3),
                "forecast": each.text,
            }
            for each in app.book.standings(self.clock())
        ]

    def accounts(self, name: str) -> Iterable[Account]:
        """Return the accounts of an app's quotas."""
        app = self._apps.get(name)
        return app.book if app is not None else ()

    def save(self) -> bool:
        """Store exactly what was used, now, and tell whether it is."""
        if self._store is None:
            return True
        for app in self._apps.values():
            app.empty()
        self._store.put([(name, row) for name, app in self._apps.items() for row in app.book.kept(exact=True)])
        return self._store.flush()

    def let_go(self) -> None:
        """Pace no socket any more, and store everything: the gate ends, or another one takes its place."""
        self._pacer.stop(self._apps.values())
        self.save()

    def stop(self) -> None:
        """End, when every meter has been read for the last time."""
        self._timer.cancel()
        self.save()
        self._gate.shared.stop(self._fleetwide.stop() if self._fleetwide is not None else None)
        self._hook.stop()
        if self._store is not None:
            self._store.stop()


def _resume(app: AppQuotas) -> None:
    for lease in app.may_go().values():
        if lease.side is not None and lease.state == life.OPEN:
            lease.side.relayed.resume()
