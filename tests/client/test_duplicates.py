"""No duplicate of a born socket leads past the policy, however it was made: DESIGN's trap 8."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator

import pytest

from outgate.testing.running import RunningGate

#: Each leaves an unconnected socket of the gate's under another fd, in ``fd``.
WAYS = {
    "the pool": "socket.socket().close(); fd = max(map(int, os.listdir('/proc/self/fd')))",  # first: of a fresh one
    "os.dup": "s = socket.socket(); fd = os.dup(s.fileno()); s.close()",
    "os.dup2": "s = socket.socket(); fd = os.dup2(s.fileno(), 60); s.close()",
    "fcntl": "s = socket.socket(); fd = fcntl.fcntl(s, fcntl.F_DUPFD, 50); s.close()",
    "fcntl and os.close": "s = socket.socket(); fd = fcntl.fcntl(s, fcntl.F_DUPFD, 50); os.close(s.detach())",
    "socket.dup": "s = socket.socket(); fd = s.dup().detach(); s.close()",
    "detach": "fd = socket.socket().detach()",
    "a socket pair": (
        "a, b = socket.socketpair(); s = socket.socket()\n"
        "socket.send_fds(a, [b'x'], [s.fileno()]); s.close(); fd = socket.recv_fds(b, 1, 1)[1][0]"
    ),
    "/proc": "s = socket.socket(); fd = s.fileno()\nos.stat('/proc/self/fd/%d' % fd)",
}
#: Then this process, a forked one, or a Python started with it connects; what came of it is printed.
WHO = {
    "itself": "print(json.dumps(go(fd)), flush=True)",
    "a fork": "if os.fork() == 0: print(json.dumps(go(fd)), flush=True); os._exit(0)\nos.wait()",
    "an exec": (
        "os.set_inheritable(fd, True)\n"
        "subprocess.run([sys.executable, '-c', HEAD + 'print(json.dumps(go(%d)))' % fd], close_fds=False, check=True)"
    ),
}
HEAD = """
import array, fcntl, json, os, socket, subprocess, sys
address = ("127.0.0.1", PORT)
def go(fd):
    try:
        sock = socket.socket(fileno=fd)
        sock.settimeout(5)
        sock.connect(address)
    except OSError as e:
        return type(e).__name__
    return "connected"
"""


@pytest.fixture(scope="module")
def strict_gate() -> Iterator[RunningGate]:
    """A gate with the default policy, which denies loopback."""
    with RunningGate(dev=False) as gate:
        yield gate
        assert gate.faults == []


@pytest.mark.parametrize("who", WHO)
def test_no_duplicate_leads_past_the_policy(strict_gate: RunningGate, who: str) -> None:
    """Their connects to a denied address are refused, by policy or as nothing of this gate's, and nobody hears it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        head = HEAD.replace("PORT", str(server.getsockname()[1]))
        steps = "\n".join(f"{way}\n{WHO[who]}" for way in WAYS.values())
        program = strict_gate.program("-c", f"HEAD = {head!r}\nexec(HEAD)\n{steps}")
        said, complained = program.communicate(timeout=30)
        assert complained == ""
        ends = dict(zip(WAYS, map(json.loads, said.splitlines()), strict=True))
        # GateUnavailable: of a gate that has let go of it. OSError is EBADF or the like: the number of the pool's
        # socket may be anybody's by now.
        assert {
            way: end for way, end in ends.items() if end not in ("PolicyDenied", "GateUnavailable", "OSError")
        } == {}
        assert not select.select([server], [], [], 0)[0]
