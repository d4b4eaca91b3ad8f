"""Who comes by a socket of an app's own is that app, whoever runs it; and by no other socket so."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.errors import ConfigError
from outgate.gate.configuration.config import load
from outgate.testing.running import RunningGate
from support import peers
from support.victims import victim

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be a second user")

HEAD = f"""
version = 1
[apps.host]
uid = [{os.getuid()}]
billing = true
trusted = true
"""
OWN = """
[apps.box]
socket = "{path}"
billing = true
trusted = true
except = ["127.0.0.1"]
"""


def connects(gate: RunningGate, path: str, peer: peers.Peer, uid: int | None = None) -> str:
    """Have a program connect by a socket of the gate's, and return which app it was."""
    seen = len(gate.log)
    with victim(path, "open", peer.address, **({} if uid is None else {"uid": uid})) as client:
        client.kill()
        return str(gate.wait_for(event="end", since=seen)["app"])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that other users' programs may look into."""
    with tempfile.TemporaryDirectory(prefix="outgate-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_its_own_socket_makes_it_the_app(folder: Path) -> None:
    """A program of a user who is another app is the app whose socket it was given."""
    own = str(folder / "box.sock")
    with RunningGate(config=HEAD + OWN.format(path=own)) as gate, peers.sink() as peer:
        assert stat.S_ISSOCK(os.stat(own).st_mode)
        assert connects(gate, own, peer) == "box"
        gate.stop()
        assert not os.path.exists(own)


@needs_root
def test_for_users_who_are_no_app(folder: Path) -> None:
    """A user of whom the configuration says nothing is the app there, and refused elsewhere."""
    own = str(folder / "box.sock")
    text = HEAD + OWN.format(path=own)
    with RunningGate(config='version = 1\n[gate]\nsocket_mode = "0666"\n' + text.replace("version = 1\n", "")) as gate:
        with peers.sink() as peer:
            assert connects(gate, own, peer, NOBODY) == "box"
        refused = pytest.raises(RuntimeError, match="ended the channel at new")
        with refused, victim(gate.socket, "open", ("127.0.0.1", 9), uid=NOBODY):
            pass


def test_a_reload_opens_and_closes_them(folder: Path) -> None:
    """After a reload apps have the sockets that the file names now; a path that cannot be used changes nothing."""
    first, second = str(folder / "first.sock"), str(folder / "second.sock")
    with RunningGate(config=HEAD + OWN.format(path=first)) as gate, peers.sink() as peer:
        assert gate.reload(HEAD + OWN.format(path=second))["ok"] is True
        assert not os.path.exists(first)
        assert connects(gate, second, peer) == "box"
        (folder / "file").write_text("not a socket")
        answer = gate.reload(HEAD + OWN.format(path=folder / "file"))
        assert answer["ok"] is False
        assert "apps.box.socket" in answer["error"]
        assert connects(gate, second, peer) == "box"
        assert gate.reload(HEAD)["ok"] is True
        assert not os.path.exists(second)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ('[apps.crate]\nsocket = "box.sock"\nbilling = true', "is app 'box' already"),
        ('[gate]\nsocket = "box.sock"', "is the gate's own already"),
        ('[apps.crate]\nsocket = "' + "x" * 108 + '"\nbilling = true', "is longer than the 107 bytes"),
        ('[apps.crate]\nsocket = "a\\u0000b"\nbilling = true', "is not a path"),
    ],
)
def test_a_path_that_cannot_be(tmp_path: Path, other: str, words: str) -> None:
    """A path that is too long, none, or somebody else's already is refused at load, with its place."""
    path = tmp_path / "outgate.toml"
    path.write_text("version = 1\n" + OWN.format(path="box.sock") + other)
    with pytest.raises(ConfigError, match=words):
        load(str(path))
