"""Print what services, the gate and the server itself say: a line at a time, each with who says it."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["Printer", "refusal"]

#: Colours of services in turn: SGR foreground colours (ECMA-48) that can be read on light and on dark.
_COLOURS = ("36", "35", "33", "34", "32", "96", "95", "93", "94", "92")
_OWN, _BAD = "1", "31"
#: What the server's own lines begin with.
OWN = "outgate"
#: Longest line that is printed as one.
MAX_LINE = 16384


class Printer:
    """Interleave lines on one stream. Any thread may print.

    :param width: of the longest name, so that what is said is aligned.
    """

    def __init__(self, stream: TextIO, width: int = len(OWN)) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._colours: dict[str, str] = {OWN: _OWN}
        self.width = width
        self.colourful = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb" and stream.isatty()

    def say(self, text: str, bad: bool = False) -> None:
        """Print words of the server's own, which may be several lines."""
        for line in text.splitlines() or [""]:
            self.line(OWN, self._paint(line, _BAD) if bad else line)

    def line(self, who: str, text: str) -> None:
        """Print one line of somebody's."""
        group = who.partition("/")[0]
        with self._lock:
            colour = self._colours.setdefault(group, _COLOURS[(len(self._colours) - 1) % len(_COLOURS)])
            line = f"{self._paint(f'{who:<{self.width}} |', colour)} {text}"
            encoding = self._stream.encoding or "ascii"
            try:
                self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                self._stream.flush()
            except (BrokenPipeError, ValueError):  # nobody reads any more, which is no reason to end
                pass

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colourful else text


def refusal(line: Mapping[str, Any]) -> str:
    """Return the sentence for a line of the decision log that tells of a refusal, "" for every other."""
    if line.get("event") != "decision" or line.get("verdict") not in ("deny", "report"):
        return ""
    reason, cure = str(line.get("reason") or line.get("rule") or "refused"), str(line.get("cure") or "")
    return f"{reason}; {cure}" if cure and cure not in reason else reason
