"""Say how this gate stands: what it announces of itself, and what it knows where nothing is announced.

Two steps: what the loop knows is taken there (:func:`take`), and what takes long is made of it on a thread
(:meth:`Standings.entry`): a thousand apps with many rules each are some hundred milliseconds of digests.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from outgate import __version__
from outgate.core.fleet import names
from outgate.core.fleet.directory import Entry, Standing, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from outgate.gate.configuration.settings import AppSettings, Settings
    from outgate.gate.server import Gate

__all__ = ["Standings", "Taken", "take"]

#: Keys of an app that say what it may do. Whose programs it is, and by which way they leave, may differ by host.
_KEYS = ("allow", "deny", "except_", "names", "mode", "listen", "profile", "billing", "zone")


class Taken(NamedTuple):
    """What the loop knows of a gate.

    :ivar settings: in force.
    :ivar boot: which start of the gate this is, and ``started`` when that was (Unix seconds).
    :ivar ends: until when its certificate is good (Unix seconds), 0 for none.
    :ivar counts: app → sockets open, of other gates among them, and of this gate that others have.
    :ivar skew: seconds that the clock is known to be ahead; ``clash``: whether there is a namesake.
    """

    settings: Settings
    boot: str
    started: float
    ends: float
    counts: Mapping[str, tuple[int, int, int]]
    skew: float = 0.0
    clash: bool = False


def take(gate: Gate) -> Taken:
    """Return what a gate of a fleet knows of itself now."""
    fleet = gate.fleet
    guests = Counter(guest.process.app.name for guest in fleet.guests.values())
    visits = Counter(each[0].process.app.name for each in fleet.visits.values())
    counts = {name: (max(0, app.open), guests[name], visits[name]) for name, app in gate.registry.apps.items()}
    return Taken(gate.settings, gate.boot, gate.started, fleet.ends, counts)


def _digest(settings: Settings, app: AppSettings) -> str:
    """Return a digest of what an app may do: its rules, the groups that they may name, and its quotas."""
    groups = sorted(settings.groups.items())
    return digest([getattr(app, key) for key in _KEYS], [tuple(quota) for quota in sorted(app.quotas)], groups)


class Standings:
    """Makes entries, and the digests of policies once for each configuration that is read. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: Settings | None = None
        self._apps: Mapping[str, str] = {}
        self._whole = ""

    def entry(self, taken: Taken) -> Entry:
        """Return what the gate says of itself."""
        settings, fleet = taken.settings, taken.settings.fleet
        assert fleet is not None
        with self._lock:
            if self._of is not settings:
                self._apps = {name: _digest(settings, app) for name, app in settings.apps.items()}
                self._whole = digest(sorted(self._apps.items()))
                self._of = settings
            whole, policies = self._whole, self._apps
        return Entry(
            name=fleet.name,
            boot=taken.boot,
            host=os.uname().nodename,
            at=names.advertised(fleet.name, fleet.listen, fleet.gates),
            version=__version__,
            since=int(taken.started),
            number=settings.number,
            policy=whole,
            ends=int(taken.ends),
            skew=round(taken.skew, 1),
            clash=taken.clash,
            apps={name: Standing(policy, *taken.counts.get(name, (0, 0, 0))) for name, policy in policies.items()},
        )
