"""Read the configuration: TOML in, checked and frozen settings with one policy per app out.

Everything that can be wrong with a file is one :class:`~outgate.errors.ConfigError` that names the file, the place and
a way out. What each key means stands in :data:`outgate.gate.configuration.keys.KEYS`.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from outgate.core import paths
from outgate.core.policy.decide import Policy
from outgate.core.policy.lint import LintWarning, lint
from outgate.core.policy.rules import parse_groups
from outgate.core.profiles import DEFAULT, PROFILES
from outgate.gate.configuration import (
    allowances,
    conflicts,
    fleets,
    guarding,
    ledgers,
    listening,
    outputs,
    tokens,
    tomlfile,
    users,
    wayouts,
)
from outgate.gate.configuration.keys import KEYS, VERSION
from outgate.gate.configuration.places import Place, check_choice, check_keys, convert
from outgate.gate.configuration.settings import AppSettings, GateSettings, LedgerSettings, Settings
from outgate.gate.configuration.tables import AppTable, FileTable, GateTable

__all__ = [
    "KEYS",
    "AppSettings",
    "GateSettings",
    "LedgerSettings",
    "Settings",
    "default_settings",
    "from_table",
    "load",
    "reload",
]

#: Highest uid and gid; the one above it means "no change" to chown(2).
MAX_ID: Final = 2**32 - 2

_APP_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_SOCKET_MODE: Final = re.compile(r"0?[0-7]{3}")

#: What stands in ``names`` for all of them.
ANY_NAME: Final = "*"

#: What the settings of a gate without a configuration are called.
BUILT_IN: Final = "built-in default"


def load(
    path: str,
    *,
    number: int = 1,
    host: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
    reads_tokens: bool = True,
) -> Settings:
    """Read the configuration in ``path``.

    :param number: number of its policies.
    :param host: the host's own addresses, to be denied as ``own`` beside those in the file.
    :param environ: what paths that the file leaves out are made from; the process's own when ``None``.
    :param uid: the gate's user, for the same; the process's own when ``None``.
    :param reads_tokens: whether to read the apps' token files, which are only for who serves those apps.
    :raises ConfigError: the file cannot be read, is not TOML, or says something that cannot be.
    """
    raw, mode = tomlfile.read(path)
    settings = from_table(raw, path, number=number, host=host, environ=environ, uid=uid, reads_tokens=reads_tokens)
    if mode & 0o002:
        doubt = LintWarning(path, "every user of this host may change the policy", f"chmod o-w {path}")
        settings = replace(settings, warnings=(doubt, *settings.warnings))
    return settings


def from_table(
    raw: Mapping[str, Any],
    path: str,
    *,
    number: int = 1,
    host: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    uid: int | None = None,
    reads_tokens: bool = True,
) -> Settings:
    """Return the settings that a decoded file holds; the rest as :func:`load`.

    :param path: of that file, for the complaints and for the paths in it that are not absolute.
    :raises ConfigError: it says something that cannot be.
    """
    uid = users.own() if uid is None else uid
    environ = os.environ if environ is None else environ
    top = Place(path)
    _check_version(top, raw)
    check_keys(top, raw, ("version", "gate", "ledger", "fleet", "groups", "apps"))
    file = convert(top, raw, FileTable)
    absolute = os.path.abspath(path)
    gate = _gate(top.at("gate"), file.gate, os.path.dirname(absolute), environ, uid)
    groups = _groups(top.at("groups"), file.groups)
    booked = ledgers.ledger(top.at("ledger"), file.ledger, os.path.dirname(absolute), gate.state, groups, host)
    warnings: list[LintWarning] = []
    apps: dict[str, AppSettings] = {}
    for name, table in file.apps.items():
        place = top.at("apps").at(name)
        if not _APP_NAME.fullmatch(name):
            raise place.error(
                f"{name!r} is not a name for an app",
                "lower-case letters, digits, '.', '_' and '-', at most 63, the first a letter or digit",
            )
        apps[name] = _app(place, name, table, groups, host, number)
        if file.gate.get("zone") is not None:
            apps[name] = replace(apps[name], zone=gate.zone)
        own = listening.path(place.at("socket"), apps[name].socket, os.path.dirname(absolute))
        apps[name] = replace(apps[name], socket=own)
        if not (apps[name].uid or apps[name].gid or apps[name].socket or apps[name].token_file):
            warnings.append(LintWarning(place.key, "no program is this app", "name its users: uid = [1000]"))
        warnings += lint(apps[name].policy)
    conflicts.check_identities(top, apps)
    conflicts.check_sockets(top, gate, apps)
    warnings += conflicts.check_doors(top, gate, apps)
    apps = tokens.found(top.at("apps"), apps, os.path.dirname(absolute), reads=reads_tokens)
    apps = wayouts.found(top.at("apps"), apps, os.path.dirname(absolute), reads=reads_tokens)
    warnings += wayouts.doubts(top.at("apps"), apps, host)
    if not apps:
        warnings.append(
            LintWarning("apps", "there is no app, so every program is refused", "begin one with [apps.NAME]")
        )
    return Settings(
        gate=gate,
        groups=MappingProxyType(groups),
        apps=MappingProxyType(apps),
        source=path,
        path=absolute,
        number=number,
        warnings=tuple(warnings),
        host=tuple(host),
        ledger=booked,
        fleet=fleets.fleet(top.at("fleet"), file.fleet, os.path.dirname(absolute), reads=reads_tokens),
    )


def default_settings(
    uid: int,
    dev: bool = False,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    except_: Sequence[str] = (),
    *,
    path: str = "auto",
    number: int = 1,
    host: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of a gate without a configuration: one app ``default``, billed and trusted, for ``uid``.

    :param dev: the development policy: loopback may be connected to, and listened on.
    :param allow: rules that stand in for ``public``.
    :param deny: rules beside what is always denied.
    :param except_: rules that come before denials.
    :param path: as the key of that name.
    :raises ConfigError: one of the rules is not a rule.
    """
    environ = os.environ if environ is None else environ
    place = Place("command line").at("apps").at("default")
    table = AppTable(
        billing=True,
        trusted=True,
        allow=list(allow or ("public",)),
        deny=list(deny),
        except_=list(except_),
        listen="loopback" if dev else "none",
        path=path,
    )
    check_choice(place.at("path"), path)
    groups: dict[str, tuple[str, ...]] = {"own": ()}
    app = _build(place, "default", table, (uid,), (), groups, host, number)
    return Settings(
        gate=GateSettings(
            paths.socket_path(environ, uid), 0o600, paths.log_path(environ, uid), state=paths.state_dir(environ, uid)
        ),
        groups=MappingProxyType(groups),
        apps=MappingProxyType({"default": app}),
        source=BUILT_IN,
        number=number,
        warnings=tuple(lint(app.policy)),
        host=tuple(host),
    )


