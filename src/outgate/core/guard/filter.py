"""Make the seccomp filter of a guarded program: what the guard answers, what the kernel refuses, what goes on natively.

The filter sees registers and no memory, so whatever hangs on an address behind a pointer is notified
(seccomp_unotify(2)) and carried out by the guard, which reads the memory once; the kernel never goes on with a notified
call itself, for another thread could have changed what was judged. TCP sockets are born in the gate. UDP sockets are
native: they are of the program's own, empty network, and what they send leaves it through the guard alone
(:mod:`.datagram`).

The kernel remembers which calls are allowed whatever their arguments are (Linux 5.11), so that the filter costs them
nothing. Of arguments that are C's ``int`` only the low 32 bits count, to the kernel and so to the filter.

Sources: seccomp(2); ``struct seccomp_data`` of ``include/uapi/linux/seccomp.h``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from outgate.core import options
from outgate.core.guard.assembler import ANY_BIT, AT_LEAST, EQUAL, GREATER, Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from outgate.core.guard.syscalls import Arch

#: What a filter answers.
ALLOW, NOTIFY, KILL = 0x7FFF0000, 0x7FC00000, 0x80000000
_ERRNO = 0x00050000

#: Offsets in ``struct seccomp_data``: number, architecture, and the low half of an argument (little-endian).
_NUMBER, _ARCH = 0, 4
_ARGUMENT, _ARGUMENT_SIZE = 16, 8

UNIX, INET, INET6 = 1, 2, 10
STREAM, DGRAM, SEQPACKET = 1, 2, 5
_TCP, _UDP = 6, 17
#: What may be or-ed to a socket's type: SOCK_NONBLOCK, SOCK_CLOEXEC.
NONBLOCK, CLOEXEC = 0x800, 0x80000
_TYPE = 0xFFFFFFFF & ~(NONBLOCK | CLOEXEC)

#: Notified, and answered by the guard, whatever their arguments are.
NOTIFIED = ("connect", "bind", "listen")
#: Not there: what would do the calls of this table without them, and what later kernels add.
#: The flags of clone3(2) are in memory; the C library then calls clone(2).
ABSENT = ("io_uring_setup", "io_uring_enter", "io_uring_register", "clone3")
#: Refused: other processes' sockets and namespaces, and what has no place in a contained program.
REFUSED = ("pidfd_getfd", "setns", "bpf", "perf_event_open", "userfaultfd")
#: Flags of clone(2) and unshare(2), and of close_range(2): a thread with a table of files of its own would hold sockets
#: where nobody looks for who has one.
_THREAD, _FILES, _UNSHARE_FILES = 0x10000, 0x400, 0x2
#: The argument with the flags of a call that sends.
_FLAGS = {"sendto": 3, "sendmsg": 2, "sendmmsg": 3}

#: ioctl(2): all requests of sockets but SIOCATMARK, wireless ones among them, since they tell or change what is the
#: gate's host's (SIOCGIFADDR), or give its network out (SIOCGSKNS).
_SOCKET_REQUESTS, _WIRELESS_REQUESTS, _AT_MARK = 0x8900, 0x8B00, 0x8905
#: TIOCSTI and TIOCLINUX put words into the terminal, for whoever reads it next: the shell outside.
_TERMINAL_INPUT = (0x5412, 0x541C)

#: Options that programs may set natively beside those of :data:`outgate.core.options.SETTABLE`: harmless on a socket of
#: the gate's, and needed on Unix sockets or on UDP of the program's own network.
NATIVE = frozenset(
    {
        *((options.SOCKET, number) for number in (16, 29, 34, 35, 40)),  # SO_PASSCRED, times, SO_RXQ_OVFL
        (options.SOCKET, 15),  # SO_REUSEPORT, for BIND's tools: what can neither listen nor name a port shares nothing
        *((options.IP, number) for number in (8, 11, 12, 13)),  # IP_PKTINFO, IP_RECVERR, IP_RECVTTL, IP_RECVTOS
        *((options.IPV6, number) for number in (25, 49, 51, 66)),  # the same, of IPv6
    }
)
SETTABLE = options.SETTABLE | NATIVE


def refuse(number: int) -> int:
    """Return the answer that fails a call with an errno."""
    return _ERRNO | number


def build(arch: Arch) -> bytes:
    """Return the filter for programs of an architecture: an array of ``struct sock_filter``."""
    program = Program()
    program.load(_ARCH)
    program.test(EQUAL, arch.audit, "native", "foreign")
    program.label("foreign")
    program.give(KILL)  # 32-bit calls have other numbers; nothing of them was looked at
    program.label("native")
    program.load(_NUMBER)
    if arch.foreign:
        _on(program, AT_LEAST, arch.foreign, refuse(errno.ENOSYS))
    _on(program, GREATER, arch.last, refuse(errno.ENOSYS))
    for name in ABSENT:
        _on(program, EQUAL, arch.numbers[name], refuse(errno.ENOSYS))
    for name in REFUSED:
        _on(program, EQUAL, arch.numbers[name], refuse(errno.EPERM))
    for name in NOTIFIED:
        _on(program, EQUAL, arch.numbers[name], NOTIFY)
    for name, judge in _JUDGED.items():
        program.test(EQUAL, arch.numbers[name], NEXT_RULE, f"not {name}")
        judge(program, name)
        program.label(f"not {name}")
    program.give(ALLOW)
    return program.assemble()


#: A test that holds goes on with the instruction behind it.
NEXT_RULE = ""


def _on(program: Program, kind: int, value: int, result: int) -> None:
    """End with a result if what is loaded compares so."""
    label = f"{kind:x} {value:x}"
    program.test(kind, value, NEXT_RULE, f"not {label}")
    program.give(result)
    program.label(f"not {label}")


def _argument(program: Program, number: int) -> None:
    program.load(_ARGUMENT + number * _ARGUMENT_SIZE)


def _go_by(program: Program, places: Mapping[int, str], error: int) -> None:
    """Go on at the label of what is loaded, and refuse what has none."""
    for value, label in places.items():
        program.test(EQUAL, value, label)
    program.give(refuse(error))


def _judge_socket(program: Program, name: str) -> None:
    """Have the guard answer for TCP; leave UDP, and Unix sockets that no name can re-aim; refuse all else.

    A Unix datagram socket, a pair of them too, sends wherever the name in a message says. SOCK_RAW is another word for
    it (``unix_create``).
    """
    _argument(program, 0)
    _go_by(program, {UNIX: "unix", INET: "inet", INET6: "inet"}, errno.EAFNOSUPPORT)
    program.label("inet")
    _argument(program, 1)
    program.mask(_TYPE)
    _go_by(program, {STREAM: "stream", DGRAM: "datagram"}, errno.EPROTONOSUPPORT)
    program.label("stream")
    _argument(program, 2)
    _go_by(program, {0: "tcp", _TCP: "tcp"}, errno.EPROTONOSUPPORT)
    program.label("tcp")
    program.give(NOTIFY)
    program.label("datagram")
    _argument(program, 2)
    _go_by(program, {0: "udp", _UDP: "udp"}, errno.EPROTONOSUPPORT)
    program.label("udp")
    program.give(ALLOW)
    program.label("unix")
    _only_streams(program, name)


def _judge_pair(program: Program, name: str) -> None:
    _argument(program, 0)
    _go_by(program, {UNIX: "unix pair"}, errno.EOPNOTSUPP)
    program.label("unix pair")
    _only_streams(program, name)


def _only_streams(program: Program, name: str) -> None:
    _argument(program, 1)
    program.mask(_TYPE)
    _go_by(program, dict.fromkeys((STREAM, SEQPACKET), f"{name} unix stream"), errno.EPROTONOSUPPORT)
    program.label(f"{name} unix stream")
    program.give(ALLOW)


def _judge_sending(program: Program, name: str) -> None:
    """Refuse fast open, which connects. To a TCP socket a name means nothing without it (tcp(7))."""
    _argument(program, _FLAGS[name])
    program.test(ANY_BIT, options.MSG_FASTOPEN, f"{name} opens")
    program.give(ALLOW)
    program.label(f"{name} opens")
    program.give(refuse(errno.EOPNOTSUPP))


def _judge_option(program: Program, name: str) -> None:
    """Let the options of the table pass, by level and number."""
    _argument(program, 1)
    levels = sorted({level for level, _ in SETTABLE})
    _go_by(program, {level: f"level {level}" for level in levels}, errno.ENOPROTOOPT)
    for level in levels:
        program.label(f"level {level}")
        _argument(program, 2)
        numbers = sorted(number for other, number in SETTABLE if other == level)
        _go_by(program, dict.fromkeys(numbers, f"may set on {level}"), errno.ENOPROTOOPT)
        program.label(f"may set on {level}")
        program.give(ALLOW)


def _judge_clone(program: Program, name: str) -> None:
    """Have threads share the files of their process."""
    _argument(program, 0)
    program.test(ANY_BIT, _THREAD, NEXT_RULE, "cloned")
    program.test(ANY_BIT, _FILES, "cloned")
    program.give(refuse(errno.EINVAL))
    program.label("cloned")
    program.give(ALLOW)


def _judge_unsharing(program: Program, name: str) -> None:
    place, flag = _UNSHARES[name]
    _argument(program, place)
    program.test(ANY_BIT, flag, NEXT_RULE, f"{name} shares")
    program.give(refuse(errno.EINVAL))
    program.label(f"{name} shares")
    program.give(ALLOW)


#: The argument with the flags of a call that can unshare a table of files, and the flag.
_UNSHARES = {"unshare": (0, _FILES), "close_range": (2, _UNSHARE_FILES)}


def _judge_request(program: Program, name: str) -> None:
    _argument(program, 1)
    program.test(EQUAL, _AT_MARK, "request passes")
    for number in _TERMINAL_INPUT:
        program.test(EQUAL, number, "request is input")
    program.mask(0xFFFFFF00)
    program.test(EQUAL, _SOCKET_REQUESTS, "request is refused")
    program.test(EQUAL, _WIRELESS_REQUESTS, "request is refused")
    program.label("request passes")
    program.give(ALLOW)
    program.label("request is refused")
    program.give(refuse(errno.ENOTTY))
    program.label("request is input")
    program.give(refuse(errno.EPERM))


#: Call → what judges its arguments, and ends with a result.
_JUDGED: dict[str, Callable[[Program, str], None]] = {
    "socket": _judge_socket,
    "socketpair": _judge_pair,
    **dict.fromkeys(_FLAGS, _judge_sending),
    "setsockopt": _judge_option,
    "ioctl": _judge_request,
    "clone": _judge_clone,
    **dict.fromkeys(_UNSHARES, _judge_unsharing),
}
