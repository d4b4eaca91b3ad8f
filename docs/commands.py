"""Make docs/commands.md from the parsers of the commands: usage, options, and what their help says beside."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator
from importlib import import_module
from unittest import mock

from outgate.cli import main

_PAGE = """\
# Commands

<!-- Made by docs/generate.py; do not edit. -->

`outgate COMMAND --help` says the same. Every command that a program might read takes `--json`: one object on standard
output, to which keys may be added and of which none is renamed. Exit status 2 is a wrong call, for every command;
`outgate --version` prints the version.

{table}

{sections}
"""

#: Commands with a second word, each with a help of its own.
_SECOND = {"policy": ("test", "diff")}


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield each command line, as in ``policy diff``, and its parser."""
    for name in main.COMMANDS:
        for words in [(name, second) for second in _SECOND.get(name, ())] or [(name,)]:
            yield " ".join(words), _parser(words)


def _parser(words: tuple[str, ...]) -> argparse.ArgumentParser:
    """Return the parser that prints the help of a command."""
    found: list[argparse.ArgumentParser] = []
    with (
        mock.patch.object(argparse.ArgumentParser, "print_help", lambda self, file=None: found.append(self)),
        contextlib.suppress(SystemExit),
    ):
        import_module(f"outgate.cli.{words[0]}").main([*words[1:], "--help"])
    (parser,) = found
    return parser


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    """Return how a command is called; what argparse makes of it differs from Python to Python."""
    places = [action for action in parser._actions if not action.option_strings]
    words = [f"[{_value(action)}]" if action.nargs in ("?", "*") else _value(action) for action in places]
    return parser.usage or " ".join([f"outgate {name}", "[OPTIONS]", *words])


def _value(action: argparse.Action) -> str:
    """Return what a command line has in the place of an option's value, or of an argument."""
    return str(action.metavar or "|".join(action.choices or [action.dest.upper()]))


def _rows(parser: argparse.ArgumentParser) -> list[tuple[str, ...]]:
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = "" if action.nargs == 0 else _value(action)
        names = ", ".join(f"`{name} {value}`" if value else f"`{name}`" for name in action.option_strings)
        text = (action.help or "") % {"default": action.default, "prog": parser.prog}
        rows.append((names or f"`{value}`", text.replace("*", "\\*")))
    return rows


def _section(name: str, parser: argparse.ArgumentParser, make: Callable[..., str]) -> str:
    said, _, examples = (parser.epilog or "").partition("examples:\n")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    parts = [f"## outgate {name}", parser.description or "", f"```text\n{_usage(name, parser)}\n```"]
    if rows := _rows(parser):
        parts.append(make(("", "means"), rows))
    if said.strip():
        parts.append(f"```text\n{said.strip()}\n```")
    if lines:
        shown = "".join(f"$ {line}\n" for line in lines)
        parts.append(f"<!-- not run: a list; the guides run each -->\n```console\n{shown}```")
    return "\n\n".join(part for part in parts if part)


def page(make: Callable[..., str]) -> str:
    """Return docs/commands.md.

    :param make: makes a Markdown table of a head and rows.
    """
    with contextlib.redirect_stdout(io.StringIO()), mock.patch.dict("os.environ", {"COLUMNS": "120"}):
        sections = [_section(name, parser, make) for name, parser in parsers()]
    rows = [(f"`{name}`", text) for name, text in main.COMMANDS.items()]
    return _PAGE.format(table=make(("command", "does"), rows), sections="\n\n".join(sections))
