"""Bring host names into one canonical form, and read the patterns that stand for them in rules.

Names are made canonical once, before any rule sees them: lower case, without the dot at the end, in ASCII. Scripts
other than ASCII go through the standard library's ``idna`` codec (IDNA 2003, RFC 3490), because that is what C does to
the ``str`` a program hands to :mod:`socket`; so a rule and a look-up that read alike are the same name, whatever
scripts they mix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from outgate.core.address import addresses

__all__ = ["MAX_LABEL", "MAX_NAME", "NameSet", "Pattern", "canonical", "idna_2008", "parents", "parse_pattern"]

#: Characters of a label and of a name without its last dot (RFC 1035 section 2.3.4: 255 octets with the length bytes).
MAX_LABEL: Final = 63
MAX_NAME: Final = 253

#: Text beyond this is refused before the codec sees it, whose time grows with the square of a label.
_MAX_TEXT: Final = 1024

# Looser than RFC 952: hosts in use have underscores, and hyphens at the ends of labels.
_NAME: Final = re.compile(r"(?:(?!-+(?:\.|\Z))[a-z0-9_-]{1,63}(?:\.(?!\Z)|\Z))+")
_NOT_IN_LABELS: Final = re.compile(r"[^a-z0-9_.-]")
_ENDS_IN_NUMBER: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\Z")
#: The four characters that IDNA 2003 maps to others and IDNA 2008 keeps (UTS 46 section 6), and the capital of one.
_DEVIATIONS: Final = {
    "ß": "ß",
    "ẞ": "ß",
    "ς": "ς",
    "\u200c": "a zero-width non-joiner",
    "\u200d": "a zero-width joiner",
}


class Pattern(NamedTuple):
    """A name, or every name below one.

    :ivar name: canonical.
    :ivar is_suffix: it was written ``*.name``, and stands for any depth below ``name`` but not for ``name`` itself.
    """

    name: str
    is_suffix: bool = False

    def matches(self, name: str) -> bool:
        """Say whether a canonical name is meant."""
        if self.is_suffix:
            return name.endswith(self.name) and name[-len(self.name) - 1 : -len(self.name)] == "."
        return name == self.name

    def covers(self, other: Pattern) -> bool:
        """Say whether every name that the other means is one of this."""
        return self == other or (self.is_suffix and self.matches(other.name))

    def __str__(self) -> str:
        return f"*.{self.name}" if self.is_suffix else self.name


class NameSet:
    """A set of patterns with a fast answer to "does one of them mean this name?"."""

    __slots__ = ("_exact", "_suffixes")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        patterns = tuple(patterns)
        self._exact = frozenset(pattern.name for pattern in patterns if not pattern.is_suffix)
        self._suffixes = frozenset(pattern.name for pattern in patterns if pattern.is_suffix)

    def __contains__(self, name: str) -> bool:
        return name in self._exact or any(parent in self._suffixes for parent in parents(name))


def parents(name: str) -> Iterator[str]:
    """Go through the names that a canonical name is below: ``a.b.corp`` → ``b.corp``, ``corp``."""
    at = name.find(".") + 1
    while at:
        yield name[at:]
        at = name.find(".", at) + 1


def canonical(text: str) -> str:
    """Return the canonical form of a host name, as the C library would ask for it but in lower case.

    :raises ValueError: in words, for what is no name: empty or empty labels, more than 63 characters in a label or 253
        in all (RFC 1035), NUL, spaces and other characters that no name has, what the ``idna`` codec refuses, and
        every spelling of an address (``127.1``, ``0x7f.1``, ``::1``).
    """
    name = text.lower() if text.isascii() else _to_ascii(text).lower()
    name = name[:-1] if name.endswith(".") else name
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(_fault(name, text))
    if name[0].isdigit() and addresses.parse_numeric(name, exact=True) is not None:
        raise ValueError(f"{_shown(text)} is an address and no name")
    return name


def parse_pattern(text: str) -> Pattern:
    """Return the pattern of ``db.corp`` (that name) or ``*.corp`` (every name below, at any depth).

    :raises ValueError: in words, for what is no pattern, and for a name that means different names to IDNA 2003 and
        2008, with both.
    """
    is_suffix = text.startswith("*.")
    host = text[2:] if is_suffix else text
    if text == "*" or (is_suffix and host[:1] in ("", "*")) or host == ".":
        raise ValueError(f"{_shown(text)} names no suffix; write *.example.com")
    if "*" in host:
        raise ValueError(f"{_shown(text)} has a * that is not in front; only a whole front may vary, as in *.corp")
    if host.startswith("."):
        raise ValueError(f"{_shown(text)} begins with a dot; for every name below write *{host}")
    found = [words for character, words in _DEVIATIONS.items() if character in host]
    front = "*." if is_suffix else ""
    if found:
        raise ValueError(
            f"{_shown(text)} has {found[0]}, which programs look up in two ways; write {front}{idna_2008(host)} for "
            f"IDNA 2008, or {front}{canonical(host)} for what Python's socket module asks for"
        )
    name = canonical(host)
    if _ENDS_IN_NUMBER.match(name):
        raise ValueError(f"{_shown(text)} ends in a number, and so is neither a name nor an address")
    return Pattern(name, is_suffix)


def idna_2008(text: str) -> str:
    """Return the A-label form of a name by IDNA 2008 (RFC 5891), which keeps ``ß``, ``ς`` and the joiners."""
    lower = "".join(character.lower() for character in text)  # not the whole at once, which makes a last Σ a ς
    labels = lower.split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def _to_ascii(text: str) -> str:
    if len(text) > _MAX_TEXT:
        raise ValueError(f"{_shown(text)} has {len(text)} characters, a name has at most {MAX_NAME}")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError as error:
        cause = error.__cause__ or error
        why = getattr(cause, "reason", "") or str(cause).rpartition("(")[2].rstrip(")")  # a reason since Python 3.13
        raise ValueError(f"{_shown(text)} is no name to IDNA: {why}") from None


def _fault(name: str, text: str) -> str:
    """Say in words why a text is no name."""
    shown = _shown(text)
    if not name:
        return "an empty name" if not text else f"{shown} is no name"
    strange = _NOT_IN_LABELS.search(name)
    if strange is not None:
        character = strange.group()
        if ":" in name and addresses.parse_numeric(name) is not None:
            return f"{shown} is an address and no name"
        known = {" ": "a space", "\0": "a NUL"}.get(character, repr(character))
        return f"{shown} has {known} in it, which no name has"
    if len(name) > MAX_NAME:
        return f"{shown} has {len(name)} characters, a name has at most {MAX_NAME}"
    for label in name.split("."):
        if not label:
            return f"{shown} has an empty label"
        if len(label) > MAX_LABEL:
            return f"{shown} has a label of {len(label)} characters, a label has at most {MAX_LABEL}"
    return f"{shown} has a label of hyphens alone"


def _shown(text: str) -> str:
    """Return a text in quotes, safe to print and not too long."""
    short = text if len(text) <= 80 else text[:77] + "…"
    return f'"{short}"' if short.isprintable() and '"' not in short else repr(short)
