"""Write the pages that follow from the code: errors, log, configuration, socket options, leases, profiles and more.

``python docs/generate.py PAGE`` prints one page, ``--write`` writes them all, and ``--benchmark FOLDER`` makes that of
a run of the benchmark. A test holds each page equal to what this makes.
"""

import errno
import importlib.util
import re
import socket
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from outgate import errors
from outgate.client import untested
from outgate.core import options
from outgate.gate.configuration import keys, places
from outgate.gate.decisionlog.lines import FIELDS

ROOT = Path(__file__).resolve().parent.parent

_ERRORS = """\
# Errors

<!-- Made by docs/generate.py; do not edit. -->

A refusal by the gate is an `OSError` with a true errno, so code that was written for `socket` keeps working. The
precise class is one `except` deeper. Errors of the far end (refused, unreachable, timed out) are the kernel's own and
are never wrapped, but for those of a [URL Fetch](urlfetch.md#errors), which have classes of their own.

<!-- before
import socket

sock = socket.socket()
-->
```python
from outgate.errors import PolicyDenied

try:
    sock.connect(("169.254.169.254", 80))
except PolicyDenied as error:
    print(error.code)  # policy-denied
    print(error.cure)  # to permit: except = ["169.254.169.254:80"]
```

## Classes

{classes}

`ProtocolError`, `ConfigError` (a `ValueError`) and `InternalError` are no refusals and no `OSError`s.

## Codes

The code is the stable word of a refusal: in the log, on the channel and in `error.code`. `{{…}}` stands for one of
`error.facts`.

{codes}
"""

_LOG = """\
# The decision log

<!-- Made by docs/generate.py; do not edit. -->

JSON lines: one when a connection is decided (`decision`), one when it ends (`end`), joined by `lease`. Other events
(`start`, `reload`, …) have fields of their own. A field that does not apply is left out. What a program chose (its
name, a host) is escaped, so that it is safe to print, and cut at the length below. Fields are added without raising
`v`; none is renamed or given another meaning.

{fields}

An `overruled` line has the fields of a decision and says that a new policy denies what is open; its `how` is `cut` or
`report` ([reload](reload.md)).

`held-up` and `held-up-ended` name an `app` whose sockets or files keep the thread waiting that asks the kernel about
them ([a lock that is kept](containment.md#a-lock-that-is-kept)).

Lines are written by a thread of their own. Where the disk is full or too slow, lines are lost rather than connections
held; `log-dropped` with their `count` follows as soon as writing works again.

## Where it goes

`gate.log` is a file, `"-"` for standard output, or `"journald"`.

**A file** can be rotated by logrotate, by rename and a signal, or in place (`copytruncate`):

<!-- file: /etc/logrotate.d/outgate -->
```text
/var/log/outgate/decisions.jsonl {{
    daily
    rotate 14
    compress
    delaycompress
    postrotate
        outgate reload
    endscript
}}
```

<!-- file: /etc/outgate.toml
version = 1
[apps.blog]
uid = [0]
billing = true
-->
<!-- before
$ mkdir /var/lib/logrotate
$ outgate serve --config /etc/outgate.toml &
-->
```console
$ logrotate --force /etc/logrotate.d/outgate
policy 2 is in force; 0 open connections judged again
```

<!-- before
$ until test -e /var/log/outgate/decisions.jsonl; do sleep 0.1; done
-->
```console
$ ls /var/log/outgate
decisions.jsonl
decisions.jsonl.1
```

`outgate reload`, SIGHUP and `systemctl reload outgate` have the gate open its file again, and read its configuration
too. Or the gate rotates by itself, by size:
`log_rotate = "100 MB"` makes `decisions.jsonl.1` (the latest) to `.5` (`log_keep`), each whole lines. A file that
somebody else has renamed it leaves alone.

**journald** gets each line as an entry: `MESSAGE` is a sentence, `PRIORITY` 5 for what was denied, 3 for faults and 6
for the rest, and every field stands under its name, as in `OUTGATE_APP`. `OUTGATE_LINE` is the line itself:

<!-- not run: needs systemd -->
```console
$ journalctl -t outgate OUTGATE_VERDICT=deny --since -1h
$ journalctl -t outgate --output=cat --output-fields=OUTGATE_LINE | outgate log --denied -
```

## How fast it grows

A program that asks for what is denied in a loop would write a line each time. So each app has `log_rate` lines a second
(1,000), and ten times as many at once after it was quiet. What is above is folded: one `log-folded` line a second for
the app says how many lines there would have been, by kind. What is folded is missing in the log alone: refusals are
counted (`outgate stats`, the metrics), and bytes too, whatever becomes of the lines of their ends. `outgate learn` and
`outgate policy diff` say how much they have not seen. The gate's own words, as `reload` and `overruled`, are never
folded.

## Reading it

<!-- file: agent.py
import socket

socket.create_connection(("api.example", 443)).close()
try:
    socket.create_connection(("db.corp", 5432))
except PermissionError:
    pass
-->
<!-- before
$ outgate run -q -- python agent.py
-->
```console
$ outgate log --denied --since 1h
2026-03-01 14:00:07  blog  4711 agent.py  deny    db.corp:5432 (10.0.0.5)  \
every address it has is forbidden: db.corp is 10.0.0.5 (private); rule "non-public"; \
to permit: except = ["db.corp:5432"]
```

`outgate log` asks the gate that runs where its log is, or reads the file that it is given (`-`: standard input). One
line a decision: when, in the zone of the terminal; app, process, program; verdict, destination, rule; and of a refusal
why, and what would permit it. `--follow` goes on with what comes, over rotations by rename and by truncation. `--app`,
`--denied`, `--since 2h`, `--reason metadata` choose; `--all` shows ends and events too. What a program chose is printed
inert; lines that are torn or no JSON are counted and left out. `--json` passes lines through as they are:

```console
$ outgate log --json --denied | jq -r .cure | sort | uniq -c | sort -rn
      1 to permit: except = ["db.corp:5432"]
```

What was denied, and why, without outgate:

```console
$ jq -r 'select(.verdict == "deny") | [.time, .app, .host, .port, .reason] | @tsv' /var/log/outgate/decisions.jsonl
2026-03-01T14:00:07.113Z	blog	db.corp	5432	blog → db.corp (look-up) denied: \
every address it has is forbidden: db.corp is 10.0.0.5 (private); rule "non-public"
```
"""

