"""``outgate reload``: have the gate read its configuration again."""

from __future__ import annotations

from outgate.cli import ask, output
from outgate.core.formats import messages

_EPILOG = """\
A file that cannot be used changes nothing: the old policy stays in force, and the reason is said here and in the log.
Connections that are open go on. Only root and the gate's own user may ask.

exit status: 0 the new policy is in force, 1 it is not, 2 a wrong call.

examples:
  outgate check /etc/outgate.toml && outgate reload
  outgate reload --socket /run/outgate/gate.sock
"""


def main(argv: list[str]) -> int:
    """Ask the gate to reload, and say what came of it."""
    options = ask.parser("reload", "Have the gate read its configuration again.", _EPILOG).parse_args(argv)
    try:
        _, reply = ask.find({"op": messages.RELOAD}, options.socket)
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("reload", e, options.json)
    answer = reply["answer"]
    if options.json:
        output.print_json(answer)
        return 0 if answer["ok"] else 1
    if not answer["ok"]:
        kept = f"; policy {answer['policy']} stays in force" if "policy" in answer else ""
        return output.fail("reload", answer["error"] + kept, 1)
    for warning in answer["warnings"]:
        output.warn(warning)
    output.say(f"policy {answer['policy']} is in force")
    return 0
