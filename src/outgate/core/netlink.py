"""Walk over the attributes of a netlink message, and say what its readers and writers have in common.

Sources: netlink(7), sock_diag(7); linux/netlink.h, linux/inet_diag.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = [
    "ADD_MEMBERSHIP",
    "ATTRIBUTE",
    "BY_FAMILY",
    "DROP_MEMBERSHIP",
    "HEADER",
    "INFO",
    "SOCK_DIAG",
    "SOL_NETLINK",
    "attributes",
]

#: ``struct nlmsghdr``: length, type, flags, sequence, port; and ``struct nlattr``: length, type, before a value.
HEADER: Final = struct.Struct("=IHHII")
ATTRIBUTE: Final = struct.Struct("=HH")
#: Of setsockopt(2): the level, and the options by which one is told what goes to a group.
SOL_NETLINK: Final = 270
ADD_MEMBERSHIP: Final = 1
DROP_MEMBERSHIP: Final = 2
#: sock_diag: its protocol, the type of its messages, and the attribute that is a ``struct tcp_info``.
SOCK_DIAG: Final = 4
BY_FAMILY: Final = 20
INFO: Final = 2


def attributes(message: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Give type and value of each attribute; one that says less than its own head is long is the end of them.

    :param start: where in the message the first one begins.
    """
    while start + ATTRIBUTE.size <= len(message):
        length, kind = ATTRIBUTE.unpack_from(message, start)
        if length < ATTRIBUTE.size:
            return
        yield kind, message[start + ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3
