"""List every way, in the order in which they are tried."""

from __future__ import annotations

from outgate.guard.ways import holders, native, ring, sockets

__all__ = ["ALL", "WAYS"]

WAYS = (*sockets.WAYS, *native.WAYS, *ring.WAYS, *holders.WAYS)

#: The table, and what only a child of one of its ways does; by name.
ALL = {way.name: way for way in (*WAYS, holders.INHERITED)}
