"""Show how the quotas stand: what ``outgate quota`` asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outgate.gate import wire
from outgate.gate.replies import Reply

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: Quotas in one reply, after which no further app is begun: some 350 bytes each, and at most 17 of an app.
PAGE = 120


async def show(gate: Gate, channel: Channel, process: Process, request: wire.Quota) -> Reply:
    """Return the quotas of a page of apps: of all for the gate's operator, else those of the asker's."""
    mine = process.app.name
    names = sorted(gate.settings.apps) if gate.reception.is_operator(process.uid) else [mine]
    names = [name for name in names if name > request.after and request.app in ("", name)]
    apps: dict[str, list[dict[str, Any]]] = {}
    count = 0
    for name in names:
        if count >= PAGE:
            break
        apps[name] = [*gate.quotas.standings(name), _open_sockets(gate, gate.registry.apps[name])]
        count += len(apps[name])
    last = next(reversed(apps)) if len(apps) < len(names) else None
    return {"answer": {"apps": apps, "next": last}}


def _open_sockets(gate: Gate, app: App) -> dict[str, Any]:
    """Return the limit of open sockets as a row like the others: a gauge, which no window resets."""
    limit = gate.limits.open(app)
    return {
        "app": app.name,
        "quota": "open_sockets",
        "used": app.open,
        "limit": limit,
        "use": f"{app.open:,} of {limit:,}",
        "retry_after": None,
        "resets": None,
        "resource": "open_sockets",
        "per": None,
        "share": round(app.open / limit, 4),
        "over": "cut",
        "start": None,
        "end": None,
        "runs_out_in": None,
        "forecast": f"{app.open / limit:.0%} open".replace("%", " %"),
    }
