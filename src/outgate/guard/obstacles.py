"""Say why a host refuses the fence, and which setting changes that.

Pure but for the one argument that reads a setting, so every sentence can be tested on hosts that have none of these
obstacles. Only imported when something went wrong.

Sources: unshare(2) and user_namespaces(7) for the errors; sysctl files as Linux, Debian (``unprivileged_userns_clone``)
and Ubuntu (``apparmor_restrict_unprivileged_userns``, since 23.10) define them.
"""

import errno
import os

TYPE_CHECKING = False  # typing costs more than the rest of this package together
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAP",
    "MAP_ROOT",
    "NETWORK",
    "NOT_DUMPABLE",
    "RAISE_LOOPBACK",
    "THREADS",
    "USER_AND_NETWORK",
    "explain",
    "read_setting",
]

# The step at which it went wrong.
THREADS = "threads"
NOT_DUMPABLE = "not-dumpable"
NETWORK = "network"
USER_AND_NETWORK = "user-and-network"
MAP = "map"
MAP_ROOT = "map-root"
RAISE_LOOPBACK = "loopback"

_CLONE = "/proc/sys/kernel/unprivileged_userns_clone"
_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_MAX_USER = "/proc/sys/user/max_user_namespaces"
_MAX_NET = "/proc/sys/user/max_net_namespaces"

#: Enough for any number of fences; what Red Hat's own documentation sets where the limit was 0.
_ROOM = 15000


def read_setting(path: str) -> "str | None":
    """Return the text of a small file under /proc, stripped, or ``None`` where it is not there or not readable."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 4096).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(fd)


def explain(
    step: str, number: int, read: "Callable[[str], str | None]" = read_setting, threads: int = 1
) -> "tuple[str, str]":
    """Return (reason, cure) for a fence that failed.

    :param step: one of the constants above.
    :param number: the errno of that step.
    :param read: gives the text of a settings file, ``None`` where there is none.
    :param threads: how many threads the process had, for :data:`THREADS`.
    """
    if step == THREADS:
        return (
            f"this process has {threads} threads, and only one with a single thread can move as a whole",
            "enter the fence before the first thread is started",
        )
    if step == NOT_DUMPABLE:
        return (
            "this process may not write its own /proc/self/uid_map (it changed its uid without an exec, or /proc is "
            "not mounted)",
            "start outgate as the user it shall run as, with /proc mounted",
        )
    if number == errno.ENOSPC:
        return _limit_reached(step, read)
    if number in (errno.EPERM, errno.EACCES):
        return _not_permitted(step, number, read)
    if number in (errno.EINVAL, errno.ENOSYS):
        return (
            f"this kernel has no {'network' if step == NETWORK else 'user or no network'} namespaces "
            f"({os.strerror(number)})",
            "use a kernel built with CONFIG_NET_NS and CONFIG_USER_NS",
        )
    return f"the kernel refused a namespace: {os.strerror(number)}", "try again once the host has room"


def _limit_reached(step: str, read: "Callable[[str], str | None]") -> "tuple[str, str]":
    """ENOSPC: a limit of the user namespace this process is in, or of one around it."""
    if step == USER_AND_NETWORK and read(_MAX_USER) == "0":
        return "user namespaces are switched off: user.max_user_namespaces is 0", _sysctl("user.max_user_namespaces")
    if read(_MAX_NET) == "0":
        return "network namespaces are switched off: user.max_net_namespaces is 0", _sysctl("user.max_net_namespaces")
    return (
        "the limit of namespaces is reached (user.max_user_namespaces, user.max_net_namespaces, or 32 user "
        "namespaces within one another)",
        "end what holds them, or raise the limit: sysctl -w "
        f"user.max_user_namespaces={_ROOM} user.max_net_namespaces={_ROOM}",
    )


def _not_permitted(step: str, number: int, read: "Callable[[str], str | None]") -> "tuple[str, str]":
    """EPERM and EACCES have many fathers; the settings, the step and the number tell which."""
    if read(_CLONE) == "0":
        return (
            "unprivileged user namespaces are switched off: kernel.unprivileged_userns_clone is 0",
            "sysctl -w kernel.unprivileged_userns_clone=1",
        )
    # A filter answers EPERM at unshare itself; AppArmor answers EACCES there, or lets it pass and refuses the map.
    if step in (NETWORK, USER_AND_NETWORK) and number == errno.EPERM and _is_filtered(read):
        return (
            "a seccomp filter forbids namespaces here, as a container's default one and systemd's "
            "RestrictNamespaces= do",
            "allow unshare in the seccomp profile of the container, or RestrictNamespaces=no in the unit",
        )
    if read(_APPARMOR) not in (None, "0"):
        return (
            "AppArmor gives an unprivileged user namespace no rights: kernel.apparmor_restrict_unprivileged_userns "
            "is 1",
            "load an AppArmor profile with the rule 'userns,' for this Python, or sysctl -w "
            "kernel.apparmor_restrict_unprivileged_userns=0",
        )
    if step == MAP_ROOT:
        return (
            "root without CAP_SETFCAP may not map root into a user namespace (Linux 5.12)",
            "leave root CAP_SETFCAP, or run as another user",
        )
    if step in (MAP, RAISE_LOOPBACK):
        return (
            "a security module made the user namespace but withholds its rights",
            "allow user namespaces for this Python in its SELinux or AppArmor policy",
        )
    return (
        "this process may make no namespaces: it is in a chroot, or a security module forbids it, or it is root "
        "without CAP_SYS_ADMIN",
        "leave the chroot, allow user namespaces for this Python in its SELinux or AppArmor policy, or start outgate "
        "as an ordinary user",
    )


def _sysctl(name: str) -> str:
    return f"sysctl -w {name}={_ROOM}"


def _is_filtered(read: "Callable[[str], str | None]") -> bool:
    """Whether a seccomp filter (mode 2 of proc_pid_status(5)) is on this process."""
    return "Seccomp:\t2" in (read("/proc/self/status") or "").splitlines()
