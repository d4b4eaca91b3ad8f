"""Say how many sockets an app may have: what its configuration grants, and what the gate has descriptors for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.formats import messages

if TYPE_CHECKING:
    from outgate.gate.registry import App
    from outgate.gate.server import Gate


class Limits:
    """The limits of all apps of a gate.

    :ivar descriptors: how many files the gate may have open.
    """

    def __init__(self, gate: Gate, descriptors: int) -> None:
        self._gate = gate
        self.descriptors = descriptors
        self._share = 1

    def share_out(self, apps: int) -> None:
        """Share the gate's descriptors out among so many apps."""
        self._share = life.share(self.descriptors, apps)

    def open(self, app: App) -> int:
        """Return how many sockets the app may have open."""
        return min(app.settings.open_sockets, self._room(app))

    def held(self, app: App) -> int:
        """Return how many sockets the gate may hold for the app: its limit, and what lies in its processes' pools."""
        return min(app.settings.open_sockets + 2 * messages.POOL * app.processes, self._room(app))

    def _room(self, app: App) -> int:
        """Return how many sockets the gate has descriptors for: a relayed one takes two."""
        takes_two = (app.settings.token and self._gate.doors.doors) or app.settings.is_relayed()
        return max(1, self._share // 2) if takes_two else self._share
