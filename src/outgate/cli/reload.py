"""``outgate reload``: have the gate read its configuration again."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask

_EPILOG = """\
A file that cannot be used changes nothing: the old policy stays in force, and the reason is said here and in the log.
Connections that are open are judged again: what the new policy denies is reset, or with gate.on_reload = "report" only
written into the log (docs/reload.md). Only root and the gate's own user may ask.

exit status: 0 the new policy is in force, 1 it is not, 2 a wrong call.

examples:
  outgate check /etc/outgate.toml && outgate reload
  outgate policy diff old.toml /etc/outgate.toml --since 1d; outgate reload
  outgate reload --socket /run/outgate/gate.sock
"""


def main(argv: list[str]) -> int:
    """Ask the gate to reload, and say what came of it."""
    options = parsing.parser("reload", "Have the gate read its configuration again.", _EPILOG).parse_args(argv)
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
    output.say(f"policy {answer['policy']} is in force{_judged(answer)}")
    return 0


def _judged(answer: dict[str, Any]) -> str:
    """Return what came of the connections that were open; "" of a gate that does not say."""
    if "judged" not in answer:
        return ""
    told = [f"{answer['judged']:,} open connections judged again"]
    for name, words in (("cut", "cut"), ("reported", "reported, and let be")):
        if answer[name]:
            told.append(f"{answer[name]:,} {words}")
    text = "; " + ", ".join(told)
    return text + "; the next reload came before all were" if answer.get("superseded") else text
