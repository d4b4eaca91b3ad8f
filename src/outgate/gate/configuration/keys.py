"""The keys of the configuration: default, meaning, whether a reload reaches them, and what a wrong one is answered.

:data:`KEYS` is the one table. ``etc/outgate.sample.toml`` and ``docs/configuration.md`` are made from it, and
``outgate check`` prints from it.
"""

import contextlib
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from outgate.errors import ConfigError

__all__ = [
    "CHOICES",
    "KEYS",
    "VERSION",
    "AppTable",
    "FileTable",
    "GateTable",
    "Key",
    "Place",
    "check_choice",
    "check_keys",
    "convert",
    "toml",
]

#: The newest ``version`` this tree reads.
VERSION: Final = 1


class Key(NamedTuple):
    """One key: its default, whether a reload reaches it, what it means, and whether it must be there.

    ``shown`` says that the value is an example: the key has no default, or one that depends on the host.
    """

    default: Any
    reloadable: bool
    help: str
    required: bool = False
    shown: bool = False


#: Dotted key → :class:`Key`. ``NAME`` stands for a name of the administrator's.
KEYS: Final[Mapping[str, Key]] = {
    "version": Key(
        VERSION, True, "Version of this file's form. A gate refuses a file that is newer than itself.", required=True
    ),
    "gate.socket": Key(
        "/run/outgate/gate.sock",
        False,
        "Unix socket where programs reach the gate. The default of a gate that is not root's is below XDG_RUNTIME_DIR. "
        "A path that is not absolute starts at the folder of this file.",
        shown=True,
    ),
    "gate.socket_mode": Key(
        "0666",
        False,
        "Permissions of that socket, in octal. Whoever may connect must still match an app. "
        'The default of a gate that is not root\'s is "0600".',
        shown=True,
    ),
    "gate.log": Key(
        "/var/log/outgate/decisions.jsonl",
        False,
        'File of the decision log, or "-" for standard output. The default of a gate that is not root\'s is below '
        "XDG_STATE_HOME.",
        shown=True,
    ),
    "gate.log_allowed": Key(
        True,
        True,
        "Log decisions that allow, too. Those that deny are always logged, and so is the end of every connection.",
    ),
    "groups.own": Key(
        [],
        True,
        "Your own address ranges, beside the host's own addresses. They are denied to every app, even where they are "
        "public.",
    ),
    "groups.NAME": Key(
        ["198.51.100.0/24"],
        True,
        "Address ranges under a name of yours, for use in the rules of every app.",
        shown=True,
    ),
    "apps.NAME.uid": Key(
        [], True, "Users whose programs are this app, as numbers or names. No two apps may share one."
    ),
    "apps.NAME.gid": Key(
        [],
        True,
        "Groups whose programs are this app, as numbers or names. It is the program's primary group that counts, and "
        "an app that lists the user comes first.",
    ),
    "apps.NAME.socket": Key(
        "",
        True,
        "A further Unix socket, of this app alone: every program that can reach it is this app, whoever runs it. For a "
        "container without network into which only that path is mounted. gate.socket_mode holds for it.",
    ),
    "apps.NAME.billing": Key(
        True,
        True,
        "Whether the app has billing. Sockets are for paid apps: with false every one is refused.",
        required=True,
        shown=True,
    ),
    "apps.NAME.trusted": Key(
        False,
        True,
        "Whether its programs may hold the kernel's sockets without being contained by more than the client.",
    ),
    "apps.NAME.allow": Key(["public"], True, "Where its programs may connect."),
    "apps.NAME.deny": Key(
        [], True, "Where they may not, in addition to what is always denied: non-public, own and *:25."
    ),
    "apps.NAME.except": Key(
        [], True, 'What they may reach although it is denied, as in "10.2.0.0/16:5432". Exceptions come before denials.'
    ),
    "apps.NAME.names": Key(
        ["*"],
        True,
        'Which names its programs may look up, as in "example.com" or "*.corp", beside those that its rules permit by '
        'name. "*" is any name; a name that no rule could allow is not looked up in any case.',
    ),
    "apps.NAME.reasons": Key(
        "brief",
        True,
        'How much a refusal tells the program: "full", or "brief", which is the kind of rule and not what a name '
        'resolved to; the log has it all. The default of an app that is trusted is "full".',
    ),
    "apps.NAME.mode": Key(
        "enforce", True, 'With "report" nothing is refused by policy; the log says what would have been.'
    ),
    "apps.NAME.path": Key(
        "auto",
        True,
        'How bytes travel: "direct" is the kernel socket itself, "relay" has the gate carry them; "auto" is direct '
        "where the app is trusted, and relay where it is not.",
    ),
    "apps.NAME.open_sockets": Key(4000, True, "The most sockets its programs may have open at one time."),
    "apps.NAME.idle_timeout": Key(
        120,
        True,
        "Seconds without traffic after which a socket that no process has, because it was passed on and nobody has "
        "taken it, is reclaimed.",
    ),
    "apps.NAME.listen": Key("none", True, "Whether its programs may listen. Sockets are outbound only."),
    "apps.NAME.profile": Key("default", True, "Which set of rules its defaults come from."),
}

