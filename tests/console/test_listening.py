"""A console listens where only this host reaches it, and says what to write where it cannot."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from outgate.console.beside import Beside
from outgate.console.listening import bind, where
from outgate.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8470", ("127.0.0.1", 8470)),
        ("localhost:0", ("127.0.0.1", 0)),
        (":8470", ("127.0.0.1", 8470)),
        ("[::1]:8470", ("::1", 8470)),
        ("unix:/run/x.sock", ("/run/x.sock", -1)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    """An address of loopback, or a path."""
    assert where(text) == place


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.0.0.0:80", "ssh -L"),
        ("[::]:80", "ssh -L"),
        ("192.0.2.1:80", "ssh -L"),
        ("example.com:80", "no numeric|not a numeric"),
        ("127.0.0.1", "no port"),
        ("127.0.0.1:70000", "no port"),
        ("unix:", "path"),
        ("", "no port"),
    ],
)
def test_no_places(text: str, says: str) -> None:
    """What others could reach, or is no place, is refused with a way out."""
    with pytest.raises(ConfigError, match=says):
        where(text)


def test_a_port_that_is_taken() -> None:
    """Where somebody else listens the error names the place."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        text = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"{text}: cannot listen"):
            bind(text)


@pytest.mark.filterwarnings("error")
def test_a_console_that_cannot_listen_leaves_nothing_open() -> None:
    """Where its port is taken a console beside a gate is refused, and no socket of it is left."""
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConfigError) as refused:
            Beside(f"127.0.0.1:{taken.getsockname()[1]}")
        assert len(os.listdir("/proc/self/fd")) == before, refused.value


def test_a_unix_socket_is_the_users_own(tmp_path: Path) -> None:
    """Only the gate's user may connect to it."""
    tmp_path.chmod(0o700)
    made, url = bind(f"unix:{tmp_path}/console.sock")
    with made:
        assert stat.S_IMODE((tmp_path / "console.sock").stat().st_mode) == 0o600
        assert url == "http://localhost/"
