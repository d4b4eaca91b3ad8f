"""Set and read the options of a relayed socket: some are the gate's to apply outside, some its own end's, some answers.

Which is which says the table of options (:mod:`outgate.core.options`), which has permitted the call already. C judges
what is wrong with arguments.
"""

from __future__ import annotations

import errno
import sys

from outgate.client.calls import c_int, judge, os_error
from outgate.client.constants import IPPROTO_TCP, IPPROTO_UDP, SO_ERROR, SO_PROTOCOL, SO_TYPE, SOCK_DGRAM, SOCK_STREAM
from outgate.client.relay import destinations
from outgate.client.standin import native  # this is loaded late, when _socket is our own
from outgate.core.formats import messages
from outgate.core.options import ANSWERED, INSIDE, KEPT, options

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

    from outgate.client.state import State

_SO_DOMAIN = 39


def setsockopt(self: native, state: State, args: tuple[Any, ...]) -> None:
    """Set an option.

    :param args: as the program gave them, level and number exact.
    :raises OSError: what the kernel says of it outside.
    """
    judge("setsockopt", *args)
    level, number, value = args[:3]
    if _who(level, number) in (INSIDE, KEPT):
        return native.setsockopt(self, *args)
    if value is None:
        raise os_error(errno.EFAULT)
    try:
        value = c_int(value)
    except TypeError:
        value = bytes(memoryview(value)).hex()
    destinations.ask({"op": messages.OPTION, "sock": state.id, "level": level, "number": number, "value": value})
    return None


def getsockopt(self: native, state: State, args: tuple[Any, ...]) -> int | bytes:
    """Read an option, as a number or as bytes.

    :raises OSError: what the kernel says of it outside.
    """
    judge("getsockopt", *args)
    level, number = args[:2]
    size = c_int(args[2]) if len(args) > 2 else 0
    who = _who(level, number)
    if who in (INSIDE, KEPT):
        return native.getsockopt(self, *args)
    if who == ANSWERED:
        value = _answer(self, state, number)
        return value.to_bytes(4, sys.byteorder)[:size] if size else value
    request = {"op": messages.OPTION, "sock": state.id, "level": level, "number": number, "size": size}
    found = destinations.ask(request)["value"]
    return found if isinstance(found, int) else bytes.fromhex(found)


def _who(level: int, number: int) -> str:
    option = options().get((level, number))
    return option.relay if option is not None else ""


def _answer(self: native, state: State, number: int) -> int:
    if number == SO_TYPE:
        return int(SOCK_DGRAM if state.is_datagram else SOCK_STREAM)
    if number == SO_PROTOCOL:
        return int(IPPROTO_UDP if state.is_datagram else IPPROTO_TCP)
    if number == _SO_DOMAIN:
        return int(state.family)
    if number == SO_ERROR:
        return int(state.ways.pending_error(self, state))
    return 0  # SO_ACCEPTCONN
