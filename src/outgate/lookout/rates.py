"""Make figures per second of two looks at a gate. Plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = ["SORTS", "AppRow", "Figures", "Look", "SocketRow", "figures"]


@dataclass(frozen=True)
class Look:
    """What a gate said at one moment.

    :ivar counts: its answer to STAT.
    :ivar quotas: app → how its quotas stand, as QUOTA answers.
    :ivar sockets: rows of LIST.
    :ivar more: whether there are open sockets beyond those.
    """

    counts: Mapping[str, Any]
    quotas: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    sockets: Sequence[Mapping[str, Any]] = ()
    more: bool = False


class AppRow(NamedTuple):
    """One app. Figures per second are ``None`` at a first look, and where the gate has begun to count anew."""

    name: str
    processes: int
    open: int
    limit: int | None
    sent: int
    received: int
    opens_per_s: float | None
    denied_per_s: float | None
    sent_per_s: float | None
    received_per_s: float | None
    quota: Mapping[str, Any] | None

    @property
    def share(self) -> float:
        """The part that is used of the quota that is used most."""
        return float(self.quota["share"]) if self.quota is not None else 0.0


class SocketRow(NamedTuple):
    """One open socket, as LIST has it, with its figures per second."""

    row: Mapping[str, Any]
    sent_per_s: float | None
    received_per_s: float | None


class Figures(NamedTuple):
    """What is shown of one look.

    :ivar total: of all apps that are shown.
    """

    counts: Mapping[str, Any]
    apps: tuple[AppRow, ...]
    total: AppRow
    sockets: tuple[SocketRow, ...]
    more: bool

    def as_json(self) -> dict[str, Any]:
        """Return it for a program to read."""
        kept = (
            "version",
            "pid",
            "boot",
            "uptime",
            "policy",
            "source",
            "log_dropped",
            "draining",
            "channels",
            "processes",
        )
        return {
            **{name: self.counts[name] for name in kept if name in self.counts},
            "total": {name: value for name, value in self.total._asdict().items() if name not in ("name", "quota")},
            "apps": {
                app.name: {name: each for name, each in app._asdict().items() if name != "name"} for app in self.apps
            },
            "sockets": [
                {**each.row, "sent_per_s": each.sent_per_s, "received_per_s": each.received_per_s}
                for each in self.sockets
            ],
            "more_sockets": self.more,
        }


#: Key of the keyboard → (what it sorts by, for people; the figure, largest first; "" is the name).
SORTS: Final[Mapping[str, tuple[str, str]]] = {
    "o": ("open", "open"),
    "c": ("opens/s", "opens_per_s"),
    "d": ("denied/s", "denied_per_s"),
    "s": ("sent/s", "sent_per_s"),
    "r": ("received/s", "received_per_s"),
    "u": ("quota used", "share"),
    "n": ("name", ""),
}


def figures(before: Look | None, now: Look, sort: str = "o", app: str = "") -> Figures:
    """Return what is to be shown.

    :param before: an earlier look, ``None`` for none.
    :param sort: a key of :data:`SORTS`.
    :param app: show only this app and its sockets; ``""`` for all.
    """
    seconds = _between(before, now)
    earlier: Mapping[str, Any] = before.counts["apps"] if before is not None and seconds is not None else {}
    apps = [
        _app(name, counts, earlier.get(name), seconds, now.quotas.get(name, ()))
        for name, counts in now.counts["apps"].items()
        if app in ("", name)
    ]
    wanted = SORTS[sort][1]
    apps.sort(key=lambda each: each.name)
    if wanted:
        apps.sort(key=lambda each: getattr(each, wanted) or 0.0, reverse=True)
    known = {row["lease"]: row for row in before.sockets} if before is not None and seconds is not None else {}
    sockets = [_socket(row, known.get(row["lease"]), seconds) for row in now.sockets if app in ("", row["app"])]
    sockets.sort(key=lambda each: (each.sent_per_s or 0.0) + (each.received_per_s or 0.0), reverse=True)
    return Figures(now.counts, tuple(apps), _total(apps), tuple(sockets), now.more)


def _between(before: Look | None, now: Look) -> float | None:
    """Return the seconds between two looks by the gate's clock; ``None`` where they are not two looks at one gate."""
    if before is None or before.counts["boot"] != now.counts["boot"]:
        return None
    seconds = float(now.counts["uptime"]) - float(before.counts["uptime"])
    return seconds if seconds > 0.0 else None


def _rate(before: Mapping[str, Any] | None, now: Mapping[str, Any], name: str, seconds: float | None) -> float | None:
    if before is None or seconds is None or now[name] < before[name]:
        return None
    return round(float(now[name] - before[name]) / seconds, 3)


def _app(
    name: str,
    now: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    seconds: float | None,
    quotas: Sequence[Mapping[str, Any]],
) -> AppRow:
    limit = next((each["limit"] for each in quotas if each["resource"] == "open_sockets"), None)
    used = [each for each in quotas if each["resource"] != "open_sockets"]  # that one has columns of its own
    return AppRow(
        name,
        now["processes"],
        now["open"],
        limit,
        now["sent"],
        now["received"],
        _rate(before, now, "connects", seconds),
        _rate(before, now, "denied", seconds),
        _rate(before, now, "sent", seconds),
        _rate(before, now, "received", seconds),
        max(used, key=lambda each: float(each["share"]), default=None),
    )


def _socket(now: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float | None) -> SocketRow:
    return SocketRow(now, _rate(before, now, "sent", seconds), _rate(before, now, "received", seconds))


def _total(apps: Sequence[AppRow]) -> AppRow:
    def rate(name: str) -> float | None:
        known = [value for each in apps if (value := getattr(each, name)) is not None]
        return round(sum(known), 3) if known else None

    return AppRow(
        "all",
        sum(each.processes for each in apps),
        sum(each.open for each in apps),
        None,
        sum(each.sent for each in apps),
        sum(each.received for each in apps),
        rate("opens_per_s"),
        rate("denied_per_s"),
        rate("sent_per_s"),
        rate("received_per_s"),
        None,
    )
