"""One world of real servers for all integration tests."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator

import pytest

from support.world import World, missing


@pytest.fixture(scope="session")
def _make_world() -> Iterator[Callable[[], World]]:
    """Make the world at its first use, keep it, and take it down at the end of the session."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(World()))


@pytest.fixture
def world(_make_world: Callable[[], World]) -> World:
    """Both namespaces with their servers running; skips where the host cannot hold them.

    It is made inside of a test's own set-up, where the suite's guard against far addresses knows that an integration
    test is running.
    """
    reason = missing()
    if reason:
        pytest.skip(reason)
    return _make_world()
