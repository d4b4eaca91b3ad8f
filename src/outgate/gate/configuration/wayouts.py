"""Read the ways out of an app: by which proxy, with which credentials, from which address, and for what."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar

from outgate.core.policy.lint import LintWarning
from outgate.core.policy.rules import parse_groups
from outgate.core.wayout import proxy
from outgate.core.wayout.choice import Entry, WayOut, WaysOut, parse_source
from outgate.gate.configuration.places import Place, check_keys, convert, toml
from outgate.gate.configuration.tables import AppTable

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import AppSettings

__all__ = ["MOST_WAYS", "Out", "doubts", "found", "read", "read_credentials"]

#: Ways of one app: each is a rule, and is looked at in every configuration that is shown.
MOST_WAYS: Final = 1000
#: Bytes of a file with credentials: two of 255, what is between and behind, and one to see that there are more.
_MOST_BYTES: Final = 1024
_KEYS: Final = ("to", "via", "credentials", "source")
_MAKE_ONE: Final = "it holds one line, user:password"

_T = TypeVar("_T")


class Out(TypedDict):
    """The settings of an app that are about its ways out."""

    via: str
    credentials: str
    source: str
    ways: tuple[Mapping[str, Any], ...]
    out: WaysOut


def read(place: Place, table: AppTable, groups: Mapping[str, Sequence[str]]) -> Out:
    """Return them, checked, but for the files with credentials.

    :param groups: name → address ranges, those of the profile among them.
    :raises ConfigError: with the place of what is wrong.
    """
    if len(table.ways) > MOST_WAYS:
        raise place.at("ways").error(f"{len(table.ways)} ways; at most {MOST_WAYS}", "have one rule match more")
    entries = []
    for index, raw in enumerate(table.ways):
        here = place.at("ways").item(index)
        check_keys(here, raw, _KEYS)
        said = {key: convert(here.at(key), value, str) for key, value in raw.items()}
        if "to" not in said:
            raise here.error("a way says for which destinations it is", 'as in { to = "*.corp", via = "" }')
        if not {"via", "source"} & said.keys():
            raise here.error("says neither via nor source", 'via = "" is the way without a proxy')
        via, credentials, source = (said.get(key, "") for key in _KEYS[1:])
        entries.append(Entry(said["to"], _way(here, via, credentials, source)))
    default = _way(place, table.via, table.credentials, table.source)
    with place.in_file():
        out = WaysOut.build(default, entries, parse_groups(groups) if entries else None, place.at("ways").key)
    return Out(via=table.via, credentials=table.credentials, source=table.source, ways=tuple(table.ways), out=out)


def _way(place: Place, via: str, credentials: str, source: str) -> WayOut:
    if credentials and not via:
        raise place.at("credentials").error("there is no via that they could be for", "leave them out")
    if "\0" in credentials:
        raise place.at("credentials").error("is not a path", "leave the key out for none")
    by = _read(place.at("via"), via, proxy.parse) if via else None
    own = _read(place.at("source"), source, parse_source) if source else ""
    if by is not None and own and proxy.is_numeric(by.host) and (":" in by.host) != (":" in own):
        raise place.at("source").error(f"nothing can go from {own} to {by}", "both are IPv4 or both are IPv6")
    return WayOut(by, own)


def _read(place: Place, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        shown = '"…"' if "@" in text else toml(text)  # there may be a password in it
        raise place.error(f"{shown} {what}", hint) from None


def found(place: Place, apps: Mapping[str, AppSettings], folder: str, *, reads: bool) -> dict[str, AppSettings]:
    """Return the apps with what their files with credentials hold.

    :param place: of the apps.
    :param folder: where a path starts that is not absolute.
    :param reads: whether the files are read at all, or only their paths made absolute.
    :raises ConfigError: as :func:`read_credentials`.
    """
    return {name: _found(place.at(name), app, folder, reads) for name, app in apps.items()}


def _found(place: Place, app: AppSettings, folder: str, reads: bool) -> AppSettings:
    if not app.out.has_proxy:
        return app

    def filled(way: WayOut, here: Place, path: str) -> WayOut:
        if not path or not reads or way.via is None:
            return way
        return replace(way, via=replace(way.via, credentials=read_credentials(here.at("credentials"), path)))

    def absolute(path: Any) -> str:
        return os.path.join(folder, path) if path else ""

    own = absolute(app.credentials)
    ways = tuple(
        {**each, **({"credentials": absolute(each["credentials"])} if each.get("credentials") else {})}
        for each in app.ways
    )
    entries = [
        Entry(entry.to, filled(entry.way, place.at("ways").item(index), ways[index].get("credentials", "")))
        for index, entry in enumerate(app.out.entries)
    ]
    out = app.out.changed(filled(app.out.default, place, own), entries)
    return replace(app, credentials=own, ways=ways, out=out)


def read_credentials(place: Place, path: str) -> proxy.Credentials:
    """Return the credentials in a file.

    :raises ConfigError: it cannot be read, everybody may read it, others than its owner may change it, or it holds
        none.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO would hold the gate
    except OSError as error:
        raise place.error(f"{path} cannot be read: {error.strerror}", _MAKE_ONE) from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise place.error(f"{path} is not a file", _MAKE_ONE)
        if mode & 0o022:
            raise place.error(f"{path} may be changed by others than its owner", f"chmod 600 {path}")
        if mode & 0o004:
            raise place.error(f"{path} may be read by everybody, who then has this password", f"chmod 600 {path}")
        content = os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
    try:
        return proxy.parse_credentials(content)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        raise place.error(f"{path} {what}", hint) from None


def doubts(place: Place, apps: Mapping[str, AppSettings], host: Sequence[str]) -> Iterator[LintWarning]:
    """Give what is allowed about ways out and probably not meant.

    :param host: the host's own addresses, empty where they are not known.
    """
    for name, app in apps.items():
        here = place.at(name)
        ways = [(here, app.out.default)]
        ways += [(here.at("ways").item(index), entry.way) for index, entry in enumerate(app.out.entries)]
        for where, way in ways:
            if way.via is not None and way.via.takes_names and not app.trusted:
                text = "the proxy looks names up itself, and a program's own zone may have it find private addresses"
                yield LintWarning(where.at("via").key, text, "write socks5://, or have the proxy deny them")
            if way.source and host and way.source not in host:
                yield LintWarning(
                    where.at("source").key, f"{way.source} is no address of this host", "nothing leaves until it is one"
                )
