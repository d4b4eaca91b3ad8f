"""Move the calling process into an empty network, so that only sockets from the gate lead out.

The fence (see ``ARCHITECTURE.md``) is a network namespace with nothing in it but ``lo``, and, for everybody but root,
a user namespace around it, since only that gives an ordinary user the right to make one. There is **no fork**: the
process that shall become the program moves itself and then execs, so exit status, signals, terminal, job control,
working directory and environment are the program's own.

What goes round the client then gets ENETUNREACH: at once, visibly, with no packet sent. What stays reachable:

* pathname Unix sockets (they belong to files, not to networks), and so the gate, but also other daemons';
* sockets the process already has: see :func:`inherited_network_fds`;
* ``lo`` of the fence itself, a different one from the host's.

What the program will notice as an ordinary user:

* one uid and one gid are mapped to themselves. Every other owner, root included, reads as 65534 (nobody, nogroup), in
  ``stat`` and in ``SO_PEERCRED`` alike; supplementary groups read as 65534 too but still open the files they opened
  before. ``setgroups`` is refused.
* set-uid programs and file capabilities have no effect, so ``sudo`` and ``su`` do not work, and ``ssh`` complains of
  the owner of its system-wide configuration.
* it owns its user namespace's rights only until the exec: an ordinary uid has no capabilities afterwards.

The fence is a wall against whatever does not aim at it. Real root inside one has the rights to leave it again
(setns(2) on another process's namespace), and two programs of one uid can trace each other: see ``SECURITY.md``.
``no_new_privs`` is deliberately not set: for root, programs that change their uid keep working.
"""

import errno
import os

from outgate.errors import OutgateError
from outgate.guard import namespaces
from outgate.guard.inherited import InheritedSocket, inherited_network_fds

__all__ = ["Fence", "FenceUnavailable", "InheritedSocket", "enter", "inherited_network_fds", "probe"]

#: Ubuntu's switch. Where it is on, unshare(2) may succeed and only the next step fail, when there is no way back.
_DOUBTFUL = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


class Fence:
    """Which namespaces the fence consists of.

    :ivar user: true where a user namespace is around the network namespace.
    """

    __slots__ = ("user",)

    def __init__(self, user: bool) -> None:
        self.user = user

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fence) and self.user == other.user

    def __hash__(self) -> int:
        return hash(self.user)

    def __repr__(self) -> str:
        return f"Fence(user={self.user})"

    def __str__(self) -> str:
        return "an empty network and user namespace" if self.user else "an empty network namespace"


class FenceUnavailable(OutgateError):
    """This process cannot be fenced.

    :ivar reason: a sentence that says why.
    :ivar cure: the setting to change.
    :ivar altered: true where the process is in new namespaces already and must not go on as if nothing had happened.
    """

    def __init__(self, reason: str, cure: str, altered: bool = False) -> None:
        super().__init__(f"{reason}; {cure}")
        self.reason = reason
        self.cure = cure
        self.altered = altered

    def __reduce__(self) -> "tuple[type[FenceUnavailable], tuple[str, str, bool]]":
        return FenceUnavailable, (self.reason, self.cure, self.altered)


def enter() -> Fence:
    """Fence the calling process, and tell how. The caller then execs the program.

    There must be one thread only: threads keep the network they have, and the kernel gives a user namespace to no
    process with several.

    :raises FenceUnavailable: with the process as it was, unless the exception's ``altered`` is true.
    """
    from outgate.guard import obstacles

    threads = namespaces.thread_count()
    if threads > 1:
        raise FenceUnavailable(*obstacles.explain(obstacles.THREADS, errno.EINVAL, threads=threads))
    if obstacles.read_setting(_DOUBTFUL) not in (None, "0"):
        verdict = probe()
        if isinstance(verdict, FenceUnavailable):
            raise verdict
    return _enter()


def probe() -> "Fence | FenceUnavailable":
    """Tell whether this host lets this user make a fence, by letting a forked child try. The caller is not altered.

    :returns: what the fence would consist of, or the exception that :func:`enter` would raise.
    """
    receiver, sender = os.pipe()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(receiver)
        os.close(sender)
        return FenceUnavailable(f"no process could be forked to try: {error.strerror}", "raise the process limit")
    if pid == 0:
        _report(sender)
    os.close(sender)
    try:
        with open(receiver, encoding="utf-8") as stream:
            answer = stream.read()
    finally:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:  # SIGCHLD is ignored, and the kernel reaped it
            pass
    verdict, *texts = answer.split("\n")
    if verdict == "no" and len(texts) == 2:
        return FenceUnavailable(texts[0], texts[1])
    if verdict in ("network", "user"):
        return Fence(user=verdict == "user")
    return FenceUnavailable("the trial ended without an answer", "look for a crash of Python in the kernel's log")


def _report(sender: int) -> None:
    """Try the fence in the forked child, write the outcome to the pipe, and end. Never returns."""
    try:
        try:
            answer = "user" if _enter().user else "network"
        except FenceUnavailable as refusal:
            answer = f"no\n{refusal.reason}\n{refusal.cure}"
        os.write(sender, answer.encode("utf-8"))
    finally:
        os._exit(0)  # nothing of the parent's (exit handlers, buffered output) may run a second time


def _enter() -> Fence:
    from outgate.guard import obstacles

    uid, gid = os.geteuid(), os.getegid()
    altered = False
    if uid == 0:
        try:
            namespaces.unshare(namespaces.NEW_NETWORK)
        except PermissionError:
            pass  # root of a container, without CAP_SYS_ADMIN: try like everybody else
        except OSError as error:
            raise FenceUnavailable(*obstacles.explain(obstacles.NETWORK, error.errno or 0)) from error
        else:
            altered = True
            try:
                namespaces.raise_loopback()
                return Fence(user=False)
            except PermissionError:
                pass  # without CAP_NET_ADMIN: in a user namespace of its own it has it
            except OSError as error:
                raise FenceUnavailable(*obstacles.explain(obstacles.RAISE_LOOPBACK, error.errno or 0), True) from error
    if not namespaces.can_write_identity_map():
        raise FenceUnavailable(*obstacles.explain(obstacles.NOT_DUMPABLE, errno.EACCES), altered)
    try:
        namespaces.unshare(namespaces.NEW_USER | namespaces.NEW_NETWORK)
    except OSError as error:
        raise FenceUnavailable(*obstacles.explain(obstacles.USER_AND_NETWORK, error.errno or 0), altered) from error
    try:
        namespaces.write_identity_map(uid, gid)
    except OSError as error:
        step = obstacles.MAP if uid else obstacles.MAP_ROOT
        raise FenceUnavailable(*obstacles.explain(step, error.errno or 0), altered=True) from error
    _raise_loopback()
    return Fence(user=True)


def _raise_loopback() -> None:
    try:
        namespaces.raise_loopback()
    except OSError as error:
        from outgate.guard import obstacles

        reason, cure = obstacles.explain(obstacles.RAISE_LOOPBACK, error.errno or 0)
        raise FenceUnavailable(reason, cure, altered=True) from error
