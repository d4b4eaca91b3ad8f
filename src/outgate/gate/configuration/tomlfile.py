"""Read a TOML file; what is wrong with one is an error with the place and a way out."""

import os
import re
import stat
import tomllib
from typing import Any, Final

from outgate.gate.configuration import users
from outgate.gate.configuration.places import Place

__all__ = ["MAX_BYTES", "read"]

#: Bytes of a configuration. A generous one is a few pages; what is larger is another kind of file.
MAX_BYTES: Final = 1 << 20

_AT: Final = re.compile(r" \(at (line \d+, column \d+|end of document)\)$")

#: Beginning of what tomllib says → what to do about it.
_TOML_HINTS: Final = (
    ("Cannot overwrite", "the key is there twice; keep one"),
    ("Cannot declare", "the table is there twice; join the two"),
    ("Expected '=' after", "a line is: key = value"),
    ("Invalid value", 'text stands in quotes: key = "text"'),
    ("Unclosed array", "a list ends in ]"),
    ("Invalid statement", "a line is [table], key = value, or # and a comment"),
)


def read(path: str) -> tuple[dict[str, Any], int]:
    """Return what a TOML file holds, and its permissions. Raises ``ConfigError`` where it is none."""
    place = Place(path)
    try:
        with open(place.file, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise place.error("there is no such file", "etc/outgate.minimal.toml is one to begin with") from None
    except IsADirectoryError:
        raise place.error("is a folder", "name the file in it") from None
    except PermissionError:
        raise place.error(f"uid {users.own()} may not read it", "give the gate's user the right to") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise place.error(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise place.error(f"is larger than {MAX_BYTES >> 20} MiB", "is it the right file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Place(place.file, f"line {line}").error(
            f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from None
    try:
        return tomllib.loads(text), mode
    except RecursionError:
        raise place.error("lists or tables stand too deep in one another") from None
    except tomllib.TOMLDecodeError as error:
        found = _AT.search(str(error))
        said = _AT.sub("", str(error))
        hint = next(
            (hint for begin, hint in _TOML_HINTS if said.startswith(begin)), "docs/configuration.md has the form"
        )
        raise Place(place.file, found[1] if found else "").error(said[:200], hint) from None
    except ValueError:  # int() reads no more than 4,300 digits
        raise place.error("a number in it is too long") from None
