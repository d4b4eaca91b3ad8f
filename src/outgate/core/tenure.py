"""Who has a lease, as a table: processes, or descriptors on their way, or nobody any more.

It stands beside the life of the connection (:mod:`outgate.core.lease`): a socket may be passed on before it is
connected, while it is, and after it failed.
"""

from types import MappingProxyType
from typing import Mapping

# States.
HELD = "held"  #: by the processes that have the socket
LENT = "lent"  #: held, and descriptors of it are out, or it is on its way to a process
PARKED = "parked"  #: by nobody; descriptors of it are out, and the gate keeps the socket for them
ENDED = "ended"  #: by nobody, and nobody will ask for it

STATES = (HELD, LENT, PARKED, ENDED)

# Events.
SHARE = "share"  #: a descriptor has been made
REDEEM = "redeem"  #: a process has asked with a descriptor, and the socket is on its way to it
TAKE = "take"  #: a process says that it has it, while others are still out
SETTLE = "settle"  #: the same of the last one, or the last one is void
LEAVE = "leave"  #: the last process that had the socket has closed it, or ended
END = "end"  #: idle for too long, cut, or reset

EVENTS = (SHARE, REDEEM, TAKE, SETTLE, LEAVE, END)

TRANSITIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        HELD: {SHARE: LENT, REDEEM: LENT, SETTLE: HELD, LEAVE: ENDED, END: ENDED},
        LENT: {SHARE: LENT, REDEEM: LENT, TAKE: LENT, SETTLE: HELD, LEAVE: PARKED, END: ENDED},
        PARKED: {SHARE: PARKED, REDEEM: PARKED, TAKE: LENT, SETTLE: HELD, END: ENDED},
        ENDED: {},
    }
)
