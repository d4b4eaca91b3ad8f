"""Say up to when windows may be sealed, by a clock that somebody may set.

A sealed window takes no more bytes, so a clock that was set ahead by mistake must not seal the windows of tomorrow: a
step forward is believed when the clock has stayed with it for the length of a window. A step back is believed at once
and unseals nothing; bytes are then booked in the first window that is not sealed.
"""

from __future__ import annotations

from outgate.core.bill.windows import WINDOW, start_of

__all__ = ["Steady"]


class Steady:
    """What the clock of the wall is worth."""

    def __init__(self) -> None:
        #: The least that the wall was ahead of the monotonic clock, in this stretch of time and in the one before.
        self._least = self._before = float("inf")
        self._since = float("-inf")

    def see(self, wall: float, monotonic: float) -> int:
        """Take both clocks as they stand, and return the moment before which every window may be sealed."""
        ahead = wall - monotonic
        if monotonic - self._since >= WINDOW:
            # Of two stretches each as long as a window, one at least has been seen whole.
            long_ago = monotonic - self._since >= 2 * WINDOW
            self._before = ahead if long_ago else self._least
            self._since, self._least = monotonic, ahead
        self._least = min(self._least, ahead)
        return start_of(monotonic + min(self._least, self._before))
