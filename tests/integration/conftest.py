"""One world of real servers for all integration tests."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import attacks, fuse
from support import corp as company
from support.corp import Corp
from support.lab import Lab
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


@pytest.fixture(scope="session")
def _make_corp(_make_world: Callable[[], World]) -> Callable[[], Corp]:
    """Add the company to the world at its first use."""
    return functools.cache(lambda: Corp(_make_world()))


@pytest.fixture
def corp(world: World, _make_corp: Callable[[], Corp]) -> Iterator[Corp]:
    """The world with a company in it, whose name server is asked while the test runs."""
    made = _make_corp()
    made.use()
    # As Debian's installer writes it: the host has a full name, at an address of its loopback.
    hosts = f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 worker.{company.CORP} {socket.gethostname()}\n"
    world.near.file("hosts", hosts)
    yield made
    world.near.file("hosts", "127.0.0.1 localhost\n::1 localhost\n")
    world.use_resolver()


@pytest.fixture
def pages() -> Iterator[fuse.Pages]:
    """Have a folder of files whose pages do not come."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("needs root, and /dev/fuse")
    with fuse.pages() as made:
        yield made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return where this test's decision log goes."""
    return tmp_path / "decisions.jsonl"


@pytest.fixture(scope="session")
def _make_lab(_make_world: Callable[[], World]) -> Callable[[], Lab]:
    """Add the lab to the world at its first use."""
    return functools.cache(lambda: Lab(_make_world()))


@pytest.fixture
def lab(world: World, _make_lab: Callable[[], Lab]) -> Lab:
    """The world with the servers that libraries are tried with, each of which starts when it is first asked for."""
    return _make_lab()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write down how a test that is an attack ended, where that is asked for."""
    if report.when == "call" and not report.skipped:
        path, _, name = report.nodeid.partition("::")
        attacks.record_test(path.rpartition("/")[2], name.partition("[")[0], report.passed)
