"""Say what a host's kernel, limits and settings mean for containment: one plain function a question.

Pure: every function takes what was read (:mod:`outgate.guard.probes` reads it) and returns a :class:`Check`, so every
answer can be tested on a host that would give another.

Sources: the man page or the kernel's documentation that is named at each function.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, NamedTuple

from outgate.guard import obstacles

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outgate.guard.fence import Fence, FenceUnavailable
    from outgate.guard.guard import GuardUnavailable

__all__ = [
    "ABSENT",
    "FAIL",
    "OK",
    "WARN",
    "Check",
    "Loaded",
    "autoload",
    "capabilities",
    "closes",
    "daemons",
    "descriptors",
    "event_loop",
    "fast_open",
    "fence",
    "guard",
    "kernel",
    "landlock",
    "pass_rights",
    "python",
    "release",
    "seal",
    "tracing",
    "user",
    "user_namespaces",
]

OK = "ok"  #: as it should be
WARN = "warn"  #: ``outgate run`` works, and something is weaker or slower than it could be
FAIL = "fail"  #: the default of ``outgate run`` does not hold, or does not start
ABSENT = "absent"  #: not there, and not needed

#: pidfd_open(2), by which the embedded gate ends with its program.
_OLDEST_KERNEL = (5, 3)
_OLDEST_PYTHON = (3, 11)
#: Open sockets that an app may have unless its configuration says otherwise, with a third more for channels and log.
_DESCRIPTORS = 5400

#: capabilities(7), by number.
_NET_ADMIN, _SYS_ADMIN, _BPF = 12, 21, 39


class Check(NamedTuple):
    """The answer to one question about a host.

    :ivar name: the question, in a word.
    :ivar state: :data:`OK`, :data:`WARN`, :data:`FAIL` or :data:`ABSENT`.
    :ivar found: what is there, in a sentence.
    :ivar change: what to do about it, ``""`` where there is nothing.
    """

    name: str
    state: str
    found: str
    change: str = ""


# --- what outgate itself stands on ------------------------------------------------------------------------------------


def release(text: str) -> tuple[int, int]:
    """Return (major, minor) of a kernel's release as uname(2) gives it; (0, 0) where it says none.

    >>> release("6.1.0-18-amd64")
    (6, 1)
    """
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def kernel(text: str) -> Check:
    """Judge the kernel's release.

    :param text: as uname(2) gives it.
    """
    if release(text) < _OLDEST_KERNEL:
        return Check("kernel", FAIL, f"Linux {text}", "use Linux 5.3 or newer: the gate needs pidfd_open(2)")
    return Check("kernel", OK, f"Linux {text}")


def python(version: tuple[int, ...]) -> Check:
    """Judge the Python that runs this command, and so the gate.

    :param version: as ``sys.version_info[:3]``.
    """
    text = ".".join(map(str, version))
    if version[:2] < _OLDEST_PYTHON:
        return Check("python", FAIL, f"{text} runs this command and the gate", "use Python 3.11 or newer for both")
    return Check("python", OK, f"{text} runs this command and the gate")


def event_loop(version: str) -> Check:
    """Judge the gate's event loop.

    :param version: of uvloop, ``""`` where it cannot be imported.
    """
    if version:
        return Check("event loop", OK, f"uvloop {version}")
    return Check("event loop", WARN, "asyncio's own: an open takes longer", "pip install uvloop")


class Loaded(NamedTuple):
    """What one Python made of the environment in which ``outgate run`` starts programs.

    :ivar path: the interpreter.
    :ivar version: as (3, 11), ``None`` where it did not run.
    :ivar client: whether the client stood in for ``_socket``.
    :ivar said: what it printed on standard error, for those that did not load it.
    """

    path: str
    version: tuple[int, int] | None
    client: bool
    said: str = ""


def autoload(found: Sequence[Loaded]) -> Check:
    """Judge whether the Pythons on the PATH load the client when ``outgate run`` starts them.

    :param found: one for each; none where the PATH has no Python.
    """
    name = "autoload"
    if not found:
        return Check(name, ABSENT, "there is no Python on the PATH to load the client", "")
    words = [f"{each.path} ({_dotted(each.version)})" for each in found if each.client]
    broken = [each for each in found if not each.client and each.version is not None and each.version >= (3, 9)]
    if broken:
        each = broken[0]
        said = f": {each.said}" if each.said else ""
        return Check(
            name,
            FAIL,
            f"{each.path} ({_dotted(each.version)}) does not load the client{said}",
            "find what keeps PYTHONPATH or sitecustomize from it: a wrapper script, a .pth file, PYTHONSAFEPATH",
        )
    for each in found:
        if each.version is None:
            return Check(name, WARN, f"{each.path} does not run: {each.said}", "repair it, or take it off the PATH")
        if not each.client:
            return Check(
                name,
                WARN,
                f"{each.path} is Python {_dotted(each.version)}, too old to load the client",
                "use Python 3.9 or newer for programs that shall reach something in the fence",
            )
    return Check(name, OK, "the client is loaded by " + ", ".join(words))


def _dotted(version: tuple[int, int] | None) -> str:
    return ".".join(map(str, version or ()))


def descriptors(hard: int) -> Check:
    """Judge the hard limit of open files, to which a gate raises its own.

    :param hard: RLIMIT_NOFILE of getrlimit(2); -1 for no limit.
    """
    name = "open files"
    if hard < 0:
        return Check(name, OK, "no limit")
    if hard < _DESCRIPTORS:
        return Check(
            name,
            WARN,
            f"at most {hard:,} for the gate, which holds one a connection; an app's default is 4,000 connections",
            "raise the hard limit: ulimit -Hn 65536, or LimitNOFILE=65536 in the gate's unit",
        )
    return Check(name, OK, f"at most {hard:,} for the gate")


def fast_open(setting: str | None) -> Check:
    """Judge ``net.ipv4.tcp_fastopen``, whose bit 1 lets the gate dial without blocking (tcp(7), ip-sysctl).

    :param setting: its text, ``None`` where it cannot be read.
    """
    name = "fast open"
    try:
        value = int(setting or "")
    except ValueError:
        return Check(name, WARN, "net.ipv4.tcp_fastopen cannot be read; dials go by threads if it is off")
    if value & 1:
        return Check(name, OK, "the gate's dials do not block (no data rides in a SYN)")
    return Check(
        name,
        WARN,
        f"net.ipv4.tcp_fastopen is {value}: every dial takes a thread of the gate",
        f"sysctl -w net.ipv4.tcp_fastopen={value | 1}",
    )


def pass_rights(there: bool) -> Check:
    """Judge SO_PASSRIGHTS (Linux 6.16), by which the kernel refuses fds that nobody asked for.

    :param there: whether a Unix socket took the option.
    """
    name = "SO_PASSRIGHTS"
    if there:
        return Check(name, OK, "the kernel refuses fds that nobody asked for")
    return Check(name, ABSENT, "the gate counts and closes fds that nobody asked for; Linux 6.16 would refuse them")


def closes(told: bool) -> Check:
    """Judge whether the kernel tells of sockets that are no more (sock_diag(7)).

    :param told: whether it has told of one that was closed.
    """
    name = "closes"
    if told:
        return Check(name, OK, "the kernel tells of sockets that are no more, with their last bytes")
    return Check(name, ABSENT, "sockets that are no more are looked for each second; udp_diag and tcp_diag would tell")


# --- the fence --------------------------------------------------------------------------------------------------------


def fence(verdict: Fence | FenceUnavailable) -> Check:
    """Judge the fence from a trial in which namespaces were really made.

    :param verdict: what :func:`outgate.guard.fence.probe` returned.
    """
    name = "fence"
    reason = getattr(verdict, "reason", "")
    if reason:
        return Check(name, FAIL, f"cannot be made: {reason}", getattr(verdict, "cure", ""))
    return Check(name, OK, f"{verdict}, made and left again")


def user_namespaces(read: Callable[[str], str | None]) -> Check:
    """Judge the settings that keep ordinary users from a fence, whoever asks (user_namespaces(7)).

    :param read: gives the text of a settings file, ``None`` where there is none.
    """
    name = "user namespaces"
    most = read("/proc/sys/user/max_user_namespaces")
    if most == "0":
        reason, cure = obstacles.explain(obstacles.USER_AND_NETWORK, errno.ENOSPC, read)
    elif read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        reason, cure = obstacles.explain(obstacles.USER_AND_NETWORK, errno.EPERM, read)
    elif read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") not in (None, "0"):
        reason, cure = obstacles.explain(obstacles.MAP, errno.EPERM, read)
    elif most is None:
        reason, cure = "this kernel has none (user.max_user_namespaces is missing)", "use one with CONFIG_USER_NS"
    else:
        return Check(name, OK, f"open to ordinary users, at most {int(most):,}" if most.isdecimal() else "open")
    return Check(name, WARN, reason, cure)


def user(uid: int) -> Check:
    """Judge who would run programs: real root can leave a fence (setns(2)).

    :param uid: the effective one.
    """
    if uid == 0:
        return Check("user", WARN, "root, who can leave the fence", "run programs as another user")
    return Check("user", OK, f"uid {uid}, who cannot leave the fence")


def tracing(scope: str | None) -> Check:
    """Judge Yama's ``kernel.yama.ptrace_scope``: may programs of one user trace one another (ptrace(2))?

    A fenced program of an ordinary user can trace nobody outside its user namespace, whatever this says.

    :param scope: the setting's text, ``None`` where Yama is not there.
    """
    name = "tracing"
    without = "unfenced programs of one user can read and trace one another"
    if scope is None:
        return Check(
            name, WARN, f"{without} (no Yama here)", "run apps that must not trust one another as different users"
        )
    if scope == "0":
        return Check(name, WARN, f"{without}: kernel.yama.ptrace_scope is 0", "sysctl -w kernel.yama.ptrace_scope=1")
    return Check(name, OK, f"kernel.yama.ptrace_scope is {scope}: a program can trace its children at most")


def daemons(reachable: Sequence[str]) -> Check:
    """Judge the pathname Unix sockets by which a fenced program could have somebody else dial, or do anything.

    :param reachable: those among the well-known ones that this user may write to.
    """
    name = "daemons"
    if not reachable:
        return Check(name, OK, "no well-known Unix socket by which others could be asked to dial")
    return Check(
        name,
        WARN,
        f"the fence does not close Unix sockets, and this user may use {', '.join(reachable)}",
        "run programs as a user who may not",
    )


# --- the seal and the guard -------------------------------------------------------------------------------------------


def capabilities(status: str) -> frozenset[int]:
    """Return the effective capabilities in the text of ``/proc/PID/status`` (proc(5)), as numbers.

    >>> sorted(capabilities("CapEff:\\t0000000000001001"))
    [0, 12]
    """
    found = re.search(r"^CapEff:\s*([0-9a-fA-F]+)\s*$", status, re.MULTILINE)
    mask = int(found[1], 16) if found else 0
    return frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def seal(why: str, held: frozenset[int]) -> Check:
    """Judge the seal from a trial in which its programs were really loaded (bpf(2)).

    :param why: why a gate of this user could have none, ``""`` where it could.
    :param held: the effective capabilities, by number.
    """
    if not why:
        return Check("seal", OK, "its programs were loaded, and attached to a cgroup")
    missing = []
    if _SYS_ADMIN not in held:
        missing = [name for name, number in (("CAP_BPF", _BPF), ("CAP_NET_ADMIN", _NET_ADMIN)) if number not in held]
    found = f"cannot be made by a gate of this user: {why}"
    return Check("seal", ABSENT, found + (f" (no {' and no '.join(missing)} here)" if missing else ""))


def guard(unavailable: GuardUnavailable | None) -> Check:
    """Judge the guard from a trial in which everything that it stands on was really made (seccomp_unotify(2)).

    :param unavailable: what :func:`outgate.guard.guard.probe` returned.
    """
    if unavailable is not None:
        return Check("guard", ABSENT, f"cannot be made: {unavailable.reason}", unavailable.cure)
    return Check("guard", OK, "an empty network with a way to a guard, and a filter; made and left again")


def landlock(abi: int) -> Check:
    """Say which Landlock there is (landlock(7)), which stands behind a guard where it is there.

    :param abi: the version that landlock_create_ruleset(2) tells, 0 for none.
    """
    if abi < 1:
        return Check("landlock", ABSENT, "not in this kernel, or switched off")
    return Check("landlock", OK, f"ABI {abi}" + (", which bans TCP connects" if abi >= 4 else ""))
