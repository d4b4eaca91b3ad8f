"""Lay the figures of ``outgate top`` out in lines, for a screen of any size or for a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from outgate.cli import output
from outgate.lookout.rates import SORTS, AppRow, Figures, SocketRow
from outgate.lookout.words import counted, peer, quantity, span

__all__ = ["View", "frame", "plain"]

#: A piece of a line: its text, and a style of :mod:`outgate.cli.output`.
_Piece = tuple[str, str]
_Line = list[_Piece]

_APPS = ("app", "procs", "open", "limit", "opens/s", "denied/s", "sent/s", "recv/s", "sent", "received", "quota")
_APPS_LEFT = (0, 10)
_SOCKETS = ("lease", "app", "pid", "program", "peer", "path", "age", "idle", "sent/s", "recv/s", "sent", "received")
_SOCKETS_LEFT = (0, 1, 3, 4, 5)
_BAR = 10


class View(NamedTuple):
    """What the person at the terminal has chosen.

    :ivar sort: key of :data:`~outgate.lookout.rates.SORTS`.
    :ivar app: only this app; ``""`` for all.
    :ivar selected: number of the app that is marked.
    :ivar problem: what went wrong at the last look; ``""`` for nothing.
    """

    sort: str = "o"
    app: str = ""
    selected: int = 0
    problem: str = ""


def frame(figures: Figures | None, view: View, columns: int, lines: int, bars: str = "█░") -> list[_Line]:
    """Return the lines of a screen, no more of them than there are, and none wider.

    :param bars: characters of the used and the unused part of a quota's bar.
    """
    keys: _Line = [(_keys(view), "dim")]
    if figures is None:
        rows: list[_Line] = [[("outgate top", "bold")], [(view.problem or "asking…", "yellow" if view.problem else "")]]
        return [_cut(line, columns) for line in [*rows, keys][:lines]]
    head = _head(figures, view)
    apps = _apps(figures.apps, bars)
    room = max(0, lines - len(head) - 2)
    shown = min(len(apps) - 1, max(3, room // 2 if figures.sockets else room - 1))
    first = min(max(0, view.selected - shown + 1), max(0, len(apps) - 1 - shown))
    body: list[_Line] = [[(apps[0], "bold")]]
    for number, text in enumerate(apps[1:][first : first + shown], first):
        body.append([(text, _style(figures.apps[number], marked=number == view.selected and not view.app))])
    if figures.sockets:
        sockets = _sockets(figures.sockets[: max(0, lines)])
        body += [[], [(sockets[0], "bold")], *([(text, "")] for text in sockets[1:])]
    whole = [*head, [], *body]
    if len(whole) > lines - 1:
        whole = whole[: max(0, lines - 1)]
    return [_cut(line, columns) for line in [*whole, keys][:lines]]


def plain(figures: Figures, bars: str = "#-") -> list[str]:
    """Return the same as lines of text for a pipe: everything, whatever its width."""
    lines = ["".join(text for text, _ in line) for line in _head(figures, View())]
    lines += ["", *_apps(figures.apps, bars)]
    if figures.sockets:
        lines += ["", *_sockets(figures.sockets)]
        if figures.more:
            lines.append("and more; outgate ps shows all")
    return lines


def _head(figures: Figures, view: View) -> list[_Line]:
    counts, total = figures.counts, figures.total
    processes = counted(counts["processes"], "process", "processes")
    first: _Line = [
        (f"outgate {output.printable(str(counts['version']))}", "bold"),
        (f"  up {span(counts['uptime'])}, policy {counts['policy']}, {processes}", ""),
    ]
    if counts.get("draining"):
        first.append(("  draining", "yellow"))
    if counts.get("log_dropped"):
        first.append((f"  {counts['log_dropped']} lines of the log lost", "red"))
    denied = total.denied_per_s
    return [
        *([[(output.printable(view.problem), "yellow")]] if view.problem else []),
        first,
        [
            (f"open {total.open:,}   opens {quantity(total.opens_per_s, unit=False)}/s   ", ""),
            (f"denied {quantity(denied, unit=False)}/s", "red" if denied else ""),
            (f"   sent {quantity(total.sent_per_s)}/s   received {quantity(total.received_per_s)}/s", ""),
        ],
    ]


def _apps(apps: Sequence[AppRow], bars: str) -> list[str]:
    rows = [
        (
            app.name,
            f"{app.processes:,}",
            f"{app.open:,}",
            "-" if app.limit is None else f"{app.limit:,}",
            quantity(app.opens_per_s, unit=False),
            quantity(app.denied_per_s, unit=False),
            quantity(app.sent_per_s),
            quantity(app.received_per_s),
            quantity(app.sent),
            quantity(app.received),
            _quota(app, bars),
        )
        for app in apps
    ]
    return output.table([_APPS, *rows], right=set(range(len(_APPS))) - set(_APPS_LEFT))


def _quota(app: AppRow, bars: str) -> str:
    quota = app.quota
    if quota is None:
        return "-"
    full = min(_BAR, max(0, round(app.share * _BAR)))
    per = f"/{quota['per']}" if quota.get("per") else ""
    text = f"{bars[0] * full}{bars[1] * (_BAR - full)} {app.share:4.0%} {quota['resource']}{per}"
    resets = quota.get("retry_after")
    return text + (f", resets in {span(resets)}" if isinstance(resets, (int, float)) else "")


def _sockets(sockets: Iterable[SocketRow]) -> list[str]:
    return output.table(
        [_SOCKETS, *(_socket(each) for each in sockets)], right=set(range(len(_SOCKETS))) - set(_SOCKETS_LEFT)
    )


def _socket(each: SocketRow) -> tuple[str, ...]:
    row = each.row
    return (
        row["lease"],
        row["app"],
        str(row["pid"]),
        row["program"][:20],
        peer(row)[:48],
        row["path"],
        span(row["age"]),
        "-" if row["idle"] is None else span(row["idle"]),
        quantity(each.sent_per_s),
        quantity(each.received_per_s),
        quantity(row["sent"]),
        quantity(row["received"]),
    )


def _style(app: AppRow, marked: bool) -> str:
    if marked:
        return "marked"
    return "red" if app.share >= 0.9 else "yellow" if app.denied_per_s else ""


def _keys(view: View) -> str:
    sorts = "  ".join(f"{key} {name}" for key, (name, _) in SORTS.items())
    only = f"only {output.printable(view.app)}, esc all" if view.app else "↑↓ enter one app"
    return f"q quit   sort by {SORTS[view.sort][0]}: {sorts}   {only}"


def _cut(line: _Line, columns: int) -> _Line:
    """Return as much of a line as there is room for."""
    left = columns
    cut: _Line = []
    for text, style in line:
        cut.append((text[:left], style))
        left -= len(cut[-1][0])
    return cut
