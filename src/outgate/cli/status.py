"""``outgate status``: say whether a gate answers, by the exit status."""

from __future__ import annotations

from typing import Any

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask, words
from outgate.lookout.words import counted, span

_DESCRIPTION = "Say whether a gate answers, which policy it has, and which app you are to it."
_EPILOG = """\
exit status: 0 a gate answers, 1 none does, 2 a wrong call.

examples:
  outgate status
  outgate status --json
  until outgate status >/dev/null 2>&1; do sleep 0.1; done      # wait for a gate that is starting
"""


def main(argv: list[str]) -> int:
    """Ask the gate how it is. Returns 0 if it answered at all, be it with a refusal of this user."""
    options = parsing.parser(
        "status", "Say whether a gate answers, which policy it has, and which app you are to it.", _EPILOG
    ).parse_args(argv)
    try:
        path, reply = ask.find({"op": messages.STAT}, options.socket)
    except ask.NoGate as e:
        return output.unanswered("status", e, options.json)
    except ask.Refused as e:
        if options.json:
            output.print_json({"ok": True, "socket": e.path, "refused": str(e)})
        else:
            output.say(f"{output.paint('answers', 'green')}, and refuses you: {output.printable(str(e))}")
            output.say(f"socket  {e.path}")
        return 0
    hello, answer = reply["hello"], reply["answer"]
    if options.json:
        answer = {name: value for name, value in answer.items() if name != "apps"}
        output.print_json({"ok": True, "socket": path, "app": hello["app"], "protocol": hello["v"], **answer})
        return 0
    for line in _lines(path, hello, answer):
        output.say(line)
    return 0


def _lines(path: str, hello: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    log = answer["log"]
    if answer["log_dropped"]:
        log += f" ({answer['log_dropped']} lines lost: it cannot be written)"
    rows = [
        ("socket", path),
        ("pid", f"{answer['pid']}, up {span(answer['uptime'])}"),
        ("policy", f"{answer['policy']}, {answer['source']}"),
        ("log", log),
        ("seal", "on every socket" if answer.get("seal") else f"none: {answer.get('seal_why', 'an older gate')}"),
        ("closes", _closes(answer)),
        *(("door", _door(each)) for each in answer.get("doors", ())),
        *_fleet(answer.get("fleet_state")),
        ("in use", f"{counted(answer['processes'], 'process', 'processes')}, {counted(answer['channels'], 'channel')}"),
        ("you are", f"app {hello['app']}" if hello["app"] else "no app; you may ask because the gate is yours to run"),
    ]
    return [f"{output.paint('answers', 'green')}, outgate {answer['version']}", *output.table(rows)]


def _closes(answer: dict[str, Any]) -> str:
    """Say how the gate learns of the end of a connection that it has from a gate that died."""
    if answer.get("closes"):
        return "told by the kernel, with the last bytes"
    return f"looked for each second: {answer.get('closes_why', 'an older gate')}"


def _fleet(state: dict[str, Any] | None) -> list[tuple[str, str]]:
    if not state:
        return []
    found = [("fleet state", words.shared(state))]
    if state.get("namesake"):
        found.append(
            ("namesake", f"another gate has this one's name, at {state['namesake']}: change fleet.name of one")
        )
    off = words.clock(state.get("skew", 0.0))
    if off:
        found.append(("clock", f"{off} that of fleet.state: have it set by NTP"))
    if state.get("differing"):
        apps = ", ".join(name or "others" for name in state["differing"])
        found.append(("differs", f"the policy of {apps} is not the same at all gates (outgate fleet)"))
    return found


def _door(door: dict[str, Any]) -> str:
    counts = f"{counted(door['accepted'], 'connection')}, {door['refused']} refused"
    state = counts if door["listening"] else f"not open: {door['why']}"
    return f"{words.door(door)}: {state}"
