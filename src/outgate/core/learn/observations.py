"""Gather from the lines of a decision log where an app went: each destination once, with its evidence.

The log is data that programs had a hand in, perhaps cut off, rotated or from another version. What is not a line of it
is counted and left out; fields that are not known are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from outgate.core.address import addresses
from outgate.core.address.address_table import OWN, PUBLIC
from outgate.core.address.addresses import BELOW_OWN, CLASS_BIT
from outgate.core.name import names
from outgate.core.policy.decision import LIFTABLE
from outgate.core.policy.rules import writable

__all__ = ["AppSeen", "Evidence", "Few", "Observations", "Target", "TooMany"]

#: Different destinations that are kept. A policy of as many rules is no policy any more.
MAX_DESTINATIONS: Final = 100_000
#: Programs, addresses and the like that are kept of one destination; of the others it is known that there were some.
_KEPT: Final = 8
#: The port that every policy denies.
_SMTP: Final = 25
_MAX_ID: Final = 2**32 - 2

_APP: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
#: RFC 3339 in UTC. Without its Z it sorts as text.
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)Z\Z", re.ASCII)

#: The program of ``outgate doctor``, whose denied dials are nobody's need.
_PROVER: Final = "outgate-doctor"

List = Literal["allow", "except"]


class TooMany(ValueError):
    """There are more destinations than a policy could name; the text says what to do."""


class Target(NamedTuple):
    """One destination of an app, as a rule would name it.

    :ivar list: ``except`` where a built-in denial stands before it.
    :ivar host: canonical name, or address where there is no name or none would do.
    :ivar is_name: which of the two it is.
    """

    list: List
    host: str
    is_name: bool
    transport: str
    port: int


class Few:
    """A set of texts of which the first few are kept, in order.

    :ivar kept: those.
    :ivar more: whether there were others.
    """

    __slots__ = ("kept", "more")

    def __init__(self) -> None:
        self.kept: dict[str, None] = {}
        self.more = False

    def add(self, text: str) -> None:
        """Add one; ``""`` is none."""
        if text and text not in self.kept:
            if len(self.kept) < _KEPT:
                self.kept[text] = None
            else:
                self.more = True

    def merge(self, other: Few) -> None:
        """Add those of another set."""
        for text in other.kept:
            self.add(text)
        self.more = self.more or other.more


@dataclass
class Evidence:
    """What was seen of one destination.

    :ivar count: connections and attempts.
    :ivar last: when the last was decided, RFC 3339 in UTC without the Z; ``""`` if the log does not say.
    :ivar verdict: of the last: what the policy in force then said.
    :ivar rule: the rule that denied, or would have denied, it; ``""`` if it was allowed.
    :ivar ended: how many ends were seen, and ``connected`` of them had ever been established.
    :ivar asked: every name that was asked for, where the destination is an address.
    """

    count: int = 0
    last: str = ""
    verdict: str = ""
    rule: str = ""
    ended: int = 0
    connected: int = 0
    classes: Few = field(default_factory=Few)
    addresses: Few = field(default_factory=Few)
    programs: Few = field(default_factory=Few)
    asked: dict[str, None] = field(default_factory=dict)

    def merge(self, other: Evidence) -> None:
        """Add what was seen of another destination."""
        if other.last >= self.last:
            self.last, self.verdict, self.rule = other.last, other.verdict, other.rule
        self.count += other.count
        self.ended += other.ended
        self.connected += other.connected
        self.classes.merge(other.classes)
        self.addresses.merge(other.addresses)
        self.programs.merge(other.programs)
        self.asked |= other.asked


@dataclass
class AppSeen:
    """What was seen of one app.

    :ivar uids: the users its programs ran as.
    :ivar lookups: names whose look-up was refused, and what is known of it.
    """

    uids: set[int] = field(default_factory=set)
    targets: dict[Target, Evidence] = field(default_factory=dict)
    lookups: dict[str, Evidence] = field(default_factory=dict)


class _Place(NamedTuple):
    """Where a line leads: the destination, and what it is noted with."""

    target: Target
    name: str
    address: str
    address_class: str


class _Line(NamedTuple):
    """The fields of a decision or an end that matter here, checked."""

    app: str
    time: str
    lease: str
    uid: int
    program: str
    verdict: str
    rule: str
    place: _Place


class Observations:
    """What is gathered from any number of logs, a line at a time.

    :param app: gather of this app alone; ``""`` for all.
    :param since: gather what happened at or after this time (RFC 3339 in UTC, without the Z); ``""`` for all.
    :ivar apps: app → what was seen of it.
    :ivar others: apps that were seen and not asked for.
    :ivar count: connections and attempts that were gathered.
    :ivar first: time of the earliest of them, and ``last`` of the latest.
    :ivar misread: lines that were not understood.
    :ivar lost: lines that the gate says it could not write, or has folded.
    """

    def __init__(self, app: str = "", since: str = "") -> None:
        self._app = app
        self._since = since
        self._begun: set[str] = set()
        self._kept = 0
        self.apps: dict[str, AppSeen] = {}
        self.others: set[str] = set()
        self.count = 0
        self.first = ""
        self.last = ""
        self.misread = 0
        self.lost = 0
        self.started = False

    def add(self, line: object) -> None:
        """Take one decoded line; ``None`` stands for one that could not be decoded. Raises :class:`TooMany`."""
        if not isinstance(line, Mapping) or not isinstance(line.get("event"), str):
            self.misread += 1
            return
        event = line["event"]
        if event == "start":
            self.started = True
        elif event == "log-dropped":
            lost = line.get("count")
            self.lost += lost if isinstance(lost, int) and lost > 0 else 1
        elif event == "log-folded":
            folded = (line.get(name) for name in ("allowed", "denied", "ended"))
            self.lost += sum(count for count in folded if type(count) is int and count > 0)
        if event not in ("decision", "end"):
            return
        read = _read(line)
        if read is None:
            self.misread += 1
        elif self._app and read.app != self._app:
            self.others.add(read.app)
        elif read.program != _PROVER and (not self._since or read.time >= self._since):
            self._take(read, line, event == "end")

    def _take(self, line: _Line, raw: Mapping[str, Any], is_end: bool) -> None:
        app = self.apps.setdefault(line.app, AppSeen())
        # A log may leave out the decisions that allow; then the end of a connection is all there is of it.
        is_known = is_end and line.lease in self._begun
        if is_end:
            self._begun.discard(line.lease)
        elif line.lease:
            self._begun.add(line.lease)
        evidence = self._evidence(app, line)
        if is_end:
            evidence.ended += 1
            evidence.connected += raw.get("connected") is True
        if is_known:
            return
        self.count += 1
        if line.uid >= 0:
            app.uids.add(line.uid)
        if line.time:
            self.first = min(self.first or line.time, line.time)
            self.last = max(self.last, line.time)
        evidence.count += 1
        evidence.programs.add(line.program)
        if line.time >= evidence.last:
            evidence.last, evidence.verdict = line.time, line.verdict
            evidence.rule = "" if line.verdict == "allow" else line.rule

    def _evidence(self, app: AppSeen, line: _Line) -> Evidence:
        target, name, address, address_class = line.place
        if target.port == 0 and line.verdict == "deny" and name:  # the answer to a look-up, not a connect
            if name not in app.lookups:
                self._make_room()
            return app.lookups.setdefault(name, Evidence())
        evidence = app.targets.get(target)
        if evidence is None:
            self._make_room()
            evidence = app.targets[target] = Evidence()
        evidence.classes.add(address_class)
        evidence.addresses.add(address)
        if name and not target.is_name and name not in evidence.asked:
            self._make_room()
            evidence.asked[name] = None
        return evidence

    def _make_room(self) -> None:
        self._kept += 1
        if self._kept > MAX_DESTINATIONS:
            raise TooMany(
                f"there are more than {MAX_DESTINATIONS:,} different destinations; narrow it with --app or --since"
            )


def _read(line: Mapping[str, Any]) -> _Line | None:
    """Return the fields of a line, or ``None`` where they are not those of a decision."""
    app, transport, port, verdict = line.get("app"), line.get("transport"), line.get("port"), line.get("verdict")
    if not isinstance(app, str) or not _APP.match(app) or transport not in ("tcp", "udp"):
        return None
    if type(port) is not int or not 0 <= port <= 65535 or verdict not in ("allow", "deny", "report"):
        return None
    is_own = line.get("class") == OWN
    place = _place(_text(line, "name"), _text(line, "host"), _text(line, "address"), is_own, transport, port)
    if place is None:
        return None
    uid = line.get("uid")
    time = _TIME.match(_text(line, "time"))
    return _Line(
        app=app,
        time=time[1] if time else "",
        lease=_text(line, "lease"),
        uid=uid if type(uid) is int and 0 <= uid <= _MAX_ID else -1,
        program=_text(line, "program"),
        verdict=verdict,
        rule=_text(line, "rule"),
        place=place,
    )


def _text(line: Mapping[str, Any], name: str) -> str:
    value = line.get(name)
    return value if isinstance(value, str) else ""


@lru_cache(maxsize=16384)
def _place(name: str, host: str, address: str, is_own: bool, transport: str, port: int) -> _Place | None:
    """Return where a line leads, ``None`` where it has neither a name nor an address.

    The class is judged anew, since it decides what is permitted; that an address is the host's own the log alone knows.

    :param name: as the log has it, as are the others: any text at all.
    """
    name = _name_of(name) or _name_of(host)
    try:
        judged = addresses.judge(address)
    except ValueError:
        if not name:
            return None
        # Refused before a look-up.
        return _Place(Target("except" if port == _SMTP else "allow", name, True, transport, port), name, "", "")
    mask, address_class = judged.mask, judged.address_class
    if is_own and mask & BELOW_OWN:
        mask = mask & ~BELOW_OWN | CLASS_BIT[OWN]
        address_class = addresses.mask_class(mask)
    is_denied = mask != CLASS_BIT[PUBLIC] or port == _SMTP
    # A name that reads like nothing a rule can say is of no use, nor is one for what only an address lifts.
    by_name = not mask & ~LIFTABLE and bool(_writable(name))
    host = name if by_name else judged.target
    target = Target("except" if is_denied else "allow", host, by_name, transport, port)
    return _Place(target, name, judged.target, address_class)


_writable: Final = lru_cache(maxsize=4096)(writable)


@lru_cache(maxsize=4096)
def _name_of(text: str) -> str:
    """Return the canonical name, or ``""`` for an address and for what is no name."""
    try:
        return names.canonical(text)
    except ValueError:
        return ""
