"""The directory of gates: each announces itself where the fleet shares its state, and reads what the others announce.

An announcement is one key with an expiry (``outgate:gate:NAME``) and the name in one set (``outgate:gates``); both are
written anew every :data:`BEAT` seconds, so that a gate that ends without a word is gone
:data:`~outgate.core.fleet.directory.EXPIRY` seconds later, by Redis' clock, and a Redis that has lost everything has it
all again. Names of gates that are gone are taken out by whoever finds them.

Who writes sees what stood there before. So a gate that finds another one's announcement in the place of its own has
a namesake that is alive; one that was started again finds its own last one, once.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outgate.core.fleet import clock, directory, names
from outgate.core.fleet.directory import Entry
from outgate.gate.shared.standing import Taken, take
from outgate.gate.shared.unshared import NoDirectory, Unshared

if TYPE_CHECKING:
    from redis import Redis

    from outgate.gate.server import Gate

__all__ = ["BEAT", "Directory"]

#: Seconds between announcements: a few may be lost before one has expired.
BEAT: Final = 3.0
#: Beats for which announcements find their own before them, after which a namesake counts as gone. Not so many
#: announcements: a reload makes one at once, and what comes first after an outage comes before a namesake's own.
_CLEAN: Final = 2
#: Gates that are read: the set is anybody's who has the Redis.
_MOST_GATES: Final = 1000
_NAMES: Final = "outgate:gates"
_KEY: Final = "outgate:gate:"


class _Heard(NamedTuple):
    """What came back.

    :ivar own: what this gate has announced.
    :ivar before: what stood in the place of this gate's announcement.
    :ivar others: what other gates announce.
    :ivar skew: seconds that this host's clock is ahead.
    """

    own: Entry
    before: Entry | None
    others: list[Entry]
    skew: float


class Directory(NoDirectory):
    """What this gate says to the others of its fleet, and has heard of them."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate
        self._has_announced = False
        self._is_asking = self._is_late = False
        self._heard_at: float | None = None
        self._skew = 0.0
        self._is_skewed = False
        #: Since when announcements have found no namesake (monotonic).
        self._clean_since: float | None = None
        self._timer: asyncio.Handle = gate.loop.call_soon(self.announce)
        gate.shared.watchers.append(self._came_or_went)

    @property
    def age(self) -> float | None:
        """Seconds since the others were heard of last; ``None``: never."""
        return None if self._heard_at is None else max(0.0, time.monotonic() - self._heard_at)

    def take(self, gate: Gate) -> Taken:
        """Return what this gate says of itself now, as far as the loop knows it."""
        return take(gate)._replace(skew=self._skew, clash=bool(self.clash))

    def state(self, shared: Unshared) -> dict[str, Any] | None:
        """Return what ``outgate status`` shows of what the fleet shares, and of what is wrong among its gates."""
        said = super().state(shared)
        if said is None:
            return None
        return {**said, "namesake": self.clash, "differing": list(self.differing)[:20], "skew": round(self._skew, 1)}

    # --- saying and hearing -------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Announce this gate now, and every :data:`BEAT` seconds from then on."""
        if self._is_asking:
            self._is_late = True  # what is under way says how things were
            return
        self._timer.cancel()
        self._is_asking, self._is_late = True, False
        taken = self.take(self._gate)
        self._gate.shared.ask(lambda redis: _exchange(redis, self.standings.entry(taken)), self._heard)

    def _came_or_went(self, is_away: bool) -> None:
        """Say anew how this gate stands when what is shared is back: it may have lost everything."""
        if not is_away:
            self.announce()

    def _heard(self, heard: _Heard | None) -> None:
        self._is_asking = False
        self._timer = self._gate.loop.call_later(0 if self._is_late else BEAT, self.announce)
        if heard is None:
            self._clean_since = None
            return
        self._heard_at, self._skew = time.monotonic(), heard.skew
        self.others = {entry.name: entry for entry in heard.others}
        self._look_for_a_namesake(heard.own, heard.before)
        self._compare(heard.own)
        self._look_at_the_clock()

    def _look_for_a_namesake(self, own: Entry, before: Entry | None) -> None:
        log = self._gate.log
        is_other = before is not None and before.boot != own.boot
        if before is not None and is_other and self._has_announced:
            where = f"{before.at or 'an address that it does not say'} (host {before.host}, boot {before.boot})"
            if not self.clash:
                why = (
                    f'another gate announces itself as "{own.name}" too: at {where}; two gates may not share a name: '
                    "stop one of them, give it another fleet.name, and join it anew with outgate fleet invite NAME"
                )
                log.event("fleet-name-twice", gate=own.name, reason=why)
            self.clash, self._clean_since = where, None
        elif self.clash:
            now = time.monotonic()
            if self._clean_since is None:
                self._clean_since = now
            elif now - self._clean_since >= _CLEAN * BEAT:
                self.clash = ""
                log.event("fleet-name-twice", gate=own.name, reason="no other gate has this gate's name any more")
        self._has_announced = True

    def _compare(self, own: Entry) -> None:
        """Say once that policies differ from gate to gate, and once that they do not any more."""
        found = directory.differences([*self.others.values(), own])
        if found.keys() == self.differing.keys():
            self.differing = found
            return
        self.differing = found
        if found:
            apps = ", ".join(name or "others" for name in found)
            self._gate.log.event("fleet-policy", apps=apps[:300], reason=_said(found))
        else:
            self._gate.log.event("fleet-policy", apps="", reason="all gates have the same policies again")

    def _look_at_the_clock(self) -> None:
        """Say once that the clock of this host is off, and once that it is not any more."""
        is_skewed = clock.is_off(self._skew)
        if is_skewed == self._is_skewed:
            return
        self._is_skewed = is_skewed
        why = "the clock of this host goes with that of fleet.state again"
        if is_skewed:
            way = "ahead of" if self._skew > 0 else "behind"
            why = f"the clock of this host is {abs(self._skew):.0f} s {way} that of fleet.state: have it set by NTP"
        self._gate.log.event("fleet-clock", seconds=round(self._skew, 1), reason=why)

    # --- its end ------------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Take this gate out of the directory; the loop has stopped."""
        self._timer.cancel()
        self._is_asking = True  # so that it announces nothing any more
        fleet = self._gate.settings.fleet
        if fleet is not None and not self._gate.shared.is_away:
            self._gate.shared.ask(partial(_withdraw, name=fleet.name, boot=self._gate.boot), _ignore)


