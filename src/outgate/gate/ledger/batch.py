"""Hold what goes to the store in one transaction, and what is known of a store at its beginning: plain data."""

from __future__ import annotations

from typing import NamedTuple

from outgate.core.bill.tally import Counts, Rows

__all__ = ["NOTHING", "Batch", "Begun", "Key", "OnWire", "Totals"]


class Key(NamedTuple):
    """One connection: the socket's id, which it keeps when one gate follows another, and which of its dials it is."""

    id: int
    dial: int


class OnWire(NamedTuple):
    """What a connection has put on the wire, in bytes.

    :ivar is_exact: whether each packet was counted; else it is an estimate.
    :ivar grows: whether more may come when the gate has closed it: what still waits to be sent, and its FIN.
    """

    sent: int
    received: int
    is_exact: bool = False
    grows: bool = False


#: How much of a connection the ledger has counted.
Totals = Counts
NOTHING = Totals(0, 0, 0, 0)


class Batch(NamedTuple):
    """What is written at once, and only once.

    :ivar number: counts up in a run of the gate; the store takes each number once, in order.
    :ivar at: the moment up to which it counts, in seconds since the epoch.
    :ivar seal: windows that ended by then are sealed.
    :ivar open: connections that have moved something and are still open, with how far they are counted.
    :ivar ended: connections that have ended since the batch before.
    :ivar forget: those of them that the store knows as open.
    """

    number: int
    at: float
    seal: int
    rows: Rows
    open: dict[Key, Totals]
    ended: frozenset[Key]
    forget: frozenset[Key] = frozenset()


class Begun(NamedTuple):
    """What a run finds when it begins.

    :ivar sealed: every window before is sealed.
    :ivar open: connections that were open, and how far they are counted.
    :ivar ended: connections whose end was in the last batch: they are counted to the last byte.
    :ivar lost: seconds in which the gate was away without having said so; 0 where it had.
    """

    sealed: int
    open: dict[Key, Totals]
    ended: frozenset[Key]
    lost: float
