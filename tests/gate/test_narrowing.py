"""Processes that narrow themselves: what holds for whom, what nobody widens, and what is said badly."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from gate.test_sharing import code_of
from outgate.core.formats import frames, messages
from outgate.core.policy.narrow import Narrowing
from outgate.errors import ConfigError
from outgate.gate import narrowing
from outgate.gate.kernel import lineage
from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel

pytestmark = pytest.mark.slow

NAMES = {"api.example": ["127.0.0.1"], "both.example": ["127.0.0.1", "127.0.0.2"], "evil.example": ["127.0.0.2"]}
PATIENCE = 20.0


@pytest.fixture(scope="module")
def shared_gate() -> Iterator[RunningGate]:
    """A gate for the tests of this module, which must have had no fault at their end."""
    with RunningGate(names=NAMES) as gate:
        yield gate
        assert gate.faults == []


@pytest.fixture
def gate(shared_gate: RunningGate) -> RunningGate:
    """The module's gate. Who narrows itself by a raw channel is this process, and a further channel is one of it."""
    return shared_gate


def connect(channel: RawChannel, address: tuple[str, int]) -> str:
    """Ask for a connect and return the code of its refusal, "" where it was dialled."""
    ((id, sock),) = channel.new()
    with sock:
        reply = channel.connect(id, address)
        channel.ask("close", sock=id, shared=False)
        return code_of(reply) if "error" in reply else ""


def narrow_by(channel: RawChannel, **fields: Any) -> None:
    """Ask to be narrowed, which must be granted."""
    reply = channel.ask("narrow", **fields)
    assert reply.keys() <= {"hello"}, reply


#: Each of these runs in a process of its own, that only its first argument joins to the gate: narrowing this one would
#: narrow every later test. It prints what it returns.
RUN = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[2])
from gate import test_narrowing
print(json.dumps(getattr(test_narrowing, sys.argv[3])(sys.argv[1], *map(json.loads, sys.argv[4:]))))
"""


def run(gate: RunningGate, function: Any, *arguments: Any) -> Any:
    """Call a function of this module in a process of its own and return what it returns."""
    command = [sys.executable, "-c", RUN, gate.socket, json.dumps(sys.path), function.__name__]
    done = subprocess.run(
        [*command, *map(json.dumps, arguments)], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _connects(path: str, narrow: dict[str, Any], *targets: tuple[str, int]) -> list[str]:
    with RawChannel(path) as channel:
        narrow_by(channel, **narrow)
        return [connect(channel, (host, port)) for host, port in targets]


def test_what_is_left(gate: RunningGate) -> None:
    """After NARROW a connect is refused that its rules do not allow, others are as before, and the log has both."""
    with peers.sink() as peer, peers.sink() as other:
        codes = run(gate, _connects, {"allow": [f"127.0.0.1:{peer.port}"]}, peer.address, other.address)
        assert codes == ["", "narrowed"]
        line = gate.wait_for(event="decision", verdict="deny", port=other.port)
        assert "narrowed by the program itself" in line["reason"]
        assert gate.log.all(event="narrowed", reason=f'allow = ["127.0.0.1:{peer.port}"]')


def test_deny_leaves_the_rest(gate: RunningGate) -> None:
    """With ``deny`` alone everything else stays; the app's own refusals keep their words."""
    codes = run(gate, _connects, {"deny": ["127.0.0.2"]}, ("127.0.0.1", 1), ("127.0.0.2", 1), ("10.0.0.1", 1))
    assert codes == ["", "narrowed", "policy-denied"]


def _twice(path: str, first: dict[str, Any], second: dict[str, Any], *targets: tuple[str, int]) -> list[str]:
    with RawChannel(path) as channel:
        for narrow in (first, second, first, {"allow": ["*"]}, {"deny": []}):
            narrow_by(channel, **narrow)
        return [connect(channel, (host, port)) for host, port in targets]


def test_nothing_widens(gate: RunningGate) -> None:
    """A second narrowing leaves what both allow; one for everything, and the same again, change nothing."""
    targets = ("127.0.0.1", 1), ("127.0.0.1", 2), ("127.0.0.2", 1)
    codes = run(gate, _twice, {"allow": ["127.0.0.1"]}, {"allow": ["loopback:1"]}, *targets)
    assert codes == ["", "narrowed", "narrowed"]


