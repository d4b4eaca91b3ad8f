"""Read ``[fleet]``: what this gate is called among others, where they are, and where they keep what they share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from outgate.core.fleet import names
from outgate.core.policy.lint import LintWarning
from outgate.core.quota.pool import RESERVATION
from outgate.gate.configuration.places import Place, check_keys, convert
from outgate.gate.configuration.settings import FleetSettings, StateSettings
from outgate.gate.configuration.wayouts import read_credentials

__all__ = ["fleet", "kept"]

_EXAMPLE: Final = 'as in "192.0.2.1:7400", "[2001:db8::1]:7400" or "gate-b.corp:7400"'
_STATE: Final = 'as in "redis://192.0.2.5:6379/0", "rediss://state.corp/0" or "unix:///run/redis/redis.sock"'
#: What may stand behind the ? of such a URL: redis-py's names of what it takes to reach a server.
_OPTIONS: Final = ("db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class FleetTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[fleet]``."""

    name: str = ""
    listen: str = ""
    gates: dict[str, str] = {}
    proxy: str = ""
    state: str = ""
    state_credentials: str = ""
    reservation: float = RESERVATION


def fleet(place: Place, table: Mapping[str, Any] | None, folder: str, *, reads: bool) -> FleetSettings | None:
    """Return what ``[fleet]`` says; ``None`` where there is no such table, and the gate is alone.

    :param folder: where a path starts that is not absolute.
    :param reads: whether the file with credentials is read, or only its path made absolute.
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
    if not listen and (read.gates or not read.state):
        raise place.at("listen").error(
            "missing: where other gates reach this one", f"{_EXAMPLE}, or list {read.name} itself under gates"
        )
    return FleetSettings(
        name=read.name,
        listen=str(_place(place.at("listen"), listen)) if listen else "",
        gates=MappingProxyType(dict(read.gates)),
        proxy=str(_place(place.at("proxy"), read.proxy)) if read.proxy else "",
        shared=_shared(place, read, folder, reads),
        reservation=_share(place.at("reservation"), read.reservation),
    )


def _shared(place: Place, read: FleetTable, folder: str, reads: bool) -> StateSettings | None:
    if not read.state:
        if read.state_credentials:
            raise place.at("state_credentials").error("there is no state that they could be for", "leave them out")
        return None
    here = place.at("state")
    try:
        url = urlsplit(read.state)
        port = url.port
    except ValueError:
        raise here.error("this is no URL", _STATE) from None
    database = url.path.strip("/")
    is_socket = url.scheme == "unix"
    if url.scheme not in ("redis", "rediss", "unix") or not (url.path if is_socket else url.hostname) or port == 0:
        raise here.error("this is no place for what gates share", _STATE)
    if not is_socket and database and not database.isdecimal():
        raise here.error(f'"{database}" is not the number of a database', _STATE)
    for name in parse_qs(url.query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise here.error(f"{name} is not known", "behind a ? may stand " + ", ".join(_OPTIONS))
    if not read.state_credentials:
        return StateSettings(read.state)
    if url.password is not None:
        raise place.at("state_credentials").error("the URL has a password as well", "leave out one of the two")
    file = place.at("state_credentials")
    if "\0" in read.state_credentials:
        raise file.error("is not a path", "leave the key out for none")
    path = os.path.join(folder, read.state_credentials)
    if not reads:
        return StateSettings(read.state, path)
    user, password = read_credentials(file, path)
    try:
        return StateSettings(read.state, path, (user.decode(), password.decode()))
    except UnicodeDecodeError:
        raise file.error(f"{path} is not UTF-8", "it holds one line, user:password") from None


def _share(place: Place, share: float) -> float:
    if not 0 <= share <= 1:
        raise place.error(f"{share:g} is no share of a quota", "from 0 to 1, as in 0.01")
    return share


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
    if previous.shared != fresh.shared:
        _warn(warnings, "fleet.state")
    return replace(fresh, name=previous.name, listen=previous.listen, shared=previous.shared)


def _warn(warnings: list[LintWarning], key: str) -> None:
    warnings.append(LintWarning(key, "changed, and takes effect only at the next start", "restart the gate"))
