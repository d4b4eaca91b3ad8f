"""``outgate ranges FILE``: make the group of Google's own ranges of the lists that Google publishes."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from outgate.cli import output
from outgate.core.address import google
from outgate.core.profiles import GOOGLE

_EPILOG = f"""\
The profile app-engine denies Google's own ranges, as App Engine did; what comes with this version is of {google.DATE}.
This makes the same of a newer list, to be put into the configuration, where it takes the place of the one that came
along: a group is what the file says it is.

Without --customers the large blocks of Google's cloud customers are taken out, with it exactly those in the file.

exit status: 0 printed; 1 a file cannot be read or used, and why is said; 2 a wrong call.

examples:
  outgate ranges goog.json             # which is {google.SOURCE}
  outgate ranges goog.json --customers cloud.json --json | jq -r '.ranges[]'
"""


def main(argv: list[str]) -> int:
    """Print the group and return the exit status."""
    p = ArgumentParser(
        prog="outgate ranges",
        description="Make the group of Google's own ranges of the lists that Google publishes.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("file", metavar="FILE", help="what Google announces: goog.json")
    p.add_argument("--customers", metavar="FILE", help="what of it is its cloud customers': cloud.json")
    p.add_argument("--json", action="store_true", help="print an object instead of TOML")
    options = p.parse_args(argv)
    try:
        announced, made = _read(options.file)
        customers = _read(options.customers)[0] if options.customers else google.CUSTOMERS
    except ValueError as e:
        print(f"outgate ranges: {e}", file=sys.stderr)
        return 1
    ranges = google.own_ranges(announced, customers)
    if options.json:
        output.print_json({"made": made, "ranges": list(ranges)})
        return 0
    print(
        f"# Google's own ranges as of {made or 'an unknown day'}, for the profile app-engine.\n[groups]\n{GOOGLE} = ["
    )
    for each in ranges:
        print(f'    "{each}",')
    print("]")
    return 0


def _read(path: str) -> tuple[list[str], str]:
    """Return the ranges in a file, and the day it was made, "" where it does not say."""
    try:
        with open(path, encoding="utf-8") as file:
            published: Any = json.load(file)
        ranges = google.prefixes(published)
    except OSError as e:
        raise ValueError(f"{path}: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise ValueError(f"{path}: {e}") from None
    made = published.get("creationTime", "")
    return ranges, made[:10] if isinstance(made, str) and made[:10].replace("-", "").isdecimal() else ""
