"""``outgate kill``: reset single connections."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask

_EPILOG = """\
The program gets ECONNRESET, its peer a reset, and the log says "killed". It may connect again: to stop that, deny it.
Only root and the gate's own user may ask.

exit status: 0 all of them were ended, 1 one was not open, or no gate answers, 2 a wrong call.

examples:
  outgate kill 5d1c9a02-1734                   # as "outgate ps" and the log name it
  outgate kill --json 5d1c9a02-1734 5d1c9a02-1735
"""


def main(argv: list[str]) -> int:
    """Ask the gate to reset each connection that is named, and say what came of it."""
    parser = parsing.parser("kill", "Reset connections.", _EPILOG)
    parser.add_argument("lease", nargs="+", metavar="LEASE", help='as "outgate ps" and the log name it')
    options = parser.parse_args(argv)
    answers: list[dict[str, Any]] = []
    try:
        for lease in options.lease:
            _, reply = ask.find({"op": messages.KILL, "lease": lease[:64]}, options.socket)
            answers.append({"lease": lease, **reply["answer"]})
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("kill", e, options.json)
    is_well = all(answer["ok"] for answer in answers)
    if options.json:
        output.print_json({"ok": is_well, "leases": answers})
        return 0 if is_well else 1
    for answer in answers:
        if answer["ok"]:
            output.say(f"{output.printable(answer['lease'])} ended")
        else:
            output.fail("kill", answer["error"], 1)
    return 0 if is_well else 1
