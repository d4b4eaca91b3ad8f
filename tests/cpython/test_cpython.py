"""CPython's own tests pass through a gate as they do natively, but for what a rule forbids."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from cpython import lists
from cpython.judging import Verdict, judge
from cpython.supervising import WHERE_TESTS_ARE, How, Stop, version_with_tests
from support.pythons import VERSIONS

VERSION = ".".join(map(str, sys.version_info[:2]))
PATH = Path(__file__)
GIVEN = lists.load(VERSION, "direct")


MODULES = [pytest.param(module, id=module.name) for module in GIVEN.modules if module.fast]


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Verdict]]]:
    """Module → its verdict to come, of the modules that were selected: one runs on each processor."""
    if not version_with_tests(sys.executable):
        pytest.skip(f"this Python has no tests of its own; {WHERE_TESTS_ARE}")
    native, gated = How(sys.executable, gate=False), How(sys.executable)
    calls = [item.callspec for item in request.session.items if isinstance(item, pytest.Function) and item.path == PATH]
    modules = lists.slow_first(call.params["module"] for call in calls if "module" in call.params)
    stop = Stop()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {each.name: pool.submit(judge, each, GIVEN, native, gated, stop) for each in modules}
        stop.set()
        pool.shutdown(cancel_futures=True)
    stop.close()


@pytest.mark.integration
@pytest.mark.timeout(400)
@pytest.mark.parametrize("module", MODULES)
def test_a_module_passes_through_a_gate(verdicts: dict[str, Future[Verdict]], module: lists.Module) -> None:
    """Every test of the module passes on the direct path, fails natively too, or is listed with its reason."""
    verdict = verdicts[module.name].result()
    assert verdict.red == [], "\n".join(f"{test}:\n{outcome.why}" for test, outcome in verdict.failed.items())
    assert verdict.tests > 0


@pytest.mark.parametrize("path", ["direct", "relay"])
@pytest.mark.parametrize("version", VERSIONS)
def test_the_lists_are_well_formed(version: str, path: str) -> None:
    """Every entry for a version names modules that are run on it, by patterns that are not of a whole module."""
    given = lists.load(version, path)
    names = {module.name for module in given.modules}
    for entry in (*given.excluded, *given.known_failures):
        for pattern in entry.tests:
            assert any(pattern.startswith(f"{name}.") for name in names), pattern
            assert not any(pattern == f"{name}.*" for name in names), pattern
