"""Add a ledger up again, and hold it against the gate's counts and the decision log: ``outgate usage verify``.

A gate that runs has counted a byte and logged an end before it books them, a few seconds later. So it is asked, and its
log is read, before the ledger is and after it: what is booked is no less than the first, as soon as it was written, and
never more than the second.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from outgate.cli import output
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.lookout import ask
from outgate.lookout.tailing import Tail

if TYPE_CHECKING:
    from outgate.lookout.ledger import Place

#: Seconds in which what a gate has counted is booked: it writes every five, and what failed again after two.
_PATIENCE: Final = 12.0
#: Seconds by which a ledger may be older than its gate's log: a gate opens it first.
_SLACK: Final = 60.0
#: Seconds between looks meanwhile.
_PAUSE: Final = 0.25
_WORDS: Final = ("sent", "received")

#: Bytes sent and received; the same of every app.
Bytes = tuple[int, int]
ByApp = dict[str, Bytes]


class _Said(NamedTuple):
    """What a gate says of its ledger: its name there, its run, and what it has counted in that."""

    gate: str
    run: str
    counted: Bytes


class _Ledger(NamedTuple):
    """What a ledger says, all of one moment.

    :ivar wrong: how it contradicts itself.
    :ivar began: the first run.
    :ivar open: of connections that have no line of their end yet.
    :ivar of_run: what the asked gate's run has booked.
    :ivar goes_on: whether a run has not ended, so that more may come.
    """

    wrong: list[str]
    began: float
    booked: ByApp
    open: Bytes
    of_run: Bytes
    goes_on: bool


def verify(place: Place, log: str, as_json: bool) -> int:
    """Print what agrees and what differs, and return the exit status.

    :param log: path of a decision log; "" for that of the configuration, if there is one.
    :raises ConfigError: the ledger or the log cannot be read.
    """
    if not log and place.settings is not None and os.path.isfile(place.settings.gate.log):
        log = place.settings.gate.log
    path, said = _running(place)
    ends = _Ends(log) if log else None
    try:
        return _say(*_look(place, path, said, log, ends), as_json)
    finally:
        if ends is not None:
            ends.close()


def _look(
    place: Place, path: str, said: _Said | None, log: str, ends: _Ends | None
) -> tuple[list[str], list[str], list[str]]:
    """Return what differs, what is to be noted, and what was checked; what is under way has its time."""
    logged = ends.read() if ends is not None else {}
    checked = ["the ledger, with itself"]
    notes: list[str] = []
    deadline = time.monotonic() + _PATIENCE
    while True:
        read = _read(place, said)
        if ends is not None and ends.first > place.stamp_utc(read.began + _SLACK):
            notes.append(f"{log} begins after the ledger, so it is not held against it")
            ends = None
        missing: list[str] = []
        if said is not None:
            now = _ask(path)
            if now is not None and now.run == said.run:
                missing += _against_gate(said.counted, read.of_run, now.counted)
            else:
                said = None  # it has ended meanwhile
        if ends is not None:
            missing += _against_log(read.booked, read.open, logged, ends.read())
        if not missing or read.wrong or not read.goes_on or time.monotonic() >= deadline:
            break
        time.sleep(_PAUSE)
    checked += [f"the counts of the gate at {path}"] if said is not None else []
    checked += [f"the decision log {log}"] if ends is not None else []
    return [*read.wrong, *missing], notes, checked


def _say(wrong: list[str], notes: list[str], checked: list[str], as_json: bool) -> int:
    if as_json:
        output.print_json({"ok": not wrong, "checked": checked, "differences": wrong, "notes": notes})
        return 1 if wrong else 0
    for text in wrong:
        output.say(f"{output.paint('differs', 'red')}: {output.printable(text)}")
    for text in notes:
        output.say(f"{output.paint('note', 'yellow')}: {output.printable(text)}")
    if not wrong:
        output.say(f"{output.paint('agrees', 'green')}: {', '.join(checked)}")
    return 1 if wrong else 0


def _running(place: Place) -> tuple[str, _Said | None]:
    """Return the path of the gate that keeps this ledger, and what it says; ``None`` where no such gate answers."""
    settings = place.settings
    path = place.gate or (settings.gate.socket if settings is not None else "")
    kept = settings.ledger if settings is not None else None
    return path, _ask(path, kept.shown_url if kept is not None else place.url) if path else None


def _ask(path: str, url: str = "") -> _Said | None:
    """Ask a gate; ``None`` where none answers, or one that keeps no ledger, or another one than this."""
    try:
        kept = ask.request(path, {"op": messages.STAT})["answer"].get("ledger") or {}
    except (ask.NoGate, ask.Refused):
        return None
    if "run" not in kept or (url and kept["url"] != url):
        return None
    sent, received = kept["counted"]
    return _Said(kept["gate"], kept["run"], (sent, received))


def _read(place: Place, said: _Said | None) -> _Ledger:
    from outgate.gate.ledger import checking
    from outgate.gate.ledger.reading import Reader

    kept = place.settings.ledger if place.settings is not None else None
    # Several gates may share a ledger; a log is of one.
    gate = said.gate if said is not None else kept.gate if kept is not None else None
    with Reader.open(place.url) as reader:
        connection = reader.connection
        began, goes_on = checking.runs(connection, gate)
        return _Ledger(
            list(checking.differences(connection)),
            began,
            checking.by_app(connection, gate),
            checking.open_now(connection, gate),
            checking.of_run(connection, said.gate, said.run) if said is not None else (0, 0),
            goes_on,
        )


class _Ends:
    """The bytes of every app by the lines of ends in a decision log, as far as it has been read.

    :ivar first: time of its first line, "" where it has none.
    :raises ConfigError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        try:
            self._tail = Tail(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        self._sums: ByApp = {}
        self.first = ""

    def read(self) -> ByApp:
        """Read on, and return the sums."""
        for text in self._tail.come():
            try:
                line = json.loads(text)
                self.first = self.first or line.get("time", "")
            except (ValueError, AttributeError):
                continue  # cut short by a full disk
            if line.get("event") == "end":
                sent, received = self._sums.get(line["app"], (0, 0))
                self._sums[line["app"]] = sent + line.get("sent", 0), received + line.get("received", 0)
        return dict(self._sums)

    def close(self) -> None:
        """Give the file back."""
        self._tail.close()


def _against_gate(before: Bytes, booked: Bytes, after: Bytes) -> list[str]:
    """Hold what a run has booked against what its gate said to have counted before and after that was read."""
    return [
        f"the gate has counted {(least if have < least else most):,} bytes {word}, the ledger has {have:,} of it"
        for word, least, have, most in zip(_WORDS, before, booked, after, strict=True)
        if not least <= have <= most
    ]


def _against_log(booked: ByApp, open: Bytes, before: ByApp, after: ByApp) -> list[str]:
    """Hold what is booked against the ends in the log: more can only be what connections have moved that are open.

    :param before: the ends that were there before the ledger was read; likewise ``after``.
    """
    wrong: list[str] = []
    for place, word in enumerate(_WORDS):
        for app in sorted(before):
            have, ends = booked.get(app, (0, 0))[place], before[app][place]
            if have < ends:
                wrong.append(f"app {app}: the log has ends of {ends:,} bytes {word}, the ledger {have:,}")
        total, least, most = (sum(each[place] for each in sums.values()) for sums in (booked, before, after))
        if not wrong and not least <= total - open[place] <= most:
            wrong.append(
                f"the ledger has {total - most:,} bytes {word} more than the log has ends of; connections that are "
                f"open have {open[place]:,}"
            )
    return wrong
