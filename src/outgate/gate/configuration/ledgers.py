"""Read ``[ledger]``: where the ledger is kept, what happens while it cannot be, and what bytes cost."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec

from outgate.core.bill import prices
from outgate.core.policy.lint import LintWarning
from outgate.core.policy.rules import parse_groups
from outgate.gate.configuration.places import Place, check_choice, check_keys, convert
from outgate.gate.configuration.settings import LedgerSettings

__all__ = ["file_url", "kept", "ledger", "moved"]

_SCHEME: Final = re.compile(r"([a-z]+)(\+[a-z0-9]+)?://")
_EXAMPLE: Final = 'as in "sqlite:////var/lib/outgate/ledger.sqlite" or "postgresql://outgate@db.corp/outgate"'


class LedgerTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[ledger]``; "" is a default that depends on the host."""

    url: str = ""
    gate: str = ""
    grace: int = 3600
    after_grace: str = "open"
    prices: dict[str, Any] = {}


def ledger(
    place: Place,
    table: Mapping[str, Any] | None,
    folder: str,
    state: str,
    groups: Mapping[str, Sequence[str]],
    host: Sequence[str],
) -> LedgerSettings | None:
    """Return what ``[ledger]`` says; ``None`` where there is no such table, and no ledger is kept.

    :param folder: of the file, for a path that is not absolute.
    :param state: folder for what outlives the gate, where the ledger is by default.
    :raises ConfigError: with the place of what is wrong.
    """
    if table is None:
        return None
    check_keys(place, table, LedgerTable.__struct_encode_fields__)
    read = convert(place, table, LedgerTable)
    if read.grace < 0:
        raise place.at("grace").error(f"{read.grace} s is no time", "0 is for no grace at all")
    check_choice(place.at("after_grace"), read.after_grace)
    name = read.gate or socket.gethostname()
    if len(name) > 255 or not name.isprintable():
        raise place.at("gate").error("is not a name", "at most 255 printable characters")
    with place.in_file():
        known = parse_groups(groups)
        known.pop("own", None)
        found = prices.read(read.prices, known, (*host, *groups.get("own", ())))
    return LedgerSettings(
        url=_url(place.at("url"), read.url, folder, state),
        gate=name,
        spool=state,
        is_beside=not read.url,
        grace=read.grace,
        after_grace=read.after_grace,
        prices=found,
        price_table=read.prices,
    )


def moved(ledger: LedgerSettings | None, state: str) -> LedgerSettings | None:
    """Return what is said of a ledger where what outlives the gate is in another folder than the file says."""
    if ledger is None:
        return None
    return replace(ledger, spool=state, url=_beside(state) if ledger.is_beside else ledger.url)


def _beside(state: str) -> str:
    return file_url(os.path.join(state, "ledger.sqlite"))


def _url(place: Place, url: str, folder: str, state: str) -> str:
    if not url:
        return _beside(state)
    scheme = _SCHEME.match(url)
    if scheme is None and "://" not in url and "\0" not in url:
        return file_url(os.path.join(folder, url))  # a path
    if scheme is None or scheme[1] not in ("sqlite", "postgresql"):
        raise place.error("this is no place for a ledger", _EXAMPLE)
    if scheme[1] == "sqlite" and not url[len(scheme[0]) :].startswith("//"):
        raise place.error(f'"{url}" names no file by an absolute path', _EXAMPLE)
    return url


def file_url(path: str) -> str:
    """Return the URL of an SQLite file."""
    return "sqlite:///" + quote(os.path.abspath(path))


def kept(
    previous: LedgerSettings | None, fresh: LedgerSettings | None, warnings: list[LintWarning]
) -> LedgerSettings | None:
    """Return what a reload makes of the ledger: new prices, and a warning for what takes a start."""
    if previous is None or fresh is None or replace(previous, price_table={}) != replace(fresh, price_table={}):
        if previous != fresh:
            text = "changed, and takes effect only at the next start"
            warnings.append(LintWarning("ledger", text, "restart the gate"))
        return previous
    return fresh