_CONFIGURATION = """\
# Configuration

<!-- Made by docs/generate.py; do not edit. -->

TOML, read by `outgate serve --config FILE` and checked by `outgate check FILE`. A key that is not known is refused,
with its place and the nearest one that is. `etc/outgate.sample.toml` has every key at its default,
`etc/outgate.minimal.toml` the least that works.

{rows}

App names are lower-case letters, digits, `.`, `_` and `-`, at most 63, the first a letter or digit; a name with a dot
stands in quotes, as in `[apps."web.v2"]`.

A rule is `[tcp://|udp://] (group | name | *.suffix | address | CIDR | [v6] | *) [:ports]` ([policy](policy.md)). The
lists are looked at in the order except, deny, allow, and the first rule that matches decides. An entry of `deny` may be
`{{ rule = "10.0.0.0/8", mode = "report" }}`, which only logs what it would have denied.

A reload (SIGHUP, `outgate reload`) with a file that has a fault changes nothing: the old one stays in force.

Words that are refused until a later version:

{later}
"""

_OPTIONS = """\
# Socket options

<!-- Made by docs/generate.py; do not edit. -->

A program sets and reads the options below, before and after connect; App Engine's eight are among them. Every other is
refused, known or not, by an `OSError` with its reason: `ENOPROTOOPT` ("Protocol not available") where a program can do
without, as on a host that does not have the option, and `EACCES` where the option would lead packets elsewhere, hide
them, or take from the gate's host. Wrong arguments raise what they raise natively. Sockets that are not outgate's
(Unix sockets, inherited ones, and under `--dev` those that listen) take what the kernel lets them.

<!-- before
import socket

sock = socket.socket()
-->
```python
try:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
except PermissionError as error:  # outgate.errors.PolicyDenied
    print(error)  # … SO_MARK is refused: {why}
```

## Permitted

On the direct path the kernel applies them natively. On the relay path:

- outside: the gate sets and reads it on the kernel's socket;
- inside: it concerns the program's own waiting, and the program's end of the pair has it;
- kept: it can be set and read back, and what it is for does not happen;
- answered: the client answers, as the kernel's socket would.

A `linger` is two C ints, a `timeval` two C longs; `struct.pack` makes them.

{allowed}

## Beside the data of sendmsg

{ancillary} may ride along.
All other ancillary data are refused, `IP_PKTINFO`, `IPV6_PKTINFO`, routing headers and file descriptors among them. Of
the flags, `MSG_FASTOPEN` is refused; on UDP so is `MSG_DONTROUTE`, and on the relay path `MSG_OOB`.

## Refused

Neither set nor read. `--dev` lets those pass that say so, for servers under test.

{refused}

## App Engine

With the profile `app-engine` ([profile](profile.md)) exactly the eight and `SO_ERROR` are there, all else is `EACCES`.
A set is validated and ignored; a get gives the value that App Engine gave:

{mocked}
"""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _verbatim(text: str) -> str:
    return f"```text\n{text}\n```"


