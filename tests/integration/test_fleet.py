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

from support.hosts import Host
from support.namespaces import Namespace, ip
from support.servers import inn
from support.world import DOMAIN, World

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="nntplib has left Python 3.13"),
]

#: Between the hosts, and nowhere else: from B no way leads to the servers.
A, B = "93.184.216.1", "93.184.216.2"

_CONFIGURATION = """\
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
    a = Host(world.near, tmp_path / "a", world.environ())
    b = Host(back, tmp_path / "b", world.environ())
    for name, host in (("a", a), ("b", b)):
        trusted = str(request.param == "direct").lower()
        host.configure(_CONFIGURATION.format(name=name, a=A, b=B, uid=os.getuid(), path=request.param, trusted=trusted))
    a.fleet("init")
    with contextlib.ExitStack() as stack:
        stack.callback(a.close)
        a.start()
        b.fleet("join", "-", stdin=a.fleet("invite", "b"))
        stack.callback(b.close)
        b.start()
        assert "answers" in b.fleet("show")
        yield a, b
        for host in (a, b):
            assert '"fault"' not in host.log.read_text()


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
