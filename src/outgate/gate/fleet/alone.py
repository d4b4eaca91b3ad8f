"""A gate without a fleet: what one that has others is asked, answered with nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outgate.gate.fleet.guest import Guest
    from outgate.gate.fleet.visit import Visit


class NoFleet:
    """The fleet of a gate that is alone. It costs nothing, and needs nothing that must be installed.

    :ivar guests: sockets of other gates that programs here have, by their ids.
    :ivar visits: sockets of this gate that programs of other gates have, by the ids of their leases.
    """

    def __init__(self) -> None:
        self.guests: Mapping[int, Guest] = {}
        self.visits: Mapping[int, Sequence[Visit]] = {}

    @property
    def ends(self) -> float:
        """Until when this gate's certificate is good (Unix seconds); 0: it has none."""
        return 0.0

    @property
    def trouble(self) -> str:
        """Why the next one could not be had, "" where all is well."""
        return ""

    def follow(self) -> None:
        """Go by what the configuration says now."""

    def stop(self) -> None:
        """Leave it."""


NO_FLEET = NoFleet()
