"""``outgate drain``: have the gate open nothing new, wait until nothing is open, and stop it."""

from __future__ import annotations

import sys
import time

from outgate.cli import output, parsing
from outgate.core.formats import messages
from outgate.lookout import ask

_EPILOG = """\
What is open goes on until its program closes it; whoever wants a new connection is refused meanwhile (GateUnavailable).
The gate stops when the last one has ended. Ctrl-C ends the waiting only. Only root and the gate's own user may ask.

exit status: 0 the gate has stopped (--cancel: goes on), 1 it has not in time, or none answers, 2 a wrong call.

examples:
  outgate drain
  outgate drain --timeout 300 || systemctl stop outgate
  outgate drain --cancel
"""
#: Seconds between looks.
_INTERVAL = 0.5


def main(argv: list[str]) -> int:
    """Ask the gate to drain, and wait for its end."""
    parser = parsing.parser("drain", "Have the gate open nothing new, wait for what is open, and stop it.", _EPILOG)
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="wait no longer; the gate drains on")
    parser.add_argument("--cancel", action="store_true", help="let the gate open connections again")
    options = parser.parse_args(argv)
    begun = time.monotonic()
    try:
        path, reply = ask.find({"op": messages.DRAIN, "on": not options.cancel}, options.socket)
    except (ask.NoGate, ask.Refused) as e:
        return output.unanswered("drain", e, options.json)
    left = reply["answer"]["open"]
    if options.cancel:
        return _say(options.json, 0, "the gate opens connections again", stopped=False, open=left)
    while True:
        _progress(left, options.json)
        if options.timeout is not None and time.monotonic() - begun >= options.timeout:
            return _say(options.json, 1, f"{left} still open after {options.timeout:g} s", stopped=False, open=left)
        time.sleep(_INTERVAL)
        try:
            answer = ask.request(path, {"op": messages.STAT})["answer"]
        except (ask.NoGate, ask.Refused):
            return _say(options.json, 0, "the gate has stopped", stopped=True, open=0)
        if not answer["draining"]:
            return _say(options.json, 1, "somebody has cancelled the draining", stopped=False, open=left)
        left = sum(app["open"] for app in answer["apps"].values())


def _progress(left: int, as_json: bool) -> None:
    if not as_json and sys.stderr.isatty():
        print(f"\r\x1b[Kwaiting for {left} open sockets", end="", file=sys.stderr, flush=True)


def _say(as_json: bool, status: int, text: str, **facts: object) -> int:
    if as_json:
        output.print_json({"ok": status == 0, **facts})
        return status
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if status:
        return output.fail("drain", text, status)
    output.say(text)
    return 0
