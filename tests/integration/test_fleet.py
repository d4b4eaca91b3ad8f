"""A session with a real news server goes from host to host: gates in namespaces, joined by the commands alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.testing.running import PATIENCE
from support.namespaces import Namespace, ip
from support.servers import inn
from support.world import DOMAIN, World

Finished = subprocess.CompletedProcess[str]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="nntplib has left Python 3.13"),
]

#: Between the hosts, and nowhere else: from B no way leads to the servers.
A, B = "93.184.216.1", "93.184.216.2"

_CONFIGURATION = """\
version = 1
[gate]
socket = "{folder}/gate.sock"
log = "{folder}/decisions.jsonl"
state = "{folder}/state"
[fleet]
name = "{name}"
gates = {{ a = "{a}:7400", b = "{b}:7400" }}
[apps.worker]
uid = [{uid}]
billing = true
trusted = {trusted}
path = "{path}"
"""

_OPEN = """
import nntplib, pickle, sys
server = nntplib.NNTP(sys.argv[1], timeout=20)
print(server.group(sys.argv[2])[1:4])
pickle.dump(server, open(sys.argv[3], "wb"))
"""
_GO_ON = """
import nntplib, pickle, sys
server = pickle.load(open(sys.argv[1], "rb"))
print(server.stat(int(sys.argv[2]))[1], len(server.article()[1].lines) > 0)
pickle.dump(server, open(sys.argv[3], "wb"))
"""
_END = """
import pickle, sys
server = pickle.load(open(sys.argv[1], "rb"))
print(server.stat(int(sys.argv[2]))[1], server.quit()[:3])
"""
#: Waits for what never comes, and says how that ended and how long it took after it was told to wait.
_WAIT = """
import pickle, sys, time
server = pickle.load(open(sys.argv[1], "rb"))
server.sock.settimeout(None)
print("waits", flush=True)
sys.stdin.readline()
began = time.monotonic()
try:
    server.sock.recv(1)
except OSError as e:
    print(type(e).__name__, time.monotonic() - began < 30)
"""


class Host:
    """A host with a gate of the fleet; a context manager.

    :param namespace: its network.
    """

    def __init__(self, world: World, namespace: Namespace, folder: Path, name: str, path: str) -> None:
        folder.mkdir()
        self._world = world
        self._namespace = namespace
        self._folder = folder
        self.config = folder / "outgate.toml"
        self.config.write_text(
            _CONFIGURATION.format(
                folder=folder, name=name, a=A, b=B, uid=os.getuid(), path=path, trusted=str(path == "direct").lower()
            )
        )

    def outgate(self, *words: str, stdin: str = "") -> Finished:
        """Run a command of outgate's here to its end."""
        return subprocess.run(
            self._command(*words), input=stdin, capture_output=True, text=True, timeout=50, env=self._world.environ()
        )

    def start(self) -> None:
        """Start the gate, and wait until it serves."""
        words = self._command("serve", "--config", str(self.config))
        self.gate = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=self._world.environ())
        assert self.gate.stderr is not None
        said = self.gate.stderr.readline()
        assert "ready" in said, said + self.gate.stderr.read()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the gate."""
        self.gate.send_signal(number)
        self.gate.communicate(timeout=PATIENCE)

    def python(self, code: str, *words: str) -> Finished:
        """Run a Python program of the app to its end."""
        return subprocess.run(
            self._command("run", "-q", "--", sys.executable, "-c", code, *words),
            capture_output=True,
            text=True,
            timeout=50,
            env=self._environ(),
        )

    def begin(self, code: str, *words: str) -> subprocess.Popen[str]:
        """Start a Python program of the app, with its standard streams in pipes."""
        pipe = subprocess.PIPE
        command = self._command("run", "-q", "--", sys.executable, "-c", code, *words)
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=self._environ())

    def _environ(self) -> dict[str, str]:
        return {**self._world.environ(), "OUTGATE_SOCKET": str(self._folder / "gate.sock")}

    def _command(self, *words: str) -> list[str]:
        return self._namespace.command(sys.executable, "-m", "outgate", *words)


@pytest.fixture
def back(world: World) -> Iterator[Namespace]:
    """A second host's network, with a cable to the first one's and to nothing else."""
    namespace = Namespace(f"ogfleet{os.getpid()}")
    try:
        near = world.near.name
        ip("-n", near, "link", "add", "fleet0", "type", "veth", "peer", "name", "fleet1", "netns", namespace.name)
        for name, device, address in ((near, "fleet0", A), (namespace.name, "fleet1", B)):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
            ip("-n", name, "link", "set", device, "up")
        yield namespace
    finally:
        # A namespace that goes takes its end of the cable down later, and the next test makes another cable.
        subprocess.run(["ip", "-n", world.near.name, "link", "delete", "fleet0"], check=False, capture_output=True)
        namespace.close()


@pytest.fixture(params=("direct", "relay"))
def hosts(request: pytest.FixtureRequest, world: World, back: Namespace, tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts whose gates are one fleet, as the pages say to make one."""
    tmp_path.chmod(0o755)
    a = Host(world, world.near, tmp_path / "a", "a", request.param)
    b = Host(world, back, tmp_path / "b", "b", request.param)
    done = a.outgate("fleet", "init", "--config", str(a.config))
    assert done.returncode == 0, done.stderr
    with contextlib.ExitStack() as stack:
        a.start()
        stack.callback(_end, a)
        token = a.outgate("fleet", "invite", "b", "--config", str(a.config))
        assert token.returncode == 0, token.stderr
        joined = b.outgate("fleet", "join", "-", "--config", str(b.config), stdin=token.stdout)
        assert joined.returncode == 0, joined.stderr
        b.start()
        stack.callback(_end, b)
        shown = b.outgate("fleet", "show", "--config", str(b.config))
        assert "answers" in shown.stdout, shown.stdout + shown.stderr
        yield a, b
        for host in (a, b):
            assert '"fault"' not in (host.config.parent / "decisions.jsonl").read_text()


