"""The table of socket options is closed, agrees with Python and the kernel, and gives a reason for each no."""

from __future__ import annotations

import _socket
import ast
import errno
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate import errors
from outgate.core import options
from outgate.core.options import Option, Refusal

EVERY = tuple(options.options().values())
ALLOWED = tuple(each for each in EVERY if each.can_get)
REFUSED = tuple(each for each in EVERY if not each.can_get)
NAMED = {(each.level, each.name): each for each in EVERY}

EIGHT = (
    *("SO_KEEPALIVE", "SO_DEBUG", "TCP_NODELAY", "SO_LINGER", "SO_OOBINLINE", "SO_SNDBUF", "SO_RCVBUF"),
    "SO_REUSEADDR",
)
#: What would lead elsewhere: these must be denied whatever else changes.
DANGEROUS = (
    *("SO_BINDTODEVICE", "SO_BINDTOIFINDEX", "SO_MARK", "SO_DONTROUTE", "SO_ATTACH_FILTER", "SO_ATTACH_BPF"),
    *("SO_MAX_PACING_RATE", "SO_RCVBUFFORCE", "SO_SNDBUFFORCE", "SO_PRIORITY", "SO_BUSY_POLL"),
    *("IP_TRANSPARENT", "IP_FREEBIND", "IP_OPTIONS", "IP_HDRINCL", "IP_UNICAST_IF", "IP_LOCAL_PORT_RANGE"),
    *("IP_ADD_MEMBERSHIP", "IP_ADD_SOURCE_MEMBERSHIP", "IP_MULTICAST_IF", "IP_MULTICAST_TTL", "MCAST_JOIN_GROUP"),
    *("TCP_REPAIR", "TCP_QUEUE_SEQ", "TCP_ULP", "TCP_MD5SIG", "TCP_MD5SIG_EXT", "TCP_FASTOPEN_CONNECT"),
    *("TCP_FASTOPEN_NO_COOKIE", "UDP_ENCAP", "IPV6_RTHDR", "IPV6_HOPOPTS", "IPV6_DSTOPTS", "IPV6_PKTINFO"),
    *("IPV6_2292PKTINFO", "IPV6_NEXTHOP", "IPV6_ADDRFORM", "IPV6_JOIN_GROUP", "IPV6_TRANSPARENT", "IPV6_FREEBIND"),
    *("IPV6_HDRINCL", "IPV6_UNICAST_IF", "IPV6_MULTICAST_IF"),
)

ints = st.integers(-(1 << 31), (1 << 31) - 1)
levels = st.sampled_from((0, 1, 6, 17, 41, 58, 255, 263, 282, 284)) | ints
numbers = st.integers(-5, 300) | ints


def by_name(name: str) -> Option:
    """Return the option of this name; those that two levels have, at the first."""
    return next(each for each in EVERY if each.name == name)


def built(refusal: Refusal | None) -> errors.GateError:
    """Return the exception of a refusal, which must be one of the table's with nothing left blank."""
    assert refusal is not None
    assert refusal.code in errors.TABLE
    error = errors.build(refusal.code, refusal.facts)
    assert "{" not in str(error)
    assert "…" not in str(error)
    assert not str(error).endswith(("; ", ": "))
    return error


# --- the table itself -------------------------------------------------------------------------------------------------


def test_an_option_stands_in_the_table_once() -> None:
    """No level has a number or a name twice."""
    rows = [(row[0], row[1], row[2]) for row in options._ALLOWED]
    rows += [(row[0], *pair) for row in options._REFUSED for pair in options._numbered(row[5])]
    assert [pair for pair, count in Counter((level, number) for level, _, number in rows).items() if count > 1] == []
    assert [pair for pair, count in Counter((level, name) for level, name, _ in rows).items() if count > 1] == []
    assert len(rows) == len(EVERY)


