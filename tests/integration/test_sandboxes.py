"""Sandboxes that are not ours, as their page has them: what is allowed is reached, and all else is tried in vain."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.gate.seal import cgroup
from outgate.testing.running import PATIENCE
from support import pages
from support.fenced import events
from support.world import FORBIDDEN, PRIVATE4, TRAP_PORT, WWW, World

_PAGE = pages.ROOT / "docs/sandboxes.md"
#: Recipe → the programs that it needs.
RECIPES = {"in-bubblewrap": ("bwrap",), "in-namespaces": ("unshare", "setpriv", "nsenter")}

_HOSTILE = """
import outgate
outgate.install()
import ctypes, errno, json, os, socket, sys
places = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
found = {}

def named(result):
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]

def address(host, port):
    return b"\\2\\0" + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)

def connect(fd, host):
    return named(libc.connect(fd, address(host, places["port"]), 16))

with socket.create_connection((places["open"], 80), timeout=10) as sock:
    sock.sendall(b"GET /hello HTTP/1.0\\r\\n\\r\\n")
    found["allowed"] = sock.recv(8).decode()
    found["turn"] = "reached" if connect(sock.fileno(), places["private"]) == "done" else "refused"
try:
    socket.create_connection((places["private"], places["port"]), timeout=10)
except OSError as e:
    found["denied"] = type(e).__name__
fresh = socket.socket()
found["turn before"] = "reached" if connect(fresh.fileno(), places["private"]) == "done" else "refused"
for name in ("private", "open"):
    found["round the client, " + name] = connect(libc.socket(2, 1, 0), places[name])
found["datagram"] = named(libc.sendto(libc.socket(2, 2, 0), b"x", 1, 0, address(places["private"], 53), 16))
found["another network"] = named(libc.unshare(0x40000000))
found["the host's files"] = named(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
for name, path in (("a daemon", places["daemon"]), ("an abstract name", "\\0" + places["abstract"])):
    raw = libc.socket(1, 1, 0)
    text = b"\\1\\0" + path.encode()
    found[name] = named(libc.connect(raw, text + (b"" if path[0] == "\\0" else b"\\0"), len(text) + (path[0] != "\\0")))
print(json.dumps(found))
"""

EXPECTED = {
    "allowed": "HTTP/1.1",
    "turn": "refused",
    "turn before": "refused",
    "denied": "PolicyDenied",
    "round the client, private": "ENETUNREACH",
    "round the client, open": "ENETUNREACH",
    "datagram": "ENETUNREACH",
    "another network": "EPERM",
    "the host's files": "EPERM",
    "a daemon": "ENOENT",
    "an abstract name": "ECONNREFUSED",
}


@pytest.fixture
def folder(world: World) -> Iterator[Path]:
    """Return a folder below ``/run`` for the gate: the recipes empty that."""
    with tempfile.TemporaryDirectory(prefix="outgate-sandbox-", dir="/run") as made:
        os.chmod(made, 0o755)
        yield Path(made)
        cgroup.forget(f"{made}/gate.sock")


@contextlib.contextmanager
def _gate(world: World, folder: Path) -> Iterator[None]:
    """Have a gate of root's, with an app that has a socket of its own and is not trusted."""
    config = folder / "outgate.toml"
    config.write_text(
        f'version = 1\n[gate]\nsocket = "{folder}/gate.sock"\nlog = "{folder}/decisions.jsonl"\n'
        f'state = "{folder}/state"\n[apps.agent]\nsocket = "{folder}/agent.sock"\nbilling = true\n'
    )
    words = (sys.executable, "-m", "outgate", "serve", "--config", str(config))
    with subprocess.Popen(
        world.near.command(*words), stderr=subprocess.PIPE, text=True, env=world.environ()
    ) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert "ready" in said, said
            yield
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def _recipe(name: str, folder: Path) -> str:
    """Return the recipe from the page, for a gate in this folder."""
    (text,) = (block.text for block in pages.blocks(_PAGE) if block.notes.get("file") == name)
    moved = text.replace("/run/outgate/agent.sock", f"{folder}/agent.sock").replace(
        "exec 3</run/outgate", f"exec 3<{folder}"
    )
    assert moved.count(str(folder)) == 1
    return moved


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_leads_out_but_the_gate(world: World, folder: Path, name: str) -> None:
    """A program with the client works, is refused what policy denies, and whatever goes round it finds nothing."""
    absent = [each for each in RECIPES[name] if shutil.which(each) is None]
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)} (sh tests/integration/install.sh)")
    work = world.folder / name
    work.mkdir()
    shutil.copytree(pages.ROOT / "src/outgate", work / "outgate", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "recipe").write_text(_recipe(name, folder))
    (work / "hostile.py").write_text(_HOSTILE)
    abstract = f"sandbox-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work)
        by_path = stack.enter_context(socket.socket(socket.AF_UNIX))
        by_path.bind(f"{folder}/daemon.sock")
        by_name = stack.enter_context(world.near.socket(socket.AF_UNIX))
        by_name.bind("\0" + abstract)
        for each in (by_path, by_name):
            each.setblocking(False)
            each.listen()
        stack.enter_context(_gate(world, folder))
        places = {"open": WWW[0], "private": PRIVATE4, "port": TRAP_PORT, "abstract": abstract}
        places["daemon"] = f"{folder}/daemon.sock"
        watch = stack.enter_context(world.watch())
        done = subprocess.run(
            world.near.command("sh", str(work / "recipe"), sys.executable, "hostile.py", json.dumps(places)),
            capture_output=True,
            text=True,
            timeout=50,
            cwd=work,
            env={**world.environ(), "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == EXPECTED
        assert watch.to(*FORBIDDEN) == []
        for each in (by_path, by_name):
            with pytest.raises(BlockingIOError):
                each.accept()
    world.near.wait_empty()
    log = folder / "decisions.jsonl"
    assert {line["app"] for line in events(log, "decision")} == {"agent"}
    assert [line["verdict"] for line in events(log, "decision")] == ["allow", "deny"]
    assert events(log, "fault") == []
