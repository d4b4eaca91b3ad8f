"""A gate that shares no state with others: it costs it nothing, and needs nothing that must be installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["NOTHING", "Unshared"]

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


NOTHING = Unshared()
