"""Say what gates of a fleet tell each other of themselves, and see by it who differs from whom.

What a gate announces is one small JSON object (:func:`write`): as long as its configuration has apps, and never longer
than :data:`MOST`; no program can make it grow. What is read back may have been written by anybody who has the Redis,
by a newer gate, or by something else (:func:`read`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from outgate.core.fleet import names

__all__ = [
    "EXPIRY",
    "MOST",
    "Entry",
    "Standing",
    "differences",
    "digest",
    "read",
    "row",
    "told",
    "understood",
    "write",
]

#: Of the form. A gate that reads a newer one takes from it what it knows.
_VERSION: Final = 1
#: Bytes of the longest announcement.
MOST: Final = 16384
#: Seconds after which an announcement that is not renewed is gone, and no longer how its gate stands.
EXPIRY: Final = 15.0
#: Characters of the longest text that is believed, and the largest count and time.
_TEXT: Final = 300
_LARGE: Final = 1 << 53


class Standing(NamedTuple):
    """How one app stands at a gate.

    :ivar policy: digest of what it may do there (:func:`digest`).
    :ivar open: sockets that its programs there have open; ``of_others`` of them are other gates'.
    :ivar with_others: those of this gate's that programs of other gates have.
    """

    policy: str
    open: int = 0
    of_others: int = 0
    with_others: int = 0


class Entry(NamedTuple):
    """What a gate announces.

    :ivar name: of the gate, in its fleet.
    :ivar boot: which start of the gate it is; two with one name differ in it.
    :ivar host: what its host is called, and ``at``, where other gates reach it, "" for nowhere.
    :ivar version: of outgate.
    :ivar since: when it started (Unix seconds, as its own clock has it).
    :ivar number: of its policy: how often that was read since; ``policy`` is the digest of all of it.
    :ivar ends: until when its certificate is good (Unix seconds), 0 for none.
    :ivar skew: seconds that its clock is ahead of that of what the fleet shares.
    :ivar clash: whether it has found another gate under its name.
    :ivar apps: app → how it stands; ``left_out`` more for which there was no room.
    """

    name: str
    boot: str
    host: str
    at: str
    version: str
    since: int
    number: int
    policy: str
    ends: int = 0
    skew: float = 0.0
    clash: bool = False
    apps: Mapping[str, Standing] = {}
    left_out: int = 0


def digest(*texts: object) -> str:
    """Return sixteen hexadecimal digits that are the same where all of this is: strings, numbers, lists and tables."""
    return blake2b(repr(texts).encode(errors="surrogatepass"), digest_size=8).hexdigest()


def write(entry: Entry) -> bytes:
    """Return an announcement. Where there are too many apps for it, those with open sockets come first."""
    apps = dict(sorted(entry.apps.items(), key=lambda item: (-item[1].open - item[1].with_others, item[0])))
    count = len(apps)
    while True:
        said = entry._replace(
            host=entry.host[:_TEXT],
            apps=dict(list(apps.items())[:count]),
            left_out=entry.left_out + len(apps) - count,
        )
        written = json.dumps(told(said), separators=(",", ":")).encode()
        if len(written) <= MOST or not count:
            return written
        count = min(count - 1, count * MOST // len(written))


def told(entry: Entry) -> dict[str, Any]:
    """Return an announcement as plain data."""
    return {"v": _VERSION, **entry._asdict()}


def read(written: bytes) -> Entry | None:
    """Return what was announced, ``None`` for what is no announcement."""
    if len(written) > MOST:
        return None
    try:
        return understood(json.loads(written))
    except (ValueError, RecursionError):
        return None


def understood(found: Any) -> Entry | None:
    """Return what was announced, of plain data; ``None`` for what is no announcement."""
    try:
        apps = {name: _standing(said) for name, said in found["apps"].items()}
        texts = [found[key] for key in ("name", "boot", "host", "at", "version", "policy")]
        counts = [found[key] for key in ("since", "number", "ends", "left_out")]
        skew, clash = found["skew"], found["clash"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    name, boot, host, at, version, policy = texts
    since, number, ends, left_out = counts
    is_whole = (
        all(isinstance(each, str) and len(each) <= _TEXT for each in (*texts, *apps))
        and all(_is_count(each) for each in counts)
        and None not in apps.values()
        and isinstance(clash, bool)
        and isinstance(skew, (int, float))
        and abs(skew) < _LARGE
    )
    if not is_whole or not names.is_name(name):
        return None
    known = {name: each for name, each in apps.items() if each is not None}
    return Entry(name, boot, host, at, version, since, number, policy, ends, float(skew), clash, known, left_out)


def _standing(said: Any) -> Standing | None:
    policy, *counts = said
    if not isinstance(policy, str) or len(policy) > _TEXT or len(counts) < 3:
        return None
    return Standing(policy, *counts[:3]) if all(map(_is_count, counts[:3])) else None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGE


def differences(entries: Iterable[Entry]) -> dict[str, dict[str, list[str]]]:
    """Return app → digest → gates, of apps that are not the same at all gates that have them, each in order of names.

    The policy as a whole stands under "" where it differs in what no announcement had room for.
    """
    seen: dict[str, dict[str, list[str]]] = {}
    whole: dict[str, list[str]] = {}
    for entry in sorted(entries, key=lambda entry: entry.name):
        for app, standing in entry.apps.items():
            seen.setdefault(app, {}).setdefault(standing.policy, []).append(entry.name)
        if entry.left_out:
            whole.setdefault(entry.policy, []).append(entry.name)
    found = {app: seen[app] for app in sorted(seen) if len(seen[app]) > 1}
    if not found and len(whole) > 1:
        found[""] = whole
    return found


def row(entry: Entry) -> dict[str, Any]:
    """Return what is shown of an announcement, as plain data."""
    return {**entry._asdict(), "apps": {name: standing._asdict() for name, standing in entry.apps.items()}}
