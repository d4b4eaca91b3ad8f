"""Answer ``outgate why``: what would be decided on a connect, and by which rule, without a dial."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from outgate import errors
from outgate.core.name.names import canonical
from outgate.core.policy.decide import Ask, Decision
from outgate.core.policy.narrow import NOT_NARROWED, Narrowed, could_resolve, decide
from outgate.core.wayout.choice import of_datagrams
from outgate.gate.configuration.settings import AppSettings
from outgate.gate.names.resolver import is_numeric

__all__ = ["before_lookup", "explain", "unknown", "withheld"]

Answer = dict[str, Any]


def withheld(app: AppSettings) -> tuple[str, dict[str, Any]] | None:
    """Return the refusal (code and facts) of an app that gets no sockets at all, or ``None``."""
    if not app.billing:
        return "billing-disabled", {"app": app.name}
    return None


def unknown(host: str, port: int, why: str) -> Answer:
    """Return the answer where nothing can be decided."""
    return {"verdict": "unknown", "host": host, "port": port, "reason": why}


def before_lookup(
    app: AppSettings, transport: str, host: str, port: int, brief: bool = False, narrowed: Narrowed = NOT_NARROWED
) -> Answer | None:
    """Return the answer on a host that is not to be looked up, or ``None`` where its addresses decide.

    :param transport: ``tcp`` or ``udp``.
    :param host: a name, or anything that is no address; for what can be neither nothing is decided.
    :param brief: whether the answer tells the kind of rule only.
    :param narrowed: what the process that asks has left itself.
    """
    try:
        decision = could_resolve(app.policy, canonical(host), transport, port, narrowed)  # type: ignore[arg-type]
    except ValueError as e:
        return unknown(host, port, str(e))
    return _answer(app, transport, host, port, [("", decision)], brief) if decision.denied else None


def explain(
    app: AppSettings,
    transport: str,
    host: str,
    port: int,
    addresses: Iterable[str],
    *,
    bound: tuple[str, ...] = (),
    brief: bool = False,
    narrowed: Narrowed = NOT_NARROWED,
) -> Answer:
    """Return the decision on a host that has these addresses: the first that may be connected to, else the first.

    :param transport: ``tcp`` or ``udp``.
    :param host: as it was asked for, without brackets.
    :param addresses: at least one.
    :param bound: canonical names that the app's look-ups bound to the address, where the host is one.
    :param brief: whether the answer tells the kind of rule only, not what the name resolved to.
    :param narrowed: what the process that asks has left itself.
    """
    name = None if is_numeric(host) else canonical(host)
    decisions = []
    for address in dict.fromkeys(addresses):
        ask = Ask(app.name, transport, host, address, port, name, bound=bound)  # type: ignore[arg-type]
        decision = decide(app.policy, ask, narrowed)
        if transport == "udp" and not decision.denied and not app.out.is_straight:
            judged = app.policy.locate(address).judged
            decision = of_datagrams(app.out, decision, ask, judged, 6 if ":" in address else 4)
        decisions.append((address, decision))
    return _answer(app, transport, host, port, decisions, brief)


def _answer(
    app: AppSettings, transport: str, host: str, port: int, decisions: list[tuple[str, Decision]], brief: bool
) -> Answer:
    address, best = next(((a, d) for a, d in decisions if not d.denied), decisions[0])
    reason, cure = errors.describe(best.code, best.brief()) if brief and best.code else (best.reason, best.cure)
    answer: Answer = {
        "app": app.name,
        "host": host,
        "port": port,
        "transport": transport,
        "verdict": best.verdict,
        "address": address,
        "class": best.address_class,
        "name": best.name,
        "rule": best.rule,
        "place": best.place,
        "kind": best.kind,
        "reason": reason,
        "cure": cure,
        "policy": app.policy.number,
        **_way_out(app, transport, address, best, port),
        "addresses": [{"address": a, "verdict": d.verdict, "class": d.address_class} for a, d in decisions if a],
    }
    refused = withheld(app)
    if refused is not None:  # whatever the policy says
        reason, cure = errors.describe(*refused)
        answer |= {"verdict": "deny", "rule": "", "place": "", "reason": reason, "cure": cure}
    if brief:
        answer |= {"address": "", "class": "", "name": "", "rule": "", "place": "", "addresses": []}
        answer |= {"via": "", "source": ""}
    return answer


def _way_out(app: AppSettings, transport: str, address: str, decision: Decision, port: int) -> Answer:
    """Return by which proxy, and from which address, it would leave: "" for none, and where it would not."""
    if decision.denied or not address:
        return {"via": "", "source": ""}
    way = app.out.find(app.policy.locate(address).judged, decision.name, transport, port)
    return {"via": way.text, "source": way.source if transport == "tcp" else app.out.default.source}
