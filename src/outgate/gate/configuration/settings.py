"""Hold a configuration that has been checked: frozen, one policy per app, and the answer to who a program is."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, NamedTuple

from outgate.core.bill.prices import Prices, read
from outgate.core.policy.decide import Policy
from outgate.core.policy.lint import LintWarning
from outgate.core.policy.rules import Entry
from outgate.core.profiles import PROFILES
from outgate.core.quota.pool import RESERVATION
from outgate.core.quota.quotas import DEFAULT, Quota, written
from outgate.core.wayout.choice import WaysOut
from outgate.gate.configuration import tokens
from outgate.gate.configuration.keys import KEYS, VERSION, Key
from outgate.gate.configuration.places import Place, toml

__all__ = ["AppSettings", "FleetSettings", "GateSettings", "LedgerSettings", "Setting", "Settings", "StateSettings"]

_PASSWORD: Final = re.compile(r"(?<=://)([^/@:]*):[^@]*@")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What ``[gate]`` says.

    :ivar socket: absolute path of the Unix socket.
    :ivar socket_mode: its permissions, as a number.
    :ivar log: absolute path of the decision log, ``-`` for standard output, or ``journald``.
    :ivar log_allowed: whether decisions that allow are logged too.
    :ivar log_rotate: size at which a new file of the log is begun, as written; "" for never.
    :ivar log_keep: how many earlier files are kept.
    :ivar log_rate: the most lines a second of one app; 0 for any number.
    :ivar on_reload: ``cut`` or ``report``: what is done with open connections that a new policy denies.
    :ivar metrics: ``host:port`` or absolute path where metrics are served; ``""`` for nowhere.
    :ivar metrics_exposed: whether other hosts may reach that.
    :ivar socks: ``host:port`` of each door for SOCKS5.
    :ivar http_connect: the same for HTTP CONNECT.
    :ivar doors_exposed: whether other hosts may reach these.
    :ivar state: absolute path of the folder for what outlives the gate; "" where nothing does.
    :ivar zone: name of the time zone whose days quotas go by, but for apps whose profile says another.
    :ivar warn_command: command and arguments that are told when a quota warns; empty for none.
    :ivar seal: ``auto``, ``require`` or ``off``: whether the gate's sockets are sealed.
    """

    socket: str
    socket_mode: int
    log: str
    log_allowed: bool = True
    log_rotate: str = ""
    log_keep: int = 5
    log_rate: int = 1000
    on_reload: str = "cut"
    metrics: str = ""
    metrics_exposed: bool = False
    socks: tuple[str, ...] = ()
    http_connect: tuple[str, ...] = ()
    doors_exposed: bool = False
    state: str = ""
    zone: str = "UTC"
    warn_command: tuple[str, ...] = ()
    seal: str = "auto"


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """What ``[ledger]`` says.

    :ivar url: where it is kept.
    :ivar gate: what this gate is called in it.
    :ivar spool: absolute path of the folder for what it does not take.
    :ivar is_beside: whether it is kept in that folder too, as nothing else was said.
    :ivar is_single: whether no other gate of this name follows.
    :ivar grace: seconds for which sockets are opened while it cannot be written.
    :ivar after_grace: ``open`` or ``closed``.
    :ivar prices: what bytes cost.
    :ivar price_table: the same, as written.
    """

    url: str
    gate: str
    spool: str
    _: KW_ONLY
    is_beside: bool = False
    is_single: bool = False
    grace: int = 3600
    after_grace: str = "open"
    prices: Prices = field(default_factory=lambda: read({}), compare=False)
    price_table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return _PASSWORD.sub(r"\1:***@", self.url)


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Where the gates of a fleet keep what they share: Redis, or Valkey.

    :ivar url: as written.
    :ivar file: absolute path of the file with the credentials for it, "" for none.
    :ivar credentials: user and password in that file, where it was read.
    """

    url: str
    file: str = ""
    credentials: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return _PASSWORD.sub(r"\1:***@", self.url)


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """What ``[fleet]`` says.

    :ivar name: what this gate is called.
    :ivar listen: where other gates reach it, ``host:port``; "" where they share their state alone.
    :ivar gates: name → ``host:port`` of the gates of the fleet, perhaps this one among them.
    :ivar proxy: ``host:port`` of the HTTP proxy by which they are reached, "" for none.
    :ivar shared: where they keep what they share; ``None``: they share nothing.
    :ivar reservation: share of a quota that this gate may grant where it cannot ask there.
    """

    name: str
    listen: str
    gates: Mapping[str, str] = field(default_factory=dict)
    proxy: str = ""
    shared: StateSettings | None = None
    reservation: float = RESERVATION

    @property
    def state(self) -> str:
        """The URL of what they share, without its password; "" for none."""
        return self.shared.shown_url if self.shared is not None else ""

    @property
    def state_credentials(self) -> str:
        """The file with the credentials for that, "" for none."""
        return self.shared.file if self.shared is not None else ""


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What ``[apps.NAME]`` says, and the policy made from it.

    :ivar name: the app's name.
    :ivar policy: its rules, compiled.
    :ivar uid: numbers of the users whose programs it is.
    :ivar gid: numbers of the groups whose programs it is.
    :ivar socket: absolute path of a socket of its own, "" for none.
    :ivar token_file: absolute path of the file with its token, "" for none.
    :ivar token: what the token is known by (:func:`outgate.gate.configuration.tokens.digest`), b"" for none.
    :ivar billing: whether it has billing; without it every socket is refused.
    :ivar trusted: whether it may hold kernel sockets contained by the client alone.
    :ivar allow: rules, as written.
    :ivar deny: rules, as written.
    :ivar except_: rules, as written.
    :ivar names: patterns of the names that may be looked up, as written; ``*`` among them is any.
    :ivar reasons: ``full`` or ``brief``: how much a refusal tells the program.
    :ivar mode: ``enforce`` or ``report``.
    :ivar path: ``auto``, ``direct`` or ``relay``.
    :ivar via: URL of the proxy that its connections leave by, "" for none.
    :ivar credentials: absolute path of the file with the credentials for it, "" for none.
    :ivar ca: absolute path of the file with the authorities that its certificate is from, "" for those of the host.
    :ivar source: address that they leave from, "" for any.
    :ivar ways: other ways out for some destinations, as written.
    :ivar out: all of these, ready to be asked.
    :ivar open_sockets: the most sockets it may have open.
    :ivar quotas: what it may use in a day or a minute.
    :ivar zone: name of the time zone whose days they go by.
    :ivar idle_timeout: seconds after which a socket is idle; one that nobody has is reclaimed then.
    :ivar idle_reclaim: ``pressure`` or ``always``: when idle ones are taken from programs that have them.
    :ivar listen: ``none``; ``loopback`` in the development policy.
    :ivar guard: whether its programs are guarded without being asked to.
    :ivar unix: Unix sockets that its guarded programs may connect to: absolute paths.
    :ivar profile: a key of :data:`~outgate.core.profiles.PROFILES`.
    """

    name: str
    policy: Policy
    uid: tuple[int, ...] = ()
    gid: tuple[int, ...] = ()
    socket: str = ""
    token_file: str = ""
    token: bytes = field(default=b"", repr=False)
    billing: bool = True
    trusted: bool = False
    allow: tuple[str, ...] = ("public",)
    deny: tuple[Entry, ...] = ()
    except_: tuple[str, ...] = ()
    names: tuple[str, ...] = ("*",)
    reasons: str = "full"
    mode: str = "enforce"
    path: str = "auto"
    via: str = ""
    credentials: str = ""
    ca: str = ""
    source: str = ""
    ways: tuple[Mapping[str, Any], ...] = ()
    out: WaysOut = field(default_factory=WaysOut, repr=False)
    open_sockets: int = 4000
    quotas: tuple[Quota, ...] = DEFAULT
    zone: str = "UTC"
    idle_timeout: int = 120
    idle_reclaim: str = "pressure"
    listen: str = "none"
    guard: bool = False
    unix: tuple[str, ...] = ()
    profile: str = "default"

    def is_relayed(self, is_held: bool = False) -> bool:
        """Whether the gate carries its bytes: what holds no kernel socket can turn none elsewhere.

        Nor can it speak to a proxy, or see itself connected, before that has connected.

        :param is_held: whether the program could not turn one: it is sealed against it, or a guard answers its calls.
        """
        if self.path == "auto":
            return self.out.has_proxy or not (self.trusted or is_held)
        return self.path == "relay"

    @property
    def guarding(self) -> str:
        """What ``outgate run`` does about a guard: ``always``, where it is asked to (``may``), or ``never``."""
        return "never" if self.is_relayed(is_held=True) else "always" if self.guard else "may"


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
    :ivar ledger: how bytes are booked; ``None``: they are not.
    :ivar fleet: which other gates there are; ``None``: it is alone.
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
    ledger: LedgerSettings | None = None
    fleet: FleetSettings | None = None

    def find(self, uid: int, gid: int) -> AppSettings | None:
        """Return the app of a program by its user, else by its primary group, else ``None``."""
        for app in self.apps.values():
            if uid in app.uid:
                return app
        for app in self.apps.values():
            if gid in app.gid:
                return app
        return None

    def of_token(self, token: str) -> AppSettings | None:
        """Return the app of a token, or ``None``. It takes as long whether and whichever it is."""
        shown = tokens.digest(token)
        found = None
        for app in self.apps.values():
            if tokens.same(app.token, shown):
                found = app
        return found

    def explain(self) -> Iterator[Setting]:
        """Give every key with the value that is in force, in the order of the table."""
        yield _setting("version", "version", VERSION)
        for key in (row for row in KEYS if row.startswith("gate.")):
            value = getattr(self.gate, key.removeprefix("gate."))
            yield _setting(key, key, f"{value:04o}" if key == "gate.socket_mode" else value)
        if self.ledger is not None:
            for key in (row for row in KEYS if row.startswith("ledger.")):
                name = key.removeprefix("ledger.")
                shown = {"url": self.ledger.shown_url, "prices": self.ledger.price_table}
                yield _setting(key, key, shown[name] if name in shown else getattr(self.ledger, name))
        if self.fleet is not None:
            for key in (row for row in KEYS if row.startswith("fleet.")):
                value = getattr(self.fleet, key.removeprefix("fleet."))
                yield _setting(key, key, dict(value) if key == "fleet.gates" else value)
        for name, ranges in self.groups.items():
            yield _setting(f"groups.{name}", "groups.own" if name == "own" else "groups.NAME", ranges)
        for name, app in self.apps.items():
            place = Place("").at("apps").at(name)
            for row in KEYS:
                if row.startswith("apps.NAME."):
                    key = row.removeprefix("apps.NAME.")
                    value = getattr(app, "except_" if key == "except" else key)
                    yield _setting(place.at(key).key, row, written(value) if key == "quotas" else value, app)


def _setting(key: str, row: str, value: Any, app: AppSettings | None = None) -> Setting:
    text = toml(value)
    return Setting(key, text, not KEYS[row].shown and text == toml(_default(row, app)), KEYS[row])


def _default(row: str, app: AppSettings | None) -> Any:
    """Return what a key is where nothing is said: of some that depends on what else the app says."""
    if app is not None and app.trusted and row == "apps.NAME.reasons":
        return "full"
    if app is not None and row == "apps.NAME.quotas":
        return written(PROFILES[app.profile].quotas)
    if app is not None and row == "apps.NAME.idle_reclaim":
        return PROFILES[app.profile].idle_reclaim
    return KEYS[row].default
