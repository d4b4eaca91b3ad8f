"""What this process knows of its sockets, by fd number.

By fd and not on the object, because objects hand fds on: ``SSLSocket`` takes one over by ``detach()``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

#: Made by the gate, not connected.
BORN = 0
#: The gate has dialled; nobody has harvested the result.
CONNECTING = 1
#: A connect has succeeded, or the kernel said that one had.
CONNECTED = 2


class State:
    """One socket of the gate's in this process; several fds (``dup``) may share it."""

    __slots__ = (
        *("bound", "cookie", "dialled", "family", "fds", "has_read_tls", "id", "is_led", "lingered"),
        *("phase", "renewed", "spawns"),
    )

    #: Whether it is for UDP, and so a :class:`outgate.client.relay.destinations.Datagrams`.
    is_datagram = False
    #: Whether the gate carries its bytes: our fd is one end of a pair, whose other end the gate has.
    is_relay = False
    #: The module that connects, binds and names a socket whose bytes the gate carries; a direct one is the kernel's.
    ways: Any = None
    #: The module with the calls that move bytes, for a socket where they are not C's.
    calls: Any = None

    def __init__(self, id: int, cookie: int, family: int, spawns: int) -> None:
        self.id = id
        self.cookie = cookie
        self.family = family
        self.phase = BORN
        #: Where the gate dialled, as connect(2) takes it.
        self.dialled: tuple[object, ...] | None = None
        #: Whether it leads there by a proxy, which is what the kernel takes for its peer.
        self.is_led = False
        self.bound = False
        self.lingered = False
        #: When the gate was last told that it is in use (monotonic seconds), where it wants to know.
        self.renewed = 0.0
        #: Whether a read of TLS on it has ended (:mod:`outgate.client.renewing`).
        self.has_read_tls = False
        self.fds = 1
        #: How many processes had been started when it was born: see :mod:`outgate.client.inherit`.
        self.spawns = spawns


table: dict[int, State] = {}
#: Also those whose last known fd was closed before they were ever connected: a ``dup`` we never saw may live on.
by_cookie: dict[int, State] = {}
_MOST_GHOSTS = 1024


def forget_ghosts() -> None:
    """Bound the memory of sockets that only ``by_cookie`` still knows."""
    if len(by_cookie) <= len(table) + _MOST_GHOSTS:
        return
    for cookie, state in list(by_cookie.items()):
        if state.fds <= 0:
            del by_cookie[cookie]
