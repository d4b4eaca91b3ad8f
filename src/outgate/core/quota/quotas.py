"""Say what can have a quota, how one is written, and which are there by default.

The resources and App Engine's figures are those of its quota page of 2016, section "Sockets": "daily data and
per-minute (burst) limits". Each figure per minute there is eight times the average minute of the day.
"""

import re
from typing import Any, Final, Mapping, NamedTuple, Optional, Tuple, Union

from outgate.core import units

__all__ = [
    "APP_ENGINE",
    "BYTES",
    "CUT",
    "DAY",
    "DEFAULT",
    "DELAY",
    "MINUTE",
    "OVERS",
    "PERS",
    "RESOURCES",
    "UNLIMITED",
    "WARN",
    "Quota",
    "amount",
    "default_over",
    "parse_amount",
    "written",
]

#: Windows: the calendar day, and the calendar minute, of the gate's zone.
DAY, MINUTE = "day", "minute"
PERS: Final = (DAY, MINUTE)

#: What happens above the limit. ``cut``: what comes is refused, and connections whose bytes they are end with a reset.
#: ``delay``, of bytes alone: they wait for the next window. ``warn``: nothing, but for a line in the log.
DELAY, CUT, WARN = "delay", "cut", "warn"
OVERS: Final = (DELAY, CUT, WARN)

#: How an administrator writes that there is no limit, where one is the default.
UNLIMITED: Final = "unlimited"

#: Resource → what is counted.
RESOURCES: Final[Mapping[str, str]] = {
    "create": "sockets that are put to use: by their first connect, bind or datagram",
    "connect": "calls of connect() that reach the gate, refused ones among them",
    "bind": "sockets that are bound by their program",
    "look_ups": "look-ups of names and addresses",
    "send": "datagrams sent",
    "receive": "datagrams received",
    "bytes_sent": "bytes sent",
    "bytes_received": "bytes received",
}
#: Those of them that are bytes.
BYTES: Final = frozenset(("bytes_sent", "bytes_received"))

#: Share of a quota at which it warns, where nothing is said.
WARN_AT: Final = 0.8

#: With one that is often meant for kB.
_UNITS: Final[Mapping[str, int]] = {**units.BYTES, "KB": 10**3}
_AMOUNT: Final = re.compile(r"([0-9][0-9_]{0,20}(?:\.[0-9]{1,9})?) ?(" + "|".join(_UNITS) + ")")
#: The highest limit: what SQLite and JSON's readers hold exactly.
MOST: Final = 2**53


class Quota(NamedTuple):
    """How much of a resource an app may use in a window.

    :ivar resource: a key of :data:`RESOURCES`.
    :ivar per: :data:`DAY` or :data:`MINUTE`.
    :ivar limit: calls, datagrams or bytes; 0 forbids.
    :ivar over: one of :data:`OVERS`.
    :ivar warn_at: share of the limit, from 0 to 1, at which it warns, once per window; 1 warns when it is used up.
    """

    resource: str
    per: str
    limit: int
    over: str
    warn_at: float = WARN_AT

    @property
    def name(self) -> str:
        """What it is called in errors and in the log, and where its key is: ``bytes_sent.day``."""
        return f"{self.resource}.{self.per}"


def default_over(resource: str, per: str) -> str:
    """Return what happens above a limit where nothing is said: the bytes of a minute wait, all else is refused."""
    return DELAY if resource in BYTES and per == MINUTE else CUT


def _quota(resource: str, per: str, limit: int) -> Quota:
    return Quota(resource, per, limit, default_over(resource, per))


#: What an app has that says nothing: a bound on programs that run wild.
DEFAULT: Final[Tuple[Quota, ...]] = (_quota("connect", MINUTE, 60_000),)

_DAILY: Final[Mapping[str, Tuple[int, int]]] = {
    "create": (864_000, 4_800),
    "connect": (864_000, 4_800),
    "bind": (864_000, 4_800),
    "send": (663_552_000, 3_686_400),
    "receive": (663_552_000, 3_686_400),
    "bytes_sent": (20 * 10**9, 113 * 10**6),
    "bytes_received": (20 * 10**9, 113 * 10**6),
}
#: App Engine's figures, for its profile.
APP_ENGINE: Final[Tuple[Quota, ...]] = tuple(
    _quota(resource, per, limit) for resource, limits in _DAILY.items() for per, limit in zip(PERS, limits)
)


def parse_amount(resource: str, value: Union[int, str]) -> Optional[int]:
    """Return a limit as it is written, ``None`` for "unlimited": ``60000``, and of bytes ``"20 GB"``, ``"64 KiB"``.

    :raises ValueError: it is none; the text says what one looks like.
    """
    example = '"20 GB", "113 MB" or "64 KiB"' if resource in BYTES else "60000"
    hint = f'write {example}, or "{UNLIMITED}"'
    number = value
    if isinstance(value, str):
        if value == UNLIMITED:
            return None
        match = _AMOUNT.fullmatch(value)
        if match is None or resource not in BYTES:
            raise ValueError(f'"{value}" is no limit; {hint}')
        number = round(float(match[1].replace("_", "")) * _UNITS[match[2]])
    if not isinstance(number, int) or not 0 <= number <= MOST:
        raise ValueError(f"{value} is no limit; {hint}")
    return number


def amount(resource: str, count: int) -> str:
    """Return a count as people read it: ``4,800``, and of bytes ``113 MB``, to three digits.

    >>> amount("bytes_sent", 20_480_000_000)
    '20.5 GB'
    """
    if resource not in BYTES:
        return f"{count:,}"
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    text = f"{size:.3g}" if size < 999.5 else f"{size:,.0f}"
    return f"{text} {unit}"


def written(quotas: Tuple[Quota, ...]) -> Mapping[str, Any]:
    """Return quotas as the configuration has them: the shortest form that says what they are."""
    table: dict[str, dict[str, Any]] = {}
    for quota in quotas:
        value: Any = quota.limit
        said: dict[str, Any] = {}
        if quota.over != default_over(quota.resource, quota.per):
            said["over"] = quota.over
        if quota.warn_at != WARN_AT:
            said["warn_at"] = quota.warn_at
        table.setdefault(quota.resource, {})[quota.per] = {"limit": value, **said} if said else value
    return table