def _end(host: Host) -> None:
    if host.gate.poll() is None:
        host.stop()


def test_a_news_session_goes_to_another_host_and_back(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """A opens, B reads on, A reads on, B ends it: one session with INN, at which B's host cannot even arrive."""
    a, b = hosts
    files = [str(tmp_path / f"pickle{number}") for number in range(3)]
    group = inn.GROUPS[0]
    alone = b.python(_OPEN, f"news4.{DOMAIN}", group, files[0])
    assert alone.returncode == 1
    steps = (
        (a, _OPEN, (f"news4.{DOMAIN}", group, files[0]), "(5, 1, 5)\n"),
        (b, _GO_ON, (files[0], "2", files[1]), "2 True\n"),
        (a, _GO_ON, (files[1], "3", files[2]), "3 True\n"),
        (b, _END, (files[2], "4"), "4 205\n"),
    )
    for host, code, words, said in steps:
        done = host.python(code, *words)
        assert done.stdout == said, done.stderr


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_an_owner_that_is_gone_is_an_error_and_no_hang(
    hosts: tuple[Host, Host], back: Namespace, tmp_path: Path, how: str
) -> None:
    """Whether the owner is killed or its cable pulled, who reads at B gets ECONNRESET, and a descriptor is refused."""
    a, b = hosts
    files = [str(tmp_path / f"pickle{number}") for number in range(2)]
    for file in files:
        assert a.python(_OPEN, f"news4.{DOMAIN}", inn.GROUPS[0], file).returncode == 0
    waiting = b.begin(_WAIT, files[0])
    assert waiting.stdin is not None
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "waits\n"
    if how == "killed":
        a.stop(signal.SIGKILL)
    else:
        ip("-n", back.name, "link", "set", "fleet1", "down")
    said, complaint = waiting.communicate("\n", timeout=40)
    assert said == "ConnectionResetError True\n", complaint
    began = time.monotonic()
    late = b.python(_END, files[1], "4")
    assert "cannot be reached" in late.stderr
    assert time.monotonic() - began < 40