@pytest.mark.parametrize("option", ALLOWED, ids=lambda option: option.name)
def test_a_permitted_option_says_what_it_is(option: Option) -> None:
    """Type, kinds, part on a relay, meaning and users of an option are all there, of the closed lists."""
    assert option.level in options.LEVELS
    assert option.type in ("int", "bytes", "linger", "timeval")
    assert option.kinds
    assert set(option.kinds.split()) <= {"tcp4", "tcp6", "udp4", "udp6"}
    assert option.relay in (options.OUTSIDE, options.INSIDE, options.KEPT, options.ANSWERED)
    assert option.means
    assert option.users
    assert not option.dev


@pytest.mark.parametrize("option", REFUSED, ids=lambda option: option.name)
def test_a_refused_option_says_why(option: Option) -> None:
    """A refused option can be neither set nor read, and has a code of the error table and a reason."""
    assert option.level in options.LEVELS
    assert not option.can_set
    assert option.code in (options.UNKNOWN, options.DENIED)
    assert len(option.means.split()) > 2
    assert option.relay == option.type == option.users == ""


def test_the_sets_follow_from_the_rows() -> None:
    """What may be set, read and used in development is exactly what the rows say."""
    assert {(each.level, each.number) for each in EVERY if each.can_set} == options.SETTABLE
    assert {(each.level, each.number) for each in EVERY if each.can_get} == options.GETTABLE
    assert {(each.level, each.number) for each in EVERY if each.dev} == options.DEVELOPMENT
    assert options.SETTABLE < options.GETTABLE
    assert not options.DEVELOPMENT & options.GETTABLE


@pytest.mark.parametrize("name", EIGHT)
def test_the_eight_are_applied(name: str) -> None:
    """The eight of App Engine's documentation can be set and read."""
    assert by_name(name).can_set
    assert by_name(name).can_get
    assert "App Engine" in by_name(name).users


@pytest.mark.parametrize("name", DANGEROUS)
def test_what_leads_elsewhere_is_denied(name: str) -> None:
    """An option that would move the path is denied at every level that has it, in development too."""
    found = [each for each in EVERY if each.name == name]
    assert found
    for option in found:
        assert option.code == options.DENIED
        assert not option.dev
        for may in (options.may_set, options.may_get):
            error = built(may(option.level, option.number, dev=True))
            assert isinstance(error, PermissionError)
            assert error.errno == errno.EACCES


def test_an_options_names_are_pythons_numbers() -> None:
    """Wherever this Python has a constant of that name, it is the number of the table."""
    of_socket = {each.name: each.number for each in EVERY}
    different = {
        name: (number, getattr(_socket, name))
        for name, number in of_socket.items()
        if getattr(_socket, name, number) != number
    }
    assert different == {}
    for level, name in options.LEVELS.items():
        assert getattr(_socket, name) == level


#: Constants that look like options and are values, ancillary data, or options of other families.
_NO_OPTIONS = re.compile(
    r"(SO_J1939_|SO_VM_SOCKETS_|IPV6_RTHDR_TYPE_|IP_DEFAULT_|IP_MAX_|IP_PMTUDISC_|IPV6_PMTUDISC_|TCP_REPAIR_O"
    r"|TCP_MD5SIG_|TCP_MSS_|UDP_ENCAP_|IPV6_FL_|IPV6_PRIORITY_|IPV6_TLV_|IPV6_PREFER_|IPV6_FLOWINFO_|TCP_RECEIVE_"
    r"|TCP_AO_KEYF|IP_MSFILTER_SIZE|MCAST_(IN|EX)CLUDE|IPV6_JOIN|IPV6_LEAVE)"
)


def test_every_constant_of_python_is_judged() -> None:
    """No option that the socket module of this Python names is missing in the table."""
    names = [name for name in dir(_socket) if re.match(r"(SO|TCP|UDP|IP|IPV6|MCAST)_", name)]
    known = {each.name for each in EVERY} | {"IP_RECVRETOPTS"}  # another name of IP_RETOPTS
    assert [name for name in names if name not in known and not _NO_OPTIONS.match(name)] == []


_HEADERS = {
    "asm-generic/socket.h": (r"SO_\w+", options.SOCKET),
    "linux/in.h": (r"(?:IP|MCAST)_\w+", options.IP),
    "linux/tcp.h": (r"TCP_\w+", options.TCP),
    "linux/udp.h": (r"UDP_\w+", options.UDP),
    "linux/in6.h": (r"IPV6_\w+", options.IPV6),
}


