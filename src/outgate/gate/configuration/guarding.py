"""Read what an app's guarded programs may: whether they are guarded at all, and which Unix sockets they may use."""

from __future__ import annotations

import os
from typing import Final, TypedDict

from outgate.gate.configuration.places import Place
from outgate.gate.configuration.tables import AppTable

__all__ = ["MOST_PATHS", "Guarding", "read"]

#: Unix sockets of one app: they travel with every greeting, and are looked at one by one at each connect to any.
MOST_PATHS: Final = 64


class Guarding(TypedDict):
    """The settings of an app that are about its guard."""

    guard: bool
    unix: tuple[str, ...]


def read(place: Place, table: AppTable, *, has_proxy: bool = False) -> Guarding:
    """Return them, checked.

    :param has_proxy: whether any of its destinations is led by a proxy.
    :raises ConfigError: with the path, and what is wrong.
    """
    if table.guard and table.path == "relay":
        raise place.at("guard").error(
            'guarded programs have the kernel\'s own sockets, and path = "relay" gives them none',
            "leave one of them out",
        )
    if table.guard and has_proxy and table.path == "auto":
        raise place.at("guard").error(
            "guarded programs have the kernel's own sockets, and by a proxy the gate carries the bytes",
            'leave one of them out, or write trusted = true and path = "direct"',
        )
    if len(table.unix) > MOST_PATHS:
        raise place.at("unix").error(f"{len(table.unix)} paths; at most {MOST_PATHS}", "name those that are needed")
    for index, path in enumerate(table.unix):
        if not os.path.isabs(path) or "\0" in path:
            raise place.at("unix").item(index).error(f"{path!r} is not an absolute path", "begin it with /")
    return {"guard": table.guard, "unix": tuple(table.unix)}