def _said(found: dict[str, dict[str, list[str]]]) -> str:
    """Return who differs from whom, of the first few apps."""
    parts = []
    for app, kinds in list(found.items())[:3]:
        gates = " and ".join("/".join(each[:5]) for each in kinds.values())
        parts.append(f"{app or 'what else they have'} is not the same at {gates}")
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return f"policies differ: {'; '.join(parts)}{more} (outgate fleet)"[:500]


# --- on the thread of what is shared ----------------------------------------------------------------------------------


def _exchange(redis: Redis, own: Entry) -> _Heard:
    """Announce this gate, read what the others have announced, and take out the names of those that are gone."""
    begun = time.time()
    with redis.pipeline(transaction=True) as pipe:
        pipe.get(_KEY + own.name)
        pipe.set(_KEY + own.name, directory.write(own), px=int(directory.EXPIRY * 1000))
        pipe.sadd(_NAMES, own.name)
        pipe.srandmember(_NAMES, _MOST_GATES)
        pipe.time()
        before, _, _, listed, (seconds, micros) = pipe.execute()
    skew = (begun + time.time()) / 2 - (seconds + micros / 1e6)
    named = {each: each.decode("ascii", "replace") for each in listed}
    asked = [name for name in named.values() if names.is_name(name) and name != own.name]
    values: list[Any] = redis.mget([_KEY + name for name in asked]) if asked else []
    written = {name: value for name, value in zip(asked, values, strict=True) if value is not None}
    gone = [each for each, name in named.items() if name not in written and name != own.name]
    if gone:
        redis.srem(_NAMES, *gone)
    read = {name: directory.read(value) for name, value in written.items()}
    others = [entry for name, entry in read.items() if entry is not None and entry.name == name]
    return _Heard(own, None if before is None else directory.read(before), others, skew)


def _withdraw(redis: Redis, name: str, boot: str) -> bool:
    """Take a gate's announcement out, unless a namesake has written its own there."""
    before: Any = redis.get(_KEY + name)
    found = None if before is None else directory.read(before)
    if found is not None and found.boot == boot:
        redis.delete(_KEY + name)
        redis.srem(_NAMES, name)
    return True


def _ignore(value: Any) -> None:
    """Hear that it is done."""
