"""Say once, in one line, that this interpreter is newer than any that the client has been tested with.

What it does not know of such an interpreter it leaves as it is: names of ``_socket`` that are new are there, and
native. The line is not repeated in children: a variable of the environment tells them. ``outgate run -q`` sets it too.
"""

from __future__ import annotations

import os
import sys

from outgate.core.paths import UNTESTED_VARIABLE

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from typing import Any

#: The newest Python that the tests run on.
NEWEST_TESTED = (3, 13)


def say() -> None:
    """Write the line to standard error, unless it was written for this version before, or is not wanted."""
    version = _text(sys.version_info)
    said = os.environ.get(UNTESTED_VARIABLE, "").split()
    if "quiet" in said or version in said:
        return
    os.environ[UNTESTED_VARIABLE] = " ".join([*said, version])
    if sys.stderr is not None:
        newest = _text(NEWEST_TESTED)
        sys.stderr.write(f"outgate: Python {version} is newer than the client has been tested with ({newest})\n")


def _text(version: tuple[Any, ...]) -> str:
    return f"{version[0]}.{version[1]}"
