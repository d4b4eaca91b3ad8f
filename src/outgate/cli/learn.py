"""``outgate learn LOG``: make a small policy of what a decision log says was reached."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from outgate.cli import output
from outgate.errors import ConfigError
from outgate.lookout.words import counted

if TYPE_CHECKING:
    from outgate.core.learn.learning import Learned, Wishes
    from outgate.core.learn.observations import Observations

_EPILOG = """\
The policy permits what was seen and nothing else: one rule a host with its ports, by name where a name was asked for.
What a built-in denial stands before (private ranges, loopback, port 25, ...) goes to "except", which is what to read
first. What was refused is written as comments. Each rule says how often, when last, and by which program.

Programs that are to be learned from run in report mode: outgate run --learn FILE -- CMD, or mode = "report" on the app.
LOG may be several files, rotated ones (.gz) too, or - for standard input.

exit status: 0 written, 1 there is nothing to learn from, 2 a log that cannot be read or a wrong call.

examples:
  outgate learn /var/log/outgate/decisions.jsonl --app blog -o blog.toml && outgate check blog.toml
  outgate learn decisions.jsonl* --since 7d                      # the last week, rotated files too
  outgate learn decisions.jsonl --suffix googleapis.com          # every name below it as *.googleapis.com
  outgate learn decisions.jsonl --names                          # and no other name may be looked up
"""

#: Bytes of a line of the log. The gate writes none of more than a few kilobytes.
_MAX_LINE = 1 << 20
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parser() -> ArgumentParser:
    """Return the options of ``outgate learn``."""
    p = ArgumentParser(
        prog="outgate learn",
        description="Make a small policy of what a decision log says was reached.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("logs", metavar="LOG", nargs="+", help="a decision log, - for standard input")
    p.add_argument("--app", metavar="NAME", default="", help="learn of this app alone (default: of each in the log)")
    p.add_argument("--since", metavar="TIME", default="", help="leave out what is older: 7d, 12h or 2026-11-20[T10:00]")
    p.add_argument(
        "-o", "--output", metavar="FILE", default="", help="write the policy there (default: standard output)"
    )
    p.add_argument("--force", action="store_true", help="replace FILE if it is there")
    p.add_argument(
        "--suffix", metavar="NAME", action="append", default=[], help="permit every name below NAME (repeatable)"
    )
    p.add_argument("--cidr", metavar="LENGTH", type=int, help="permit an IPv4 address without a name with its network")
    p.add_argument("--cidr6", metavar="LENGTH", type=int, help="the same for IPv6")
    p.add_argument("--include-denied", action="store_true", help="permit what was refused as well")
    p.add_argument("--names", action="store_true", help="limit look-ups to the names that were reached")
    p.add_argument("--json", action="store_true", help="print one JSON object in place of the policy")
    return p


def main(argv: list[str]) -> int:
    """Read the logs and write the policy."""
    from outgate.core.learn.learning import learn_all
    from outgate.core.learn.observations import Observations, TooMany

    p = parser()
    options = p.parse_args(argv)
    wishes = _wishes(p, options)
    seen = Observations(options.app, _since(p, options.since))
    try:
        for log in options.logs:
            with opened(log) as file:
                for line in lines(file):
                    seen.add(line)
        policies = learn_all(seen, wishes)
        text = policy_text(policies, seen, "outgate learn from " + ", ".join(options.logs))
    except (OSError, EOFError) as e:
        return _failed(options, f"{log}: {getattr(e, 'strerror', None) or e}", 2)
    except (TooMany, ConfigError) as e:
        return _failed(options, str(e), 2)
    if not policies:
        others = f"; there are: {', '.join(sorted(seen.others))}" if seen.others else ""
        what = f"app {options.app!r}" if options.app else "a program"
        since = f" since {options.since}" if options.since else ""
        return _failed(options, f"no decision on {what}{since} in {', '.join(options.logs)}{others}", 1)
    if options.output:
        try:
            write(options.output, text, options.force)
        except OSError as e:
            return _failed(options, cannot_write(options.output, e), 2)
    if options.json:
        output.print_json(_as_json(policies, seen, options.output))
        return 0
    if not options.output:
        output.say(text.rstrip("\n"))
    output.say(f"outgate learn: {summary(policies, seen)}", sys.stderr)
    return 0


def _failed(options: Namespace, text: str, status: int) -> int:
    if not options.json:
        return output.fail("learn", text, status)
    output.print_json({"ok": False, "error": text})
    return status


def _wishes(p: ArgumentParser, options: Namespace) -> Wishes:
    from outgate.core.learn.learning import Wishes
    from outgate.core.name import names

    if options.force and not options.output:
        p.error("--force is about the file of -o")
    suffixes = []
    for text in options.suffix:
        try:
            suffixes.append(names.parse_pattern("*." + text.removeprefix("*").removeprefix(".")).name)
        except ValueError as e:
            p.error(f"--suffix {text}: {e}")
    prefixes = {}
    for version, option, length, most in ((4, "--cidr", options.cidr, 32), (6, "--cidr6", options.cidr6, 128)):
        if length is not None:
            if not 1 <= length <= most:
                p.error(f"{option} {length}: a prefix length is a number from 1 to {most}")
            prefixes[version] = length
    return Wishes(tuple(suffixes), prefixes, options.include_denied, options.names)


def _since(p: ArgumentParser, text: str) -> str:
    """Return a time that was given, or so long ago, in UTC as the log has it."""
    if not text:
        return ""
    ago = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    try:
        if ago:
            moment = datetime.now(UTC) - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        else:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        p.error(f"--since {text}: write 7d, 12h, 30m, or a time as the log has it, 2026-11-20T10:00:00Z")
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Give a log to read: a file, one that is compressed, or standard input. Raises ``OSError``."""
    if path == "-":
        yield sys.stdin.buffer
    elif path.endswith(".gz"):
        import gzip

        with gzip.open(path) as compressed:
            yield compressed  # type: ignore[misc]
    else:
        with open(path, "rb") as file:
            yield file


