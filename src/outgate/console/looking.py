"""Look at the gate for all who watch it: once a second at most, however many they are."""

from __future__ import annotations

import threading
import time
from collections import deque

from outgate.console.sources import Ask
from outgate.console.views import TRAFFIC
from outgate.lookout.rates import Figures
from outgate.lookout.watching import Watched

__all__ = ["Looking"]

#: Seconds for which a look is good.
_FRESH = 0.9
#: Seconds after which a look is too old to be the one before: rates over minutes are nobody's question.
_OLD = 15.0


class Looking:
    """The last looks at a gate, and what was moved in the seconds before. Safe to use from several threads.

    :param ask: asks the gate.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._watched = Watched(ask, pages=0)
        self._last = 0.0
        self._history: deque[tuple[float, float]] = deque(maxlen=TRAFFIC[2])

    def figures(self, sort: str = "o", app: str = "") -> Figures:
        """Return what is so now. Raises ``NoGate`` or ``Refused``; parameters are those of :func:`.rates.figures`."""
        with self._lock:
            now = time.monotonic()
            if now - self._last > _OLD:
                self._watched = Watched(self._ask, pages=0)
                self._history.clear()
            if now - self._last > _FRESH:
                self._watched.look()
                self._last = time.monotonic()
                total = self._watched.figures()
                assert total is not None
                if total.total.sent_per_s is not None and total.total.received_per_s is not None:
                    self._history.append((total.total.sent_per_s, total.total.received_per_s))
            seen = self._watched.figures(sort, app)
            assert seen is not None
            return seen

    def history(self) -> list[tuple[float, float]]:
        """Return bytes sent and received a second, of the looks so far, the latest last."""
        with self._lock:
            return list(self._history)
