"""Stand in for the books of a gate that keeps no ledger: it costs its start and its sockets nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.registry import Lease
    from outgate.gate.server import Gate

__all__ = ["NOTHING", "NoBooks"]


class NoBooks:
    """What a gate asks of its books.

    :ivar refuses: whether no socket may be opened, because nothing it moves could be booked.
    :ivar why: what the database said when it last took nothing.
    """

    refuses: bool = False
    why: str = ""

    def begin(self, gate: Gate) -> None:
        """Follow the gate's meters; everything it had from the gate before it has been restored."""

    def end(self, item: Lease | Datagrams) -> None:
        """Settle a connection that has ended: its last bytes are noted, its socket is not closed yet."""

    def hand_over(self) -> None:
        """Write down what is counted, for the gate that takes this one's place; no byte is counted after that."""

    def take_back(self) -> None:
        """Go on: the other gate did not take this one's place."""

    def close(self) -> None:
        """Write down what is counted, and end."""

    def statistics(self) -> dict[str, Any] | None:
        """Return what ``outgate status`` shows of the ledger."""
        return None


NOTHING = NoBooks()