#: Values of the keys that take one of a few words; a text says why a word that will mean something does not yet.
CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "reasons": {"full": "", "brief": ""},
    "mode": {"enforce": "", "report": ""},
    "path": {"auto": "", "direct": "", "relay": ""},
    "listen": {"none": "", "loopback": "listening on loopback comes with a later version"},
    "profile": {"default": "", "app-engine": "the profile of App Engine comes with a later version"},
}


class GateTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[gate]``; ``None`` is a default that depends on the host."""

    socket: str | None = None
    socket_mode: str | None = None
    log: str | None = None
    log_allowed: bool = True


class AppTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[apps.NAME]``; ``billing`` and ``reasons`` are ``None`` where the file does not say."""

    uid: list[int | str] = []
    gid: list[int | str] = []
    socket: str = ""
    billing: bool | None = None
    trusted: bool = False
    allow: list[str] = msgspec.field(default_factory=lambda: ["public"])
    deny: list[str | dict[str, Any]] = []
    except_: list[str] = msgspec.field(name="except", default_factory=list)
    names: list[str] = msgspec.field(default_factory=lambda: ["*"])
    reasons: str | None = None
    mode: str = "enforce"
    path: str = "auto"
    open_sockets: int = 4000
    idle_timeout: int = 120
    listen: str = "none"
    profile: str = "default"


class FileTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of the file's first level; what the tables hold is converted one by one, so that errors name them."""

    version: int
    gate: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    apps: dict[str, Any] = {}


class Place(NamedTuple):
    """Where in which file: what every complaint begins with."""

    file: str
    key: str = ""

    def at(self, name: str) -> "Place":
        """Return the place of a key below this one, quoted where TOML wants quotes."""
        name = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
        return Place(self.file, f"{self.key}.{name}" if self.key else name)

    def item(self, index: int) -> "Place":
        """Return the place of one item of a list."""
        return Place(self.file, f"{self.key}[{index}]")

    @contextlib.contextmanager
    def in_file(self) -> Iterator[None]:
        """Put the file in front of an error that :mod:`outgate.core` raises about something in it."""
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {error}") from None

    def error(self, text: str, hint: str = "") -> ConfigError:
        """Make the exception: file, place, what is wrong, and the way out."""
        where = f"{self.file}: {self.key}" if self.key else self.file
        return ConfigError(f"{where}: {text}" + (f"; {hint}" if hint else ""))


def check_keys(place: Place, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse the first key of ``table`` that is not ``known``, and name the nearest one. Raises ``ConfigError``."""
    names = tuple(known)
    for name, value in table.items():
        if name in names:
            continue
        near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1)
        if near:
            hint = f'did you mean "{near[0]}"?'
        elif isinstance(value, dict) and place.key.startswith("apps."):
            app = place.key.removeprefix("apps.").strip('"')
            hint = f'if the app is named {app}.{name}, write [apps."{app}.{name}"]'
        else:
            hint = "known are " + ", ".join(names)
        raise place.at(name).error("unknown key", hint)


def check_choice(place: Place, word: str) -> None:
    """Refuse a word that is not one of the key's :data:`CHOICES`, or not one yet. Raises ``ConfigError``."""
    choices = CHOICES[place.key.rpartition(".")[2]]
    usable = [choice for choice, later in choices.items() if not later]
    if word not in choices:
        near = difflib.get_close_matches(word.lower(), usable, n=1)
        hint = f'did you mean "{near[0]}"?' if near else "one of " + ", ".join(map(toml, usable))
        raise place.error(f"{toml(word)} is not a value it takes", hint)
    if choices[word]:
        raise place.error(choices[word], "until then: " + " or ".join(map(toml, usable)))


_Table = TypeVar("_Table")

_WORDS: Final = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number with a point",
    "int": "a whole number",
    "null": "",
    "object": "a table",
    "str": "text in quotes",
}
_MISMATCH: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")


def convert(place: Place, value: Any, kind: type[_Table]) -> _Table:
    """Return ``value`` as ``kind``. Raises ``ConfigError`` with the place of what has another type."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        match = _MISMATCH.match(str(error))
        if match is None:
            raise place.error(str(error)) from None
        wanted = match[1].split(" | ")
        words = " or ".join(filter(None, (_WORDS.get(word, word) for word in wanted)))
        got = _WORDS.get(match[2], f"a {match[2]}") or "nothing"
        hint = "lists stand in brackets" if wanted == ["array"] else ""
        below = f"{place.key}.{match[3]}" if place.key and match[3] else match[3] or place.key
        raise Place(place.file, below).error(f"takes {words}, not {got}", hint) from None


def toml(value: Any) -> str:
    """Return a value as TOML writes it: text, number, boolean, a list of them, or a table of one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
