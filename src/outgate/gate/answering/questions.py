"""Judge the questions that programs put to the host's own name servers, write down what was decided, bind the answers.

What they come by is no matter here: :mod:`outgate.gate.datagram.nameservers` takes datagrams,
:mod:`outgate.gate.answering.streams` connections.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outgate.core.address.address_table import LOOPBACK, OWN
from outgate.core.formats import dnsmessage
from outgate.core.name.bindings import LIFETIME
from outgate.core.name.names import canonical
from outgate.core.policy.decide import ALLOW
from outgate.core.policy.narrow import could_allow, could_resolve
from outgate.gate.decisionlog import record
from outgate.gate.refusals import LOOK_UP, Asked

if TYPE_CHECKING:
    from outgate.core.formats.dnsmessage import Question
    from outgate.core.policy.decide import Decision
    from outgate.core.policy.narrow import Narrowed
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: The longest that a binding holds, however long its record lives.
LONGEST = 86400


def judge(app: App, narrowed: Narrowed, question: Question) -> Decision:
    """Decide on a question.

    :param narrowed: what those who have the socket have left themselves.
    :raises Malformed: what it asks for is no name.
    """
    policy = app.settings.policy
    asked_about = dnsmessage.reversed_address(question.name)
    if asked_about is not None:
        decision = could_allow(policy, None, asked_about, narrowed, host=question.name)
        # As gethostbyaddr(): what the host's own addresses are called the program knows anyway.
        return decision._replace(verdict=ALLOW) if decision.address_class in (OWN, LOOPBACK) else decision
    try:
        name = canonical(question.name)
    except ValueError as e:
        raise dnsmessage.Malformed(dnsmessage.REFUSED, str(e)) from None
    return could_resolve(policy, name, narrowed=narrowed)


def note(gate: Gate, process: Process, question: Question, port: int, decision: Decision, way: tuple[str, str]) -> None:
    """Count and log a decision, unless it is the plain one.

    :param port: of the name server.
    :param way: the transport that the question came by, and the path of its bytes.
    """
    if decision.verdict == ALLOW:
        return
    transport, path = way
    gate.counts.decided(process.app.name, decision, transport)
    record.decided(gate.log, process, question.name, port, "", decision, "", transport, path)
    if decision.denied:
        process.app.denied += 1
        gate.refusals.decided(process, Asked(LOOK_UP, transport, question.name, port), decision)


def bind(app: App, message: bytes, question: Question) -> None:
    """Bind the addresses of an answer to the name that was asked for."""
    found = dnsmessage.addresses(message, question)
    name = canonical(question.name) if found else ""
    for address, ttl in found:
        longer = max(0.0, min(ttl, LONGEST) - LIFETIME)  # the maximum of the record's time and ours
        app.bindings.bind(name, (address,), time.monotonic() + longer)
