"""``profile = "app-engine"`` as programs see it, over both paths."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from outgate.testing.running import RunningGate
from support import peers

from .conftest import Results, checks_of, go

CONFIG = """
version = 1

[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
profile = "{profile}"
except = ["127.0.0.1"]
"""


def gate_with(profile: str, path: str = "auto") -> RunningGate:
    """Return a gate whose one app is this user's, has a profile, and may reach loopback."""
    return RunningGate(config=CONFIG.format(uid=os.getuid(), profile=profile, path=path))


@pytest.fixture(scope="module", params=["direct", "relay"])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Results]]:
    """Run the program once over each path."""
    folder: Path = tmp_path_factory.mktemp("ca")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def habit(connection: peers.Connection) -> None:
        with context.wrap_socket(connection.socket, server_side=True) as tls:
            tls.sendall(tls.recv(5))

    with (
        gate_with("app-engine", request.param) as gate,
        peers.Peer(habit) as secure,
        peers.echo() as peer,
        peers.bound("127.0.0.1") as nobody,
    ):

        @functools.cache
        def run() -> Results:
            extra = {
                "TEST_CERTIFICATE": str(folder / "ca.pem"),
                "TEST_TLS_PORT": str(secure.port),
                "TEST_PEER_PORT": str(peer.port),
                "TEST_FREE_PORT": str(nobody.getsockname()[1]),
            }
            found = go("app_engine.py", gate.environ({**os.environ, **extra}))
            assert all(connection.wait().saw_end for connection in peer.connections), "one was reset"
            return found

        yield run
        assert gate.faults == []


@pytest.mark.parametrize("check", checks_of("app_engine.py"))
def test_the_original_to_the_letter(results: Callable[[], Results], check: str) -> None:
    """What the check's own docstring says is so."""
    error = results()[check]
    assert error is None, error


def test_a_program_keeps_the_profile_it_began_with() -> None:
    """A reload to another profile reaches who begins afterwards; policy and quotas it reaches at once."""
    code = (
        "import socket, sys\n"
        "for line in sys.stdin:\n"
        "    with socket.socket() as sock:\n"
        "        print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2097152, flush=True)\n"
    )
    with gate_with("default") as gate, gate.program("-c", code) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        for profile in ("default", "app-engine"):
            gate.reload(CONFIG.format(uid=os.getuid(), profile=profile, path="auto"))
            program.stdin.write("\n")
            program.stdin.flush()
            assert program.stdout.readline() == "False\n"
        with gate.program("-c", code) as later:
            assert later.communicate("\n", timeout=20)[0] == "True\n"
        program.stdin.close()
        assert program.wait(20) == 0
