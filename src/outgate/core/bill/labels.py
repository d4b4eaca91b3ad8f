"""Read the labels that a program's bytes are booked under beside its app, as in ``job=17``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

__all__ = ["MAX_LABELS", "MAX_TEXT", "MAX_VALUE", "OTHER_LABELS", "known", "parse", "split"]

#: How many a program may have, and how many characters a key or a value.
MAX_LABELS: Final = 8
MAX_KEY: Final = 32
MAX_VALUE: Final = 64
#: Characters of all of them together, in the form they are kept in.
MAX_TEXT: Final = MAX_LABELS * (MAX_KEY + MAX_VALUE + 2)
#: What more sets of labels than an app may have in one window are booked under.
OTHER_LABELS: Final = "(other)"

_KEY: Final = re.compile(r"[a-z][a-z0-9_.-]*\Z")


def parse(given: Iterable[str]) -> str:
    """Return labels in the one form that is kept: sorted by key, with commas between them.

    >>> parse(["team=web", "job=17"])
    'job=17,team=web'

    :param given: each ``KEY=VALUE``; a key that comes again takes the later value.
    :raises ValueError: one is no label, or there are too many; the text says what to write.
    """
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not value:
            raise ValueError(f"{text!r} is not a label; write KEY=VALUE, as in job=17")
        if not _KEY.match(key) or len(key) > MAX_KEY:
            raise ValueError(
                f"{key!r} is not the key of a label: lower-case letters, digits, '_', '.' and '-', at most {MAX_KEY}, "
                "the first a letter"
            )
        if "," in value or not value.isascii() or not value.isprintable() or len(value) > MAX_VALUE:
            raise ValueError(
                f"the value of label {key!r} is at most {MAX_VALUE} characters of ASCII, printable, and no comma"
            )
        found[key] = value
    if len(found) > MAX_LABELS:
        raise ValueError(f"{len(found)} labels are too many; at most {MAX_LABELS}")
    return ",".join(f"{key}={found[key]}" for key in sorted(found))


def known(text: str) -> str:
    """Return labels in the form that is kept, of what a program says they are; "" where these are none."""
    try:
        return parse(split(text))
    except ValueError:
        return ""


def split(text: str) -> list[str]:
    """Return the labels in the form that is kept, one by one."""
    return text.split(",") if text else []
