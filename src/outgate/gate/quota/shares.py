"""Say which gate of a fleet has how much of each quota that they share: as it is kept, or as it is known here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from outgate.core.quota.shared import SharedAccount
from outgate.gate.quota.pooling import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis import Redis

    from outgate.gate.server import Gate

__all__ = ["Share", "kept", "known"]


class Share(NamedTuple):
    """One quota of one app in the window that runs.

    :ivar key: of what is kept of it.
    :ivar quota: what it is called, as in ``connect.day``.
    :ivar held: gate → what it holds, used or not. What others hold is together under "" where it is not known apart.
    """

    key: str
    app: str
    quota: str
    limit: int
    end: int
    held: dict[str, int]


def known(gate: Gate, apps: Iterable[str]) -> list[Share]:
    """Return the shared quotas of these apps, with what this gate holds and has heard of the others'."""
    fleet = gate.settings.fleet
    own = fleet.name if fleet is not None else ""
    found = []
    for app in apps:
        for account in gate.quotas.accounts(app):
            if isinstance(account, SharedAccount):
                held = {own: max(account.allotted, account.used)}
                if account.elsewhere:
                    held[""] = account.elsewhere
                quota, start = account.quota, account.start
                key = key_of(app, quota.resource, quota.per, start)
                found.append(Share(key, app, f"{quota.resource}.{quota.per}", quota.limit, account.end, held))
    return found


def kept(redis: Redis, shares: Sequence[Share]) -> list[Share]:
    """Return the same as it is kept: what every gate has said last that it holds. For the thread that asks there."""
    with redis.pipeline(transaction=False) as pipe:
        for share in shares:
            pipe.hgetall(share.key)
        rows: list[Any] = pipe.execute()
    return [share._replace(held=_read(row)) for share, row in zip(shares, rows, strict=True)]


def _read(row: dict[bytes, bytes]) -> dict[str, int]:
    held = {}
    for name, said in sorted(row.items()):
        count = said.split(b" ")[0]
        if count.isdigit() and len(count) < 20:
            held[name.decode("utf-8", "replace")] = int(count)
    return held
