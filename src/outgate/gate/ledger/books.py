"""Open a gate's ledger, keep its books through the life of the gate, and close it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from outgate.gate.configuration.settings import LedgerSettings
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.ledger.batch import Key
from outgate.gate.ledger.charging import Charging
from outgate.gate.ledger.ledger import Ledger
from outgate.gate.ledger.nobooks import NoBooks
from outgate.gate.ledger.writer import Identity, Writer

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import Lease
    from outgate.gate.server import Gate

__all__ = ["Books"]

#: Seconds a gate that starts waits for its database; without it, it goes on, and tries again.
START: Final = 10.0
#: The same of one that hands over, which holds programs up.
HAND_OVER: Final = 2.0


class Books(NoBooks):
    """The books of one gate.

    :ivar charging: its ``note`` is a listener of the meters.
    :param counted: what :class:`.Charging` asks for bytes on the wire.
    :raises ConfigError: this ledger cannot be used, now or later.
    """

    def __init__(
        self, settings: LedgerSettings, log: DecisionLog, counted: Callable[[int], tuple[int, int, bool] | None]
    ) -> None:
        self._settings, self._log = settings, log
        self._gate: Gate | None = None
        #: What the meters had counted when the run began.
        self._before = (0, 0)
        self._ledger = Ledger(self._writer(), settings.grace, settings.after_grace == "closed")
        self.charging = Charging(self._ledger, counted)
        begun = self._ledger.begin(START)
        if begun is not None and begun.lost:
            self._log.event("ledger-gap", seconds=round(begun.lost, 1), sockets=len(begun.open))

    def _writer(self) -> Writer:
        who = Identity(self._settings.gate, secrets.token_hex(8), self._settings.shown_url)
        return Writer(self._settings.url, who, self._settings.spool, self._log.event)

    @property
    def refuses(self) -> bool:  # type: ignore[override]
        return self._ledger.refuses

    @property
    def why(self) -> str:  # type: ignore[override]
        return self._ledger.why

    def begin(self, gate: Gate) -> None:
        """As :meth:`.NoBooks.begin`; what the gate before had and this one has not is settled."""
        self._gate = gate
        self._ledger.run(gate.loop)
        held = [Key(lease.id, lease.number) for lease in gate.registry.leases.values()]
        held += [Key(orphan.id, orphan.number) for orphan in gate.orphans.known.values()]
        held += [Key(made.id, 1) for made in gate.udp.sockets.values()]
        self._ledger.keep_only(held)

    def end(self, item: Lease | Datagrams) -> None:
        self.charging.end(item)

    def hand_over(self) -> None:
        assert self._gate is not None
        for made in self._gate.udp.sockets.values():
            self._gate.udp.note(made)  # the gate that follows is not told whose the growth was
        self._ledger.close("handed-over", HAND_OVER)

    def take_back(self) -> None:
        assert self._gate is not None
        self._before = self._gate.meters.sent, self._gate.meters.received
        self._ledger.go_on(self._writer(), self._gate.loop)

    def close(self) -> None:
        if not self._ledger.close("finished" if self._settings.is_single else "stopped"):
            self._log.event("ledger-left", reason=self._ledger.why or "the database did not answer in time")

    def statistics(self) -> dict[str, Any] | None:
        """As :meth:`.NoBooks.statistics`; ``counted`` is what this run is to book, sent and received, by the meters."""
        assert self._gate is not None
        meters, ledger = self._gate.meters, self._ledger
        counted = meters.sent - self._before[0], meters.received - self._before[1]
        return {
            "url": self._settings.shown_url,
            "gate": self._settings.gate,
            "counted": [counted[0] + ledger.carried_sent, counted[1] + ledger.carried_received],
            **ledger.statistics(),
        }
