"""Begin to share: what a gate with ``fleet.state`` does at its start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import redis  # noqa: F401  # so that a gate without it says so at its start, and not when it would ask

from outgate.errors import ConfigError
from outgate.gate.shared.directory import Directory
from outgate.gate.shared.shared import Shared, client

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import FleetSettings
    from outgate.gate.server import Gate

__all__ = ["prepare"]


def prepare(settings: FleetSettings) -> Callable[[Gate], None]:
    """Return what has a gate share its state; whether anything answers there is seen later.

    :raises ConfigError: the library cannot make a client of what the configuration says.
    """
    shared = settings.shared
    assert shared is not None
    try:
        client(shared).close()
    except (ValueError, TypeError, OSError) as error:  # OSError: a file of certificates that is not there
        raise ConfigError(f"fleet.state: {shared.shown_url} cannot be used: {error}") from None

    def begin(gate: Gate) -> None:
        gate.shared = Shared(shared, gate.loop, gate.log.event)
        gate.quotas.share()
        gate.directory = Directory(gate)

    return begin
