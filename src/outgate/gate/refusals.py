"""Remember what was last refused to each process, for ``outgate why --last``: a program in C is told an errno alone.

It is kept for those that have ended as well, so many of each app: one that is refused often displaces its own alone.
"""

from __future__ import annotations

import errno
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from outgate import errors
from outgate.core.policy.decision import DENY, Decision
from outgate.gate import wire

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import Process
    from outgate.gate.replies import Reply
    from outgate.gate.server import Gate

#: Processes of one app whose last refusal is remembered, the latest.
MOST: Final = 256
#: What a program calls a look-up that is refused, whichever of the library's functions it was.
LOOK_UP: Final = "look up"
#: What a refused request was, to the program. What the others refuse is no errno of a socket's.
_CALLS: Final[Mapping[type, str]] = {
    wire.New: "socket",
    wire.Connect: "connect",
    wire.Reach: "send",
    wire.Bind: "bind",
    wire.Resolve: LOOK_UP,
}
#: Codes of decisions, which are remembered where they are made, with all that is known of them.
_DECISIONS: Final = ("policy-", "narrowed")
#: What to do instead of listening in a guard.
_HINT: Final = "what is to be reached from outside runs without a guard"


class Asked(NamedTuple):
    """What a process asked for.

    :ivar call: ``connect``, ``send``, ``look up``, ``bind``, ``listen`` or ``socket``.
    :ivar address: that was judged, ``""`` where none was.
    """

    call: str
    transport: str
    host: str
    port: int
    address: str = ""


class Refused(NamedTuple):
    """One refusal.

    :ivar at: when, in seconds since the epoch.
    :ivar code: row of :data:`outgate.errors.TABLE`, and ``facts`` what its sentence is made of.
    :ivar decision: where it was the policy's.
    """

    at: float
    process: Process
    program: str
    asked: Asked
    code: str
    facts: Mapping[str, Any]
    decision: Decision | None = None

    def answer(self, brief: bool) -> dict[str, Any]:
        """Return what ``outgate why --last`` shows of it.

        :param brief: whether it tells the kind of rule only, as the program was told.
        """
        process, decision = self.process, self.decision
        facts = decision.brief() if brief and decision is not None else self.facts
        error = errors.build(self.code, facts)
        number = getattr(error, "errno", None) or 0
        answer: dict[str, Any] = {
            "time": round(self.at, 3),
            "app": process.app.name,
            "pid": process.pid,
            "uid": process.uid,
            "program": self.program,
            "call": self.asked.call,
            "errno": errno.errorcode.get(number, str(number)),
            "host": self.asked.host,
            "port": self.asked.port,
            "transport": self.asked.transport,
            "verdict": DENY,
            "address": self.asked.address,
            "class": "",
            "name": "",
            "rule": "",
            "place": "",
            "kind": "none",
            "code": self.code,
            "reason": error.reason,
            "cure": error.cure,
            "policy": process.app.settings.policy.number,
        }
        if decision is not None:
            answer |= {"kind": decision.kind, "policy": decision.policy}
            answer |= {"class": decision.address_class, "name": decision.name}
            answer |= {"rule": decision.rule, "place": decision.place}
        if brief:
            answer |= {"address": "", "class": "", "name": "", "rule": "", "place": ""}
        return answer


class Refusals:
    """The last refusal of each process, by app and pid; the oldest first."""

    def __init__(self) -> None:
        self._of_app: dict[str, OrderedDict[int, Refused]] = {}

    def decided(self, process: Process, asked: Asked, decision: Decision) -> None:
        """Note a denial by policy."""
        self.note(process, asked, decision.code, decision.facts, decision)

    def replied(self, process: Process, request: Any, reply: Reply) -> None:
        """Note a refusal that a request was answered with, for other reasons than the policy's."""
        error, call = reply.get("error"), _CALLS.get(type(request))
        if error is None or call is None or error["code"].startswith(_DECISIONS):
            return
        transport = "udp" if isinstance(request, wire.Reach) else getattr(request, "kind", "tcp")
        asked = Asked(call, transport, getattr(request, "host", ""), getattr(request, "port", 0))
        self.note(process, asked, error["code"], error["facts"])

    def note(
        self, process: Process, asked: Asked, code: str, facts: Mapping[str, Any], decision: Decision | None = None
    ) -> None:
        """Note a refusal, the last of this process from now on.

        :param code: row of the table of errors.
        """
        known = self._of_app.setdefault(process.app.name, OrderedDict())
        known[process.pid] = Refused(time.time(), process, process.program, asked, code, facts, decision)
        known.move_to_end(process.pid)
        if len(known) > MOST:
            known.popitem(last=False)

    def find(self, app: str | None, pid: int) -> Refused | None:
        """Return the last refusal of a process, or of all of them.

        :param app: whose processes, ``None`` for all apps'.
        :param pid: 0 for any process.
        """
        kept = self._of_app.values() if app is None else [self._of_app.get(app, OrderedDict[int, Refused]())]
        found = [each for known in kept for each in ([known.get(pid)] if pid else known.values()) if each is not None]
        return max(found, key=lambda each: each.at, default=None)


async def last(gate: Gate, channel: Channel, process: Process, request: wire.Last) -> Reply:
    """Say what was last refused to a process: to the gate's operator of any, to others of their own app's."""
    may_manage = gate.reception.may_manage(process)
    found = gate.refusals.find(None if may_manage else process.app.name, request.pid)
    if found is None:
        of = f"process {request.pid}" if request.pid else "a process"
        among = "" if may_manage else f" of app {process.app.name}"
        return {"answer": {"verdict": "unknown", "pid": request.pid, "reason": f"nothing was refused to {of}{among}"}}
    brief = found.process.app.settings.reasons == "brief" and not may_manage
    return {"answer": found.answer(brief)}


def told(gate: Gate, process: Process, request: wire.Refused) -> None:
    """Note what the guard of a process has refused without asking; of others it is not believed."""
    if process.guarded:
        asked = Asked(request.call, request.transport, request.host, request.port)
        facts = {"host": request.host, "port": request.port, "call": request.call, "hint": _HINT}
        gate.refusals.note(process, asked, request.call, facts)