def reload(previous: Settings, *, reads_tokens: bool = True) -> Settings:
    """Return the settings that follow ``previous``: the file as it is now, with the next policy number.

    Keys that take effect only at a start keep their value, and a warning says so. ``previous`` stays as it is, and in
    force where this raises.

    :raises ConfigError: as :func:`load`.
    """
    number = previous.number + 1
    if previous.path is None:
        apps = {name: replace(app, policy=replace(app.policy, number=number)) for name, app in previous.apps.items()}
        return replace(previous, apps=MappingProxyType(apps), number=number)
    fresh = load(previous.path, number=number, host=previous.host, reads_tokens=reads_tokens)
    kept: dict[str, Any] = {}
    warnings = list(fresh.warnings)
    for key, row in KEYS.items():
        name = key.removeprefix("gate.")
        if row.reloadable or name == key or getattr(fresh.gate, name) == getattr(previous.gate, name):
            continue
        kept[name] = getattr(previous.gate, name)
        warnings.append(LintWarning(key, "changed, and takes effect only at the next start", "restart the gate"))
    # Where its folder stays the ledger in it does: one warning says so.
    booked = ledgers.kept(previous.ledger, ledgers.moved(fresh.ledger, previous.gate.state), warnings)
    fresh = replace(fresh, ledger=booked, fleet=fleets.kept(previous.fleet, fresh.fleet, warnings))
    return replace(fresh, gate=replace(fresh.gate, **kept), source=previous.source, warnings=tuple(warnings))


