"""Measure what wants a network of its own."""

from __future__ import annotations

from collections.abc import Iterator

from bench.rows import Result
from bench.world import World


def in_a_namespace(world: World) -> Iterator[Result]:
    """To come."""
    return iter(())