def _summary(cls: type) -> str:
    """Return the first line of a docstring, its markup as a page has it."""
    line = (cls.__doc__ or "").splitlines()[0]
    return re.sub(r":class:(`[^`]+`)", r"\1", line).replace("``", "`")


def _native(cls: type) -> str:
    """Return the name of the nearest class of Python's own."""
    if issubclass(cls, socket.gaierror):
        return "socket.gaierror"
    return next(base.__name__ for base in cls.__mro__ if base.__module__ == "builtins")


def _number(row: errors.Row) -> str:
    if issubclass(row.cls, socket.gaierror):
        return "EAI_*"
    # Linux has two names for this one, and sockets know it by the second.
    return errno.errorcode[row.errno].replace("ENOTSUP", "EOPNOTSUPP")


def errors_page() -> str:
    """Return docs/errors.md."""
    classes = sorted({row.cls for row in errors.TABLE.values()}, key=lambda cls: cls.__name__)
    codes = []
    for row in errors.TABLE.values():
        number = f", `{_number(row)}`" if row.errno is not None else ""
        codes.append(f"### {row.code}\n\n`{row.cls.__name__}`{number}\n\n{_verbatim(row.sentence)}")
        if row.cure:
            codes.append(f"What helps:\n\n{_verbatim(row.cure.replace('{{', '{').replace('}}', '}'))}")
        if row.brief:
            codes.append(f'With `reasons = "brief"`:\n\n{_verbatim(row.brief)}')
    return _ERRORS.format(
        classes=_table(
            ("class", "is also", "means"),
            [(f"`{cls.__name__}`", f"`{_native(cls)}`", _summary(cls)) for cls in classes],
        ),
        codes="\n\n".join(codes),
    )


def log_page() -> str:
    """Return docs/log.md."""
    lines = {"every": "every line", "both": "decision, end"}
    return _LOG.format(
        fields=_table(
            ("field", "type", "stands in", "since v", "at most", "means"),
            [
                (
                    f"`{name}`",
                    field.type,
                    lines.get(field.events, field.events),
                    str(field.since),
                    f"{field.limit} characters" if field.type == "string" else "",
                    field.meaning,
                )
                for name, field in FIELDS.items()
            ],
        )
    )


def _default(name: str, key: keys.Key) -> str:
    if key.required:
        return "must be there"
    text = f"`{places.toml(key.default)}`"
    if not key.shown:
        return text
    return f"{text} for root" if name.startswith("gate.") else f"none; as in {text}"


def configuration_page() -> str:
    """Return docs/configuration.md."""
    return _CONFIGURATION.format(
        rows=_table(
            ("key", "default", "a reload reaches it", "means"),
            [
                (f"`{name}`", _default(name, key), "yes" if key.reloadable else "no", key.help)
                for name, key in keys.KEYS.items()
            ],
        ),
        later="\n".join(
            f"- `{name} = {places.toml(word)}`: {why}."
            for name, words in keys.CHOICES.items()
            for word, why in words.items()
            if why
        ),
    )


def sample() -> str:
    """Return etc/outgate.sample.toml."""
    lines = [
        "# Every key of a gate's configuration, commented at its default. Check a file with: outgate check FILE",
        "# A reload (SIGHUP, outgate reload) reaches every key that does not say otherwise.",
    ]
    section = ""
    for name, key in keys.KEYS.items():
        table, _dot, last = name.rpartition(".")
        if table != section:
            section = table
            # An app has keys that must be there, so its header is commented with them.
            lines += ["", "#[apps.web]" if table == "apps.NAME" else f"[{table}]"]
        sentences = key.help + ("" if key.reloadable else " Takes effect at the next start.")
        sentences += " Must be there." if key.required else ""
        lines += ["", *(f"# {line}" for line in textwrap.wrap(sentences, 118))]
        comment = "" if name == "version" else "#"
        lines.append(f"{comment}{'partners' if last == 'NAME' else last} = {places.toml(key.default)}")
    return "\n".join(lines) + "\n"


