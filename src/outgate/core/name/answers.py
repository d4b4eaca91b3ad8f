"""Remember the answers to look-ups for a short while.

Pure: time comes in as an argument. What is kept is bounded, and what was not asked for the longest goes first, so that
a program which asks for ever new names costs a fixed amount of memory and forgets its own answers only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

__all__ = ["LIMIT", "Answers"]

#: Answers of one app. A page of today's web asks for some hundred names; nscd and systemd-resolved keep a few thousand
#: for a whole host.
LIMIT: Final = 1024


class Answers:
    """Key → answer, each until a moment of its own.

    :param limit: the most answers that are kept.
    """

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, now: float) -> Any:
        """Return the answer that is still good at ``now`` (seconds), or ``None``."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        until, answer = entry
        if now >= until:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return answer

    def put(self, key: Hashable, answer: Any, until: float) -> None:
        """Keep an answer, which must not be ``None``, until a moment (seconds, the same clock as :meth:`get`'s)."""
        self._kept[key] = until, answer
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