def _check_version(place: Place, raw: Mapping[str, Any]) -> None:
    """Refuse a file without a version, or with a newer one, before any key of it is judged."""
    if "version" not in raw:
        raise place.at("version").error("missing", f"begin the file with: version = {VERSION}")
    version = convert(place.at("version"), raw["version"], int)
    if version > VERSION:
        raise place.at("version").error(
            f"{version} is newer than this gate reads, which is {VERSION}", "upgrade outgate, or use an older file"
        )
    if version < 1:
        raise place.at("version").error(f"there was never a version {version}", f"write version = {VERSION}")


def _gate(place: Place, table: dict[str, Any], folder: str, environ: Mapping[str, str], uid: int) -> GateSettings:
    check_keys(place, table, GateTable.__struct_encode_fields__)
    gate = convert(place, table, GateTable)
    mode = gate.socket_mode
    if mode is None:
        # The peer's uid, which the kernel tells, decides about a caller; a private gate need not hear others at all.
        mode = "0666" if uid == 0 else "0600"
    elif not _SOCKET_MODE.fullmatch(mode):
        raise place.at("socket_mode").error(f'"{mode}" is not a permission', 'write it in octal, as in "0660"')
    for name, value in (("socket", gate.socket), ("log", gate.log), ("state", gate.state)):
        if value is not None and (not value or "\0" in value):
            raise place.at(name).error("is not a path", "leave the key out for the default")
    check_choice(place.at("on_reload"), gate.on_reload)
    check_choice(place.at("seal"), gate.seal)
    socket = listening.path(place.at("socket"), gate.socket or paths.socket_path(environ, uid), folder)
    log = gate.log or paths.log_path(environ, uid)
    return GateSettings(
        socket=socket,
        socket_mode=int(mode, 8),
        log=log if log in outputs.NO_FILES else os.path.join(folder, log),
        log_allowed=gate.log_allowed,
        log_rotate=outputs.rotate(place.at("log_rotate"), gate.log_rotate),
        log_keep=outputs.keep(place.at("log_keep"), gate.log_keep),
        log_rate=outputs.rate(place.at("log_rate"), gate.log_rate),
        on_reload=gate.on_reload,
        state=os.path.join(folder, gate.state or paths.state_dir(environ, uid)),
        zone=allowances.zone(place.at("zone"), PROFILES[DEFAULT].zone if gate.zone is None else gate.zone),
        warn_command=allowances.command(place.at("warn_command"), gate.warn_command),
        seal=gate.seal,
        metrics=listening.metrics(place.at("metrics"), gate.metrics, folder, exposed=gate.metrics_exposed),
        metrics_exposed=gate.metrics_exposed,
        socks=listening.doors(place.at("socks"), gate.socks, exposed=gate.doors_exposed),
        http_connect=listening.doors(place.at("http_connect"), gate.http_connect, exposed=gate.doors_exposed),
        doors_exposed=gate.doors_exposed,
    )


