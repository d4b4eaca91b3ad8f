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

__all__ = ["MOST_WAYS", "Out", "doubts", "found", "read", "read_authorities", "read_credentials"]

#: Ways of one app: each is a rule, and is looked at in every configuration that is shown.
MOST_WAYS: Final = 1000
#: Bytes of a file with credentials: two of 255, what is between and behind, and one to see that there are more.
_MOST_BYTES: Final = 1024
#: Bytes of a file with authorities: the whole of a system's is some 220 KB.
_MOST_AUTHORITIES: Final = 1 << 20
_KEYS: Final = ("to", "via", "credentials", "ca", "source")
_MAKE_ONE: Final = "it holds one line, user:password"
_NAME_ONE: Final = "it holds certificates as PEM, that of who signed the proxy's among them"
#: Keys that name files.
_FILES: Final = ("credentials", "ca")

_T = TypeVar("_T")


class Out(TypedDict):
    """The settings of an app that are about its ways out."""

    via: str
    credentials: str
    ca: str
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
        entries.append(Entry(said["to"], _way(here, {key: said.get(key, "") for key in _KEYS[1:]}, table)))
    default = _way(place, {key: getattr(table, key) for key in _KEYS[1:]}, table)
    with place.in_file():
        out = WaysOut.build(default, entries, parse_groups(groups) if entries else None, place.at("ways").key)
    return Out(
        via=table.via,
        credentials=table.credentials,
        ca=table.ca,
        source=table.source,
        ways=tuple(table.ways),
        out=out,
    )


def _way(place: Place, said: Mapping[str, str], table: AppTable) -> WayOut:
    via, source = said["via"], said["source"]
    if said["credentials"] and not via:
        raise place.at("credentials").error("there is no via that they could be for", "leave them out")
    for key in _FILES:
        if "\0" in said[key]:
            raise place.at(key).error("is not a path", "leave the key out for none")
    by = _read(place.at("via"), via, proxy.parse) if via else None
    if by is not None and by.is_tls:
        _check_tls(place.at("via"), table)
    elif said["ca"]:
        raise place.at("ca").error("there is no https:// that it could be for", "leave it out")
    own = _read(place.at("source"), source, parse_source) if source else ""
    if by is not None and own and proxy.is_numeric(by.host) and (":" in by.host) != (":" in own):
        raise place.at("source").error(f"nothing can go from {own} to {by}", "both are IPv4 or both are IPv6")
    return WayOut(by, own)


def _check_tls(place: Place, table: AppTable) -> None:
    """Refuse TLS to a proxy where the program is to hold the socket: the kernel does not speak it, so the gate must."""
    hint = "write http:// and have stunnel or haproxy beside the gate speak TLS to it"
    if table.path == "direct":
        why = 'of TLS to a proxy the gate carries every byte, and path = "direct" leaves them to the kernel'
        raise place.error(why, f"leave path out, or {hint}")
    if table.guard:
        why = "of TLS to a proxy the gate carries every byte, and guarded programs have the kernel's own sockets"
        raise place.error(why, f"leave guard out, or {hint}")


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

    def filled(way: WayOut, here: Place, files: Mapping[str, str]) -> WayOut:
        if not reads or way.via is None:
            return way
        via = way.via
        if files.get("credentials"):
            via = replace(via, credentials=read_credentials(here.at("credentials"), files["credentials"]))
        if files.get("ca"):
            via = replace(via, authorities=read_authorities(here.at("ca"), files["ca"]))
        return replace(way, via=via)

    def absolute(said: Mapping[str, Any]) -> dict[str, str]:
        return {key: os.path.join(folder, said[key]) for key in _FILES if said.get(key)}

    own = absolute({key: getattr(app, key) for key in _FILES})
    ways = tuple({**each, **absolute(each)} for each in app.ways)
    entries = [
        Entry(entry.to, filled(entry.way, place.at("ways").item(index), ways[index]))
        for index, entry in enumerate(app.out.entries)
    ]
    out = app.out.changed(filled(app.out.default, place, own), entries)
    return replace(app, credentials=own.get("credentials", ""), ca=own.get("ca", ""), ways=ways, out=out)


def read_credentials(place: Place, path: str) -> proxy.Credentials:
    """Return the credentials in a file.

    :raises ConfigError: it cannot be read, everybody may read it, others than its owner may change it, or it holds
        none.
    """
    mode, content = _content(place, path, _MOST_BYTES, _MAKE_ONE, "600")
    if mode & 0o004:
        raise place.error(f"{path} may be read by everybody, who then has this password", f"chmod 600 {path}")
    try:
        return proxy.parse_credentials(content)
    except ValueError as error:
        what, _, hint = str(error).partition("; ")
        raise place.error(f"{path} {what}", hint) from None


def read_authorities(place: Place, path: str) -> str:
    """Return the certificates in a file, as PEM.

    :raises ConfigError: it cannot be read, others than its owner may change it, or it holds none.
    """
    import ssl  # 10 ms that no other configuration costs

    _, content = _content(place, path, _MOST_AUTHORITIES, _NAME_ONE, "644")
    try:
        text = content.decode("ascii")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise place.error(f"{path} holds no certificate: {error}", _NAME_ONE) from None
    return text


def _content(place: Place, path: str, most: int, hint: str, mode: str) -> tuple[int, bytes]:
    """Return permissions and content of a file that nobody but its owner may change. Raises ``ConfigError``."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)  # a FIFO would hold the gate
    except OSError as error:
        raise place.error(f"{path} cannot be read: {error.strerror}", hint) from None
    try:
        has = os.fstat(fd).st_mode
        if not stat.S_ISREG(has):
            raise place.error(f"{path} is not a file", hint)
        if has & 0o022:
            raise place.error(f"{path} may be changed by others than its owner", f"chmod {mode} {path}")
        return has, os.read(fd, most)
    finally:
        os.close(fd)


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