def _look_ups(path: str, narrow: dict[str, Any]) -> list[Any]:
    with RawChannel(path) as channel, RawChannel(path) as wide:
        wide.ask("resolve", call="getaddrinfo", args=["both.example", 80, 2, 1])  # what is remembered is the app's
        narrow_by(channel, **narrow)
        found: list[Any] = []
        for name in ("api.example", "both.example", "evil.example"):
            reply = channel.ask("resolve", call="getaddrinfo", args=[name, 80, 2, 1])
            found.append(code_of(reply) if "error" in reply else [item[4][0] for item in reply["answer"]])
        reply = channel.ask("resolve", call="gethostbyname_ex", args=["evil.example"])
        found.append(code_of(reply) if "error" in reply else reply["answer"][2])
        found += [connect(channel, (name, 1)) for name in ("api.example", "evil.example")]
        return found


@pytest.mark.parametrize(
    ("narrow", "found"),
    [
        (
            {"allow": ["api.example:1"]},
            [["127.0.0.1"], "narrowed-name", "narrowed-name", "narrowed-name", "", "narrowed"],
        ),
        ({"deny": ["127.0.0.2"]}, [["127.0.0.1"], ["127.0.0.1"], "narrowed-name", "narrowed-name", "", "narrowed"]),
        ({"names": ["api.example"]}, [["127.0.0.1"], *["narrowed-name"] * 3, "", "narrowed-name"]),
    ],
    ids=["by name", "by address", "names"],
)
def test_names(gate: RunningGate, narrow: dict[str, Any], found: list[Any]) -> None:
    """Names that no rule left could allow are not looked up, addresses that none could are not answered."""
    assert run(gate, _look_ups, narrow) == found


def _datagrams(path: str, host: str, port: int, other: int) -> list[str]:
    with RawChannel(path) as channel:
        id = channel.ask("new", family=4, count=1, kind="udp")["ids"][0]
        with channel.fds.pop() as sock:
            sock.settimeout(PATIENCE)
            headers = [frames.pack(frames.DATA, socket.inet_aton(host), each) for each in (port, other)]
            for header in headers:
                sock.send(header + b"before")
            while fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)) != bytes(4):
                os.sched_yield()  # the gate takes from both sockets, in an order of its own
            narrow_by(channel, allow=[f"udp://{host}:{port}"])
            sock.send(headers[1] + b"after")
            refused = sock.recv(100)
            sock.send(headers[0] + b"after")
            reply = channel.ask("reach", sock=id, host=host, port=other)
            return [str(refused[0]), code_of(reply)]


