"""Have the modules of the examples found by name, as they find each other when they run."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path += [str(EXAMPLES), *(str(EXAMPLES / name) for name in ("newsreader", "agent"))]

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # nntplib says so in 3.11 and 3.12
    import nntplib  # noqa: F401
