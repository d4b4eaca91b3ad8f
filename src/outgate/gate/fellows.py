"""Show the gates of the fleet as this one knows them, and who has how much of what they share: ``outgate fleet``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from outgate.core.fleet import directory
from outgate.gate import wire
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.configuration.settings import FleetSettings
    from outgate.gate.quota.shares import Share
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

#: Bytes of what gates have announced, after which a page begins no further one; one alone is at most 16 KiB.
_PAGE: Final = 32 * 1024
#: Quotas in one reply, after which no further app is begun: at most some 40 bytes for each gate that holds any.
_SHARES: Final = 40
#: Gates of one quota that are told apart.
_HOLDERS: Final = 25


async def show(gate: Gate, channel: Channel, process: Process, request: wire.Fleet) -> Reply:
    """Return a page of the gates of this one's fleet, or of what they hold of their quotas; for the gate's operator."""
    if not gate.reception.may_manage(process):
        return refusal("no-app", uid=process.uid)
    fleet = gate.settings.fleet
    if fleet is None:
        return {"answer": {"ok": False, "error": "this gate is alone: its configuration has no table [fleet]"}}
    if request.shares:
        return {"answer": {"ok": True, **await _shares(gate, request.after)}}
    return {"answer": {"ok": True, **await _gates(gate, fleet, request.after)}}


async def _gates(gate: Gate, fleet: FleetSettings, after: str) -> dict[str, Any]:
    """Return a page of the gates: those that have announced themselves, and those that the configuration lists."""
    own = await gate.loop.run_in_executor(None, gate.directory.standings.entry, gate.directory.take(gate))
    others, age = gate.directory.others, gate.directory.age
    is_fresh = age is not None and age < directory.EXPIRY
    found: list[dict[str, Any]] = []
    size, names = 0, sorted({fleet.name, *others, *fleet.gates})
    for name in (each for each in names if each > after):
        if size >= _PAGE:
            break
        entry = own if name == fleet.name else others.get(name)
        if entry is None:
            found.append({"name": name, "state": "silent", "at": fleet.gates[name], "said": None})
        else:
            state = "this" if entry is own else "announced" if is_fresh else "last heard"
            found.append({"name": name, "state": state, "at": entry.at, "said": directory.told(entry)})
        size += len(json.dumps(found[-1]))
    last = found[-1]["name"] if found else ""
    return {
        "gate": fleet.name,
        "fleet_state": gate.shared.statistics(),
        "age": None if age is None else round(age, 1),
        "namesake": gate.directory.clash,
        "certificate_trouble": gate.fleet.trouble,
        "gates": found,
        "next": last if last and last != names[-1] else None,
    }


async def _shares(gate: Gate, after: str) -> dict[str, Any]:
    """Return a page of the quotas that are shared: as they are kept, else as this gate knows them."""
    if not gate.shared.is_there:
        return {"shares": [], "is_whole": False, "next": None}
    from outgate.gate.quota import shares  # of no use to a gate that shares nothing

    names = sorted(name for name in gate.settings.apps if name > after)
    found: list[Share] = []
    last = ""
    for last in names:
        found += shares.known(gate, (last,))
        if len(found) >= _SHARES:
            break
    kept = None
    if found and not gate.shared.is_away:
        heard = gate.loop.create_future()
        gate.shared.ask(lambda redis: shares.kept(redis, found), heard.set_result)
        kept = await heard
    rows = [_row(share) for share in (found if kept is None else kept)]
    return {
        "shares": rows,
        "is_whole": kept is not None or not found,
        "next": last if names and last != names[-1] else None,
    }


def _row(share: Share) -> dict[str, Any]:
    """Return what is told of a quota: of the many gates that may hold some, those with the least are put together."""
    held = sorted(share.held.items(), key=lambda item: -item[1])
    told = dict(sorted(held[:_HOLDERS]))
    rest = sum(count for _, count in held[_HOLDERS:])
    if rest:
        told[""] = told.get("", 0) + rest
    return {"app": share.app, "quota": share.quota, "limit": share.limit, "end": share.end, "held": told}
