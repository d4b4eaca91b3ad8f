"""Where in which file something stands, and what a wrong key or value there is answered."""

import contextlib
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from outgate.errors import ConfigError
from outgate.gate.configuration.keys import CHOICES

__all__ = ["Place", "check_choice", "check_keys", "convert", "toml"]


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
