"""Say for how long a socket has been idle, and what of its bytes is still under way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Union

from outgate.core import lease as life
from outgate.gate.kernel import meter, queues
from outgate.gate.kernel.aside import Aside
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.datagram.datagrams import Datagrams

    Idling = Union[Lease, Datagrams]


def is_open(item: Idling) -> bool:
    """Tell whether it is connected, or for UDP in use: what is not leads nowhere, and is not reclaimed."""
    if isinstance(item, Lease):
        return item.state == life.OPEN and item.decision is not None
    return item.first is not None and not item.is_ended


def idle_for(item: Idling) -> float:
    """Return for how many seconds nothing has moved on it, by the kernel's clocks where it carries, or been done."""
    now = time.monotonic()
    since = max(item.begun, item.renewed)
    if not isinstance(item, Lease):
        return now - max(since, item.active)
    if item.side is not None:
        return now - max(since, item.side.relayed.active)
    return min(now - since, meter.idle(item.sock))


def has_unread(item: Idling) -> bool:
    """Tell whether bytes from outside wait for the program."""
    if not isinstance(item, Lease):
        outside = item.outside
        return queues.unsent(item.inside.fileno()) > 0 or (outside is not None and queues.unread(outside.fileno()) > 0)
    if item.side is None:
        return (item.sock.unread if isinstance(item.sock, Aside) else queues.unread(item.sock.fileno())) > 0
    relayed = item.side.relayed
    if relayed.is_over:
        return False
    # In the program's queue, which the gate's end counts as not taken yet, and in the socket outside.
    return queues.unsent(relayed.inside.fileno()) > 0 or queues.unread(item.sock.fileno()) > 0


def is_sending(item: Idling) -> bool:
    """Tell whether bytes of the program are on their way to a peer that has not taken them: a send may wait for it."""
    if not isinstance(item, Lease):
        return queues.unread(item.inside.fileno()) > 0
    if item.side is None:
        return queues.unsent(item.sock.fileno()) > 0
    relayed = item.side.relayed
    return relayed.waiting > 0 or (not relayed.is_over and queues.unsent(item.sock.fileno()) > 0)
