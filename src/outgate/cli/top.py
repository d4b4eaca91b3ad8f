"""``outgate top``: watch apps, sockets, rates, refusals and quotas, live in a terminal."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError

from outgate.cli import output, parsing
from outgate.cli.screen import Screen
from outgate.cli.topframe import View, frame, plain
from outgate.lookout import ask
from outgate.lookout.rates import SORTS, Figures
from outgate.lookout.watching import Watched

_EPILOG = """\
One line an app: processes, open sockets and how many it may have, connections opened and refused a second, bytes a
second and since the gate began, and the quota of which most is used. Below are the sockets that carry most.

keys: q ends, ↑ ↓ and enter show one app alone, esc all again; o c d s r u n sort by open, opens, denied, sent,
received, quota, name.

In a pipe it prints a table every interval; --once prints one and ends, --json one object a line. Root and the gate's
own user see every app, others their own.

exit status: 0 ended, 1 no gate answers or it refuses you, 2 a wrong call, 130 interrupted.

examples:
  outgate top
  outgate top --app blog --sort s
  outgate top --once --json | jq '.apps | map_values(.sent_per_s)'
"""

_STYLES = {"": "", "bold": "\x1b[1m", "dim": "\x1b[2m", "red": "\x1b[31m", "yellow": "\x1b[33m", "marked": "\x1b[7m"}


def main(argv: list[str]) -> int:
    """Show the gate until somebody has seen enough."""
    p = parsing.parser("top", "Watch apps, sockets, rates, refusals and quotas.", _EPILOG)
    p.add_argument("--app", default="", metavar="NAME", help="only this app")
    p.add_argument("--sort", default="o", choices=list(SORTS), help="begin sorted by this (see keys)")
    p.add_argument("--interval", type=_seconds, default=1.0, metavar="S", help="seconds between looks (default: 1)")
    p.add_argument("--once", action="store_true", help="print one table and end")
    options = p.parse_args(argv)
    watched = Watched(ask.Gate(options.socket).ask, options.app)
    view = View(options.sort, options.app)
    try:
        if not options.json and not options.once and sys.stdout.isatty():
            return _live(watched, view, options.interval)
        _printed(watched, view, options.interval, once=options.once, as_json=options.json)
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("top", e, options.json)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.05 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0.05 to 3600")
    return seconds


def _printed(watched: Watched, view: View, interval: float, once: bool, as_json: bool) -> None:
    watched.look()
    while True:
        time.sleep(interval)
        watched.look()
        seen = watched.figures(view.sort, view.app)
        assert seen is not None
        if as_json:
            output.print_json(seen.as_json(), indent=None)
        else:
            for line in plain(seen):
                output.say(line)
            sys.stdout.flush()
        if once:
            return
        if not as_json:
            output.say()


def _live(watched: Watched, view: View, interval: float) -> int:
    watched.look()  # who may not look is told so on the screen that is there
    encoding = sys.stdout.encoding or "ascii"
    bars = "█░" if encoding.lower().startswith("utf") else "#-"
    colourful = output.is_colourful(sys.stdout)
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1
    with Screen(keys, sys.stdout.fileno()) as screen:
        due = time.monotonic() + interval
        while True:
            seen = watched.figures(view.sort, view.app)
            lines = frame(seen, view, *screen.size, bars)
            screen.draw([_bytes(line, encoding, colourful) for line in lines])
            for key in screen.wait(due - time.monotonic()):
                if key in ("q", "Q"):
                    return 0
                view = _after_key(view, key, seen, watched)
            if time.monotonic() >= due:
                due = max(due + interval, time.monotonic())
                try:
                    watched.look()
                    view = view._replace(problem="")
                except (ask.NoGate, ask.Refused) as e:
                    view = view._replace(problem=f"{e}; it is tried again")


def _after_key(view: View, key: str, seen: Figures | None, watched: Watched) -> View:
    """Return the view that a key leads to."""
    apps = seen.apps if seen is not None else ()
    if key in SORTS:
        return view._replace(sort=key, selected=0)
    if key in ("up", "down") and not view.app:
        selected = view.selected + (1 if key == "down" else -1)
        return view._replace(selected=min(max(0, selected), max(0, len(apps) - 1)))
    if key == "enter" and not view.app and view.selected < len(apps):
        watched.only(apps[view.selected].name)
        return view._replace(app=apps[view.selected].name)
    if key == "escape" and view.app:
        watched.only("")
        return view._replace(app="")
    return view


def _bytes(line: list[tuple[str, str]], encoding: str, colourful: bool) -> bytes:
    text = "".join(
        f"{_STYLES[style]}{piece}\x1b[0m" if style and (colourful or style == "marked") else piece
        for piece, style in line
    )
    return text.encode(encoding, "backslashreplace")
