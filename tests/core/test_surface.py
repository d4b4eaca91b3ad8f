"""The four lists of the socket module's names are complete, disjoint and not out of date, on every Python."""

from __future__ import annotations

import errno
import functools
import json
import subprocess
import sys

import pytest

from outgate.core import surface
from outgate.core.surface import ABSENT, NATIVE, OURS, REFUSED, ROWS, rows_of
from support.pythons import interpreters

#: Prints every name: of both modules, and of the classes what they do not have from ``object``, with two that they
#: have and that outgate replaces.
NAMES = """
import _socket, json, socket
names = set(dir(_socket)) | set(dir(socket))
for cls, classes in (("socket", (_socket.socket, socket.socket)), ("SocketIO", (socket.SocketIO,))):
    names |= {cls + "." + name for each in classes for name in vars(each)}
names |= {"socket.__init_subclass__", "socket.__reduce_ex__"}
print(json.dumps(sorted(names)))
"""
#: What the newest Python that is not tested here adds (CPython's Modules/socketmodule.c at 3.14), and its list.
OF_314 = {
    **dict.fromkeys(("IP_RECVERR", "IP_RECVTTL", "IP_RECVORIGDSTADDR", "IPV6_RECVERR", "SO_ORIGINAL_DST"), REFUSED),
    **dict.fromkeys(("BT_SECURITY", "BT_PHY_BR_1M_1SLOT", "L2CAP_LM_MASTER", "SOL_BLUETOOTH", "SOL_L2CAP"), REFUSED),
    **dict.fromkeys(("SO_L2CAP_IMTU", "SO_RFCOMM_LM", "SO_SCO_MTU", "SO_HCI_EVT_FILTER", "BDADDR_LE_PUBLIC"), REFUSED),
}


@functools.cache
def names_of(python: str) -> frozenset[str]:
    """Return the names that an interpreter's own modules have, without outgate."""
    said = subprocess.run([python, "-I", "-c", NAMES], capture_output=True, text=True, check=True, timeout=30).stdout
    return frozenset(json.loads(said))


def assert_each_is_in_one_list(python: str) -> None:
    """Demand exactly one row for each name of an interpreter, and that what it has is not called absent."""
    found = {name: rows_of(name) for name in names_of(python)}
    assert {name for name, rows in found.items() if not rows} == set(), "in no list"
    assert {name: rows for name, rows in found.items() if len(rows) > 1} == {}, "in more than one list"
    assert {name for name, (row,) in found.items() if row.list == ABSENT} == set(), "called absent"


def test_every_name_is_in_exactly_one_list() -> None:
    """Every name of both modules and of the socket class of the running Python is in exactly one list."""
    assert_each_is_in_one_list(sys.executable)


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_every_name_is_in_exactly_one_list_on_other_pythons(version: str) -> None:
    """The same holds on every Python that the client is tested with."""
    assert_each_is_in_one_list(interpreters()[version])


@pytest.mark.pythons
def test_no_row_is_out_of_date() -> None:
    """A row stands for a name that some Python has, unless it is absent, newer, or of another way to build one."""
    names = frozenset().union(*map(names_of, interpreters().values()))
    used = {row for name in names for row in rows_of(name)}
    newest = max(_version(version) for version in interpreters())
    stale = [
        row.name
        for row in ROWS
        if row not in used and row.list != ABSENT and not row.needs and _version(row.since or "0") <= newest
    ]
    assert stale == []


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.pythons
@pytest.mark.parametrize("version", interpreters())
def test_a_row_says_since_when(version: str) -> None:
    """No Python has a name that is said to have come later, but a pattern's where another row is the older's."""
    early = {
        name
        for name in names_of(interpreters()[version])
        for row in rows_of(name)
        if row.since and _version(row.since) > _version(version)
    }
    assert early == set()


@pytest.mark.parametrize("name", OF_314)
def test_names_of_314_are_listed(name: str) -> None:
    """What Python 3.14 adds is in a list before there is such a Python here."""
    assert [row.list for row in rows_of(name)] == [OF_314[name]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name}-{row.list}")
def test_a_row_is_whole(row: surface.Row) -> None:
    """A refused row gives reason, errno and what refuses it; ours says what differs; absent says where it is found."""
    assert row.list in (NATIVE, OURS, REFUSED, ABSENT)
    if row.list == NATIVE:
        assert row.errno == ""
        assert row.by in ("", "option")
        return
    assert row.what
    assert row.what[-1] != "."
    if row.list == REFUSED:
        assert row.by in surface.BY or rows_of(row.by)[0].by == "family", row.by
        assert {hasattr(errno, number) for number in row.errno.split(" or ")} == {True}
    else:
        assert row.errno == ""


def test_the_closest_row_holds() -> None:
    """A name's own row is before any pattern, a longer pattern before a shorter, and the table decides on options."""
    assert [row.name for row in rows_of("AF_INET")] == ["AF_INET"]
    assert [row.name for row in rows_of("SO_J1939_FILTER")] == ["SO_J1939_*"]
    assert [row.list for row in rows_of("SO_KEEPALIVE")] == [NATIVE]
    assert [row.list for row in rows_of("SO_MARK")] == [REFUSED]
    assert [row.list for row in rows_of("SO_OF_A_KERNEL_TO_COME")] == [REFUSED]
    assert rows_of("nothing_of_the_kind") == ()
