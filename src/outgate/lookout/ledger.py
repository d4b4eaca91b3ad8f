"""Find the ledger that a command is about: named, of a configuration, or of the gate that runs."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from outgate.core.bill.prices import Prices, read
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.lookout import ask

if TYPE_CHECKING:
    from outgate.gate.configuration.config import Settings

__all__ = ["Place", "find"]


class Place(NamedTuple):
    """A ledger, and how it is to be read.

    :ivar gate: path of the running gate's socket, "" where none was asked.
    :ivar settings: of the configuration; ``None`` without one.
    """

    url: str
    zone: tzinfo
    prices: Prices
    gate: str
    settings: Settings | None

    def stamp(self, seconds: float) -> str:
        """Return a moment in the zone's time, to the second."""
        return datetime.fromtimestamp(int(seconds), self.zone).isoformat()

    @staticmethod
    def stamp_utc(seconds: float) -> str:
        """Return a moment as the decision log has it (RFC 3339, UTC)."""
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def find(url: str, config: str, socket: str, zone: str) -> Place:
    """Return the ledger of a command line.

    :param url: URL or path; "" where it is not named.
    :param config: path of a configuration; "" for none, and then a gate that runs is asked for its own.
    :raises ConfigError: there is none, or one of these cannot be used.
    """
    from outgate.gate.configuration import config as reader
    from outgate.gate.configuration.ledgers import file_url

    gate, booked = "", ""
    if not config and not url:
        gate, answer = _ask(socket)
        booked = (answer.get("ledger") or {}).get("url", "")
        if not booked:
            raise ConfigError(f"the gate at {gate} keeps no ledger; begin one with [ledger] in its configuration")
        config = answer.get("path") or ""
    settings = None
    if config:
        from outgate.gate.kernel import host

        settings = reader.load(config, host=host.own_addresses(), reads_tokens=False)
        if not url and settings.ledger is None:
            raise ConfigError(f"{config} has no [ledger]; name one: --ledger URL")
    kept = settings.ledger if settings is not None else None
    if not url:
        # What a gate says has no password, but a file that lies beside its state may lie elsewhere than configured.
        url = booked if kept is None or (booked and kept.is_beside) else kept.url
    elif "://" not in url:
        url = file_url(url)
    named = zone or (settings.gate.zone if settings is not None else "UTC")
    try:
        found = ZoneInfo(named)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"--zone {named}: this host knows no such time zone; as in Europe/Berlin") from None
    return Place(url, found, kept.prices if kept is not None else read({}), gate, settings)


def _ask(socket: str) -> tuple[str, dict[str, Any]]:
    try:
        path, reply = ask.find({"op": messages.STAT}, socket)
    except (ask.NoGate, ask.Refused) as error:
        raise ConfigError(f"which ledger? --ledger FILE or --config FILE names it ({error})") from None
    return path, reply["answer"]
