"""``outgate stats``: show sockets, connects and bytes per app."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask

_EPILOG = """\
Counts begin with the gate. Bytes are those of connections that have ended.

  sockets    made for the app's programs      connects   dialled
  denied     refused by policy                open       dialled and not ended
  held       open, and ready to be dialled    ended      connections that have ended

exit status: 0 shown, 1 no gate answers or it refuses you, 2 a wrong call.

examples:
  outgate stats
  outgate stats --json | jq '.apps.blog.sent'
"""

#: Field of the gate's answer, in the order of the columns.
_COLUMNS = ("processes", "sockets", "connects", "denied", "open", "held", "ended", "sent", "received")


def main(argv: list[str]) -> int:
    """Ask the gate for its counts and print them."""
    options = parsing.parser("stats", "Show sockets, connects and bytes per app.", _EPILOG).parse_args(argv)
    try:
        path, reply = ask.find({"op": messages.STAT}, options.socket)
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("stats", e, options.json)
    answer = reply["answer"]
    if options.json:
        output.print_json({"ok": True, "socket": path, **answer})
        return 0
    output.print_table(_rows(answer["apps"]), range(1, len(_COLUMNS) + 1))
    return 0


def _rows(apps: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("app", *_COLUMNS)]
    rows += [(name, *(f"{counts[column]:,}" for column in _COLUMNS)) for name, counts in apps.items()]
    if len(apps) > 1:
        rows.append(("all", *(f"{sum(counts[column] for counts in apps.values()):,}" for column in _COLUMNS)))
    return rows
