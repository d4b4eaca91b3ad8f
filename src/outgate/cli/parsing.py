"""Read the options that commands have in common: those of one that asks a gate."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from outgate.core import paths


def add_socket_option(parser: ArgumentParser) -> None:
    """Give a command that asks a gate its ``--socket``."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default="",
        help=f"the gate's socket (default: {paths.SOCKET_VARIABLE}, else the host's gate, else your own)",
    )


def parser(command: str, description: str, epilog: str) -> ArgumentParser:
    """Return the options of a command that asks a gate one thing: ``--socket`` and ``--json``."""
    p = ArgumentParser(
        prog=f"outgate {command}",
        description=description,
        epilog=epilog,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_socket_option(p)
    p.add_argument("--json", action="store_true", help="print one JSON object")
    return p
