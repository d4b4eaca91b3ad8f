"""Say what each request costs in quotas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FIRST_USES", "LOOK_UP", "USES", "Uses"]

#: (resource, how many), one after the other.
Uses = tuple[tuple[str, int], ...]

LOOK_UP: Final[Uses] = (("look_ups", 1),)
#: What is done with a socket → what it costs. A datagram's own cost is its own.
USES: Final[Mapping[tuple[str, ...], Uses]] = {
    (): (),
    ("connect",): (("connect", 1),),
    ("bind",): (("bind", 1),),
    ("connect", "bind"): (("connect", 1), ("bind", 1)),
}
#: The same, where it is the first use of the socket.
FIRST_USES: Final[Mapping[tuple[str, ...], Uses]] = {done: (("create", 1), *uses) for done, uses in USES.items()}
