"""Put the process that becomes the program under a guard, or say why not."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from outgate.guard.inherited import InheritedSocket


def enter(best_effort: bool, socket: str, gate: Dict[str, Any], leads_out: List[InheritedSocket]) -> str:
    """Guard this process and say so; ``""`` where it cannot be guarded and whoever asked can do without.

    :param best_effort: whether they can.
    :param socket: of the gate.
    :param gate: what the gate says of guards, in its greeting.
    :param leads_out: sockets that the exec would hand on. Those that accept connections stay, the others are closed.
    """
    from outgate.cli.run import fail
    from outgate.guard import guard

    refused = _refused_by(gate)
    if refused:
        if not best_effort:
            fail(f"cannot guard: {refused}")
        print(f"outgate: NOT guarded: {refused}", file=sys.stderr)
        return ""
    if best_effort:
        unavailable = guard.probe()
        if unavailable is not None:
            print(f"outgate: NOT guarded: {unavailable}", file=sys.stderr)
            return ""
    for each in leads_out:
        what = "passed on" if each.listening else "closed"
        print(f"outgate: warning: an inherited socket leads out of the guard and is {what}: {each}", file=sys.stderr)
        os.set_inheritable(each.fd, each.listening)
    try:
        level = guard.enter(socket, gate.get("unix", ()))
    except guard.GuardUnavailable as e:
        fail(f"cannot guard: {e}")
    return f"guarded{level}"


def _refused_by(gate: Dict[str, Any]) -> str:
    """Return why the gate's programs cannot be guarded, ``""`` where they can."""
    if gate.get("guard") == "never":
        return 'the app says path = "relay", and guarded programs have the kernel\'s own sockets; write path = "auto"'
    if gate.get("fenced"):
        return "the gate is in another network than this process; run it where the gate is"
    return ""