def lines(file: BinaryIO) -> Iterator[Any]:
    """Give the decoded lines of a log; ``None`` for what is no JSON. Raises ``OSError`` where it cannot be read."""
    while True:
        line = file.readline(_MAX_LINE)
        if not line:
            return
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = file.readline(_MAX_LINE)
            yield None
        elif line.strip():
            yield decoded(line)


def decoded(line: bytes) -> Any:
    """Return what one line of a log says, ``None`` for what is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def policy_text(policies: Iterable[Learned], seen: Observations, origin: str) -> str:
    """Return the configuration as TOML; without its comments where only so a gate would read it.

    :param origin: how it came about, for its first line.
    :raises ConfigError: it is too large even so.
    """
    from outgate.core.learn.learning import to_toml
    from outgate.gate.configuration.tomlfile import MAX_BYTES

    policies = list(policies)
    head = [f"Learned by {origin}."]
    if seen.count:
        span = f", {seen.first[:19]}Z to {seen.last[:19]}Z" if seen.last else ""
        head.append(f"Connections and attempts: {seen.count:,}{span}.")
    head += [
        "It permits what was seen there and nothing else. Read what stands under except before you use it,",
        "and have it checked: outgate check FILE",
    ]
    head += [f"Careful: {each}." for each in _doubts(seen)]
    text = to_toml(policies, head)
    if len(text.encode()) > MAX_BYTES:
        head.append("The comments are left out: with them it is larger than a configuration may be.")
        text = to_toml(policies, head, with_comments=False)
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(
            f"the policy would have {len(text) >> 10} KiB, and a configuration may have {MAX_BYTES >> 10}; "
            "learn of one app, or ask for --suffix or --cidr"
        )
    return text


def write(path: str, text: str, replace: bool) -> None:
    """Write a policy as a whole or not at all.

    :param replace: a file that is there is replaced; otherwise that is an error.
    :raises OSError: ``FileExistsError`` among them.
    """
    path = os.path.realpath(path)
    if replace and os.path.exists(path) and not os.path.isfile(path):
        with open(path, "w", encoding="utf-8") as device:  # /dev/stdout, a FIFO: nothing to be replaced
            device.write(text)
        return
    fresh = f"{path}.{os.getpid()}.new" if replace else path
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if replace:
            os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def cannot_write(path: str, error: OSError) -> str:
    """Return why a policy was not written, and what to do."""
    if isinstance(error, FileExistsError):
        return f"{path} is there already; name another file, or replace it with --force"
    return f"{path} cannot be written: {error.strerror or error}"


def summary(policies: Iterable[Learned], seen: Observations) -> str:
    """Return in one line what was learned and what is doubtful about it."""
    parts = []
    for policy in policies:
        text = f"{counted(policy.destinations, 'destination')} of app {policy.app}"
        notes = []
        if policy.reported:
            notes.append(f"{policy.reported} would have been denied")
        if policy.refused:
            notes.append(f"{policy.refused} refused and left out")
        parts.append(text + (f" ({', '.join(notes)})" if notes else ""))
    return "; ".join([*parts, *_doubts(seen)])


def _doubts(seen: Observations) -> list[str]:
    doubts = []
    if seen.misread:
        doubts.append(f"{counted(seen.misread, 'line')} not understood")
    if seen.lost:
        doubts.append(f"the log lost {counted(seen.lost, 'line')}, so something may be missing")
    return doubts


def _as_json(policies: Iterable[Learned], seen: Observations, file: str) -> dict[str, Any]:
    return {
        "ok": True,
        "file": file or None,
        "connections": seen.count,
        "misread": seen.misread,
        "lost": seen.lost,
        "apps": [
            {
                "app": policy.app,
                "uid": list(policy.uids),
                "allow": policy.rules("allow"),
                "except": policy.rules("except"),
                "names": None if policy.names is None else list(policy.names),
                "destinations": policy.destinations,
                "reported": policy.reported,
                "refused": policy.refused,
                "entries": [
                    {
                        "list": entry.list,
                        "rule": entry.rule,
                        "host": entry.host,
                        "permitted": entry.permitted,
                        "remark": entry.remark,
                        "count": entry.evidence.count,
                        "last": f"{entry.evidence.last}Z" if entry.evidence.last else None,
                        "classes": list(entry.evidence.classes.kept),
                        "addresses": list(entry.evidence.addresses.kept),
                        "programs": list(entry.evidence.programs.kept),
                    }
                    for entry in policy.entries
                ],
            }
            for policy in policies
        ],
    }
