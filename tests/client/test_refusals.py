"""What the default policy leaves no program is refused at the call, at once, and without a packet."""

from __future__ import annotations

import functools
import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from outgate.testing.running import RunningGate

from .conftest import Results, checks_of, go

#: These may ask for sockets: they are refused for what they do with one.
WITH_SOCKETS = ("check_listen", "check_accept", "check_create_server", "check_bind", "check_fast_open")


@pytest.fixture(scope="module")
def strict_gate() -> Iterator[RunningGate]:
    """A gate with the default policy."""
    with RunningGate(dev=False) as gate:
        yield gate
        assert gate.faults == []


@pytest.fixture(scope="module")
def refusals(strict_gate: RunningGate) -> Callable[[], Results]:
    """Run the program once, with a listening socket for it to inherit."""

    @functools.cache
    def run() -> Results:
        with socket.create_server(("127.0.0.1", 0)) as server:
            os.set_inheritable(server.fileno(), True)
            said: list[bytes] = []

            def talk() -> None:
                for _ in range(2):
                    with socket.create_connection(server.getsockname(), timeout=20) as client:
                        client.sendall(b"hello")
                        said.append(client.recv(5))

            thread = threading.Thread(target=talk)
            thread.start()
            environ = strict_gate.environ({**os.environ, "TEST_LISTENER": str(server.fileno())})
            results = go("refusals.py", environ, close_fds=False)
            thread.join()
            assert said == [b"world", b"child"]
        return results

    return run


@pytest.mark.parametrize("check", checks_of("refusals.py"))
def test_a_refusal_is_at_the_call(refusals: Callable[[], Results], check: str) -> None:
    """What the check's own docstring says is so, under the default policy."""
    error = refusals()[check]
    assert error is None, error


def test_no_refusal_reaches_the_gate(refusals: Callable[[], Results], strict_gate: RunningGate) -> None:
    """The gate has decided nothing, denied nothing and dialled nothing for a program that was refused all along."""
    refusals()
    counts = strict_gate.app()
    assert counts["connects"] == counts["denied"] == 0
    assert strict_gate.log.all(event="decision") == []


def test_refused_kinds_open_no_channel() -> None:
    """Families, types and protocols are refused where there is not even a gate to be asked."""
    kinds = [c for c in checks_of("refusals.py") if c not in (*WITH_SOCKETS, "check_inherited_listener")]
    environ = {**os.environ, "OUTGATE_SOCKET": "/nowhere/gate.sock", "TEST_LISTENER": "0"}
    with RunningGate(dev=False) as gate:
        environ["PYTHONPATH"] = gate.environ({})["PYTHONPATH"]
    results = go("refusals.py", environ, only=kinds)
    assert [results[kind] for kind in kinds] == [None] * len(kinds)
