"""Make refusals into replies: the one place where it is chosen how much a program is told."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from outgate.errors import GateError
from outgate.gate.refusals import Asked

if TYPE_CHECKING:
    from outgate.core.policy.decide import Decision
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

Reply = dict[str, Any]


def refusal(code: str, **facts: Any) -> Reply:
    """Return the reply that carries a row of the error table."""
    return {"error": {"code": code, "facts": facts}}


def denied(
    gate: Gate,
    process: Process,
    host: str,
    port: int,
    address: str,
    decision: Decision,
    transport: str = "tcp",
    path: str = "",
    call: str = "connect",
) -> Reply:
    """Count and log a refusal by policy, and return its reply (:func:`said`).

    :param address: that was judged; ``""`` where the name was not even looked up.
    :param call: what the program was doing.
    """
    process.app.denied += 1
    gate.refusals.decided(process, Asked(call, transport, host, port, address), decision)
    gate.log_decision(process, host, port, address, decision, None, transport, path)
    return said(process, decision)


def said(process: Process, decision: Decision) -> Reply:
    """Return the reply that carries a refusal by policy: all of it, or with ``reasons = "brief"`` its kind."""
    is_brief = process.app.settings.reasons == "brief"
    return {"error": {"code": decision.code, "facts": dict(decision.brief() if is_brief else decision.facts)}}


def failed_lookup(error: OSError) -> Reply:
    """Return the reply that carries the C library's own answer, or the gate's where none came of it."""
    if isinstance(error, GateError):
        return refusal(error.code, **error.facts)
    kind = "herror" if isinstance(error, socket.herror) else "gaierror"
    return {"errno": error.errno or 0, "kind": kind, "text": error.strerror or ""}
