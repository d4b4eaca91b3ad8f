"""The types of the configuration's tables, as msgspec holds a file against them.

What each key means and whether a reload reaches it stands in :data:`outgate.gate.configuration.keys.KEYS`; a test holds
the two against each other.
"""

from typing import Any

import msgspec

__all__ = ["AppTable", "FileTable", "GateTable"]


class GateTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[gate]``; ``None`` is a default that depends on the host."""

    socket: str | None = None
    socket_mode: str | None = None
    log: str | None = None
    log_allowed: bool = True
    log_rotate: str = ""
    log_keep: int = 5
    log_rate: int = 1000
    on_reload: str = "cut"
    metrics: str = ""
    metrics_exposed: bool = False
    socks: list[str] = []
    http_connect: list[str] = []
    doors_exposed: bool = False
    state: str | None = None
    zone: str | None = None
    warn_command: list[str] = []
    seal: str = "auto"


class AppTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of ``[apps.NAME]``; ``None`` is what the file does not say, or a default that depends on others."""

    uid: list[int | str] = []
    gid: list[int | str] = []
    socket: str = ""
    token_file: str = ""
    billing: bool | None = None
    trusted: bool = False
    allow: list[str] = msgspec.field(default_factory=lambda: ["public"])
    deny: list[str | dict[str, Any]] = []
    except_: list[str] = msgspec.field(name="except", default_factory=list)
    names: list[str] = msgspec.field(default_factory=lambda: ["*"])
    reasons: str | None = None
    mode: str = "enforce"
    path: str = "auto"
    via: str = ""
    credentials: str = ""
    ca: str = ""
    source: str = ""
    ways: list[dict[str, Any]] = []
    open_sockets: int = 4000
    quotas: dict[str, Any] = {}
    idle_timeout: int = 120
    idle_reclaim: str | None = None
    listen: str = "none"
    guard: bool = False
    unix: list[str] = []
    profile: str = "default"


class FileTable(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The types of the file's first level; what the tables hold is converted one by one, so that errors name them."""

    version: int
    gate: dict[str, Any] = {}
    ledger: dict[str, Any] | None = None
    fleet: dict[str, Any] | None = None
    groups: dict[str, Any] = {}
    apps: dict[str, Any] = {}
