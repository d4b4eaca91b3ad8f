"""Refuse what two apps of a file cannot both have: a program, and a path."""

from __future__ import annotations

from collections.abc import Mapping

from outgate.core.policy.lint import LintWarning
from outgate.gate.configuration.listening import is_loopback
from outgate.gate.configuration.places import Place
from outgate.gate.configuration.settings import AppSettings, GateSettings

__all__ = ["check_doors", "check_identities", "check_sockets"]


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


def check_doors(place: Place, gate: GateSettings, apps: Mapping[str, AppSettings]) -> list[LintWarning]:
    """Refuse one address for two listeners, and return the doubts about doors that others reach, or nobody may use.

    :raises ConfigError: with the address, and both keys.
    """
    owners = {gate.metrics: "metrics"} if gate.metrics else {}
    found = []
    for key in ("socks", "http_connect"):
        for address in getattr(gate, key):
            owner = owners.setdefault(address, key) if not address.endswith(":0") else key
            if owner != key:
                where = place.at("gate").at(key)
                raise where.error(f"{address} is that of gate.{owner} already", "name another port")
    used = [key for key in ("socks", "http_connect") if getattr(gate, key)]
    if used and not any(app.token_file for app in apps.values()):
        text = "nobody can use it: no app has a token"
        found.append(LintWarning(f"gate.{used[0]}", text, "name one: token_file = FILE (outgate token new FILE)"))
    if not all(is_loopback(each) for key in used for each in getattr(gate, key)):
        text = "tokens, and what is not TLS, cross the network as they are"
        found.append(LintWarning("gate.doors_exposed", text, "let only networks that you trust reach the doors"))
    return found
