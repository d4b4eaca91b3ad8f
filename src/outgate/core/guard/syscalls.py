"""Know the numbers of system calls, per architecture, that a guarded program's filter speaks of.

Sources: the kernel's ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h`` (aarch64);
``AUDIT_ARCH_*`` of ``include/uapi/linux/audit.h``.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs more than the rest of what is imported to contain a program
if TYPE_CHECKING:
    from collections.abc import Mapping


class Arch:
    """One architecture.

    :ivar audit: what ``seccomp_data.arch`` has of its native calls.
    :ivar numbers: name → number.
    :ivar last: the newest call that was looked at; what a later kernel adds is not there for a guarded program.
    :ivar foreign: the bit in a number that calls another table (x32 on x86_64), 0 for none.
    """

    __slots__ = ("audit", "foreign", "last", "numbers")

    def __init__(self, audit: int, numbers: Mapping[str, int], last: int, foreign: int) -> None:
        self.audit = audit
        self.numbers = numbers
        self.last = last
        self.foreign = foreign


#: Calls that have one number everywhere: those that are younger than the common table (424).
_COMMON = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "clone3": 435,
    "close_range": 436,
    "pidfd_getfd": 438,
}
#: file_setattr(2), Linux 6.17.
_LAST = 469

X86_64 = Arch(
    0xC000003E,
    {
        **_COMMON,
        **{"ioctl": 16, "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50},
        **{
            "socketpair": 53,
            "setsockopt": 54,
            "clone": 56,
            "unshare": 272,
            "perf_event_open": 298,
            "sendmmsg": 307,
            "setns": 308,
        },
        **{"seccomp": 317, "bpf": 321, "userfaultfd": 323},
    },
    _LAST,
    0x40000000,
)
AARCH64 = Arch(
    0xC00000B7,
    {
        **_COMMON,
        **{"ioctl": 29, "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "connect": 203, "sendto": 206},
        **{
            "setsockopt": 208,
            "sendmsg": 211,
            "unshare": 97,
            "clone": 220,
            "perf_event_open": 241,
            "setns": 268,
            "sendmmsg": 269,
        },
        **{"seccomp": 277, "bpf": 280, "userfaultfd": 282},
    },
    _LAST,
    0,
)
#: By the name that uname(2) gives the machine.
ARCHS: Mapping[str, Arch] = {"x86_64": X86_64, "aarch64": AARCH64}
