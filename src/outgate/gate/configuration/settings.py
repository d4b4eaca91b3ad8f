"""Hold a configuration that has been checked: frozen, one policy per app, and the answer to who a program is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from outgate.core.policy.decide import Policy
from outgate.core.policy.lint import LintWarning
from outgate.core.policy.rules import Entry
from outgate.gate.configuration.keys import KEYS, VERSION, Key, Place, toml

__all__ = ["AppSettings", "GateSettings", "Setting", "Settings"]


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What ``[gate]`` says.

    :ivar socket: absolute path of the Unix socket.
    :ivar socket_mode: its permissions, as a number.
    :ivar log: absolute path of the decision log, or ``-`` for standard output.
    :ivar log_allowed: whether decisions that allow are logged too.
    """

    socket: str
    socket_mode: int
    log: str
    log_allowed: bool = True


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What ``[apps.NAME]`` says, and the policy made from it.

    :ivar name: the app's name.
    :ivar policy: its rules, compiled.
    :ivar uid: numbers of the users whose programs it is.
    :ivar gid: numbers of the groups whose programs it is.
    :ivar socket: absolute path of a socket of its own, "" for none.
    :ivar billing: whether it has billing; without it every socket is refused.
    :ivar trusted: whether it may hold kernel sockets contained by the client alone.
    :ivar allow: rules, as written.
    :ivar deny: rules, as written.
    :ivar except_: rules, as written.
    :ivar names: patterns of the names that may be looked up, as written; ``*`` among them is any.
    :ivar reasons: ``full`` or ``brief``: how much a refusal tells the program.
    :ivar mode: ``enforce`` or ``report``.
    :ivar path: ``auto``, ``direct`` or ``relay``.
    :ivar open_sockets: the most sockets it may have open.
    :ivar idle_timeout: seconds after which a socket that nobody has is reclaimed.
    :ivar listen: ``none``; ``loopback`` in the development policy.
    :ivar profile: ``default``.
    """

    name: str
    policy: Policy
    uid: tuple[int, ...] = ()
    gid: tuple[int, ...] = ()
    socket: str = ""
    billing: bool = True
    trusted: bool = False
    allow: tuple[str, ...] = ("public",)
    deny: tuple[Entry, ...] = ()
    except_: tuple[str, ...] = ()
    names: tuple[str, ...] = ("*",)
    reasons: str = "full"
    mode: str = "enforce"
    path: str = "auto"
    open_sockets: int = 4000
    idle_timeout: int = 120
    listen: str = "none"
    profile: str = "default"

    @property
    def is_relayed(self) -> bool:
        """Whether the gate carries its bytes: what holds no kernel socket can turn none elsewhere."""
        return self.path == "relay" or (self.path == "auto" and not self.trusted)

    @property
    def way(self) -> str:
        """``relay`` or ``direct``: what the path comes to."""
        return "relay" if self.is_relayed else "direct"


class Setting(NamedTuple):
    """One line of ``outgate check``: dotted key, value as TOML has it, whether it is the default, and the key's row."""

    key: str
    value: str
    default: bool
    row: Key


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration.

    :ivar gate: what the gate itself needs.
    :ivar groups: name → address ranges, as written; ``own`` is always there.
    :ivar apps: name → app.
    :ivar source: what the policy comes from, for people: the file's path or ``built-in default``.
    :ivar path: absolute path of the file, or ``None``.
    :ivar number: number of the policy; each reload has the next one.
    :ivar warnings: what is allowed and probably not meant.
    :ivar host: the host's own addresses, which are ``own`` beside ``groups["own"]``.
    """

    gate: GateSettings
    groups: Mapping[str, tuple[str, ...]]
    apps: Mapping[str, AppSettings]
    source: str
    path: str | None = None
    number: int = 1
    warnings: tuple[LintWarning, ...] = ()
    host: tuple[str, ...] = ()

    def find(self, uid: int, gid: int) -> AppSettings | None:
        """Return the app of a program by its user, else by its primary group, else ``None``."""
        for app in self.apps.values():
            if uid in app.uid:
                return app
        for app in self.apps.values():
            if gid in app.gid:
                return app
        return None

    def explain(self) -> Iterator[Setting]:
        """Give every key with the value that is in force, in the order of the table."""
        yield _setting("version", "version", VERSION)
        for key in ("gate.socket", "gate.socket_mode", "gate.log", "gate.log_allowed"):
            value = getattr(self.gate, key.removeprefix("gate."))
            yield _setting(key, key, f"{value:04o}" if key == "gate.socket_mode" else value)
        for name, ranges in self.groups.items():
            yield _setting(f"groups.{name}", "groups.own" if name == "own" else "groups.NAME", ranges)
        for name, app in self.apps.items():
            place = Place("").at("apps").at(name)
            for row in KEYS:
                if row.startswith("apps.NAME."):
                    key = row.removeprefix("apps.NAME.")
                    yield _setting(place.at(key).key, row, getattr(app, "except_" if key == "except" else key), app)


def _setting(key: str, row: str, value: Any, app: AppSettings | None = None) -> Setting:
    text = toml(value)
    default = KEYS[row].default
    if app is not None and app.trusted and row == "apps.NAME.reasons":
        default = "full"
    return Setting(key, text, not KEYS[row].shown and text == toml(default), KEYS[row])
