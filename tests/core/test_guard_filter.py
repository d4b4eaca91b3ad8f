"""The filter of guarded programs: each call is allowed, notified or refused as the table of the page says."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import options
from outgate.core.guard import assembler, filter
from outgate.core.guard.filter import ALLOW, KILL, NOTIFY, refuse
from outgate.core.guard.syscalls import ARCHS, Arch
from support import bpf

PROGRAMS = {name: filter.build(arch) for name, arch in ARCHS.items()}
UNIX, INET, INET6, NETLINK, PACKET, VSOCK = 1, 2, 10, 16, 17, 40
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
FLAGS = 0x80000 | 0x800
FASTOPEN = 0x20000000
NO_SUCH = refuse(errno.ENOSYS)


@pytest.fixture(params=list(ARCHS))
def arch(request: pytest.FixtureRequest) -> str:
    """Each architecture that the filter is made for."""
    return str(request.param)


def answer(arch: str, name: str, *arguments: int) -> int:
    """Return what the filter of an architecture answers to a call by its name."""
    return bpf.run(PROGRAMS[arch], ARCHS[arch].numbers[name], ARCHS[arch].audit, arguments)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((INET, STREAM, 0), NOTIFY),
        ((INET6, STREAM, 6), NOTIFY),
        ((INET, STREAM | FLAGS, 6), NOTIFY),
        ((0xDEADBEEF00000000 | INET, STREAM, 0), NOTIFY),
        ((INET, DGRAM, 0), ALLOW),
        ((INET6, DGRAM | FLAGS, 17), ALLOW),
        ((INET, STREAM, 262), refuse(errno.EPROTONOSUPPORT)),
        ((INET, STREAM, 132), refuse(errno.EPROTONOSUPPORT)),
        ((INET, DGRAM, 1), refuse(errno.EPROTONOSUPPORT)),
        ((INET6, DGRAM, 136), refuse(errno.EPROTONOSUPPORT)),
        ((INET, RAW, 255), refuse(errno.EPROTONOSUPPORT)),
        ((INET, STREAM | 0x10, 0), refuse(errno.EPROTONOSUPPORT)),
        ((UNIX, STREAM, 0), ALLOW),
        ((UNIX, SEQPACKET | FLAGS, 0), ALLOW),
        ((UNIX, DGRAM, 0), refuse(errno.EPROTONOSUPPORT)),
        ((UNIX, RAW, 0), refuse(errno.EPROTONOSUPPORT)),
        ((NETLINK, RAW, 0), refuse(errno.EAFNOSUPPORT)),
        ((PACKET, RAW, 3), refuse(errno.EAFNOSUPPORT)),
        ((VSOCK, STREAM, 0), refuse(errno.EAFNOSUPPORT)),
    ],
)
def test_socket(arch: str, words: tuple[int, ...], expected: int) -> None:
    """TCP is born in the gate, UDP is native, Unix sockets connect or are pairs; all else is not there."""
    assert answer(arch, "socket", *words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((UNIX, STREAM | FLAGS), ALLOW),
        ((UNIX, SEQPACKET), ALLOW),
        ((UNIX, DGRAM), refuse(errno.EPROTONOSUPPORT)),
        ((UNIX, RAW), refuse(errno.EPROTONOSUPPORT)),
        ((INET, STREAM), refuse(errno.EOPNOTSUPP)),
        ((30, STREAM), refuse(errno.EOPNOTSUPP)),
    ],
)
def test_socketpair(arch: str, words: tuple[int, ...], expected: int) -> None:
    """A pair of datagram sockets could be aimed elsewhere by a name in a message."""
    assert answer(arch, "socketpair", *words) == expected


@pytest.mark.parametrize("name", ["connect", "bind", "listen"])
def test_what_is_notified_whatever_its_arguments(arch: str, name: str) -> None:
    """What hangs on memory is the guard's to answer."""
    assert answer(arch, name, 3, 0x7F0000000000, 16) == NOTIFY


