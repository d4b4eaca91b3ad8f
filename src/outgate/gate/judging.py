"""Judge a destination for a request: resolve, and decide on each address, with names looked up again where it helps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from outgate.core import lease as life
from outgate.core.policy.decide import ALLOW, REPORT, Ask, Decision, Policy, Transport
from outgate.core.policy.narrow import NOT_NARROWED, Narrowed, could_resolve, decide
from outgate.gate.explain import withheld
from outgate.gate.names import lookup, relearn
from outgate.gate.names.resolver import numeric
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate


def may_have_sockets(process: Process) -> Reply | None:
    """Return why this process gets no sockets at all, or ``None``."""
    settings = process.app.settings
    if not process.app.is_configured:
        return refusal("no-app", uid=process.uid)
    if settings.billing and not settings.trusted and not process.fenced:
        return refusal("untrusted", app=settings.name)
    refused = withheld(settings)
    return None if refused is None else refusal(refused[0], **refused[1])


def may_open(gate: Gate, process: Process) -> Reply | None:
    """Return why this process may open nothing new, or ``None``."""
    if gate.is_draining:
        return refusal("draining")
    if gate.books.refuses:
        return refusal("ledger-behind", why=gate.books.why)
    return may_have_sockets(process)


def may_hold(gate: Gate, process: Process, count: int) -> Reply | None:
    """Return why this process may have no further sockets of the gate's making, or ``None``.

    :param count: how many.
    """
    refused = may_open(gate, process)
    if refused is not None:
        return refused
    app = process.app
    held = app.held + app.closer.waiting  # what waits for its close has a descriptor still
    if not life.may_hold(held, count, gate.limits.held(app)):
        return refusal("too-many-leases", app=app.name, used=held, limit=gate.limits.open(app))
    return None


def is_relayed(gate: Gate, process: Process) -> bool:
    """Tell whether the gate carries the bytes of what a process opens."""
    is_held = process.guarded or gate.seal.holds_against(process.uid)
    return bool(process.door) or process.app.settings.is_relayed(is_held)


def way(gate: Gate, process: Process) -> str:
    """Return ``relay`` or ``direct``: the path of what a process opens."""
    return "relay" if is_relayed(gate, process) else "direct"


async def judge(
    gate: Gate,
    app: App,
    host: str,
    port: int,
    family: int,
    transport: Transport = "tcp",
    narrowed: Narrowed = NOT_NARROWED,
) -> tuple[str, int, Decision]:
    """Resolve → decide: return (address, scope id, decision) of what may be dialled, else of the first that may not.

    The address comes from the very look-up that is judged here: whatever the program was answered before, or will be.
    A name that is refused as such is not looked up, and has no address. An address is judged with the names that the
    app's own look-ups bound to it, and once more with those it has by now, before it is refused.

    :param narrowed: what the process that asks has left itself of its app's rights.
    :raises socket.gaierror: as the C library says.
    """
    number = numeric(host, family)
    if number is not None:
        address, scope = number
        bound = app.bindings.names_for(address, time.monotonic())
        ask = Ask(app.name, transport, host, address, port, None, scope, bound)
        decision = decide(app.settings.policy, ask, narrowed)
        if decision.verdict != ALLOW and (app.settings.policy.has_name_permits or narrowed.has_name_permits):
            bound = await relearn.names_by_now(gate, app, address, port, transport)
            decision = decide(app.settings.policy, ask._replace(bound=bound), narrowed)
        return address, scope, decision
    name = lookup.canonical_name(host)
    before = could_resolve(app.settings.policy, name, transport, port, narrowed)
    if before.denied:
        return "", 0, before
    candidates = await lookup.addresses_of(app, host, family)
    policy = app.settings.policy
    address, scope, decision = first_permitted(
        policy, app.name, host, port, candidates, name, transport=transport, narrowed=narrowed
    )
    if before.verdict == REPORT and decision.verdict == ALLOW:
        decision = before._replace(address_class=decision.address_class)  # enforced, it would have come to nothing
    if not decision.denied:
        app.bindings.bind(name, (address,), time.monotonic())
    return address, scope, decision


def first_permitted(
    policy: Policy,
    app: str,
    host: str,
    port: int,
    candidates: list[tuple[str, int]],
    name: str,
    transport: Transport = "tcp",
    narrowed: Narrowed = NOT_NARROWED,
) -> tuple[str, int, Decision]:
    """Return (address, scope id, decision) of the first address that may be dialled, else of the first. Pure.

    :param candidates: (address, scope id) pairs, at least one.
    :param name: canonical name that they were looked up by.
    :param narrowed: as for :func:`judge`.
    """
    first: tuple[str, int, Decision] | None = None
    for address, scope in candidates:
        decision = decide(policy, Ask(app, transport, host, address, port, name, scope), narrowed)
        if not decision.denied:
            return address, scope, decision
        first = first or (address, scope, decision)
    assert first is not None, "the C library answers with an address or raises"
    return first