def test_datagrams(gate: RunningGate) -> None:
    """A UDP socket that is open is held to it from the next datagram on, by frames as by requests."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (peer, other):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(PATIENCE)
        found = run(gate, _datagrams, "127.0.0.1", peer.getsockname()[1], other.getsockname()[1])
        assert found == [str(frames.REFUSED), "narrowed"]
        assert [peer.recv(100) for _ in range(2)] == [b"before", b"after"]
        assert other.recv(100) == b"before"
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


def _redeems(path: str, narrow: dict[str, Any], *texts: str) -> list[str]:
    with RawChannel(path) as channel:
        channel.ask("narrow", **narrow)
        replies = [channel.ask("redeem", descriptor=text) for text in texts]
        return [code_of(reply) if "error" in reply else "" for reply in replies]


def test_a_descriptor_is_no_way_round(gate: RunningGate) -> None:
    """A connection that it could not open itself a narrowed process does not get by a descriptor either."""
    with peers.sink() as peer, peers.sink() as other, RawChannel(gate.socket) as opener:
        texts = []
        for address in (peer.address, other.address):
            ((id, sock),) = opener.new()
            opener.connect(id, address)
            sock.connect(address)
            texts.append(opener.share(id, sock)["descriptor"])
            sock.close()
        assert run(gate, _redeems, {"allow": [f"127.0.0.1:{peer.port}"]}, *texts) == ["", "narrowed"]


def test_a_udp_socket_is_narrowed_with_who_redeems_it(gate: RunningGate) -> None:
    """Who has sent a datagram is not known, so a UDP socket that a narrowed process has is narrowed for all."""
    with RawChannel(gate.socket) as opener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        id = opener.ask("new", family=4, count=1, kind="udp")["ids"][0]
        with opener.fds.pop() as sock:
            sock.settimeout(PATIENCE)
            header = frames.pack(frames.DATA, socket.inet_aton("127.0.0.1"), peer.getsockname()[1])
            text = opener.share(id, sock)["descriptor"]
            assert run(gate, _redeems, {"allow": ["127.0.0.2"]}, text) == [""]
            sock.send(header + b"x")
            assert sock.recv(100)[0] == frames.REFUSED


def _children(path: str) -> dict[str, str]:
    """Return what children may do: spawned, forked, of an exec, and those started before."""
    target = ("127.0.0.1", 1)
    code = (
        "import json, sys; sys.path[:0] = json.loads(sys.argv[2])\n"
        "from gate.test_narrowing import RawChannel, connect\n"
        "input() if len(sys.argv) > 3 else None\n"
        "with RawChannel(sys.argv[1]) as channel: print(connect(channel, ('127.0.0.1', 1)), flush=True)\n"
    )
    command = [sys.executable, "-c", code, path, json.dumps(sys.path)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "wait"], stdin=pipe, stdout=pipe, text=True) as before:
        earlier = lineage.being(before.pid)
        assert earlier is not None
        while lineage.now() <= earlier.start:  # in the very tick nobody could tell
            pass
        with RawChannel(path) as channel:
            narrow_by(channel, deny=["127.0.0.1"])
            found = {"itself": connect(channel, target)}
            found["itself, as another process"] = _anew(path)
            found["a child"] = subprocess.run(command, stdout=pipe, text=True, check=True).stdout.strip()
            shell = [*("sh", "-c", '"$0" "$@"; true'), *command]
            found["a grandchild"] = subprocess.run(shell, stdout=pipe, text=True, check=True).stdout.strip()
            said, _ = before.communicate("\n")
            found["a child from before"] = said.strip()
    found["when its channels have ended"] = _anew(path)
    return found


def _anew(path: str) -> str:
    with RawChannel(path) as channel:
        return connect(channel, ("127.0.0.1", 1))


def test_what_it_starts_has_no_more(gate: RunningGate) -> None:
    """By the kernel's word, whatever they say: its children from then on, and itself under another token."""
    assert run(gate, _children) == {
        "itself": "narrowed",
        "itself, as another process": "narrowed",
        "a child": "narrowed",
        "a grandchild": "narrowed",
        "a child from before": "",
        "when its channels have ended": "narrowed",
    }


def _by_hello(path: str, said: list[dict[str, Any]]) -> list[str]:
    with RawChannel(path) as first, RawChannel(path, token=first.token) as second:
        assert second.hello is not None
        second.hello["narrow"] = said
        return [connect(first, ("127.0.0.1", 1)), connect(second, ("127.0.0.1", 1)), connect(first, ("127.0.0.1", 1))]


def test_a_hello_says_it_too(gate: RunningGate) -> None:
    """What a hello names holds from then on for the process, also where it was known before."""
    assert run(gate, _by_hello, [{"allow": ["127.0.0.2"]}]) == ["", "narrowed", "narrowed"]


def test_what_cannot_be_read_leaves_nothing(gate: RunningGate) -> None:
    """A hello whose rules are none leaves its process nothing: going on without would be a way to widen."""
    assert run(gate, _by_hello, [{"allow": ["a group"]}])[1:] == ["narrowed", "narrowed"]
    assert "it leaves nothing now" in gate.wait_for(event="narrowing-unreadable")["reason"]


def test_why_says_it(gate: RunningGate) -> None:
    """WHY answers for the process that asks: with the narrowing's rule, and that the program has made it."""
    answer = run(gate, _why, {"deny": ["loopback:7"]})
    assert (answer["verdict"], answer["rule"], answer["place"]) == ("deny", "loopback:7", "narrow.deny[0]")
    assert "narrowed by the program itself" in answer["reason"]