@pytest.mark.parametrize(("name", "place"), [("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)])
def test_sending(arch: str, name: str, place: int) -> None:
    """What sends is native, but for the flag that connects."""
    words = [3, 0x7F0000000000, 5, 5, 0x7F0000000000, 16]
    for flags, expected in ((0x40, ALLOW), (FASTOPEN, refuse(errno.EOPNOTSUPP)), (FASTOPEN | 0x40, None)):
        words[place] = flags
        assert answer(arch, name, *words) == (refuse(errno.EOPNOTSUPP) if expected is None else expected)


@given(st.integers(0, 300), st.integers(0, 130), st.integers(0, 0xFFFFFFFF))
def test_options(level: int, number: int, high: int) -> None:
    """An option may be set exactly if the table has it; the upper halves of the arguments do not count."""
    expected = ALLOW if (level, number) in filter.SETTABLE else refuse(errno.ENOPROTOOPT)
    for arch in ARCHS:
        assert answer(arch, "setsockopt", 3, high << 32 | level, high << 32 | number, 0, 4) == expected


def test_every_option_of_the_table_may_be_set(arch: str) -> None:
    """All that a client lets through, and nothing that it denies, whatever the filter adds of its own."""
    for level, number in options.SETTABLE:
        assert answer(arch, "setsockopt", 3, level, number) == ALLOW
    denied = {key for key, each in options.options().items() if each.code in (options.DENIED, options.BLOCKED)}
    assert not filter.NATIVE & denied


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (0x8905, ALLOW),  # SIOCATMARK
        (0x541B, ALLOW),  # FIONREAD
        (0x5401, ALLOW),  # TCGETS
        (0x894C, refuse(errno.ENOTTY)),  # SIOCGSKNS
        (0x8915, refuse(errno.ENOTTY)),  # SIOCGIFADDR
        (0x8B01, refuse(errno.ENOTTY)),  # SIOCGIWNAME
        (0xFFFFFFFF0000894C, refuse(errno.ENOTTY)),
        (0x5412, refuse(errno.EPERM)),  # TIOCSTI
        (0x541C, refuse(errno.EPERM)),  # TIOCLINUX
    ],
)
def test_ioctl(arch: str, request_: int, expected: int) -> None:
    """Requests of sockets tell of the gate's host or change it; two of terminals type for others."""
    assert answer(arch, "ioctl", 3, request_, 0) == expected


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("clone", (0x3D0F00,), ALLOW),  # a thread of the C library's
        ("clone", (0x4111,), ALLOW),  # vfork()
        ("clone", (0x10000 | 0x100,), refuse(errno.EINVAL)),
        ("clone", (0xFFFFFFFF00010000,), refuse(errno.EINVAL)),
        ("unshare", (0x10000000,), ALLOW),
        ("unshare", (0x400,), refuse(errno.EINVAL)),
        ("close_range", (3, 0xFFFFFFFF, 4), ALLOW),
        ("close_range", (3, 0xFFFFFFFF, 2), refuse(errno.EINVAL)),
    ],
)
def test_threads_share_their_files(arch: str, name: str, words: tuple[int, ...], expected: int) -> None:
    """A thread has the files of its process, where whoever looks for the holders of a socket finds them."""
    assert answer(arch, name, *words) == expected


def test_other_tables_of_calls(arch: str) -> None:
    """What calls by another architecture's numbers is killed; x32 and the calls of later kernels are not there."""
    it: Arch = ARCHS[arch]
    for other in (0x40000003, 0, *(each.audit for each in ARCHS.values() if each is not it)):
        assert bpf.run(PROGRAMS[arch], it.numbers["socket"], other, (INET, STREAM, 0)) == KILL
    for number in (it.last + 1, 1000, 0x7FFFFFFF, 0xFFFFFFFF, *([it.foreign | 41, it.foreign] if it.foreign else [])):
        assert bpf.run(PROGRAMS[arch], number, it.audit) == NO_SUCH
    assert bpf.run(PROGRAMS[arch], it.last, it.audit) == ALLOW


def test_what_is_refused(arch: str) -> None:
    """io_uring is not there; other processes' files and namespaces, and the kernel's interfaces, are refused."""
    assert {answer(arch, name) for name in filter.ABSENT} == {NO_SUCH}
    assert {answer(arch, name) for name in filter.REFUSED} == {refuse(errno.EPERM)}


def test_what_is_read_and_written_is_native(arch: str) -> None:
    """No call that is not in the table is touched, so that the kernel knows it as allowed without a run."""
    table = set(ARCHS[arch].numbers.values())
    for number in set(range(ARCHS[arch].last + 1)) - table:
        assert bpf.run(PROGRAMS[arch], number, ARCHS[arch].audit, (2**64 - 1,) * 6) == ALLOW


def test_a_label_is_ahead_and_near() -> None:
    """The assembler refuses what the kernel would run into somewhere else."""
    program = assembler.Program()
    program.test(assembler.EQUAL, 1, "far")
    for _ in range(256):
        program.load(0)
    program.label("far")
    program.give(ALLOW)
    with pytest.raises(ValueError, match="256 instructions ahead"):
        program.assemble()
    with pytest.raises(ValueError, match="second label"):
        program.label("far")
    program.jump("nowhere")
    with pytest.raises(ValueError, match=r"is 256|no label"):
        program.assemble()
