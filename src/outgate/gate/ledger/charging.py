"""Charge what the gate's sockets move to the ledger: which account each is, and when it ends."""

from __future__ import annotations

from _socket import socket as native
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from outgate.core.bill.tally import Account, Counts, Destination
from outgate.gate.kernel import segments
from outgate.gate.ledger.batch import Key, OnWire
from outgate.gate.ledger.ledger import Ledger, Share
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import Process

__all__ = ["Charging"]


class Charging:
    """Told of growth by the meters, and of ends by the gate."""

    def __init__(self, ledger: Ledger, counted: Callable[[int], tuple[int, int, bool] | None]) -> None:
        """Make it.

        :param counted: returns what a connection has put on the wire where each packet was counted, by the socket's
            cookie (:meth:`.Seal.wire`).
        """
        self._ledger = ledger
        self._counted = counted

    def note(self, grown: Sequence[tuple[Lease | Datagrams, int, int]]) -> None:
        """Charge what sockets have sent and received since they were last told of: a listener of the meters."""
        item, sent, received = grown[0]
        if not isinstance(item, Lease):
            self._note_datagrams(item, sent, received)
            return
        for lease, sent, received in self._ledger.add(cast("Sequence[tuple[Lease, int, int]]", grown)):
            self._enter(lease, sent, received)

    def end(self, item: Lease | Datagrams) -> None:
        """Settle a connection that has ended: its last bytes are noted, and its socket is not closed yet."""
        if not self._ledger.knows(item.id):
            if not item.noted_sent and not item.noted_received:
                return  # it has moved nothing
            if isinstance(item, Lease):
                self._enter(item, 0, 0)  # a gate before this one had it
            else:
                self._note_datagrams(item, 0, 0)
        self._ledger.end(item.id)

    def _enter(self, item: Lease, sent: int, received: int) -> None:
        name = item.decision.name if item.decision is not None else ""
        account = _account(item.process, item.transport, name, item.asked[1], item.address)
        cookie = item.cookie if item.side is None else item.side.cookie
        wire = partial(self._wire, cookie, item.sock, item.family)
        self._ledger.enter(Key(item.id, item.number), item, account, wire, sent, received, _past_shares(item))

    def _wire(self, cookie: int, sock: native, family: int) -> OnWire:
        counted = self._counted(cookie)
        if counted is None:
            return OnWire(*segments.read(sock, family))
        sent, received, is_all = counted
        return OnWire(sent, received, is_exact=True, grows=not is_all)

    def _note_datagrams(self, made: Datagrams, sent: int, received: int) -> None:
        """Charge each destination of a UDP socket with what has gone there and come from there."""
        process, family = made.process, made.family
        shares: list[Share] = []
        for name, address, port, out, back, *counts in made.shares:
            account = _account(process, "udp", name, port, address)
            shares.append((account, Counts(out, back, *_wire(counts, (out, back), family))))
        if self._ledger.knows(made.id):
            self._ledger.add_shares(made.id, sent, received, shares)
            return
        # What an earlier gate has not booked of it, and no destination here has a share in, is its first one's.
        first = made.first
        name, target = (first.decision.name, first.target) if first is not None else ("", ("::", 0))
        account = _account(process, "udp", name, target[1], target[0])
        self._ledger.enter(Key(made.id, 1), made, account, partial(_wire_of, made), sent, received, shares)


def _past_shares(lease: Lease) -> Iterator[Share]:
    """Give the shares in a UDP socket of a gate that died, newest first: the ledger has all that are older than one."""
    for name, address, port, sent, received in reversed(lease.shares):
        yield _account(lease.process, "udp", name, port, address), Counts(sent, received, 0, 0)


def _account(process: Process, transport: str, name: str, port: int, address: str) -> Account:
    host = "" if name == address else name
    return process.app.name, process.labels, Destination(transport, host, port, address)


def _wire(datagrams: Sequence[int], sizes: Sequence[int], family: int) -> Iterator[int]:
    return (segments.datagrams(count, size, family) for count, size in zip(datagrams, sizes, strict=True))


def _wire_of(made: Datagrams) -> OnWire:
    sent, received = _wire((made.sent_datagrams, made.received_datagrams), (made.sent, made.received), made.family)
    return OnWire(sent, received)
