"""Ask the kernel for namespaces: thin wrappers over unshare(2), the identity map and the loopback interface.

Nothing here decides or explains; every function raises the kernel's own ``OSError``. What has a cost at import
(``ctypes`` above all) is imported in the function that needs it, because ``outgate run`` pays for it at every start.

Sources: namespaces(7), user_namespaces(7), network_namespaces(7), netdevice(7).
"""

import os
import sys

from outgate.guard.libc import call

__all__ = [
    "NEW_NETWORK",
    "NEW_USER",
    "can_write_identity_map",
    "is_networkless",
    "raise_loopback",
    "thread_count",
    "unshare",
    "write_identity_map",
]

#: Flags of unshare(2); :mod:`os` names them only from Python 3.12 on.
NEW_USER = 0x10000000
NEW_NETWORK = 0x40000000

# netdevice(7): requests that read and write an interface's flags, and the flag itself. The numbers are the same on
# every architecture that Linux has for Python.
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
#: Interfaces that some kernels put into every new network namespace, down (``net.core.fb_tunnels_only_for_init_net``).
_FALLBACKS = frozenset(("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0"))
#: ``struct ifreq``: 16 bytes of name and a union whose largest member is a ``struct ifmap`` (24 bytes on 64 bits).
_IFREQ_NAME = 16
_IFREQ_SIZE = 40


def unshare(flags: int) -> None:
    """Move this process into new namespaces.

    :param flags: :data:`NEW_USER`, :data:`NEW_NETWORK` or both. With both the kernel makes the user namespace first
        and judges the other by the rights it gives, and either all of it happens or nothing (unshare(2)).
    :raises OSError: EPERM, ENOSPC, EINVAL, EACCES, ENOSYS or ENOMEM, with the process as it was.
    """
    native = getattr(os, "unshare", None)  # Python 3.12
    if native is not None:
        native(flags)
        return
    call("unshare", flags)


def write_identity_map(uid: int, gid: int) -> None:
    """Map one uid and one gid to themselves in the user namespace this process has just made.

    ``setgroups`` is denied first: without that an unprivileged process may not write ``gid_map`` (user_namespaces(7),
    since Linux 3.19), for a process could else drop a group that keeps it *out* of a file.

    :param uid: the effective uid the process had outside; no other may be written without privilege.
    :param gid: its effective gid.
    :raises OSError: EPERM or EACCES where a security module withholds the new namespace's rights.
    """
    try:
        _write("/proc/self/setgroups", "deny")
    except FileNotFoundError:  # before 3.19 there was nothing to deny
        pass
    _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _write("/proc/self/uid_map", f"{uid} {uid} 1")


def can_write_identity_map() -> bool:
    """Say whether this process's map files are its own.

    They are root's where the process is not *dumpable* (it changed its uid without an exec, or asked for it) and they
    are missing where /proc is. Asked beforehand, because after unshare(2) there is no way back.
    """
    return os.access("/proc/self/uid_map", os.W_OK, effective_ids=True)


def is_networkless() -> bool:
    """Say whether this process is in a network that leads nowhere, as in a container that was given none.

    That is what a fence is made of; whoever made it so, the process needs none. Of an interface that is no way out
    by itself, but might become one, it is no.
    """
    try:
        with open("/proc/self/net/dev", encoding="utf-8") as stream:
            interfaces = {line.partition(":")[0].strip() for line in stream if ":" in line}
        with open("/proc/self/net/route", encoding="utf-8") as stream:
            routes = stream.read().splitlines()[1:]
    except OSError:
        return False
    return interfaces - _FALLBACKS <= {"lo"} and not routes


def raise_loopback() -> None:
    """Bring ``lo`` up in the current network namespace; the kernel then gives it 127.0.0.1/8 and ::1/128 itself.

    :raises OSError: EPERM without CAP_NET_ADMIN over the namespace.
    """
    import _socket  # not socket: that alone would cost more than the whole fence
    import fcntl

    # An interface request may be made on a socket of any family, and AF_UNIX is the one that is native even where
    # outgate's client stands in for _socket: inside a program that is fenced already.
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        request = b"lo".ljust(_IFREQ_NAME, b"\0").ljust(_IFREQ_SIZE, b"\0")
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFFLAGS, request)
        flags = int.from_bytes(answer[_IFREQ_NAME : _IFREQ_NAME + 2], sys.byteorder) | _IFF_UP
        raised = answer[:_IFREQ_NAME] + flags.to_bytes(2, sys.byteorder)
        fcntl.ioctl(sock.fileno(), _SIOCSIFFLAGS, raised.ljust(_IFREQ_SIZE, b"\0"))
    finally:
        sock.close()


def thread_count() -> int:
    """Return how many threads this process has, those of C libraries included; 1 where /proc does not say."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def _write(path: str, text: str) -> None:
    """Write one of /proc's map files: they take one write(2) and no more, so no buffered file is used."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
