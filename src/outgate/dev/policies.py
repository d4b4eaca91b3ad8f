"""Make the gate's configuration of a plan: each app by a socket of its own, with the policy its files say."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from outgate.core.profiles import APP_ENGINE
from outgate.dev import sockets
from outgate.dev.plan import Plan
from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.configuration.places import Place
from outgate.gate.configuration.settings import Settings

__all__ = ["check", "raw", "settings"]


def raw(plan: Plan, folder: str) -> dict[str, Any]:
    """Return the configuration as a decoded file would hold it.

    Where app.yaml says nothing of policy it is that of a gate without a configuration: billed, trusted, public
    destinations. Loopback is no exception: what the app reaches here is what it would reach elsewhere.

    :param folder: for the gate's sockets, which only this user may enter.
    :raises ConfigError: the files contradict one another.
    """
    apps: dict[str, Any] = {}
    for application, said in plan.policies().items():
        table: dict[str, Any] = {
            "billing": True,
            "trusted": True,
            **said,
            "socket": sockets.gate_of(folder, application),
        }
        wanted = profile(plan, application)
        if wanted:
            table.setdefault("profile", wanted)
        apps[application] = table
    gate = {
        "socket": sockets.gate(folder),
        "socket_mode": "0600",
        "log": "-",
        "state": os.path.join(folder, "state"),
    }
    return {"version": 1, "gate": gate, "apps": apps}


def profile(plan: Plan, application: str) -> str:
    """Return the profile that an app's runtimes ask for, "" for none."""
    return APP_ENGINE if any(each.has_original_rules for each in plan.of_app(application)) else ""


def settings(table: Mapping[str, Any], source: str, host: Sequence[str] = ()) -> Settings:
    """Return the checked configuration.

    :param table: what :func:`raw` has made.
    :param source: what the policy comes from, for people.
    :raises ConfigError: a key of an ``outgate:`` section is wrong; the place is the key's in app.yaml.
    """
    try:
        return config.from_table(table, source, host=host)
    except ConfigError as error:
        raise ConfigError(_in_yaml(str(error), table)) from None


def check(plan: Plan, folder: str) -> Settings:
    """Hold a plan's policies against the configuration's own rules. Raises :class:`ConfigError`."""
    return settings(raw(plan, folder), source(plan))


def source(plan: Plan) -> str:
    """Return what the policy comes from, for people."""
    said = [each.path for each in plan.services if each.policy]
    return ", ".join(said or [plan.default.path])


def _in_yaml(text: str, table: Mapping[str, Any]) -> str:
    """Return a complaint with the keys where they stand in app.yaml."""
    for application in table["apps"]:
        for place in (Place("").at("apps").at(application).key, f"apps.{json.dumps(application)}"):
            text = text.replace(f"{place}.", "outgate.")
    return text
