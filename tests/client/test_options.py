"""Options through a gate: what is permitted is as natively, what is refused says why, and libraries' set-ups work."""

from __future__ import annotations

import functools
import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from outgate import errors
from outgate.core import options
from outgate.core.options import Option
from outgate.testing.running import RunningGate
from support.pythons import interpreters

from .conftest import PROGRAMS, Results, checks_of, go

EVERY = tuple(options.options().values())
ALLOWED = tuple(each for each in EVERY if each.can_get)
REFUSED = tuple(each for each in EVERY if not each.can_get)
#: Options that the kernel has no number for on any host; what happens to them natively is not asked.
MADE_UP = ((1, 5000), (1, -1), (0, 200), (6, 200), (17, 1000), (41, 200), (58, 1), (282, 1), (-1, 1), (255, 3))

#: What to set where 1 would say little, or is not taken.
VALUES: dict[str, Any] = {
    "SO_SNDBUF": 30_000,
    "SO_RCVBUF": 40_000,
    "SO_LINGER": [1, 3],
    "SO_RCVTIMEO": [3, 250_000],
    "SO_SNDTIMEO": [4, 500_000],
    "IP_TOS": 0x48,
    "IP_TTL": 77,
    "TCP_MAXSEG": 700,
    "TCP_KEEPIDLE": 77,
    "TCP_KEEPINTVL": 7,
    "TCP_KEEPCNT": 4,
    "TCP_SYNCNT": 3,
    "TCP_LINGER2": 9,
    "TCP_WINDOW_CLAMP": 30_000,
    "TCP_USER_TIMEOUT": 5_000,
    "TCP_NOTSENT_LOWAT": 16_384,
    "IPV6_UNICAST_HOPS": 66,
    "IPV6_TCLASS": 0x48,
}
#: What the kernel would let a program set, and the table does not.
READ_ONLY_HERE = ("TCP_CONGESTION", "IPV6_MTU")
#: What the kernel counts by itself.
MOVES = ("TCP_INFO",)


def _asked(each: Option) -> dict[str, Any]:
    value = VALUES.get(each.name, 1)
    return {
        "name": f"{each.level}:{each.name}",
        "level": each.level,
        "number": each.number,
        "type": each.type or "int",
        "value": value,
        "moves": each.name in MOVES,
    }


def report(environ: dict[str, str], asked: list[dict[str, Any]], python: str = sys.executable, *how: str) -> Any:
    """Run the program that sets and reads; return kind of socket → option → how set and get ended."""
    command = [python, "-W", "error", str(PROGRAMS / "options.py"), *how]
    done = subprocess.run(command, env=environ, input=json.dumps(asked), capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def strict_gate() -> Iterator[RunningGate]:
    """A gate with the default policy, which lets nobody connect to this host."""
    with RunningGate(dev=False) as gate:
        yield gate
        assert gate.faults == []


@pytest.fixture(scope="module")
def permitted(gate: RunningGate) -> Callable[[str], Any]:
    """Return the report on permitted options, ``"native"`` or through the ``"gate"``."""

    @functools.cache
    def of(how: str) -> Any:
        environ = gate.environ({**os.environ}) if how == "gate" else {**os.environ}
        return report(environ, [_asked(each) for each in ALLOWED], sys.executable, "connect")

    return of


# --- what is permitted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fresh tcp4", "connected tcp4", "fresh tcp6"])
@pytest.mark.parametrize("option", ALLOWED, ids=lambda option: option.name)
def test_a_permitted_option_is_as_natively(permitted: Callable[[str], Any], option: Option, kind: str) -> None:
    """Set and read back it is what it is natively, in value or in errno; but what can only be read says so itself."""
    name = f"{option.level}:{option.name}"
    (native_set, native_get), (set_, get) = (permitted(how)[kind][name] for how in ("native", "gate"))
    assert get == native_get
    if option.can_set:
        assert set_ == native_set
    else:
        assert set_["code"] == options.UNKNOWN
        assert set_["errno"] == native_set.get("errno") or option.name in READ_ONLY_HERE


def _can(sock: socket.socket, option: Option) -> bool:
    """Tell whether the kernel has this option for this socket."""
    sizes = {"linger": 8, "timeval": 16, "bytes": 64}
    try:
        if option.can_set:
            value = VALUES.get(option.name, 1)
            packed = struct.pack("ii" if option.type == "linger" else "ll", *value) if type(value) is list else value
            sock.setsockopt(option.level, option.number, packed)
        sock.getsockopt(option.level, option.number, sizes.get(option.type, 0))
    except PermissionError:
        return True  # there, and for administrators
    except OSError as e:
        return e.strerror == os.strerror(107)  # ENOTCONN: there, and for connected sockets
    return True


@pytest.mark.parametrize("kind", ["tcp4", "tcp6", "udp4", "udp6"])
@pytest.mark.parametrize("option", ALLOWED, ids=lambda option: option.name)
def test_the_table_says_truly_which_sockets_have_an_option(option: Option, kind: str) -> None:
    """The kernel has the option exactly on the kinds of socket that the table names."""
    family = socket.AF_INET6 if kind.endswith("6") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind.startswith("tcp") else socket.SOCK_DGRAM) as sock:
        assert _can(sock, option) == (kind in option.kinds.split())


