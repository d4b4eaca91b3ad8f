"""Refuse what two apps of a file cannot both have: a program, and a path."""

from __future__ import annotations

from collections.abc import Mapping

from outgate.gate.configuration.places import Place
from outgate.gate.configuration.settings import AppSettings, GateSettings

__all__ = ["check_identities", "check_sockets"]


def check_identities(place: Place, apps: Mapping[str, AppSettings]) -> None:
    """Refuse two apps that one program could be.

    :raises ConfigError: with both.
    """
    for key in ("uid", "gid"):
        owners: dict[int, str] = {}
        for name, app in apps.items():
            for number in getattr(app, key):
                owner = owners.setdefault(number, name)
                if owner != name:
                    where = place.at("apps").at(name).at(key)
                    hint = "a program is one app; take it out of one of the two"
                    raise where.error(f"{number} is app {owner!r} already", hint)


def check_sockets(place: Place, gate: GateSettings, apps: Mapping[str, AppSettings]) -> None:
    """Refuse one path for two: who comes by a socket of an app's own is that app.

    :raises ConfigError: with the path, and both.
    """
    owners = {gate.socket: "the gate's own"}
    if gate.metrics in owners:
        raise place.at("gate").at("metrics").error(f"{gate.metrics} is the gate's own already", "name another path")
    owners[gate.metrics] = "that of the metrics"
    for name, app in apps.items():
        if not app.socket:
            continue
        owner = owners.setdefault(app.socket, f"app {name!r}")
        if owner != f"app {name!r}":
            where = place.at("apps").at(name).at("socket")
            raise where.error(f"{app.socket} is {owner} already", "name another path")