def _why(path: str, narrow: dict[str, Any]) -> Any:
    with RawChannel(path) as channel:
        channel.ask("narrow", **narrow)
        return channel.ask("why", host="127.0.0.1", port=7)["answer"]


# --- bad input --------------------------------------------------------------------------------------------------------

MANY = [f"127.0.{i // 250}.{i % 250}" for i in range(messages.MAX_NARROW_RULES)]


def _bad(path: str) -> list[Any]:
    with RawChannel(path) as channel:
        replies = [
            channel.ask("narrow", allow=["no rule"]),
            channel.ask("narrow", deny=["8.8.8.8:99999"]),
            channel.ask("narrow", names=["a b"]),
            channel.ask("narrow", allow=["public", "10.2.*"]),
            channel.ask("narrow", allow=MANY, deny=["127.0.0.1"]),
        ]
        found = [reply.get("invalid", reply) for reply in replies]
        found.append(connect(channel, ("127.0.0.1", 1)))  # nothing has changed
        for i in range(messages.MAX_NARROWINGS):
            narrow_by(channel, deny=[f"127.0.1.{i}"])
        found.append(channel.ask("narrow", deny=["127.0.2.1"])["invalid"])
        narrow_by(channel, deny=["127.0.1.1"])  # it holds already
        found.append(connect(channel, ("127.0.0.1", 1)))
    for fields in ({"allow": MANY + MANY}, {"allow": ["x" * 321]}, {"allow": "public"}, {"deny": [7]}, {"deny": None}):
        with RawChannel(path) as channel:
            channel.post("narrow", **fields)
            found.append(channel.refusal().partition(":")[0])
    return found


def test_bad_input(gate: RunningGate) -> None:
    """A rule that is none is answered with its place and a hint and changes nothing; too much ends the channel."""
    *texts, free, many, still_free, one, two, three, four, five = run(gate, _bad)
    starts = ("narrow.allow[0]: ", "narrow.deny[0]: ", "narrow.names[0]: ", "narrow.allow[1]: ", "narrow: 257 rules")
    for text, start in zip(texts, starts, strict=True):
        assert text.startswith(start)
    assert (free, still_free) == ("", "")
    assert "narrowed 16 times already" in many
    assert {one, two, three, four, five} == {"not a request"}


def test_bounds() -> None:
    """Narrowings are refused that are too long together to travel with every hello, with what to do instead."""
    long = Narrowing(tuple("a" * 300 for _ in range(50)))
    narrowing.check((long,))
    with pytest.raises(ConfigError, match="16384 characters"):
        narrowing.check((long, long))
    with pytest.raises(ConfigError, match="257 rules"):
        narrowing.check((Narrowing(None, ("a",) * 200, ("b",) * 57),))
    with pytest.raises(ConfigError, match="16 times"):
        narrowing.check((Narrowing(()),) * 17)


# --- reload and the kernel --------------------------------------------------------------------------------------------


def _over_reload(path: str) -> list[str]:
    with RawChannel(path) as channel:
        channel.ask("narrow", allow=["127.0.0.1:1"])
        before = connect(channel, ("127.0.0.1", 2))
        assert channel.ask("reload")["answer"]["ok"]
        return [before, connect(channel, ("127.0.0.1", 2)), connect(channel, ("127.0.0.1", 1))]


def test_a_reload_changes_nothing(gate: RunningGate) -> None:
    """When the configuration is read again, what a process has narrowed itself to still holds."""
    assert run(gate, _over_reload) == ["narrowed", "narrowed", ""]


def test_ancestry() -> None:
    """The kernel's chain begins with the process and ends with the first of all; each is older than the one before."""
    chain = list(lineage.ancestry(os.getpid()))
    assert [each.pid for each in chain[:2]] == [os.getpid(), os.getppid()]
    starts = [each.start for each in chain]
    assert starts == sorted(starts, reverse=True)
    assert starts[0] <= lineage.now()
    assert lineage.being(os.getpid()) == chain[0]
    with subprocess.Popen(["true"]) as gone:
        pass
    assert lineage.being(gone.pid) is None
    assert list(lineage.ancestry(gone.pid)) == []