# --- what is refused --------------------------------------------------------------------------------------------------


def _expected(call: str, level: int, number: int, dev: bool) -> dict[str, Any] | None:
    refusal = (options.may_set if call == "setsockopt" else options.may_get)(level, number, dev)
    if refusal is None:
        return None
    error = errors.build(refusal.code, refusal.facts)
    return {"error": type(error).__name__, "errno": error.errno, "text": str(error), "code": error.code}


@pytest.mark.parametrize("dev", [False, True])
def test_every_refusal_is_the_tables(gate: RunningGate, strict_gate: RunningGate, dev: bool) -> None:
    """Before and after connect each refused option, known or not, ends with the table's class, errno and words."""
    asked = [_asked(each) for each in REFUSED]
    asked += [
        {"name": f"{level}:{number}", "level": level, "number": number, "type": "int", "value": 1, "moves": False}
        for level, number in MADE_UP
    ]
    environ = (gate if dev else strict_gate).environ({**os.environ})
    found = report(environ, asked, sys.executable, *(["connect"] if dev else []))
    assert set(found) == {"fresh tcp4", "fresh tcp6", *(["connected tcp4"] if dev else [])}
    for endings in found.values():
        for each in asked:
            for call, ending in zip(("setsockopt", "getsockopt"), endings[each["name"]], strict=True):
                expected = _expected(call, each["level"], each["number"], dev)
                assert expected is None or ending == expected, each["name"]
                assert expected is not None or ending.get("code") is None, each["name"]


@pytest.mark.parametrize(
    ("level", "kind", "code"),
    [
        (socket.IPPROTO_IP, 8, options.DENIED),
        (socket.IPPROTO_IPV6, 50, options.DENIED),
        (socket.IPPROTO_IPV6, 57, options.DENIED),
        (socket.SOL_SOCKET, 36, options.DENIED),
        (socket.SOL_SOCKET, socket.SCM_RIGHTS, options.UNKNOWN),
    ],
)
def test_what_moves_the_path_does_not_ride_along(gate: RunningGate, level: int, kind: int, code: str) -> None:
    """sendmsg refuses ancillary data that would move the path, alone and behind harmless ones, and sends nothing."""
    program = f"""
import socket, struct
from outgate.errors import GateError
with socket.socket() as server, socket.socket() as sock:
    server.bind(("127.0.0.1", 0))
    server.listen()
    sock.connect(server.getsockname())
    harmless = (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", 9))
    bad = ({level}, {kind}, bytes(20))
    for ancillary in ([bad], [harmless, bad], iter([bad])):
        try:
            sock.sendmsg([b"x"], ancillary)
        except GateError as e:
            assert e.code == {code!r}, e.code
        else:
            raise AssertionError("sent")
    peer, _ = server.accept()
    with peer:
        sock.sendmsg([b"y"], [harmless])
        assert peer.recv(2) == b"y"
"""
    environ = gate.environ({**os.environ})
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- set-ups of libraries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["native", "gate"])
@pytest.mark.parametrize("check", checks_of("setups.py"))
def test_a_set_up_works(results: Callable[[str, str], Results], check: str, how: str) -> None:
    """What the check's own docstring says is so, natively and through a gate."""
    error = results("setups.py", how)[check]
    assert error is None, error


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_options_are_judged_alike_on_other_pythons(
    gate: RunningGate, certificates: dict[str, str], version: str
) -> None:
    """On every Python permitted options are as natively, refused ones are refused, and the set-ups work."""
    python = interpreters()[version]
    environ = {**os.environ, **certificates, "PYTHONDONTWRITEBYTECODE": "1"}
    asked = [_asked(each) for each in EVERY]
    native = report(environ, asked, python, "connect")
    ours = report(gate.environ(environ), asked, python, "connect")
    for kind, endings in ours.items():
        for each, option in zip(asked, EVERY, strict=True):
            calls = (("setsockopt", option.can_set), ("getsockopt", option.can_get))
            for index, (call, can) in enumerate(calls):
                ending = endings[each["name"]][index]
                if can:
                    assert ending == native[kind][each["name"]][index], (kind, each["name"])
                elif not option.dev:
                    assert ending == _expected(call, option.level, option.number, True)
    results = go("setups.py", gate.environ(environ), python=python)
    assert {check: error for check, error in results.items() if error} == {}
