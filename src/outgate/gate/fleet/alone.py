"""A gate without a fleet: what one that has others is asked, answered with nothing."""

from __future__ import annotations


class NoFleet:
    """The fleet of a gate that is alone. It costs nothing, and needs nothing that must be installed."""

    def stop(self) -> None:
        """Leave it."""


NOTHING = NoFleet()
