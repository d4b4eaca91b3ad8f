"""Add a ledger up again, and hold it against the gate's counts and the decision log: ``outgate usage verify``."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from outgate.cli import output
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.lookout import ask

if TYPE_CHECKING:
    from outgate.lookout.ledger import Place

#: Seconds that a run may have begun before its gate says it started.
_SLACK = 60.0


def verify(place: Place, log: str, as_json: bool) -> int:
    """Print what agrees and what differs, and return the exit status.

    :param log: path of a decision log; "" for that of the configuration, if there is one.
    :raises ConfigError: the ledger or the log cannot be read.
    """
    from sqlalchemy import func, select

    from outgate.gate.ledger import checking, schema
    from outgate.gate.ledger.reading import Reader

    if not log and place.settings is not None and os.path.isfile(place.settings.gate.log):
        log = place.settings.gate.log
    with Reader.open(place.url) as reader:
        connection = reader.connection
        wrong = list(checking.differences(connection))
        checked = ["the ledger, with itself"]
        booked = checking.by_app(connection)
        open = checking.open_now(connection)
        began = connection.scalar(select(func.min(schema.RUNS.c.began))) or 0.0
        if place.gate and place.settings is not None and place.settings.ledger is not None:
            name = place.settings.ledger.gate
            wrong += _against_gate(place.gate, lambda since: checking.of_runs(connection, name, since))
            checked.append(f"the counts of the gate at {place.gate}")
    notes: list[str] = []
    if log:
        logged, first = _ends(log)
        if first > place.stamp_utc(began):
            notes.append(f"{log} begins after the ledger, so it is not held against it")
        else:
            wrong += _against_log(booked, open, logged)
            checked.append(f"the decision log {log}")
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


def _against_gate(path: str, of_runs: Any) -> list[str]:
    """Hold the ledger against the counts of the running gate, which are read after it and so are no less."""
    try:
        answer = ask.request(path, {"op": messages.STAT})["answer"]
    except (ask.NoGate, ask.Refused):
        return []  # it has ended meanwhile
    booked = of_runs(answer["started"] - _SLACK)
    apps = answer["apps"].values()
    counted = sum(app["sent"] for app in apps), sum(app["received"] for app in apps)
    if all(have <= has for have, has in zip(booked, counted, strict=True)):
        return []
    return [
        f"the gate has counted {counted[0]:,} bytes sent and {counted[1]:,} received, the ledger has more: {booked}"
    ]


def _ends(path: str) -> tuple[dict[str, tuple[int, int]], str]:
    """Return the bytes of every app by the lines of ends, and the time of the first line."""
    sums: dict[str, tuple[int, int]] = {}
    first = ""
    try:
        with open(path, encoding="utf-8") as lines:
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:
                    continue  # cut short by a full disk
                first = first or line.get("time", "")
                if line.get("event") == "end":
                    sent, received = sums.get(line["app"], (0, 0))
                    sums[line["app"]] = sent + line.get("sent", 0), received + line.get("received", 0)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return sums, first


def _against_log(
    booked: dict[str, tuple[int, int]], open: tuple[int, int], logged: dict[str, tuple[int, int]]
) -> list[str]:
    """Hold what is booked against the ends in the log: more can only be what connections have moved that are open."""
    wrong: list[str] = []
    for place, word in enumerate(("sent", "received")):
        more = 0
        for app in sorted(booked.keys() | logged.keys()):
            have, ends = booked.get(app, (0, 0))[place], logged.get(app, (0, 0))[place]
            if have < ends:
                wrong.append(f"app {app}: the log has ends of {ends:,} bytes {word}, the ledger {have:,}")
            more += have - ends
        if not wrong and more != open[place]:
            wrong.append(
                f"the ledger has {more:,} bytes {word} more than the log has ends of; connections that are open have "
                f"{open[place]:,}"
            )
    return wrong