@pytest.mark.parametrize("header", _HEADERS)
def test_every_number_of_the_kernels_headers_is_judged(header: str) -> None:
    """Every option that the kernel's header defines by a number has a row of that number."""
    path = Path("/usr/include", header)
    if not path.exists():
        pytest.skip("the kernel's headers are not installed")
    pattern, level = _HEADERS[header]
    defined = re.findall(rf"^\s*#\s*define\s+({pattern})\s+(\d+)\b", path.read_text("utf-8"), re.MULTILINE)
    assert len(defined) > 4
    unknown = [
        (name, number)
        for name, number in defined
        if (level, int(number)) not in options.options()
        and not (_NO_OPTIONS.match(name) and not name.startswith(("IPV6_JOIN", "IPV6_LEAVE")))
    ]
    assert unknown == []


def test_the_table_imports_nothing() -> None:
    """The module imports only for its type checker, so that it costs a program next to nothing."""
    path = Path(options.__file__)
    imports = [
        node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert [node.module for node in imports if isinstance(node, ast.ImportFrom)] == ["__future__"]
    assert len(imports) == 1


# --- judgement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [*options.LEVELS, 58, 255, 282, -1])
@pytest.mark.parametrize("dev", [False, True])
def test_every_number_is_judged(level: int, dev: bool) -> None:
    """Of all numbers of a level those of the table pass, with --dev its own, and all others have a reason."""
    extra = options.DEVELOPMENT if dev else frozenset()
    for number in range(-3, 400):
        for may, permitted in ((options.may_set, options.SETTABLE), (options.may_get, options.GETTABLE)):
            refusal = may(level, number, dev)
            assert (refusal is None) == ((level, number) in permitted | extra)
            if refusal is not None:
                error = built(refusal)
                assert options.name_of(level, number) in str(error)
                assert error.errno in (errno.ENOPROTOOPT, errno.EACCES)


@given(levels, numbers, st.booleans())
def test_what_the_table_does_not_know_is_refused(level: int, number: int, dev: bool) -> None:
    """Whatever has no row is refused for setting, reading and sending along, as an option that is not there."""
    if (level, number) in options.options():
        return
    for refusal in (options.may_set(level, number, dev), options.may_get(level, number, dev)):
        assert built(refusal).errno == errno.ENOPROTOOPT
    if (level, number) not in options.ANCILLARY:
        assert built(options.may_accompany(level, number)).errno == errno.ENOPROTOOPT


@pytest.mark.parametrize("option", [each for each in ALLOWED if not each.can_set], ids=lambda option: option.name)
def test_what_can_only_be_read_is_not_set(option: Option) -> None:
    """Setting an option that can only be read is refused with the kernel's errno."""
    error = built(options.may_set(option.level, option.number))
    assert error.errno == errno.ENOPROTOOPT
    assert "only be read" in error.reason


def test_a_refusal_says_call_option_reason_and_cure() -> None:
    """The text of a refusal names the call, the option, why, and what to do instead."""
    refusal = options.may_set(options.SOCKET, 15)
    assert str(built(refusal)) == (
        "[Errno 92] setsockopt: SO_REUSEPORT is refused: all sockets of a gate have one owner, so a port could be "
        "shared with another app's; outgate run --dev permits it"
    )
    assert str(built(options.may_get(282, 1))) == (
        "[Errno 92] getsockopt: option 1 of level 282 is refused: it is not in the table of options"
    )
    assert built(options.may_set(options.TCP, 30)).cure == "call connect() first"


# --- what rides beside data -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "number"), options.ANCILLARY)
def test_fields_of_a_packet_may_ride_along(level: int, number: int) -> None:
    """Hop limits, service fields and fragmentation of one datagram are the program's own business."""
    assert options.may_accompany(level, number) is None


@pytest.mark.parametrize(
    ("level", "number", "name", "number_of_error"),
    [
        (0, 8, "IP_PKTINFO", errno.EACCES),
        (0, 7, "IP_RETOPTS", errno.EACCES),
        (0, 52, "IP_PROTOCOL", errno.EACCES),
        (41, 50, "IPV6_PKTINFO", errno.EACCES),
        (41, 2, "IPV6_2292PKTINFO", errno.EACCES),
        (41, 57, "IPV6_RTHDR", errno.EACCES),
        (41, 54, "IPV6_HOPOPTS", errno.EACCES),
        (41, 59, "IPV6_DSTOPTS", errno.EACCES),
        (41, 11, "IPV6_FLOWINFO", errno.ENOPROTOOPT),
        (1, 36, "SO_MARK", errno.EACCES),
        (1, 37, "SO_TIMESTAMPING", errno.ENOPROTOOPT),
        (1, 61, "SO_TXTIME", errno.ENOPROTOOPT),
        (1, 1, "SCM_RIGHTS", errno.ENOPROTOOPT),
        (1, 2, "SCM_CREDENTIALS", errno.ENOPROTOOPT),
        (17, 103, "UDP_SEGMENT", errno.ENOPROTOOPT),
        (6, 1, "TCP_NODELAY", errno.ENOPROTOOPT),
    ],
)
def test_what_moves_the_path_may_not_ride_along(level: int, number: int, name: str, number_of_error: int) -> None:
    """Ancillary data that say whence, whither or what else are refused by name."""
    error = built(options.may_accompany(level, number))
    assert error.errno == number_of_error
    assert error.reason.startswith(f"sendmsg: {name} is refused: ")


@given(ints, st.booleans(), st.booleans())
def test_flags_of_a_send(flags: int, is_udp: bool, is_relay: bool) -> None:
    """MSG_FASTOPEN is refused always, MSG_DONTROUTE on UDP, MSG_OOB on a relay, and no other flag."""
    refusal = options.may_send(flags, is_udp, is_relay)
    bad = flags & 0x20000000 or (flags & 0x4 and is_udp) or (flags & 0x1 and is_relay)
    assert (refusal is not None) == bool(bad)
    if refusal is not None:
        assert built(refusal).errno == errno.EOPNOTSUPP


# --- App Engine -------------------------------------------------------------------------------------------------------


def test_app_engine_has_exactly_the_eight_and_so_error() -> None:
    """Under App Engine's rules the eight are set and read, SO_ERROR is read, and all else is EACCES."""
    for option in EVERY:
        key = (option.level, option.number)
        may_set, may_get = options.app_engine_set(*key), options.app_engine_get(*key)
        assert (may_set is None) == (option.name in EIGHT)
        assert (may_get is None) == (option.name in EIGHT or option.name == "SO_ERROR")
        for refusal, verb in ((may_set, "set"), (may_get, "get")):
            if refusal is not None:
                error = built(refusal)
                assert isinstance(error, PermissionError)
                assert error.errno == errno.EACCES
                assert f"{verb} blocked socket option {option.name}" in str(error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SO_KEEPALIVE", 0),
        ("SO_DEBUG", 128),
        ("TCP_NODELAY", 0),
        ("SO_LINGER", 0),
        ("SO_OOBINLINE", 0),
        ("SO_SNDBUF", 2097152),
        ("SO_RCVBUF", 2097152),
        ("SO_REUSEADDR", 1),
    ],
)
def test_app_engine_reads_the_mock_value(name: str, value: int) -> None:
    """A get gives the number that App Engine's development server gave, or its bytes where a size is asked for."""
    option = by_name(name)
    assert options.mocked(option.level, option.number) == value
    raw = options.mocked(option.level, option.number, 1024)
    assert isinstance(raw, bytes)
    assert len(raw) == (8 if name == "SO_LINGER" else 4)
    assert int.from_bytes(raw, "little") == value
    assert options.mocked(option.level, option.number, 2) == raw[:2]


def test_app_engine_mocks_nothing_else() -> None:
    """There is no mock value for an option outside the eight."""
    assert len(options.MOCKED) == 8
    with pytest.raises(KeyError):
        options.mocked(options.SOCKET, 4)
