"""When a host's clock is so far off that somebody should hear of it."""

from __future__ import annotations

import pytest

from outgate.core.fleet.clock import is_off


@pytest.mark.parametrize(
    ("skew", "off"), [(0.0, False), (5.0, False), (5.1, True), (-5.0, False), (-5.1, True), (1e9, True)]
)
def test_a_clock_that_is_off(skew: float, off: bool) -> None:
    """More than five seconds ahead or behind are said, and no less: what docs/fleet.md promises."""
    assert is_off(skew) is off
