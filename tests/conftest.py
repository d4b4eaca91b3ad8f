"""Rules of the whole suite: hypothesis profiles, what may not be skipped, and no address beyond loopback."""

from __future__ import annotations

import gc
import ipaddress
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# "fast" gives the same examples at every run, so that a red run is red for the next person too; "deep" looks for new
# ones. Neither has a deadline: two cores are shared, and no test here is about time.
settings.register_profile("fast", max_examples=100, derandomize=True, deadline=None, database=None)
settings.register_profile(
    "deep",
    max_examples=1000,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

#: Set by CI: a test marked ``integration`` that skips is then a failure, since nobody would notice otherwise.
REQUIRE_INTEGRATION = "OUTGATE_REQUIRE_INTEGRATION"
_TESTS = Path(__file__).parent
_INTEGRATION = _TESTS / "integration"


def is_integration_required() -> bool:
    """Whether integration tests must run and not skip."""
    return os.environ.get(REQUIRE_INTEGRATION, "") not in ("", "0")


#: Of the other Pythons that a test is run on, the oldest is enough for every day; the others are ``full``.
_EVERY_DAY = ("3.9",)
#: What parameters are called that name one.
_VERSIONS = frozenset(("version", "shares", "opens"))


#: Folders whose tests start programs as users do, each a new interpreter: a minute would not do for them.
_PROGRAMS = frozenset(("cli", "client", "cpython", "dev", "examples", "guard", "seed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a folder says of its tests, so that no file can forget it, and what is ``full``."""
    for item in items:
        if _INTEGRATION in item.path.parents:
            item.add_marker(pytest.mark.integration)
        elif item.path.relative_to(_TESTS).parts[0] in _PROGRAMS:
            item.add_marker(pytest.mark.slow)
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        named = _VERSIONS & parameters.keys()
        if any(parameters[each] not in _EVERY_DAY for each in named) and item.get_closest_marker("pythons"):
            item.add_marker(pytest.mark.full)


def pytest_collection_finish() -> None:
    """Keep thousands of collected tests from the garbage collector, whose every full look would be at all of them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def closed_databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the ledgers that a test leaves open: from Python 3.13 on one that is collected open is a warning."""
    from outgate.gate.ledger import store

    made: list[Any] = []
    create = store.create_engine

    def keep(*arguments: Any, **options: Any) -> Any:
        made.append(create(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(store, "create_engine", keep)
    yield
    for engine in made:
        engine.dispose()


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that gives the skip's reason."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{reason}\nThis is an integration test, and {REQUIRE_INTEGRATION} is set: it must run."


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hold :data:`REQUIRE_INTEGRATION` for single tests; expected failures stay what they are."""
    report = yield
    if (
        report.skipped
        and not hasattr(report, "wasxfail")
        and item.get_closest_marker("integration")
        and is_integration_required()
    ):
        _forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Hold :data:`REQUIRE_INTEGRATION` for whole files of ``tests/integration`` that skip when they are imported."""
    report = yield
    if report.skipped and _INTEGRATION in collector.path.parents and is_integration_required():
        _forbid_skip(report)
    return report


class BeyondLoopback(AssertionError):
    """A test tried to send something to another address than this host's loopback."""


_may_leave = False


@pytest.fixture(autouse=True)
def _loopback_only(request: pytest.FixtureRequest) -> Generator[None]:
    """Let only integration tests, which make networks of their own, speak to addresses beyond loopback."""
    global _may_leave
    _may_leave = request.node.get_closest_marker("integration") is not None
    yield
    _may_leave = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a native connect or datagram to a far address before the kernel hears of it (an audit hook)."""
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg") or _may_leave:
        return
    address = arguments[1]
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return  # AF_UNIX, or no address at all
    host = address[0]
    try:
        is_near = ipaddress.ip_address(host.partition("%")[0]).is_loopback or host in ("0.0.0.0", "::")
    except ValueError:
        is_near = host in ("", "localhost")
    if not is_near:
        raise BeyondLoopback(f"{event} to {host!r}: only loopback may be reached, or mark the test 'integration'")


sys.addaudithook(_audit)
