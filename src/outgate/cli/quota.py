"""``outgate quota``: show how much of each quota is used, and when it resets."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.lookout.words import span

_EPILOG = """\
  used       of the limit, in the calendar day or minute that runs (gate.zone)
  over       what happens above: "cut" refuses, and resets connections where bytes are used up; "delay" has bytes wait
             for the next window; "warn" only logs
  forecast   "used up in" is when it will be if the app goes on as in this window so far

Root and the gate's own user see every app, others their own. What the keys mean: docs/quotas.md.

exit status: 0 shown, 1 no gate answers or it refuses you, 2 a wrong call.

examples:
  outgate quota
  outgate quota --app blog
  outgate quota --json | jq -r '.quotas[] | select(.share > 0.8) | "\\(.app) \\(.quota) \\(.forecast)"'
"""

_COLUMNS = ("app", "quota", "used", "limit", "share", "over", "resets in", "forecast")
_FIGURES = (2, 3, 4, 6)


def main(argv: list[str]) -> int:
    """Ask the gate for the quotas, page by page, and print them."""
    parser = parsing.parser("quota", "Show how much of each quota is used, and when it resets.", _EPILOG)
    parser.add_argument("--app", default="", metavar="NAME", help="only those of this app")
    options = parser.parse_args(argv)
    quotas: list[dict[str, Any]] = []
    gate = ask.Gate(options.socket)
    try:
        for answer in ask.paged(gate.ask, {"op": messages.QUOTA, "app": options.app}):
            quotas += [row for rows in answer["apps"].values() for row in rows]
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("quota", e, options.json)
    if options.json:
        output.print_json({"ok": True, "socket": gate.path, "quotas": quotas})
        return 0
    styles = [_style(quota["share"]) for quota in quotas]
    output.print_table([_COLUMNS, *map(_row, quotas)], _FIGURES, styles)
    return 0


def _style(share: float) -> str:
    return "red" if share >= 1 else "yellow" if share >= 0.8 else ""


def _row(quota: dict[str, Any]) -> tuple[str, ...]:
    used, limit = quota["use"].split(" of ")
    runs_out = quota["runs_out_in"]
    return (
        quota["app"],
        quota["quota"],
        used,
        limit,
        f"{quota['share']:.0%}".replace("%", " %"),
        quota["over"],
        quota["resets"] or "-",
        "-" if runs_out is None else "used up" if not runs_out else f"used up in {span(runs_out)}",
    )
