"""``outgate token new FILE``: make a token, by which a program says which app it is."""

from __future__ import annotations

import os
import secrets
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter

_EPILOG = """\
The file has 32 random bytes as text and is its owner's alone. Name it in the configuration as token_file of an app,
give it to the user whose programs are that app, and start them by outgate run --token-file FILE.

exit status: 0 made; 1 it could not be, and why is said; 2 a wrong call.

examples:
  outgate token new /etc/outgate/blog.token
  chown blog /etc/outgate/blog.token
"""


def main(argv: list[str]) -> int:
    """Make the file and return the exit status."""
    p = ArgumentParser(
        prog="outgate token",
        usage="outgate token new FILE",
        description="Make a token.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("what", choices=["new"], help="make a new one")
    p.add_argument("file", metavar="FILE", help="where to; it must not be there yet")
    options = p.parse_args(argv)
    try:
        fd = os.open(options.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"outgate token: {options.file} is there already; remove it first, or name another", file=sys.stderr)
        return 1
    except (OSError, ValueError) as e:
        print(f"outgate token: {options.file}: {getattr(e, 'strerror', None) or e}", file=sys.stderr)
        return 1
    with open(fd, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    return 0
