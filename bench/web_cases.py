"""Measure what programs do most: TLS handshakes, and HTTP requests by three libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from statistics import median

from bench.rows import Result, both_paths, turns
from bench.world import Way, World

_LIBRARIES = ("requests", "httpx", "aiohttp")


def handshakes(world: World) -> Iterator[Result]:
    """An open with a full TLS 1.3 handshake."""
    count = 60 if world.quick else 250

    def measure(_: str, way: Way) -> float:
        return median(
            world.ask("handshakes", way, port=world.ports["tls"][0], count=count, authority=world.authority)["times"]
        )

    yield from both_paths("open with TLS", "us", turns(world.few, measure, world.ways))


def requests(world: World) -> Iterator[Result]:
    """GET of 1 KiB by each library, one after the other, over a connection that is kept and over one each."""
    count = 100 if world.quick else 400
    for library in _LIBRARIES:
        if importlib.util.find_spec(library) is None:
            world.leave_out(f"{library}: not installed (pip install {library})")
            continue
        for keep, words in ((True, "one connection"), (False, "a connection each")):

            def measure(_: str, way: Way, library: str = library, keep: bool = keep) -> float:
                port = world.ports["http"][0]
                return float(world.ask("requests", way, library=library, port=port, count=count, keep=keep)["rate"])

            yield from both_paths(f"{library}, {words}", "1/s", turns(world.few, measure, world.own_ways))
