"""Make of a gate's answers what its pages show, and what changes in them while they are looked at. Plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from outgate.console import charts
from outgate.lookout.loglines import REFUSING, destination, field, shown, why
from outgate.lookout.rates import AppRow, Figures
from outgate.lookout.words import peer, printable, quantity, span

__all__ = ["MOST_APPS", "TRAFFIC", "Live", "app", "line_row", "overview", "socket_row"]

#: Apps that one page lists; what is above is counted.
MOST_APPS = 200
#: Width, height and room for points of the line of what was moved.
TRAFFIC = (600, 64, 120)

_VERDICTS = ("allow", "deny", "report")
#: What stands in a line beside its event and is said elsewhere, or is nobody's to read.
_NOT_FACTS = ("v", "time", "event", "trace", "app", "reason", "cure")


class Live(NamedTuple):
    """What a page shows of this moment, by the names that its elements have.

    :ivar text: name → what is to be read.
    :ivar bars: name → part of a bar that is full, from 0 to 1.
    :ivar paths: name → path of a line.
    :ivar rows: what there is that has a row of its own; where that changes the page is made anew.
    """

    text: dict[str, str]
    bars: dict[str, float]
    paths: dict[str, str]
    rows: list[str]


def overview(figures: Figures, history: Sequence[tuple[float, float]]) -> Live:
    """Return what the overview shows.

    :param history: bytes sent and received a second, one pair a second up to now.
    """
    total, counts = figures.total, figures.counts
    text = {
        **_rates(total),
        "apps": f"{len(counts['apps']):,}",
        "processes": f"{counts['processes']:,}",
        "up": span(counts["uptime"]),
        "policy": f"{counts['policy']}",
        "notice": " · ".join(_notices(counts)),
    }
    bars: dict[str, float] = {}
    for each in figures.apps[:MOST_APPS]:
        at = f"{each.name}/"
        text |= {f"{at}{name}": value for name, value in _rates(each).items()}
        text |= {f"{at}processes": f"{each.processes:,}", f"{at}quota": _quota(each.quota)}
        text[f"{at}limit"] = "–" if each.limit is None else f"{each.limit:,}"
        bars[f"{at}open"] = _part(each.open / each.limit if each.limit else 0.0)
        bars[f"{at}quota"] = _part(each.share)
    most = max((value for pair in history for value in pair), default=0.0)
    paths = {
        name: charts.line([pair[way] for pair in history], most, *TRAFFIC)
        for way, name in enumerate(("sent", "received"))
    }
    return Live(text, bars, paths, sorted(counts["apps"]))


def app(row: AppRow, quotas: Sequence[Mapping[str, Any]]) -> Live:
    """Return what the page of one app shows.

    :param quotas: how they stand, as QUOTA answers.
    """
    text = {**_rates(row), "processes": f"{row.processes:,}", "sent_all": quantity(row.sent)}
    text["received_all"] = quantity(row.received)
    bars: dict[str, float] = {}
    for quota in quotas:
        at = f"quota/{quota['quota']}/"
        text |= {
            f"{at}use": str(quota["use"]),
            f"{at}share": _percent(quota["share"]),
            f"{at}resets": str(quota["resets"] or "–"),
            f"{at}forecast": _forecast(quota["runs_out_in"]),
        }
        bars[at] = _part(quota["share"])
    return Live(text, bars, {}, sorted(str(quota["quota"]) for quota in quotas))


def _rates(row: AppRow) -> dict[str, str]:
    return {
        "open": f"{row.open:,}",
        "opens": quantity(row.opens_per_s, unit=False).replace("-", "–"),
        "denied": quantity(row.denied_per_s, unit=False).replace("-", "–"),
        "sent": _per_second(row.sent_per_s),
        "received": _per_second(row.received_per_s),
    }


def _per_second(value: float | None) -> str:
    return "–" if value is None else f"{quantity(value)}/s"


def _notices(counts: Mapping[str, Any]) -> Iterable[str]:
    if counts.get("draining"):
        yield "the gate drains: it opens nothing new"
    if counts.get("log_dropped"):
        yield f"{counts['log_dropped']:,} lines of the log were lost"


def _quota(quota: Mapping[str, Any] | None) -> str:
    if quota is None:
        return "–"
    per = f" a {quota['per']}" if quota.get("per") else ""
    return f"{_percent(quota['share'])} of {str(quota['resource']).replace('_', ' ')}{per}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _part(share: float) -> float:
    return round(min(1.0, max(0.0, float(share))), 4)


def _forecast(seconds: float | None) -> str:
    return "" if seconds is None else f"used up in {span(seconds)}" if seconds else "used up"


def socket_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Return a row of LIST as a page shows it."""
    tenure = "" if row["tenure"] == "held" else f", {row['tenure']}"
    owner = f", of gate {row['gate']}" if row.get("gate") else ""
    return {
        "lease": str(row["lease"]),
        "peer": printable(peer(row)),
        "address": "" if row["address"] == row["host"] else str(row["address"]),
        "program": printable(f"{row['program']} {row['pid']}"),
        "path": f"{row['path']}{tenure}{', orphan' if row['state'] == 'orphan' else ''}{owner}",
        "age": span(row["age"]),
        "idle": "–" if row["idle"] is None else span(row["idle"]),
        "sent": quantity(row["sent"]),
        "received": quantity(row["received"]),
    }


def line_row(line: dict[str, Any]) -> dict[str, str]:
    """Return a line of the decision log as a page shows it; everything in it is text that shows nothing else."""
    event = str(line["event"])
    is_decision = event in ("decision", "overruled")
    is_about_one = is_decision or event == "end"
    verdict = field(line, "verdict")
    kind = "end" if event == "end" else "report" if event in REFUSING else "event"
    if is_decision and verdict in _VERDICTS:
        kind = verdict
    what = _decided(line) if is_decision else _ended(line) if event == "end" else _happened(line)
    rule = field(line, "rule") if is_about_one else ""
    return {
        "time": field(line, "time"),
        "when": _when(field(line, "time")),
        "kind": kind,
        "word": verdict if event == "decision" and verdict else printable(event),
        "app": field(line, "app"),
        "program": f"{field(line, 'program')} {field(line, 'pid')}".strip() if is_about_one else "",
        "destination": destination(line) if is_about_one else "",
        "rule": "" if f'rule "{rule}"' in what else rule,
        "what": what,
        "cure": field(line, "cure"),
        "lease": field(line, "lease"),
    }


def _decided(line: dict[str, Any]) -> str:
    return why(line) if line.get("verdict") != "allow" else ""


def _happened(line: dict[str, Any]) -> str:
    """Return what an event has to say beside its name."""
    if "quota" in line and "use" in line:
        return f"{field(line, 'quota')}: {field(line, 'use')}; {field(line, 'reason')}"
    facts = [f"{name} {shown(value)}" for name, value in line.items() if name not in _NOT_FACTS]
    return "; ".join(filter(None, [field(line, "reason"), ", ".join(facts)]))


def _ended(line: Mapping[str, Any]) -> str:
    counts = [quantity(line[name]) if isinstance(line.get(name), int) else "?" for name in ("sent", "received")]
    lasted = line.get("duration")
    after = f" after {span(lasted)}" if isinstance(lasted, (int, float)) and lasted >= 0 else ""
    return f"{shown(line.get('how', ''))}{after}: sent {counts[0]}, received {counts[1]}"


def _when(moment: str) -> str:
    """Return a time of a log as day and time in the zone of this host; as it is where it is none."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return moment
