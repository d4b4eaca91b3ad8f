"""Read ``[fleet]``: what this gate is called among others, where it listens for them, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

import msgspec

from outgate.core.fleet import names
from outgate.core.policy.lint import LintWarning
from outgate.gate.configuration.places import Place, check_keys, convert
from outgate.gate.configuration.settings import FleetSettings

__all__ = ["fleet", "kept"]

_EXAMPLE: Final = 'as in "192.0.2.1:7400", "[2001:db8::1]:7400" or "gate-b.corp:7400"'


class FleetTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[fleet]``."""

    name: str = ""
    listen: str = ""
    gates: dict[str, str] = {}
    proxy: str = ""


def fleet(place: Place, table: Mapping[str, Any] | None) -> FleetSettings | None:
    """Return what ``[fleet]`` says; ``None`` where there is no such table, and the gate is alone.

    :raises ConfigError: with the place of what is wrong.
    """
    if table is None:
        return None
    check_keys(place, table, FleetTable.__struct_encode_fields__)
    read = convert(place, table, FleetTable)
    if not read.name:
        raise place.at("name").error("missing: gates of a fleet have names", 'write name = "a", as others list it')
    _check_name(place.at("name"), read.name)
    for name, at in read.gates.items():
        _check_name(place.at("gates"), name)
        _place(place.at("gates").at(name), at)
    listen = read.listen or read.gates.get(read.name, "")
    if not listen:
        raise place.at("listen").error(
            "missing: where other gates reach this one", f"{_EXAMPLE}, or list {read.name} itself under gates"
        )
    return FleetSettings(
        name=read.name,
        listen=str(_place(place.at("listen"), listen)),
        gates=MappingProxyType(dict(read.gates)),
        proxy=str(_place(place.at("proxy"), read.proxy)) if read.proxy else "",
    )


def _check_name(place: Place, name: str) -> None:
    if not names.is_name(name):
        raise place.error(
            f'"{name}" is not a name for a gate', "a-z, 0-9 and hyphens within, at most 32, as it is in descriptors"
        )


def _place(place: Place, text: str) -> names.Place:
    try:
        return names.place(text)
    except ValueError as e:
        raise place.error(str(e), _EXAMPLE) from None


def kept(
    previous: FleetSettings | None, fresh: FleetSettings | None, warnings: list[LintWarning]
) -> FleetSettings | None:
    """Return what a reload makes of the fleet: other gates, and a warning for what takes a start."""
    if previous is None or fresh is None:
        if previous != fresh:
            _warn(warnings, "fleet")
        return previous
    for key in ("name", "listen"):
        if getattr(previous, key) != getattr(fresh, key):
            _warn(warnings, f"fleet.{key}")
    return replace(fresh, name=previous.name, listen=previous.listen)


def _warn(warnings: list[LintWarning], key: str) -> None:
    warnings.append(LintWarning(key, "changed, and takes effect only at the next start", "restart the gate"))
