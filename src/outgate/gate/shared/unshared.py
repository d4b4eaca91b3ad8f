"""A gate that shares no state with others, and hears of none: what one that does is asked, answered with nothing.

It costs nothing, and needs nothing that must be installed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from outgate.gate.shared.standing import Standings, Taken, take

if TYPE_CHECKING:
    from outgate.core.fleet.directory import Entry
    from outgate.gate.server import Gate

__all__ = ["NO_DIRECTORY", "UNSHARED", "NoDirectory", "Unshared"]

T = TypeVar("T")


class Unshared:
    """What a gate asks of the state that its fleet shares.

    :ivar is_there: whether there is any.
    :ivar is_away: whether it does not answer just now; of none that is so for ever.
    :ivar watchers: called on the loop when it goes away (``True``) and when it is back (``False``).
    """

    is_there: bool = False
    is_away: bool = True
    watchers: list[Callable[[bool], None]]

    def ask(self, job: Callable[[Any], T], then: Callable[[T | None], None]) -> None:
        """Have something done there, and hear what came of it; ``None``: it does not answer."""
        raise RuntimeError("this gate shares no state")

    def statistics(self) -> dict[str, Any] | None:
        """Return what ``outgate status`` shows of it."""
        return None

    def stop(self, last: Callable[[Any], Any] | None = None) -> None:
        """Ask nothing any more."""


class NoDirectory:
    """What a gate knows of the others of its fleet where nobody announces anything.

    :ivar standings: makes entries of what the gate knows of itself.
    :ivar others: what they announced when they were last heard of, by their names.
    :ivar clash: where another gate is that has this one's name, "" for none.
    :ivar differing: app → digest of its policy → gates, where that is not one.
    """

    def __init__(self) -> None:
        self.standings = Standings()
        self.others: dict[str, Entry] = {}
        self.clash = ""
        self.differing: dict[str, dict[str, list[str]]] = {}

    @property
    def age(self) -> float | None:
        """Seconds since they were heard of last; ``None``: never."""
        return None

    def take(self, gate: Gate) -> Taken:
        """Return what a gate of a fleet knows of itself now."""
        return take(gate)

    def state(self, shared: Unshared) -> dict[str, Any] | None:
        """Return what ``outgate status`` shows of what the fleet shares, and of what is wrong among its gates."""
        return shared.statistics()

    def announce(self) -> None:
        """Tell the others at once how this gate stands."""

    def stop(self) -> None:
        """Tell them nothing any more."""


UNSHARED = Unshared()
NO_DIRECTORY = NoDirectory()
