"""Give the gate that comes after a dead one the sockets which that had made for us, so that it meters them again.

The gate asks for those alone that it has no duplicate of. What it does not get goes on all the same: the kernel carries
it.
"""

from __future__ import annotations

import sys

from outgate.client import channel, packets
from outgate.client.constants import AF_INET, SO_COOKIE, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.client.state import BORN, table
from outgate.core.formats import messages

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any


def give_back() -> None:
    """Offer every connected socket of ours to the gate, a batch at a time. A gate that does not answer gets none."""
    ours = {state.cookie: fd for fd, state in list(table.items()) if state.phase != BORN and not state.is_relay}
    cookies = list(ours)
    for start in range(0, len(cookies), messages.MAX_OFFERED):
        batch = {cookie: ours[cookie] for cookie in cookies[start : start + messages.MAX_OFFERED]}
        if not _offer(batch):
            return


def _offer(batch: dict[int, int]) -> bool:
    """Offer these (cookie → fd), hand over what is wanted, and tell whether the gate goes on asking."""
    carrier = None
    try:
        carrier = channel.post({"op": messages.OFFER, "cookies": list(batch)})
        reply, _ = channel.collect(carrier, messages.OFFER, keep=True)
        wanted = reply.get("wanted", ())
        fds = [batch[cookie] for cookie in wanted if cookie in batch and _is(batch[cookie], cookie)]
        if wanted:
            carrier.send_fds(channel.encode({"op": messages.GIVE}), fds)
            reply, _ = channel.collect(carrier, messages.GIVE, keep=True)
    except (OSError, packets.Gone):  # GateError among them: it has ended again, or is too old to ask
        if carrier is not None:
            carrier.drop()
        return False
    except BaseException:  # a signal handler raised
        if carrier is not None:
            carrier.drop()
        raise
    if not reply.get("end"):
        channel.give_back(carrier)
    return "error" not in reply


def _is(fd: int, cookie: int) -> bool:
    """Tell whether a number is still our socket: what the program closed in C may be a file of its own by now."""
    try:
        # With the flag C leaves the file alone; without it, socket.setdefaulttimeout() would make it non-blocking.
        sock: Any = native(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0, fd)
    except OSError:
        return False
    try:
        return bool(sock.getsockopt(SOL_SOCKET, SO_COOKIE, 8) == cookie.to_bytes(8, sys.byteorder))
    except OSError:
        return False
    finally:
        sock.detach()
