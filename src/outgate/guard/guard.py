"""Put the calling process, which will become a program, under a guard that answers its network calls.

The guard is a process beside the program, no parent or child of it, and ends with the last process of its tree. It is
there before the program is contained, outside: as the owner of the program's user namespace it may look into it, while
nothing inside may look out. Then the calling process goes into an empty network and user namespace (:mod:`.fence`),
gives its privileges away, and installs the filter; the guard takes the listener out of it by its number, for a message
about it would be a call that nobody answers yet. The caller then execs the program: pid, exit status, signals, terminal
and job control are the program's own.

Without the guard's process every notified call fails (ENOSYS), and the network around the program is empty.
"""

from __future__ import annotations

import contextlib
import errno
import os

from outgate.errors import OutgateError
from outgate.guard import cable, fence, landlock, process

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

__all__ = ["GuardUnavailable", "enter"]

#: As much of /proc/self/uid_map as says that root in here is root of the host.
_HOST_ROOT = ["0", "0", "4294967295"]


class GuardUnavailable(OutgateError):
    """This process cannot be guarded.

    :ivar reason: a sentence that says why.
    :ivar cure: what to change.
    :ivar altered: true where the process must not go on as if nothing had happened.
    """

    def __init__(self, reason: str, cure: str, altered: bool = False) -> None:
        super().__init__(f"{reason}; {cure}")
        self.reason = reason
        self.cure = cure
        self.altered = altered

    def __reduce__(self) -> tuple[type[GuardUnavailable], tuple[str, str, bool]]:
        return GuardUnavailable, (self.reason, self.cure, self.altered)


def enter(path: str, paths: Sequence[str], said: Mapping[str, Any]) -> None:
    """Guard the calling process. The caller then execs the program.

    :param path: of the gate's socket.
    :param paths: Unix sockets that the program may connect to, beside that.
    :param said: what the guard's hellos say beside who they are for.
    :raises GuardUnavailable: with the process as it was, unless the exception's ``altered`` is true.
    """
    _refuse_root()
    filter = _filter()
    pidfd = os.pidfd_open(os.getpid())
    told, tell = os.pipe()
    hear, answer = os.pipe()
    _start(os.getpid(), pidfd, told, answer, (path, paths, said))
    os.close(told)
    os.close(answer)
    os.close(pidfd)
    altered = False
    try:
        try:
            made = fence.enter()
            altered = True
            if not made.user:
                raise GuardUnavailable("root's fence has no user namespace", "run as another user", altered)
            ends = cable.plug_in()
            servers = cable.name_servers(_name_servers())
            process.drop_capabilities()
            process.renounce_privileges()
            abi = landlock.version()
            if abi >= 4:
                landlock.restrict(abi)
            listener = process.install(filter)
        except fence.FenceUnavailable as e:
            raise GuardUnavailable(e.reason, e.cure, e.altered) from e
        except OSError as e:
            raise GuardUnavailable(*_explain(e), altered) from e
        numbers = [listener, len(ends), *(each.fileno() for each in (*ends, *servers))]
        os.write(tell, " ".join(map(str, numbers)).encode() + b"\n")
        if os.read(hear, 1) != b"\n":
            raise GuardUnavailable("the guard did not start", "look for its fault in the kernel's log", altered)
        os.close(listener)
        for each in (*ends, *servers):
            each.close()
    finally:
        os.close(tell)
        os.close(hear)


def _refuse_root() -> None:
    """Refuse root of the host: its files are its own in any namespace, and some of them are the kernel's doors."""
    if os.geteuid() != 0:
        return
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            is_host = file.read().split() == _HOST_ROOT
    except OSError:
        is_host = True
    if is_host:
        raise GuardUnavailable("root cannot be guarded: it may write the kernel's own settings", "run as another user")


def _name_servers() -> list[str]:
    """Return the addresses in resolv.conf(5), and where the C library asks without it."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            found = [words[1] for words in map(str.split, file) if words[:1] == ["nameserver"] and len(words) > 1]
    except OSError:
        found = []
    return found or ["127.0.0.1"]


def _filter() -> bytes:
    from outgate.core.guard import filter, syscalls

    arch = syscalls.ARCHS.get(os.uname().machine)
    if arch is None:
        known = " and ".join(syscalls.ARCHS)
        raise GuardUnavailable(f"the guard knows no system calls of {os.uname().machine}", f"it knows {known}")
    return filter.build(arch)


def _explain(error: OSError) -> tuple[str, str]:
    if error.errno == errno.EBUSY:
        return "this process is guarded already, or supervised by another program", "start it outside of that"
    if error.errno in (errno.EINVAL, errno.ENOSYS):
        return f"this kernel ({os.uname().release}) cannot supervise calls (seccomp)", "use Linux 5.19 or newer"
    return f"the kernel refuses the filter: {error.strerror}", "look for a security module that forbids seccomp"


def _start(pid: int, pidfd: int, told: int, answer: int, what: tuple[str, Sequence[str], Mapping[str, Any]]) -> None:
    """Start the guard's process, which waits for the number of the listener. It is no child of the program's."""
    child = os.fork()
    if child:
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored, and the kernel reaped it
            os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _guard(pid, pidfd, told, answer, what)
    finally:
        os._exit(127)


def _guard(
    pid: int, pidfd: int, told: int, answer: int, what: tuple[str, Sequence[str], Mapping[str, Any]]
) -> NoReturn:
    keep = {pidfd, told, answer}
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(int(name))
    os.chdir("/")
    from _socket import socket as native

    from outgate.guard.supervision import main, tasks

    text = b""
    while not text.endswith(b"\n"):
        more = os.read(told, 64)
        if not more:  # it could not be contained, and says so itself
            os._exit(0)
        text += more
    number, count, *numbers = map(int, text.split())
    sockets = [native(fileno=tasks.take_fd(pidfd, each)) for each in numbers]
    files = main.Files(pid, tasks.take_fd(pidfd, number), sockets[:count], sockets[count:])
    guard = main.Guard(files, *what)
    os.write(answer, b"\n")
    for fd in keep:
        os.close(fd)
    main.serve(guard)