def _groups(place: Place, table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {"own": ()}
    for name, ranges in table.items():
        groups[name] = tuple(convert(place.at(name), ranges, list[str]))
    with place.in_file():
        parse_groups(groups)  # so that a fault in one is found where no app uses it, too
    return groups


def _app(
    place: Place, name: str, raw: Any, groups: Mapping[str, tuple[str, ...]], host: Sequence[str], number: int
) -> AppSettings:
    check_keys(place, convert(place, raw, dict), AppTable.__struct_encode_fields__)
    table = convert(place, raw, AppTable)
    if table.billing is None:
        raise place.at("billing").error(
            "missing: a configuration says which apps have billing", "write billing = true or billing = false"
        )
    for key in ("reasons", "mode", "path", "idle_reclaim", "listen", "profile"):
        word = getattr(table, key)
        if word is not None:
            check_choice(place.at(key), word)
    if table.path == "direct" and not table.trusted:
        raise place.at("path").error(
            '"direct" gives the kernel\'s own sockets to an app that is not trusted, which could turn them elsewhere',
            'write trusted = true, or leave it at "auto"',
        )
    if table.idle_timeout < 1:
        raise place.at("idle_timeout").error(f"{table.idle_timeout} s is too short", "a task queue needs a moment")
    if table.open_sockets < 1:
        raise place.at("open_sockets").error(f"{table.open_sockets} is too few", "billing = false refuses every socket")
    uid = _ids(place.at("uid"), table.uid, "user", users.number_of_user)
    gid = _ids(place.at("gid"), table.gid, "group", users.number_of_group)
    return _build(place, name, table, uid, gid, groups, host, number)


def _build(
    place: Place,
    name: str,
    table: AppTable,
    uid: tuple[int, ...],
    gid: tuple[int, ...],
    groups: Mapping[str, tuple[str, ...]],
    host: Sequence[str],
    number: int,
) -> AppSettings:
    """Make the app of a table whose words and numbers are checked; the rules are checked here."""
    dev = table.listen == "loopback"
    profile = PROFILES[table.profile]
    with place.in_file():
        policy = Policy.build(
            name,
            allow=table.allow,
            deny=table.deny,
            except_=table.except_,
            mode="report" if table.mode == "report" else "enforce",
            own=host,
            groups={**profile.groups, **groups},
            number=number,
            dev=dev,
            place=place.key,
            built_in=profile.denials,
            exempt=profile.exceptions,
            names=None if ANY_NAME in table.names else table.names,
        )
    out = wayouts.read(place, table, {**profile.groups, **groups})
    return AppSettings(
        name=name,
        policy=policy,
        uid=uid,
        gid=gid,
        socket=table.socket,
        token_file=table.token_file,
        billing=bool(table.billing),
        trusted=table.trusted,
        allow=tuple(table.allow),
        deny=tuple(table.deny),
        except_=tuple(table.except_),
        names=tuple(table.names),
        reasons=table.reasons or ("full" if table.trusted else "brief"),
        mode=table.mode,
        path=table.path,
        open_sockets=table.open_sockets,
        **out,
        quotas=allowances.quotas(place.at("quotas"), table.quotas, profile.quotas),
        zone=profile.zone,
        idle_timeout=table.idle_timeout,
        idle_reclaim=table.idle_reclaim or profile.idle_reclaim,
        listen=table.listen,
        **guarding.read(place, table, has_proxy=out["out"].has_proxy),
        profile=table.profile,
    )


def _ids(place: Place, entries: Sequence[int | str], what: str, look_up: Callable[[str], int]) -> tuple[int, ...]:
    """Return the numbers of users or groups, each once, in the order of the file."""
    numbers: dict[int, None] = {}
    for index, entry in enumerate(entries):
        here = place.item(index)
        if isinstance(entry, int):
            number = entry
        else:
            try:
                number = look_up(entry)
            except (KeyError, ValueError):  # ValueError: a NUL in the name
                hint = "write the number without quotes" if entry.isdecimal() else "make it first, or write its number"
                raise here.error(f"this host has no {what} {entry!r}", hint) from None
        if not 0 <= number <= MAX_ID:
            raise here.error(f"{number} is not the number of a {what}", f"from 0 to {MAX_ID}")
        numbers[number] = None
    return tuple(numbers)
