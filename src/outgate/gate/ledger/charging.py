"""Charge what the gate's sockets move to the ledger: which account each is, and when it ends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from outgate.core.bill.tally import Account, Destination
from outgate.gate.kernel import segments
from outgate.gate.ledger.batch import Key
from outgate.gate.ledger.ledger import Ledger
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams

__all__ = ["Charging"]


class Charging:
    """Told of growth by the meters, and of ends by the gate."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def note(self, item: Lease | Datagrams, sent: int, received: int) -> None:
        """Charge what a socket has sent and received since it was last told of."""
        try:
            self._ledger.add(item.id, item, sent, received)
        except KeyError:
            self._enter(item, sent, received)

    def end(self, item: Lease | Datagrams) -> None:
        """Settle a connection that has ended: its last bytes are noted, and its socket is not closed yet."""
        if not self._ledger.knows(item.id):
            if not item.noted_sent and not item.noted_received:
                return  # it has moved nothing
            self._enter(item, 0, 0)  # a gate before this one had it
        self._ledger.end(item.id)

    def _enter(self, item: Lease | Datagrams, sent: int, received: int) -> None:
        if isinstance(item, Lease):
            name = item.decision.name if item.decision is not None else ""
            account = _account(item, name, "tcp", item.asked[1], item.address)
            wire = partial(segments.read, item.sock, item.family)
            self._ledger.enter(Key(item.id, item.number), item, account, wire, sent, received)
            return
        first = item.first
        address, port = first.target[:2] if first is not None else ("::", 0)
        name = first.decision.name if first is not None else ""
        account = _account(item, name, "udp", port, address)
        self._ledger.enter(Key(item.id, 1), item, account, partial(_of_datagrams, item, address), sent, received)


def _account(item: Lease | Datagrams, name: str, transport: str, port: int, address: str) -> Account:
    process = item.process
    host = "" if name == address else name
    return process.app.name, process.labels, Destination(transport, host, port, address)


def _of_datagrams(made: Datagrams, address: str) -> tuple[int, int]:
    family = 6 if ":" in address else 4
    return (
        segments.datagrams(made.sent_datagrams, made.sent, family),
        segments.datagrams(made.received_datagrams, made.received, family),
    )
