"""Answer ``outgate why``: what would be decided on a connect, and by which rule, without a dial."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from outgate import errors
from outgate.core.policy import Ask, decide
from outgate.gate.settings import AppSettings

__all__ = ["explain", "unknown", "withheld"]


def withheld(app: AppSettings) -> tuple[str, dict[str, Any]] | None:
    """Return the refusal (code and facts) of an app that gets no sockets at all, or ``None``."""
    if not app.billing:
        return "billing-disabled", {"app": app.name}
    if not app.trusted:
        return "untrusted", {"app": app.name}
    return None


def unknown(host: str, port: int, why: str) -> dict[str, Any]:
    """Return the answer where nothing can be decided."""
    return {"verdict": "unknown", "host": host, "port": port, "reason": why}


def explain(app: AppSettings, transport: str, host: str, port: int, addresses: Iterable[str]) -> dict[str, Any]:
    """Return the decision on a host that has these addresses: the first that may be connected to, else the first.

    :param transport: ``tcp`` or ``udp``.
    :param host: as it was asked for, without brackets.
    :param addresses: at least one.
    """
    decisions = []
    for address in dict.fromkeys(addresses):
        ask = Ask(app=app.name, transport=transport, host=host, address=address, port=port)  # type: ignore[arg-type]
        decisions.append((address, decide(app.policy, ask)))
    address, best = next(((a, d) for a, d in decisions if not d.denied), decisions[0])
    answer: dict[str, Any] = {
        "app": app.name,
        "host": host,
        "port": port,
        "transport": transport,
        "verdict": best.verdict,
        "address": address,
        "class": best.address_class,
        "rule": best.rule,
        "place": best.place,
        "reason": best.reason,
        "cure": best.cure,
        "policy": app.policy.number,
        "addresses": [{"address": a, "verdict": d.verdict, "class": d.address_class} for a, d in decisions],
    }
    refused = withheld(app)
    if refused is not None:  # whatever the policy says
        reason, cure = errors.describe(*refused)
        answer |= {"verdict": "deny", "rule": "", "place": "", "reason": reason, "cure": cure}
    return answer
