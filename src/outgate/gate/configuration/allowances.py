"""Read the quotas of an app, and the zone whose days they go by."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Any, Final

from outgate.core.quota.quotas import (
    BYTES,
    DEFAULT,
    DELAY,
    OVERS,
    PERS,
    RESOURCES,
    WARN_AT,
    Quota,
    default_over,
    parse_amount,
)
from outgate.gate.configuration.places import Place, check_keys, convert, toml

__all__ = ["command", "quotas", "zone"]

_KEYS_OF_WINDOW: Final = ("limit", "over", "warn_at")
_KEYS_OF_RESOURCE: Final = (*PERS, "over", "warn_at")
#: Types, for msgspec.
_AMOUNT: Final[Any] = int | str
_NUMBER: Final[Any] = int | float


def zone(place: Place, name: str) -> str:
    """Return the name of a time zone that this host knows. Raises ``ConfigError``."""
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):  # OSError: the name of a folder of zones
        raise place.error(
            f"{toml(name)} is no time zone that this host knows", 'write one as in "UTC" or "Europe/Berlin"'
        ) from None
    return name


def command(place: Place, words: list[str]) -> tuple[str, ...]:
    """Return the words of a command. Raises ``ConfigError`` for one that cannot be run."""
    if words and not words[0].startswith("/"):
        raise place.item(0).error(f"{toml(words[0])} is no absolute path", "the gate looks in no PATH")
    for index, word in enumerate(words):
        if "\0" in word:
            raise place.item(index).error("has a null character")
    return tuple(words)


def quotas(place: Place, table: Mapping[str, Any], default: Iterable[Quota] = DEFAULT) -> tuple[Quota, ...]:
    """Return the quotas of ``[apps.NAME.quotas]``, in the order of the table of resources, beside the default ones.

    :param default: the profile's.
    :raises ConfigError: with the place of what is none.
    """
    check_keys(place, table, RESOURCES)
    found = {(quota.resource, quota.per): quota for quota in default}
    for resource, raw in table.items():
        here = place.at(resource)
        if isinstance(raw, (int, str)) and not isinstance(raw, bool):
            raise here.error("says no window", f"write {resource} = {{ minute = {toml(raw)} }}, or day")
        said = convert(here, raw, dict[str, Any])
        check_keys(here, said, _KEYS_OF_RESOURCE)
        if not said.keys() & set(PERS):
            raise here.error("says no limit", f"write {resource} = {{ minute = {_example(resource)} }}, or day")
        for per in PERS:
            if per in said:
                quota = _quota(here, resource, per, said)
                found.pop((resource, per), None)
                if quota is not None:
                    found[resource, per] = quota
    order = [(resource, per) for resource in RESOURCES for per in PERS]
    return tuple(found[key] for key in order if key in found)


def _quota(place: Place, resource: str, per: str, said: Mapping[str, Any]) -> Quota | None:
    """Return one quota, ``None`` for "unlimited"; what its own table says comes before what the resource's says."""
    here = place.at(per)
    own = said[per] if isinstance(said[per], dict) else {"limit": said[per]}
    check_keys(here, own, _KEYS_OF_WINDOW)
    if "limit" not in own:
        raise here.error("says no limit", f"write limit = {_example(resource)}")
    at = here.at("limit") if isinstance(said[per], dict) else here
    amount = convert(at, own["limit"], _AMOUNT)
    try:
        limit = parse_amount(resource, amount)
    except ValueError as error:
        raise at.error(*str(error).split("; ", 1)) from None
    over, where = _nearest("over", here, own, place, said, default_over(resource, per))
    over = convert(where, over, str)
    if over not in OVERS:
        raise where.error(f"{toml(over)} is not a value it takes", "one of " + ", ".join(map(toml, OVERS)))
    if over == DELAY and resource not in BYTES:
        raise where.error(f"only bytes can be delayed, not {resource}", '"cut" refuses what is above the limit')
    warn_at, where = _nearest("warn_at", here, own, place, said, WARN_AT)
    warn_at = float(convert(where, warn_at, _NUMBER))
    if not 0 < warn_at <= 1:
        raise where.error(f"{warn_at:g} is no share of a quota", "above 0 and at most 1, as in 0.8")
    return None if limit is None else Quota(resource, per, limit, over, warn_at)


def _nearest(
    key: str, here: Place, own: Mapping[str, Any], place: Place, said: Mapping[str, Any], default: Any
) -> tuple[Any, Place]:
    for where, table in ((here, own), (place, said)):
        if key in table:
            return table[key], where.at(key)
    return default, place


def _example(resource: str) -> str:
    return toml("113 MB") if resource in BYTES else "60000"
