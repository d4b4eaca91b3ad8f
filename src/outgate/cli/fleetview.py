"""Show the gates of a fleet, how their policies compare, and which has how much of what they share."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from outgate.cli import output
from outgate.core.fleet import directory
from outgate.core.fleet.directory import Entry
from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.lookout.words import clock, shared, span

#: Columns of the tables, and which of them are figures.
_GATES = ("gate", "at", "outgate", "policy", "up", "sockets", "of others", "with others", "certificate", "")
_GATE_FIGURES = (5, 6, 7)
_APPS = ("app", "gate", "policy", "sockets", "of others", "with others")
_APP_FIGURES = (3, 4, 5)
#: State of a gate, as the gate that was asked has it → as people read it.
_STATES = {"this": "this gate", "announced": "", "last heard": "as last heard of", "silent": "not announced"}


def main(socket: str, apps: bool, as_json: bool) -> int:
    """Ask the gate that runs here, print what it knows, and return the exit status."""
    gate = ask.Gate(socket)
    try:
        answer, rows = _pages(gate, {}, "gates")
        shares, held = _pages(gate, {"shares": True}, "shares") if answer["ok"] else ({}, [])
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("fleet", e, as_json)
    if not answer["ok"]:
        return output.unanswered("fleet", ask.NoGate(answer["error"]), as_json)
    entries = [entry for entry in (directory.understood(row["said"]) for row in rows) if entry is not None]
    differing = directory.differences(entries)
    if as_json:
        said = {"ok": True, "socket": gate.path, **_plain(answer, rows, entries), "differing": differing}
        output.print_json({**said, "shares": held, "shares_are_whole": shares["is_whole"]})
        return 0
    _show(answer, rows, entries, differing)
    if apps:
        _show_apps(entries, differing)
    if held:
        _show_shares(held, shares["is_whole"])
    return 0


def _pages(gate: ask.Gate, words: Mapping[str, Any], key: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the first answer, and what all pages have under a key."""
    answers = list(ask.paged(gate.ask, {"op": messages.FLEET, **words}))
    return answers[0], [row for answer in answers for row in answer.get(key, ())]


def _plain(answer: Mapping[str, Any], rows: Iterable[Mapping[str, Any]], entries: Iterable[Entry]) -> dict[str, Any]:
    """Return what ``--json`` prints of the gates."""
    by_name = {entry.name: directory.row(entry) for entry in entries}
    gates = [
        {"name": row["name"], "state": row["state"], "at": row["at"], **by_name.get(row["name"], {})} for row in rows
    ]
    known = {key: answer[key] for key in ("gate", "fleet_state", "age", "namesake", "certificate_trouble")}
    return {**known, "gates": gates}


def _show(
    answer: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    entries: Sequence[Entry],
    differing: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    by_name = {entry.name: entry for entry in entries}
    apart = {name for kinds in differing.values() for names in kinds.values() for name in names}
    now = time.time()
    output.print_table([_GATES, *(_row(row, by_name.get(row["name"]), apart, now) for row in rows)], _GATE_FIGURES)
    for entry in entries:
        off = clock(entry.skew)
        if off:
            output.say(output.paint(f"the clock of gate {entry.name}'s host is {off} that of fleet.state", "yellow"))
    for app, kinds in differing.items():
        sides = "; ".join(f"{', '.join(names)}: {policy}" for policy, names in kinds.items())
        output.say(output.paint(f"policies differ, {f'app {app}' if app else 'of other apps'}: {sides}", "yellow"))
    if answer["namesake"]:
        output.say(output.paint(f'another gate is called "{answer["gate"]}" too, at {answer["namesake"]}', "red"))
    if answer["certificate_trouble"]:
        output.say(output.paint(f"certificate: {answer['certificate_trouble']}", "red"))
    state = answer["fleet_state"]
    if state is None:
        output.say("there is no fleet.state: what other gates do is not known here (outgate fleet show asks each)")
    else:
        style = "" if state["answers"] else "yellow"
        heard = "" if answer["age"] is None or state["answers"] else f"; others were heard of {span(answer['age'])} ago"
        output.say(output.paint(f"fleet state: {shared(state)}{heard}", style))


def _row(row: Mapping[str, Any], entry: Entry | None, apart: Collection[str], now: float) -> tuple[str, ...]:
    state = _STATES.get(row["state"], row["state"])
    if entry is None:
        return (row["name"], row["at"], "-", "-", "-", "-", "-", "-", "-", state)
    standings = entry.apps.values()
    counts = (
        sum(each.open for each in standings),
        sum(each.of_others for each in standings),
        sum(each.with_others for each in standings),
    )
    marks = [state] if state else []
    marks += ["policy differs"] * (entry.name in apart) + ["its name is another gate's too"] * entry.clash
    return (
        entry.name,
        entry.at or "-",
        entry.version,
        f"{entry.policy[:8]} ({entry.number})",
        span(max(0.0, now - entry.since)),
        *(f"{count:,}" for count in counts),
        _until(entry.ends, now),
        ", ".join(marks),
    )


def _until(ends: int, now: float) -> str:
    """Return for how long a certificate is still good."""
    if not ends:
        return "-"
    return f"for {span(ends - now)}" if ends > now else "has expired"


def _show_apps(entries: Iterable[Entry], differing: Mapping[str, Any]) -> None:
    rows = [
        (app, entry.name, f"{each.policy}{' *' if app in differing else ''}", *(f"{count:,}" for count in each[1:]))
        for entry in entries
        for app, each in entry.apps.items()
    ]
    output.say()
    output.print_table([_APPS, *sorted(rows)], _APP_FIGURES)
    left_out = sum(entry.left_out for entry in entries)
    if left_out:
        output.say(f"and {left_out:,} that no announcement had room for")


def _show_shares(held: Sequence[Mapping[str, Any]], is_whole: bool) -> None:
    names = sorted({name for share in held for name in share["held"] if name})
    others = any("" in share["held"] for share in held)
    header = ("app", "quota", "limit", "left", *names, *["others"] * others)
    rows = []
    for share in held:
        counts = [share["held"].get(name, 0) for name in (*names, *[""] * others)]
        left = max(0, share["limit"] - sum(counts))
        rows.append((share["app"], share["quota"], *(f"{count:,}" for count in (share["limit"], left, *counts))))
    output.say()
    output.print_table([header, *rows], range(2, len(header)))
    if not is_whole:
        output.say("as far as this gate knows; the others are asked when fleet.state answers")
