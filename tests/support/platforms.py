"""Run outgate's command line in an interpreter made to look like one on macOS or Windows.

``python platforms.py win32 check FILE``: before anything of outgate is imported, the modules that CPython does not have
on that system cannot be imported any more, and the names that its modules do not have there are deleted (the tables
below: "Availability:" in the documentation of each). So what is found is what outgate asks of a system as it is
imported and run. It is no such system: its paths, its console and its C library stay Linux's.
"""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

#: Modules that only Linux has, or that no Windows has.
_NOT_ON_WINDOWS = (
    *("crypt", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "resource", "spwd", "syslog"),
    *("termios", "tty"),
)
_NOT_ON_MACOS = ["nis", "ossaudiodev", "spwd"]

#: Module → names that it has on neither of the two; a * stands for any end.
_LINUX_ALONE = {
    "os": "pidfd_open setns unshare memfd_create eventfd* EFD_* epoll* splice SPLICE_* sched_get* sched_set* "
    "posix_fadvise posix_fallocate copy_file_range getxattr setxattr listxattr removexattr preadv2* "
    "timerfd_* CLONE_* MFD_* P_PIDFD PIDFD_* RWF_* O_TMPFILE O_PATH O_DIRECT O_NOATIME getrandom GRND_* "
    "setresuid setresgid getresuid getresgid sched_affinity",
    "signal": "SIGRTMIN SIGRTMAX SIGPOLL SIGPWR SIGSTKFLT sigtimedwait sigwaitinfo",
    "select": "epoll EPOLL* POLLRDHUP",
    "_socket": "AF_NETLINK NETLINK_* AF_PACKET PACKET_* AF_VSOCK AF_TIPC TIPC_* AF_ALG ALG_* AF_CAN CAN_* AF_QIPCRTR "
    "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED SO_PASSCRED SO_DOMAIN SO_PROTOCOL SO_MARK SO_BINDTODEVICE "
    "SO_PRIORITY MSG_FASTOPEN MSG_CMSG_CLOEXEC MSG_ERRQUEUE MSG_MORE TCP_INFO TCP_QUICKACK TCP_USER_TIMEOUT "
    "TCP_CORK TCP_DEFER_ACCEPT TCP_CONGESTION TCP_FASTOPEN_CONNECT TCP_FASTOPEN_NO_COOKIE TCP_SYNCNT "
    "TCP_LINGER2 TCP_WINDOW_CLAMP TCP_MD5SIG TCP_ULP IPPROTO_MPTCP IPPROTO_UDPLITE UDPLITE_* IP_TRANSPARENT "
    "IP_BIND_ADDRESS_NO_PORT",
    "time": "CLOCK_BOOTTIME CLOCK_TAI CLOCK_REALTIME_COARSE",
    "resource": "prlimit RLIMIT_SIGPENDING RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_RTPRIO RLIMIT_RTTIME",
}
#: What macOS has of these, and Windows has not.
_NOT_ON_WINDOWS_NAMES = {
    "os": "fork forkpty vfork getuid geteuid getgid getegid getgroups initgroups setuid setgid seteuid setegid "
    "setreuid setregid setgroups setsid setpgid setpgrp getpgid getpgrp getsid killpg chown fchown lchown "
    "fchmod fchdir chroot mkfifo mknod mkfifoat uname nice getpriority setpriority PRIO_* wait wait3 wait4 "
    "waitid WNOHANG WUNTRACED WEXITED WIF* WEXITSTATUS WTERMSIG WSTOPSIG WNOWAIT openpty ttyname tcgetpgrp "
    "tcsetpgrp ctermid register_at_fork statvfs fstatvfs sysconf* confstr* pathconf* fpathconf pread pwrite "
    "preadv pwritev readv writev sendfile lockf F_* O_CLOEXEC O_NONBLOCK O_NOCTTY O_SYNC O_DSYNC O_NOFOLLOW "
    "O_DIRECTORY O_ASYNC O_ACCMODE posix_spawn* POSIX_SPAWN_* dup3 pipe2 sync fdatasync getlogin_r ST_* "
    "SCHED_* sched_yield major minor makedev",
    "signal": "SIGHUP SIGKILL SIGCHLD SIGCLD SIGUSR1 SIGUSR2 SIGALRM SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGCONT SIGTTIN "
    "SIGTTOU SIGWINCH SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGIO SIGSYS SIGTRAP SIGBUS ITIMER_* alarm "
    "pause setitimer getitimer siginterrupt pthread_sigmask pthread_kill sigpending sigwait SIG_BLOCK "
    "SIG_UNBLOCK SIG_SETMASK",
    "select": "poll POLL* PIPE_BUF",
    "_socket": "AF_UNIX SCM_RIGHTS SCM_CREDENTIALS CMSG_LEN CMSG_SPACE MSG_DONTWAIT MSG_NOSIGNAL MSG_EOR send_fds "
    "recv_fds SO_REUSEPORT sethostname",
    "time": "tzset clock_gettime clock_gettime_ns clock_settime clock_settime_ns clock_getres pthread_getcpuclockid "
    "CLOCK_*",
    "sys": "getdlopenflags setdlopenflags abiflags",
}

_MODULES = {"win32": _NOT_ON_WINDOWS, "darwin": _NOT_ON_MACOS}
_NAMES = {"win32": (_LINUX_ALONE, _NOT_ON_WINDOWS_NAMES), "darwin": (_LINUX_ALONE,)}
#: Methods of sockets that Windows has not.
_METHODS = ("recvmsg", "recvmsg_into", "sendmsg", "sendmsg_afalg")


class _Absent(importlib.abc.MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in self._names:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def become(platform: str) -> None:
    """Make this interpreter look like that system's, for what is imported from now on.

    :param platform: ``win32`` or ``darwin``, as ``sys.platform`` has it there.
    """
    # What the standard library itself needs of Linux's to be imported here has to be there before.
    import argparse
    import asyncio
    import contextlib
    import dataclasses
    import http.client
    import ipaddress
    import json
    import logging
    import random
    import select
    import shutil
    import signal
    import socket
    import ssl
    import subprocess
    import tempfile
    import time
    import tomllib
    import zoneinfo

    loaded = (argparse, asyncio, contextlib, dataclasses, http.client, ipaddress, json, logging, random, select, shutil)
    assert all((*loaded, signal, socket, ssl, subprocess, tempfile, time, tomllib, zoneinfo))
    absent = _MODULES[platform]
    for name in absent:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent(absent))
    sys.platform = platform
    for table in _NAMES[platform]:
        for module, patterns in table.items():
            if module not in absent:
                _take(__import__(module), patterns.split())
                if module == "_socket":
                    _take(socket, patterns.split())
    if platform == "win32":
        for method in _METHODS:
            if hasattr(socket.socket, method):
                setattr(socket.socket, method, property(_missing))


def _take(module: ModuleType, patterns: list[str]) -> None:
    for name in list(vars(module)):
        if any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in patterns):
            delattr(module, name)


def _missing(_: object) -> object:
    raise AttributeError("not on this system")


if __name__ == "__main__":
    become(sys.argv[1])
    from outgate.cli.main import main

    sys.exit(main(sys.argv[2:]))
