"""``outgate policy diff OLD NEW``: which recent connections would change verdict from one configuration to another."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from outgate.cli import output
from outgate.cli.learn import lines, opened
from outgate.errors import ConfigError
from outgate.lookout.loglines import since
from outgate.lookout.words import counted

if TYPE_CHECKING:
    from outgate.core.learn.connections import Connections
    from outgate.core.policy.difference import Change, Side
    from outgate.gate.configuration.config import Settings

_DESCRIPTION = "Say which recent connections would change verdict from one configuration to another."
_EPILOG = """\
The connections are those of the decision log: that of NEW, or the files that --log names (rotated ones, .gz too, - for
standard input). Each is judged under OLD and NEW as what it was: host, name, address, port and transport. What is newly
denied comes first, then what would be but for report mode, then what is newly allowed.

T is 90s, 15m, 2h, 3d or 1w before now, or a time as in 2026-03-01T14:00 (in the zone of this terminal).

exit status: 0 nothing is newly denied, 1 something is, 2 a file is wrong.

examples:
  outgate policy diff /etc/outgate.toml new.toml --since 1d && cp new.toml /etc/outgate.toml && outgate reload
  outgate policy diff old.toml new.toml --log decisions.jsonl --log decisions.jsonl.1
  outgate policy diff old.toml new.toml --json | jq -r '.changes[] | select(.direction == "newly-denied") | .after.cure'
"""

_WORDS = {
    "newly-denied": ("newly denied", "red"),
    "newly-reported": ("newly reported", "yellow"),
    "newly-allowed": ("newly allowed", "green"),
}


def parser() -> ArgumentParser:
    """Return the options of ``outgate policy diff``."""
    p = ArgumentParser(
        prog="outgate policy diff",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("old", metavar="OLD", help="the configuration in force")
    p.add_argument("new", metavar="NEW", help="the one that is to follow")
    p.add_argument("--log", metavar="FILE", action="append", default=[], help="a decision log (repeatable)")
    p.add_argument("--since", metavar="T", default="", help="only what happened since then")
    p.add_argument("--app", metavar="NAME", default="", help="only connections of this app")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Compare, and print what changes."""
    from outgate.core.learn.connections import Connections
    from outgate.core.learn.observations import TooMany
    from outgate.core.policy.difference import compare

    p = parser()
    options = p.parse_args(argv)
    begin = ""
    if options.since:
        try:
            begin = since(options.since, datetime.now().astimezone())
        except ValueError:
            p.error(f"--since: {options.since!r} is no time; write 15m, 2h, 3d, or a time as in 2026-03-01T14:00")
    seen = Connections(options.app, begin)
    log = ""
    try:
        old, new = _read(options.old), _read(options.new)
        for log in options.log or [_log_of(new, options.new)]:
            with opened(log) as file:
                for line in lines(file):
                    seen.add(line)
        changes = compare(_sides(old), _sides(new), seen)
    except (TooMany, ConfigError) as e:
        return _fail(options, str(e))
    except (OSError, EOFError) as e:
        return _fail(options, f"{log}: {getattr(e, 'strerror', None) or e}")
    denied = any(change.direction == "newly-denied" for change in changes)
    if options.json:
        output.print_json(_as_json(changes, seen))
    else:
        _print(changes, seen)
    return 1 if denied else 0


def _read(path: str) -> Settings:
    """Return a configuration as a gate on this host would have it, but for its users. Raises ``ConfigError``."""
    from outgate.cli.policy import without_users
    from outgate.gate.configuration import config, tomlfile
    from outgate.gate.kernel.host import own_addresses

    raw, _ = tomlfile.read(path)
    return config.from_table(without_users(raw), path, host=own_addresses(), reads_tokens=False)


def _log_of(settings: Settings, path: str) -> str:
    log = settings.gate.log
    if log in ("-", "journald"):
        where = "standard output" if log == "-" else "the journal"
        raise ConfigError(f"{path}: the log goes to {where}; name a file of it, or - for standard input, with --log")
    return log


def _sides(settings: Settings) -> Mapping[str, Side]:
    """Return the policy of each app, or why it gets no sockets."""
    from outgate import errors
    from outgate.core.policy.difference import Withheld
    from outgate.gate.explain import withheld

    sides: dict[str, Side] = {}
    for name, app in settings.apps.items():
        refused = withheld(app)
        if refused is None:
            sides[name] = app.policy
        else:
            reason, cure = errors.describe(*refused)
            sides[name] = Withheld("billing", reason, cure or "")
    return sides


def _fail(options: Namespace, text: str) -> int:
    if not options.json:
        return output.fail("policy", text, 2)
    output.print_json({"ok": False, "error": text})
    return 2


def _as_json(changes: list[Change], seen: Connections) -> dict[str, Any]:
    return {
        "ok": not any(change.direction == "newly-denied" for change in changes),
        "connections": seen.count,
        "destinations": len(seen),
        "misread": seen.misread,
        "lost": seen.lost,
        "changes": [
            {
                "direction": change.direction,
                "app": change.app,
                "host": change.opened.host,
                "name": change.opened.name or None,
                "address": change.opened.address or None,
                "port": change.opened.port,
                "transport": change.opened.transport,
                "count": change.times,
                "last": change.last or None,
                "before": change.before._asdict(),
                "after": change.after._asdict(),
            }
            for change in changes
        ],
    }


def _print(changes: list[Change], seen: Connections) -> None:
    """Print the changes by direction, with what decides now, and of what is refused what would permit it."""
    for direction, (words, style) in _WORDS.items():
        these = [change for change in changes if change.direction == direction]
        if not these:
            continue
        total = sum(change.times for change in these)
        title = f"{words}: {counted(len(these), 'destination')}, {counted(total, 'connection')}"
        output.say(output.paint(title, style))
        rows = [(f"{change.times:,}", change.app, _where(change), _by(change)) for change in these]
        for change, line in zip(these, output.table(rows, right=(0,)), strict=True):
            output.say(f"  {line}")
            if direction != "newly-allowed" and change.after.cure:
                output.say(f"  {output.printable(change.after.cure)}")
    if not changes:
        output.say(f"no verdict changes: {counted(seen.count, 'connection')}, {counted(len(seen), 'destination')}")
    if seen.misread:
        output.warn(f"{counted(seen.misread, 'line')} not understood")
    if seen.lost:
        output.warn(f"{counted(seen.lost, 'line')} not in the log: it could not be written, or they were folded")


def _where(change: Change) -> str:
    opened = change.opened
    host = f"[{opened.host}]" if ":" in opened.host else opened.host
    shown = f"{host}:{opened.port}" if opened.port else f"{host} (look-up)"
    if opened.transport == "udp":
        shown = f"udp://{shown}"
    return f"{shown} ({opened.address})" if opened.address and opened.address != opened.host else shown


def _by(change: Change) -> str:
    before, after = change.before, change.after
    place = f" ({after.place})" if after.place else ""
    return f'{before.verdict} by "{before.rule}" → {after.verdict} by "{after.rule}"{place}'