def _refused_rows() -> list[tuple[str, ...]]:
    """Return a row for each level, errno and reason, with all the options it is for."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for option in options.options().values():
        if not option.can_get:
            number = errno.errorcode[errors.TABLE[option.code].errno]
            row = (f"`{options.LEVELS[option.level]}`", number, option.means, option.cure)
            rows.setdefault(row, []).append(f"`{option.name}`")
    return [(level, ", ".join(names), f"`{number}`", why, cure) for (level, number, why, cure), names in rows.items()]


def options_page() -> str:
    """Return docs/options.md."""
    every = options.options()
    kinds = {"tcp4 tcp6 udp4 udp6": "all", "tcp4 tcp6": "TCP", "tcp6 udp6": "IPv6"}
    return _OPTIONS.format(
        why=every[options.SOCKET, 36].means,
        allowed=_table(
            ("level", "option", "of", "type", "may be", "on a relay", "does", "needed by"),
            [
                (
                    f"`{options.LEVELS[option.level]}`",
                    f"`{option.name}`",
                    kinds[option.kinds],
                    option.type,
                    "set, read" if option.can_set else "read",
                    option.relay,
                    option.means,
                    option.users,
                )
                for option in every.values()
                if option.can_get
            ],
        ),
        ancillary=", ".join(f"`{name}`" for name in options.ANCILLARY.values()),
        refused=_table(("level", "options", "errno", "why", "instead"), _refused_rows()),
        mocked=_table(
            ("option", "bytes", "number"),
            [
                (f"`{every[key].name}`", f"`{value.hex()}`", str(options.mocked(*key)))
                for key, value in options.MOCKED.items()
            ],
        ),
    )


def _beside(name: str) -> ModuleType:
    """Return the module of that name in this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"outgate_docs_{name}", ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compatibility_page() -> str:
    """Return docs/compatibility.md, which a module beside this one makes."""
    return _beside("compatibility").page(_table, ".".join(map(str, untested.NEWEST_TESTED)))


def lease_page() -> str:
    """Return docs/lease.md, which a module beside this one makes."""
    return _beside("lifecycle").page(_table)


def metrics_page() -> str:
    """Return docs/metrics.md, which a module beside this one makes."""
    return _beside("metrics").page(_table)


def profile_page() -> str:
    """Return docs/profile.md, which a module beside this one makes."""
    return _beside("profiles").page(_table)


def seed_page() -> str:
    """Return docs/seed.md, which a module beside this one makes."""
    return _beside("seed").page(_table)


def benchmark_page() -> str:
    """Return docs/benchmark.md, which a module beside this one makes."""
    return _beside("benchmark").page(_table)


def scale_page() -> str:
    """Return docs/scale.md, which a module beside this one makes."""
    return _beside("benchmark").scale_page(_table)


def _picture(path: str) -> Callable[[], str]:
    return lambda: _beside("benchmark").picture(path)


def commands_page() -> str:
    """Return docs/commands.md, which a module beside this one makes."""
    return _beside("commands").page(_table)


PAGES: dict[str, Callable[[], str]] = {
    "docs/benchmark.md": benchmark_page,
    "docs/scale.md": scale_page,
    **{path: _picture(path) for path in _beside("benchmark").PICTURES},
    "docs/errors.md": errors_page,
    "docs/log.md": log_page,
    "docs/configuration.md": configuration_page,
    "docs/options.md": options_page,
    "docs/commands.md": commands_page,
    "docs/compatibility.md": compatibility_page,
    "docs/lease.md": lease_page,
    "docs/metrics.md": metrics_page,
    "docs/profile.md": profile_page,
    "docs/seed.md": seed_page,
    "etc/outgate.sample.toml": sample,
}


def main(arguments: list[str]) -> int:
    """Print the page that is named, or write them all; or that of a benchmark's record, into the folder it is in."""
    if len(arguments) == 2 and arguments[0] == "--benchmark":
        _beside("benchmark").write(Path(arguments[1]), _table)
        return 0
    if arguments == ["--write"]:
        for path, make in PAGES.items():
            (ROOT / path).write_text(make(), encoding="utf-8")
        return 0
    if len(arguments) != 1 or arguments[0] not in PAGES:
        sys.stderr.write(f"usage: generate.py --write | --benchmark FOLDER | {' | '.join(PAGES)}\n")
        return 2
    sys.stdout.write(PAGES[arguments[0]]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
