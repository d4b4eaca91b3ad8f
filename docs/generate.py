"""Write the pages that follow from the code: errors, log fields and configuration keys.

``python docs/generate.py PAGE`` prints one page, ``--write`` writes them all. A test holds each page equal to what
this makes.
"""

import errno
import socket
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from outgate import errors
from outgate.gate import keys
from outgate.gate.lines import FIELDS

ROOT = Path(__file__).resolve().parent.parent

_ERRORS = """\
# Errors

<!-- Made by docs/generate.py; do not edit. -->

A refusal by the gate is an `OSError` with a true errno, so code that was written for `socket` keeps working. The
precise class is one `except` deeper. Errors of the far end (refused, unreachable, timed out) are the kernel's own and
are never wrapped.

```python
from outgate.errors import PolicyDenied

try:
    sock.connect((host, port))
except PolicyDenied as error:
    print(error.code, error.reason, error.cure)
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

Lines are written by a thread of their own. Where the disk is full or too slow, lines are lost rather than connections
held; `log-dropped` with their `count` follows as soon as writing works again. After a rotation send SIGHUP: the file is
opened again.

What was denied, and why:

    jq -r 'select(.verdict == "deny") | [.time, .app, .host, .port, .reason] | @tsv' decisions.jsonl
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

A rule is `[tcp://|udp://] (group | address | CIDR | [v6] | *) [:ports]`. The lists are looked at in the order except,
deny, allow, and the first rule that matches decides. An entry of `deny` may be
`{{ rule = "10.0.0.0/8", mode = "report" }}`, which only logs what it would have denied.

A reload (SIGHUP, `outgate reload`) with a file that has a fault changes nothing: the old one stays in force.

Words that are refused until a later version:

{later}
"""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


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
        codes.append(f"### {row.code}\n\n`{row.cls.__name__}`, `{_number(row)}`\n\n    {row.sentence}")
        if row.cure:
            codes.append(f"What helps:\n\n    {row.cure.replace('{{', '{').replace('}}', '}')}")
    return _ERRORS.format(
        classes=_table(
            ("class", "is also", "means"),
            [(f"`{cls.__name__}`", f"`{_native(cls)}`", (cls.__doc__ or "").splitlines()[0]) for cls in classes],
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
    text = f"`{keys.toml(key.default)}`"
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
            f"- `{name} = {keys.toml(word)}`: {why}."
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
        lines.append(f"{comment}{'partners' if last == 'NAME' else last} = {keys.toml(key.default)}")
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "docs/errors.md": errors_page,
    "docs/log.md": log_page,
    "docs/configuration.md": configuration_page,
    "etc/outgate.sample.toml": sample,
}


def main(arguments: list[str]) -> int:
    """Print the page that is named, or write them all."""
    if arguments == ["--write"]:
        for path, make in PAGES.items():
            (ROOT / path).write_text(make(), encoding="utf-8")
        return 0
    if len(arguments) != 1 or arguments[0] not in PAGES:
        sys.stderr.write(f"usage: generate.py --write | {' | '.join(PAGES)}\n")
        return 2
    sys.stdout.write(PAGES[arguments[0]]())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
