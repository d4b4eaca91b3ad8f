"""Read how the decision log is kept: sizes at which it is rotated, how many files stay, how fast it may grow."""

from __future__ import annotations

from typing import Final

from outgate.core.quota.quotas import parse_amount
from outgate.gate.configuration.places import Place, toml

__all__ = ["JOURNALD", "NO_FILES", "keep", "rate", "rotate", "size"]

#: What stands for the system's journal in ``gate.log``.
JOURNALD: Final = "journald"
#: Values of ``gate.log`` that are no path.
NO_FILES: Final = ("-", JOURNALD)
#: The smallest file that is rotated: a few hundred lines.
LEAST: Final = 64 * 1024
MOST_FILES: Final = 999
MOST_LINES: Final = 1_000_000


def size(text: str) -> int:
    """Return the size that a checked ``gate.log_rotate`` says, in bytes; 0 for never."""
    return parse_amount("bytes_sent", text) or 0 if text else 0


def rotate(place: Place, text: str) -> str:
    """Return a size, as it is written. Raises ``ConfigError`` for what is none, or too small for a few lines."""
    try:
        found = size(text)
    except ValueError as e:
        raise place.error(str(e)) from None
    if text and found < LEAST and found:
        raise place.error(f"{toml(text)} is too small for a log", 'write "64 KiB" or more')
    return text


def keep(place: Place, count: int) -> int:
    """Return how many earlier files stay. Raises ``ConfigError``."""
    if not 1 <= count <= MOST_FILES:
        raise place.error(f"{count} is not a number of files", f"write one from 1 to {MOST_FILES}")
    return count


def rate(place: Place, lines: int) -> int:
    """Return lines a second, 0 for any number. Raises ``ConfigError``."""
    if not 0 <= lines <= MOST_LINES:
        raise place.error(f"{lines} is not a number of lines a second", f"write one from 0 (no limit) to {MOST_LINES}")
    return lines
