"""Misuse raises what the native module raises, type and words, and nothing is asked of a gate."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pythons import interpreters

from . import differential as d

SCRIPT = Path(d.__file__)


def run_table(python: str) -> dict[str, Any]:
    """Go through the whole table on one interpreter, which has nothing but the client."""
    done = subprocess.run([python, "-W", "error", str(SCRIPT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_every_case_of_the_table_is_judged_as_natively() -> None:
    """On this Python no case of the table differs from what the C class does with it."""
    report = run_table(sys.executable)
    assert report["cases"] > 3000
    assert report["different"] == []


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_every_case_is_judged_as_that_python_judges_it(version: str) -> None:
    """No case differs on another Python either, whose C class has other words for many of them."""
    assert run_table(interpreters()[version])["different"] == []


# --- mixed junk -------------------------------------------------------------------------------------------------------

# No text here is a name that the native class would look up: it does so before it judges the port.
_spoilt = st.text(max_size=8).map(lambda text: text + "\0") | st.text("éßа", min_size=64, max_size=70)
_spoilt_bytes = st.binary(max_size=8).map(lambda raw: raw + b"\0")
hosts = st.one_of(
    st.sampled_from(d.HOSTS),
    _spoilt,
    _spoilt.map(d.Text),
    _spoilt.map(d.Liar),
    _spoilt_bytes,
    st.ip_addresses(network="127.0.0.0/8").map(str),
)
numbers = st.one_of(
    st.sampled_from(d.PORTS), st.sampled_from(d.NUMBERS6), st.integers(), st.floats(), st.integers().map(d.Index)
)
anything = st.one_of(hosts, numbers, st.none(), _spoilt_bytes, st.lists(st.integers(), max_size=2))
addresses = st.one_of(
    st.tuples(hosts, numbers),
    st.tuples(hosts, numbers, numbers, numbers),
    st.lists(anything, max_size=5).map(tuple),
    st.lists(anything, max_size=5).map(d.LyingTuple),
    anything,
)
families = st.sampled_from((d.AF_INET, d.AF_INET6))


def is_looked_up(address: Any) -> bool:
    """Whether C would look the host up before it judges what stands behind it."""
    return isinstance(address, tuple) and any("%nosuch" in part for part in tuple.__iter__(address) if is_text(part))


def is_text(part: Any) -> bool:
    return type(part) is str


@given(st.sampled_from(("connect", "connect_ex", "bind")), families, addresses)
def test_any_address_is_judged_as_natively(name: str, family: int, address: Any) -> None:
    """Whatever is given as an address raises what C raises, or C finds nothing wrong with it either."""
    native, ours = d.compare(lambda side: side.method(name, family, address))
    assert d.agree(name, native, ours) or is_looked_up(address)
    if native.how == "raised" and native.kind != "gaierror":
        assert d.asked == []


@given(st.sampled_from(("sendto", "sendmsg")), st.lists(anything | addresses, max_size=4), numbers, addresses)
def test_any_datagram_is_judged_as_natively(name: str, junk: list[Any], flags: Any, address: Any) -> None:
    """Whatever is given to sendto and sendmsg raises what C raises."""
    mixed = (b"x", flags, address) if name == "sendto" else ([b"x"], [], flags, address)
    for arguments in (junk, mixed):
        native, ours = d.compare(lambda side, given=arguments: side.method(name, d.AF_INET, *given))
        assert d.agree(name, native, ours)
        assert d.asked == []


@given(st.sampled_from(("setsockopt", "getsockopt")), st.lists(numbers | anything, max_size=5))
def test_any_option_is_judged_as_natively(name: str, arguments: list[Any]) -> None:
    """Whatever is given to setsockopt and getsockopt raises what C raises, unless the table refuses the option."""
    native, ours = d.compare(lambda side: side.method(name, d.AF_INET, *arguments))
    assert d.agree(name + "(", native, ours)
    assert d.asked == []


@given(st.lists(st.tuples(numbers, numbers, _spoilt_bytes) | anything, max_size=3) | anything, numbers, addresses)
def test_any_ancillary_data_are_judged_as_natively(ancillary: Any, flags: Any, address: Any) -> None:
    """Whatever is given to sendmsg beside its data raises what C raises, unless the table refuses it."""
    for arguments in (([b"x"], ancillary), ([b"x"], ancillary, flags), ([b"x"], ancillary, flags, address)):
        native, ours = d.compare(lambda side, given=arguments: side.method("sendmsg", d.AF_INET, *given))
        assert d.agree("sendmsg", native, ours)
        assert d.asked == []


@given(st.lists(anything, max_size=4))
def test_any_socket_is_judged_as_natively(arguments: list[Any]) -> None:
    """Whatever is given to the class raises what C raises for its type, its range, or what the kernel refuses."""
    native, ours = d.compare(lambda side: side.create(*arguments))
    assert d.agree("socket(", native, ours)


@given(hosts, numbers | hosts, st.lists(numbers, max_size=4))
def test_any_look_up_is_judged_as_natively(host: Any, port: Any, rest: list[Any]) -> None:
    """Whatever is given to getaddrinfo raises what C raises before it asks anybody."""
    native, ours = d.compare(lambda side: side.function("getaddrinfo")(host, port, *rest))
    assert d.agree("getaddrinfo", native, ours)


@given(st.tuples(hosts, numbers) | st.tuples(hosts, numbers, numbers, numbers) | anything, numbers)
def test_any_reverse_look_up_is_judged_as_natively(address: Any, flags: Any) -> None:
    """Whatever is given to getnameinfo raises what C raises before it asks anybody."""
    native, ours = d.compare(lambda side: side.function("getnameinfo")(address, flags))
    assert d.agree("getnameinfo", native, ours)


# --- what lies is frozen ----------------------------------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    """Collect what the gate is asked, and let it refuse the dial."""
    messages: list[dict[str, Any]] = []

    def request(message: dict[str, Any], **_: Any) -> dict[str, Any]:
        messages.append(message)
        return {"errno": 111}

    with d.NoGate():
        d.channel.request = request  # type: ignore[assignment]
        yield messages


@pytest.mark.parametrize(
    ("host", "port"),
    [
        (d.Liar("127.0.0.1"), 80),
        (d.Text("127.0.0.1"), d.Whole(80)),
        (d.LyingBytes(b"127.0.0.1"), True),
        (bytearray(b"127.0.0.1"), d.Index(80)),
    ],
)
def test_one_text_is_judged_and_dialled(told: list[dict[str, Any]], host: Any, port: Any) -> None:
    """A host that shows different texts is frozen to the real one, of exact types, before the gate hears of it."""
    for address in ((host, port), d.LyingTuple((host, port))):
        told.clear()
        with pytest.raises(ConnectionRefusedError):
            d.OURS.method("connect", d.AF_INET, address)
        (message,) = (each for each in told if each["op"] == "connect")
        assert message["host"] == "127.0.0.1"
        assert type(message["host"]) is str
        assert type(message["port"]) is int


def test_a_lying_host_is_bound_as_it_was_judged(told: list[dict[str, Any]]) -> None:
    """bind() hands C the frozen host: the loopback that was permitted, not the address a subclass answers with."""
    sock = d.OURS.socket()
    sock.bind((d.Liar("127.0.0.1"), 0))
    assert sock.getsockname()[0] == "127.0.0.1"
    sock.close()


@pytest.mark.parametrize("host", ["127.example", "127.0.0.1.example", "localhost.example", "::1", "127.0.0.1\t"])
def test_a_name_that_looks_like_loopback_is_not_bound(told: list[dict[str, Any]], host: str) -> None:
    """bind() takes numbers for loopback, and never a name that begins like one."""
    with pytest.raises(d.GateError) as caught:
        d.OURS.method("bind", d.AF_INET, (host, 0))
    assert caught.value.code == "bind"


def test_a_host_no_name_server_could_know_is_not_asked_for(told: list[dict[str, Any]]) -> None:
    """Hosts too long for the channel, or of bytes that are no text, are unknown at once as natively."""
    for host in ("a" * 2000, b"\xff\xfe", b"x" * 100_000):
        with pytest.raises(d.EAI) as caught:
            d.OURS.method("connect", d.AF_INET, (host, 80))
        assert caught.value.errno == d._socket.EAI_NONAME
        with pytest.raises(d.EAI):
            d.OURS.function("getaddrinfo")(host if isinstance(host, bytes) else host.encode(), 80)
    assert [message["op"] for message in told if message["op"] != "close"] == []
