"""Show what is in force for an app, rule by rule in the order in which they decide: what the console asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from outgate.gate import wire
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.configuration.settings import AppSettings
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

#: Rules in one reply: some 400 bytes each.
PAGE = 100
#: Keys of an app that are more than its rules, as the configuration has them.
_KEYS = (
    *("mode", "path", "via", "source", "trusted", "billing", "reasons"),
    *("open_sockets", "idle_timeout", "idle_reclaim", "profile"),
)


async def show(gate: Gate, channel: Channel, process: Process, request: wire.Policy) -> Reply:
    """Return a page of the rules of an app: of any for the gate's operator, else of the asker's own."""
    name = request.app or process.app.name
    if name != process.app.name and not gate.reception.is_operator(process.uid):
        return refusal("no-app", uid=process.uid)
    app = gate.settings.apps.get(name)
    if app is None:
        known = ", ".join(gate.settings.apps) or "none"
        return {"answer": {"ok": False, "error": f"no app {name!r} is configured; there are {known}"}}
    rules = list(_rules(app))
    end = request.after + PAGE
    return {
        "answer": {
            "ok": True,
            "app": name,
            "policy": gate.settings.number,
            "source": gate.settings.source,
            "settings": {key: getattr(app, key) for key in _KEYS},
            "rules": rules[request.after : end],
            "next": end if end < len(rules) else None,
        }
    }


def _rules(app: AppSettings) -> Iterator[dict[str, Any]]:
    """Give the rules in the order in which they are looked at: those in report mode last, so that they hide none."""
    policy = app.policy
    lists = [
        ("except", policy.except_),
        ("deny", [rule for rule in policy.deny if rule.mode == "enforce"]),
        ("allow", policy.allow),
        ("deny", [rule for rule in policy.deny if rule.mode == "report"]),
    ]
    for key, rules in lists:
        for rule in rules:
            yield {"list": key, "rule": rule.text, "place": rule.place, "mode": rule.mode}
    for pattern in app.names:
        yield {"list": "names", "rule": pattern, "place": f"{policy.place}.names", "mode": "enforce"}
