"""Look at a gate again and again: keep the last two looks, from which figures per second are made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from outgate.core.formats import messages
from outgate.lookout.ask import paged
from outgate.lookout.rates import Figures, Look, figures

__all__ = ["Watched"]

#: Pages of open sockets that are asked for, of a hundred each: one costs the gate a look at all that are open, so of
#: very many there is only one.
PAGES = 3
_MANY = 1000
#: Pages of quotas, and looks from one reading of them to the next.
_QUOTA_PAGES = 5
_QUOTA_EVERY = 5


class Watched:
    """The gate that is looked at, and the last two looks.

    :param ask: sends a request and returns the answer, as :meth:`.ask.Gate.ask`.
    :param app: look at the sockets of this app alone; ``""`` for all.
    :param pages: of open sockets, a hundred each, that are asked for at most; 0 for none.
    """

    def __init__(self, ask: Callable[[dict[str, Any]], Any], app: str = "", pages: int = PAGES) -> None:
        self._ask = ask
        self._app = app
        self._pages = pages
        self._looks = 0
        self._quotas: dict[str, list[dict[str, Any]]] = {}
        self._before: Look | None = None
        self._now: Look | None = None

    def look(self) -> None:
        """Ask it. Raises ``NoGate`` or ``Refused``; the last look stays."""
        counts = self._ask({"op": messages.STAT})
        if self._looks % _QUOTA_EVERY == 0:
            self._quotas = self._ask_quotas()
        self._looks += 1
        are_many = sum(app["open"] for app in counts["apps"].values()) > _MANY
        sockets, more = self._ask_sockets(min(1, self._pages) if are_many else self._pages)
        self._before, self._now = self._now, Look(counts, self._quotas, sockets, more)

    def _ask_quotas(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for answer in islice(paged(self._ask, {"op": messages.QUOTA, "app": self._app}), _QUOTA_PAGES):
            found.update(answer["apps"])
        return found

    def _ask_sockets(self, most: int) -> tuple[list[dict[str, Any]], bool]:
        """Return the open sockets on so many pages, and whether there are more."""
        found: list[dict[str, Any]] = []
        more = True
        message = {"op": messages.LIST, "app": self._app, "holders": False}
        for answer in islice(paged(self._ask, message), most):
            found += answer["sockets"]
            more = answer["next"] is not None
        return found, more

    def only(self, app: str) -> None:
        """Look at the sockets of this app alone from now on; ``""`` for all."""
        self._app = app
        self._looks = 0

    def figures(self, sort: str = "o", app: str = "") -> Figures | None:
        """Return what is to be shown; ``None`` before the first look. Parameters are those of :func:`.figures`."""
        return None if self._now is None else figures(self._before, self._now, sort, app)
