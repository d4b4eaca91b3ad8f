"""Ask again what connections have put on the wire since the gate closed them: what still waited to be sent, and a FIN.

Nearly all have ended when they are asked for the first time; who cannot reach its peer any more is asked for minutes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from outgate.gate.ledger.batch import OnWire

__all__ = ["PAUSE", "Trailing"]

#: Seconds between looks: the kernel remembers some thousands of connections that have ended.
PAUSE: Final = 1.0
#: Connections of one look in one turn of the loop, at some 4 µs each.
_SLICE: Final = 250


class _Ended(Protocol):
    @property
    def wire(self) -> Callable[[], OnWire]: ...


_Item = TypeVar("_Item", bound=_Ended)


class Trailing(Generic[_Item]):
    """Connections that have ended for the ledger, and perhaps not for the kernel.

    :param count: told what one has put on the wire by now.
    """

    def __init__(self, count: Callable[[_Item, OnWire], object]) -> None:
        self._count = count
        self._ended: deque[_Item] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.Handle | None = None

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look by itself from now on."""
        self._loop = loop
        self._await()

    def put(self, item: _Item) -> None:
        """Take one in."""
        self._ended.append(item)
        if self._timer is None:
            self._await()

    def _await(self) -> None:
        self._timer = None
        if self._loop is not None and self._ended:
            self._timer = self._loop.call_later(PAUSE, self._begin)

    def _begin(self) -> None:
        self._go_on(len(self._ended))

    def _go_on(self, left: int) -> None:
        self._look(min(left, _SLICE))
        if left > _SLICE and self._loop is not None:
            self._timer = self._loop.call_soon(self._go_on, left - _SLICE)
        else:
            self._await()

    def _look(self, many: int) -> None:
        for _ in range(many):
            item = self._ended.popleft()
            try:
                wire = item.wire()
            except OSError:
                continue  # it is not heard of any more: what was counted is all that is known
            if wire.is_exact:
                self._count(item, wire)
                if wire.grows:
                    self._ended.append(item)

    def stop(self) -> None:
        """Look a last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop = None
        self._look(len(self._ended))
