"""``outgate check FILE``: read a configuration and say what was understood, without starting anything."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from ipaddress import ip_address
from typing import TYPE_CHECKING

from outgate.cli import output
from outgate.errors import ConfigError
from outgate.lookout.words import counted

if TYPE_CHECKING:
    from outgate.gate.configuration.config import Settings

_EPILOG = """\
Every key is listed with the value that would be in force; the ones that are not in the file say (default).
Warnings are about what can be used and is probably not meant.

exit status: 0 the file can be used, 1 with --strict and warnings, 2 it cannot.

examples:
  outgate check /etc/outgate.toml
  outgate check --strict outgate.toml >/dev/null       # in CI: warnings fail
  outgate check --json outgate.toml | jq '.warnings'
"""


def parser() -> ArgumentParser:
    """Return the options of ``outgate check``."""
    p = ArgumentParser(
        prog="outgate check",
        description="Read a configuration and say what was understood.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("file", metavar="FILE", help="the configuration")
    p.add_argument("--strict", action="store_true", help="exit status 1 if there are warnings")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p


def main(argv: list[str]) -> int:
    """Read the file as ``outgate serve`` would, and print it."""
    options = parser().parse_args(argv)
    from outgate.gate.configuration import config
    from outgate.gate.kernel import host

    try:
        settings = config.load(options.file, host=host.own_addresses())
    except ConfigError as e:
        if options.json:
            output.print_json({"ok": False, "file": options.file, "error": str(e)})
            return 2
        return output.fail("check", str(e), 2)
    if options.json:
        _print_json(settings)
    else:
        _print(settings)
    return 1 if options.strict and settings.warnings else 0


def _print_json(settings: Settings) -> None:
    import tomllib

    output.print_json(
        {
            "ok": True,
            "file": settings.source,
            "settings": [
                {"key": line.key, "value": tomllib.loads(f"value = {line.value}")["value"], "default": line.default}
                for line in settings.explain()
            ],
            "host": list(settings.host),
            "warnings": [warning._asdict() for warning in settings.warnings],
        }
    )


def _print(settings: Settings) -> None:
    lines = list(settings.explain())
    # A group may have a hundred ranges: a column after the values would be as far away as the longest of them is.
    texts = output.table([(line.key, line.value + ("  (default)" if line.default else "")) for line in lines])
    for line, text in zip(lines, texts, strict=True):
        output.say(output.paint(text, "dim") if line.default else text)
    if settings.host:
        own = ", ".join(str(ip_address(each)) for each in settings.host)
        output.say(f"\nThis host's own addresses are denied like groups.own: {own}")
    for warning in settings.warnings:
        output.warn(str(warning))
    apps, warnings = len(settings.apps), len(settings.warnings)
    summary = f"{settings.source}: {counted(apps, 'app')}, {counted(warnings, 'warning')}"
    output.say("\n" + output.paint(output.printable(summary), "yellow" if warnings else "green"))
