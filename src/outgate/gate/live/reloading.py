"""Read the configuration again while the gate goes on, put it into force, and have what is open judged by it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from outgate.errors import ConfigError
from outgate.gate.turns import taking_turns

if TYPE_CHECKING:
    from outgate.gate.server import Gate


async def reload(gate: Gate) -> dict[str, Any]:
    """Read the configuration again, and open the log again. A bad configuration changes nothing and says why.

    A file of fifty rules takes some 5 ms, so it is read and compiled on a thread; then it is in force from one turn of
    the loop to the next. One that is asked for meanwhile waits and reads the file once more.
    """
    gate.log.reopen()
    if gate.reloader is None:
        return {"ok": False, "error": "this gate was started without a configuration file"}
    async with gate.reloading:
        try:
            with taking_turns():
                settings = await gate.loop.run_in_executor(None, gate.reloader, gate.settings)
            gate.reception.follow(settings.apps, settings.gate.socket_mode)
        except ConfigError as e:
            gate.counts.reloaded(applied=False)
            gate.log.event("reload-failed", reason=str(e), policy=gate.settings.number)
            return {"ok": False, "error": str(e), "policy": gate.settings.number}
        gate.adopt(settings)
        gate.directory.announce()
    gate.counts.reloaded(applied=True)
    event = partial(gate.log.event, "reload", policy=settings.number, source=settings.source)
    gate.rejudging.begin(lambda counts: event(**counts.fields()))
    return {"ok": True, "policy": settings.number, "warnings": [str(w) for w in settings.warnings]}
