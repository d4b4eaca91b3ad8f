"""Look-ups: the gate's answer is the host's own, numbers are no look-up, and forbidden addresses are left out."""

from __future__ import annotations

import itertools
import json
import os
import socket as s
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from outgate.gate.configuration import config
from outgate.testing.running import RunningGate, ThreadGate
from support import peers

Calls = list[tuple[str, tuple[Any, ...]]]

NUMBERS = ("127.0.0.1", "0x7f.1", b"127.1", "::1", "fe80::1%lo", None, "")
#: Answered by the hosts file, never by a name server, as long as it is not asked for IPv6 alone.
NAMES = ("localhost", "LOCALHOST", b"localhost")

ASK = """
import json, socket, sys
calls = eval(sys.argv[1])
answers = []
for name, arguments in calls:
    try:
        answer = getattr(socket, name)(*arguments)
        kinds = [type(part).__name__ for part in (answer[0] if isinstance(answer, list) else [answer])]
        answers.append([repr(answer), kinds])
    except Exception as e:
        answers.append([type(e).__name__, str(e), getattr(e, "errno", None)])
print(json.dumps(answers))
"""


def ask(calls: Calls, environ: dict[str, str]) -> list[Any]:
    """Make these calls of the socket module in a program, and return what each returned or raised."""
    command = [sys.executable, "-c", ASK, repr(calls)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    answers: list[Any] = json.loads(done.stdout)
    return answers


def near_calls() -> Calls:
    """Return look-ups that this host answers from its own files and tables, and mistakes that nobody is asked for."""
    calls: Calls = []
    ports = (80, "80", "http", b"http", None, "nosuchservice", 70000)
    families, kinds = (s.AF_INET, s.AF_UNIX, 99), (0, s.SOCK_STREAM, s.SOCK_DGRAM, s.SOCK_RAW, 77)
    flags = (s.AI_CANONNAME, s.AI_PASSIVE, s.AI_NUMERICHOST, s.AI_NUMERICSERV, 1 << 20, -1)
    calls += [("getaddrinfo", pair) for pair in itertools.product(NUMBERS + NAMES, ports)]
    calls += [("getaddrinfo", (h, 80, int(f), int(k))) for h in NUMBERS + NAMES for f in families for k in kinds]
    calls += [("getaddrinfo", (h, 80, 0, 1, 0, int(f))) for h in NUMBERS + NAMES for f in flags]
    calls += [
        ("getaddrinfo", (h, 80, int(s.AF_INET6), 1, 0, f)) for h in NUMBERS for f in (0, s.AI_V4MAPPED | s.AI_ALL)
    ]
    calls += [("gethostbyname", (h,)) for h in NUMBERS + NAMES]
    calls += [(name, (h,)) for name in ("gethostbyname_ex", "gethostbyaddr") for h in ("localhost", "127.0.0.1")]
    calls += [("getfqdn", ("localhost",)), ("gethostname", ())]
    numeric, service = int(s.NI_NUMERICHOST), int(s.NI_NUMERICSERV)
    calls += [("getnameinfo", (("127.0.0.1", 80), f)) for f in (0, numeric, service, numeric | service, s.NI_NAMEREQD)]
    calls += [("getnameinfo", (address, numeric)) for address in (("::1", 22, 0, 0), ("fe80::1", 80, 0, 1), ("x", 80))]
    calls += [("if_nameindex", ()), ("if_nametoindex", ("lo",)), ("if_indextoname", (1,))]
    calls += [("if_nametoindex", ("nosuch",)), ("if_indextoname", (99_999,)), ("if_nametoindex", ("x" * 300,))]
    return [(name, tuple(int(a) if isinstance(a, int) else a for a in given)) for name, given in calls]


@pytest.fixture(scope="module")
def names_gate() -> Iterator[RunningGate]:
    """A gate with the default policy, whose resolver knows a few names with public and forbidden addresses."""
    names = {
        "public.test": ["192.0.1.7", "2a00::7"],
        "mixed.test": ["10.0.0.5", "192.0.1.8", "169.254.169.254", "fd00::1", "2a00::8"],
        "inside.test": ["10.0.0.5", "fd00::1"],
        "four.test": ["192.0.1.9"],
    }
    with RunningGate(dev=False, names=names) as gate:
        yield gate
        assert gate.faults == []


def test_local_names_are_answered_as_natively() -> None:
    """For names of the hosts file, numbers, interfaces and mistakes each look-up ends as it does natively."""
    calls = near_calls()
    native = ask(calls, dict(os.environ))
    with ThreadGate() as gate:  # which asks the C library
        through_the_gate = ask(calls, gate.environ())
        assert gate.faults == []
    assert [(call, n, g) for call, n, g in zip(calls, native, through_the_gate, strict=True) if n != g] == []


def test_numbers_ask_nobody(names_gate: RunningGate) -> None:
    """Numeric hosts in every spelling, None and the empty host are answered where there is no gate at all."""
    calls: Calls = [("getaddrinfo", (host, 80)) for host in NUMBERS]
    calls += [("gethostbyname", (host,)) for host in ("127.0.0.1", "0x7f.1", "1", "")]
    calls += [("gethostbyname_ex", ("127.0.0.1",)), ("getnameinfo", (("127.0.0.1", 80), 1)), ("inet_aton", ("127.1",))]
    without_a_gate = {**names_gate.environ(), "OUTGATE_SOCKET": "/nowhere/gate.sock"}
    assert ask(calls, without_a_gate) == ask(calls, dict(os.environ))
    assert ask([("getaddrinfo", ("localhost", 80))], without_a_gate)[0][0] == "GateUnavailable"


def test_forbidden_addresses_are_left_out(names_gate: RunningGate) -> None:
    """Of a name's addresses the program sees those that the policy permits, by every function."""
    calls: Calls = [
        ("getaddrinfo", ("mixed.test", 80, 0, int(s.SOCK_STREAM))),
        ("getaddrinfo", ("Mixed.Test.", 80, int(s.AF_INET), int(s.SOCK_STREAM))),
        ("gethostbyname", ("mixed.test",)),
        ("gethostbyname_ex", ("mixed.test",)),
        ("getaddrinfo", ("public.test", "http", 0, int(s.SOCK_STREAM), 0, int(s.AI_CANONNAME))),
    ]
    both, four, first, full, public = (answer[0] for answer in ask(calls, names_gate.environ()))
    assert ("192.0.1.8" in both, "2a00::8" in both) == (True, True)
    assert "192.0.1.8" in four
    assert first == "'192.0.1.8'"
    assert "['192.0.1.8']" in full
    assert ("192.0.1.7" in public, "2a00::7" in public) == (True, True)
    for answer in (both, four, first, full):
        assert not any(bad in answer for bad in ("10.0.0.5", "169.254", "fd00"))


def test_a_name_with_forbidden_addresses_only_is_refused(names_gate: RunningGate) -> None:
    """Where none is left the look-up raises LookUpDenied, with errno EACCES, the class and the cure."""
    calls = [
        ("getaddrinfo", ("inside.test", 80)),
        ("gethostbyname", ("inside.test",)),
        ("create_connection", (("inside.test", 80),)),
    ]
    for kind, text, number in ask(calls, names_gate.environ()):
        assert (kind, number) == ("LookUpDenied", 13)
        assert "inside.test" in text
        assert "10.0.0.5 (private)" in text
        assert "to permit: " in text


CONNECTS = """
import socket
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as sock:
        print(sock.connect_ex(("inside.test", 80)))
        try:
            sock.connect(("inside.test", 80))
        except OSError as error:
            print(isinstance(error, PermissionError), error.errno)
try:
    socket.getaddrinfo("inside.test", 80)
except socket.gaierror as error:  # which is what programs catch of a look-up
    print(isinstance(error, PermissionError), error.errno)
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_refused_name_is_a_failed_look_up_and_an_errno_to_connect_ex(path: str) -> None:
    """connect_ex returns EACCES for a refused name, and a refused look-up is a gaierror and a PermissionError."""
    with RunningGate(dev=False, path=path, names={"inside.test": ["10.0.0.5"]}) as gate:
        done = subprocess.run(
            [sys.executable, "-c", CONNECTS], env=gate.environ(), capture_output=True, text=True, timeout=30
        )
    assert (done.stdout.split(), done.stderr) == (["13", "True", "13"] * 2 + ["True", "13"], "")


def test_unknown_names_are_gaierrors(names_gate: RunningGate) -> None:
    """A name that nobody knows, or not in this family, raises gaierror with the resolver's number, from connect too."""
    calls: Calls = [
        ("getaddrinfo", ("unknown.test", 80)),
        ("gethostbyname", ("unknown.test",)),
        ("gethostbyname_ex", ("unknown.test",)),
        ("create_connection", (("unknown.test", 80),)),
        ("getaddrinfo", ("four.test", 80, int(s.AF_INET6))),
        ("getaddrinfo", ("a..b", 80)),
        ("getaddrinfo", ("a" * 64 + ".test", 80)),
    ]
    *unknown, empty_label, long_label = ask(calls, names_gate.environ())
    for kind, text, number in unknown:
        assert (kind, number) == ("gaierror", s.EAI_NONAME), (kind, text)
    natively = "UnicodeError" if sys.version_info < (3, 13) else "UnicodeEncodeError"
    assert empty_label[0] == long_label[0] == natively


EVENT_LOOP = """
import asyncio, socket, sys
port = int(sys.argv[1])
async def main():
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo("Peer.test", port, type=socket.SOCK_STREAM)
    print([item[4][0] for item in found])
    print((await loop.getnameinfo(("127.0.0.1", port), socket.NI_NUMERICSERV))[1] == str(port))
    _, writer = await asyncio.open_connection("peer.test", port)
    writer.close()
    await writer.wait_closed()
    try:
        await asyncio.open_connection("unknown.test", port)
    except socket.gaierror as e:
        print(e.errno == socket.EAI_NONAME)
asyncio.run(main())
with socket.create_connection(("peer.test", port)):
    pass
"""


def test_event_loops_and_their_connects_are_named() -> None:
    """asyncio's look-ups work as natively, and what it then connects to by address is judged and logged by the name."""
    with RunningGate(names={"peer.test": ["127.0.0.1"]}) as gate, peers.sink() as peer:
        program = gate.program("-c", EVENT_LOOP, str(peer.port))
        out, err = program.communicate(timeout=30)
        assert (out.split("\n"), err) == (["['127.0.0.1']", "True", "True", ""], "")
        for count in (1, 2):
            line = gate.wait_for(event="end", port=peer.port, count=count)
            assert (line["host"], line["name"], line["connected"]) == ("127.0.0.1", "peer.test", True)
        assert gate.faults == []


def test_smtplib_says_hello_as_natively() -> None:
    """What smtplib makes of the host's own name is the same through a gate as without one."""
    program = "import smtplib; print(smtplib.SMTP().local_hostname)"
    native = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30).stdout
    settings = config.default_settings(os.getuid(), allow=["db.corp:5432"])
    with ThreadGate(settings) as gate:
        through = gate.program("-c", program).communicate(timeout=30)
        assert through == (native, "")
        assert gate.faults == []
