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

import errno
import os

from outgate.errors import OutgateError
from outgate.guard import fence

TYPE_CHECKING = False  # typing costs more than all of this
if TYPE_CHECKING:
    from _socket import socket as native
    from collections.abc import Sequence
    from typing import NoReturn

__all__ = ["GuardUnavailable", "enter", "probe"]

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


def enter(path: str, paths: Sequence[str]) -> str:
    """Guard the calling process, and say what is missing of what could stand behind it. The caller then execs.

    :param path: of the gate's socket.
    :param paths: Unix sockets that the program may connect to, beside that.
    :raises GuardUnavailable: with the process as it was, unless the exception's ``altered`` is true.
    """
    _refuse_root()
    pidfd = os.pidfd_open(os.getpid())
    told, tell = os.pipe()
    hear, answer = os.pipe()
    try:
        _start(os.getpid(), pidfd, told, answer, (path, paths))
    finally:
        for fd in (told, answer, pidfd):
            os.close(fd)
    try:
        kept = _contain()
        os.write(tell, " ".join(map(str, kept.numbers())).encode() + b"\n")
        if os.read(hear, 1) != b"\n":
            raise GuardUnavailable("the guard did not start", "look for a crash of Python in the kernel's log", True)
    finally:
        os.close(tell)
        os.close(hear)
    kept.close()
    return kept.missing


def probe() -> GuardUnavailable | None:
    """Tell why this process could not be guarded, by letting a forked child try; ``None`` where it could."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                _contain()
                said = "ok"
            except GuardUnavailable as e:
                said = f"no\n{e.reason}\n{e.cure}"
            os.write(sender, said.encode())
        finally:
            os._exit(0)
    os.close(sender)
    with open(receiver, encoding="utf-8") as stream:
        verdict, *texts = stream.read().split("\n")
    _wait_for(child)
    if verdict == "ok":
        return None
    if len(texts) == 2:
        return GuardUnavailable(texts[0], texts[1])
    return GuardUnavailable("the trial ended without an answer", "look for a crash of Python in the kernel's log")


class _Kept:
    """What the calling process has of its containment until the guard has taken it."""

    def __init__(
        self, listener: int, ends: list[native], closes: list[native], servers: list[native], missing: str
    ) -> None:
        self._listener = listener
        self._ends = ends
        self._closes = closes
        self._servers = servers
        self.missing = missing

    def numbers(self) -> list[int]:
        """Return what the guard is told: how many ends the cable has, and how many tell of closes; then the fds.

        Those are the listener, the ends, what tells of closes, and the name servers'.
        """
        fds = (each.fileno() for each in (*self._ends, *self._closes, *self._servers))
        return [len(self._ends), len(self._closes), self._listener, *fds]

    def close(self) -> None:
        """Let go of it; the exec would too."""
        os.close(self._listener)
        for each in (*self._ends, *self._closes, *self._servers):
            each.close()


def _contain() -> _Kept:
    """Take from the calling process what a guarded one must not have.

    :raises GuardUnavailable: with the process as it was, unless the exception's ``altered`` is true.
    """
    from outgate.guard import cable, landlock, process

    _refuse_root()
    filter = _filter()
    servers = _name_servers()
    try:
        made = fence.enter()
    except fence.FenceUnavailable as e:
        raise GuardUnavailable(e.reason, e.cure, e.altered) from e
    if not made.user:
        raise GuardUnavailable("there is no user namespace around the network", "run as another user", True)
    try:
        ends = cable.plug_in()
    except OSError as e:
        reason = f"datagrams have no way to the guard: the kernel makes no veth interface ({e.strerror})"
        raise GuardUnavailable(reason, "load its module: modprobe veth", True) from e
    try:
        answering = cable.name_servers(servers)
        closes = cable.closes()
        process.drop_capabilities()
        process.renounce_privileges()
        abi = landlock.version()
        if abi >= landlock.NETWORK:
            landlock.restrict(abi)
        listener = process.install(filter)
    except OSError as e:
        raise GuardUnavailable(*_explain(e), True) from e
    return _Kept(listener, ends, closes, answering, "" if abi >= landlock.SCOPES else " (without Landlock's scopes)")


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


def _wait_for(child: int) -> None:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:  # SIGCHLD is ignored, and the kernel reaped it
        pass


def _start(pid: int, pidfd: int, told: int, answer: int, what: tuple[str, Sequence[str]]) -> None:
    """Start the guard's process, which waits for the number of the listener. It is no child of the program's."""
    child = os.fork()
    if child:
        _wait_for(child)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            _guard(pid, pidfd, told, answer, what)
    finally:
        os._exit(127)


def _leave(*keep: int) -> int:
    """Let go of all files of the program's but these; return one where its errors go."""
    terminal = os.dup(2)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in (*keep, terminal):
            try:
                os.close(int(name))
            except OSError:  # the listing's own
                pass
    os.chdir("/")
    return terminal


def _guard(pid: int, pidfd: int, told: int, answer: int, what: tuple[str, Sequence[str]]) -> NoReturn:
    """Be the guard: have the files first, for which the program waits; what it asks meanwhile the kernel keeps."""
    terminal = _leave(pidfd, told, answer)
    try:
        from outgate.guard.supervision import tasks

        text = b""
        while not text.endswith(b"\n"):
            more = os.read(told, 64)
            if not more:  # it could not be contained, and says so itself
                os._exit(0)
            text += more
        count, telling, *numbers = map(int, text.split())
        listener, *fds = (tasks.take_fd(pidfd, each) for each in numbers)
        ends, closes, servers = fds[:count], fds[count : count + telling], fds[count + telling :]
        network = os.stat(f"/proc/{pid}/ns/net")
        os.write(answer, b"\n")

        from outgate.guard.supervision import main

        files = main.Files(pid, (network.st_dev, network.st_ino), listener, ends, closes, servers)
        guard = main.Guard(files, *what)
    except BaseException as e:
        os.write(terminal, f"outgate: the guard has failed, and what it guards opens nothing: {e!r}\n".encode())
        os._exit(1)
    for fd in (pidfd, told, answer, terminal):
        os.close(fd)
    main.serve(guard)
