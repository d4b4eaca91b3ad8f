"""Fetch sockets: send a request whose answer brings fds, and lose none of them, whatever signal handlers do."""

from __future__ import annotations

from outgate.client import channel
from outgate.client.held import HANDLED, SIG_BLOCK, SIG_SETMASK, sigmask
from outgate.client.packets import Gone

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any


def fetch(message: dict[str, Any], take: Any) -> Any:
    """Send a request whose answer brings fds, wait for it, and return what ``take`` makes of reply and fds.

    A signal whose handler raises interrupts only the wait: from the fds' coming until ``take`` has entered them
    somewhere, signals are held back.

    :param take: called with the reply and the fds, which are its own to close.
    :raises outgate.errors.GateError: what the gate refused.
    :raises outgate.errors.GateUnavailable: if no gate answers, or not within the limit of the operation.
    """
    op = message["op"]
    for _ in range(3):
        mask = sigmask(SIG_BLOCK, ())
        try:
            carrier = channel.post(message)
            try:
                carrier.wait(op)
            except BlockingIOError:
                carrier.drop()
                raise channel.late(op) from None
            except BaseException:
                carrier.drop()  # and with it the fds in the answer
                raise
            sigmask(SIG_BLOCK, HANDLED)
            try:
                reply, fds = channel.collect(carrier, op)
            except Gone:
                channel.forget()
                continue
            return take(channel.checked(reply), fds)
        finally:
            sigmask(SIG_SETMASK, mask)
    raise channel.unavailable("gate-unavailable", why="it ends every channel")
