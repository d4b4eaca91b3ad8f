"""Say to a program, when it has said who it is, what it has to know of the gate and of its own app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from outgate import __version__
from outgate.core import idle
from outgate.core.formats import messages
from outgate.gate.judging import way

if TYPE_CHECKING:
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate


def greeting(gate: Gate, process: Process) -> dict[str, Any]:
    """Return the gate's side of HELLO."""
    settings = process.app.settings
    process.told_idle = settings.idle_timeout if settings.idle_reclaim == idle.ALWAYS else 0
    return {
        "v": messages.VERSION,
        "boot": f"{gate.boot}.{gate.generation}" if gate.generation else gate.boot,
        "gate": __version__,
        "app": process.app.name,
        "fenced": process.fenced,
        "path": way(gate, process),
        "dev": gate.is_dev(process),
        "idle": process.told_idle,
        "profile": settings.profile,
        "guard": settings.guarding,
        "unix": list(settings.unix),
        "led": settings.out.has_proxy,
    }
