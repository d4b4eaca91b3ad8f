"""Find sockets the program would inherit that lead out of the fence.

A socket keeps the network namespace it was made in (network_namespaces(7)), so one that was open before the fence is a
door in it: a web server's listener under socket activation, or a connection a parent forgot to close. Whether that is
meant is the operator's to say; ``outgate run`` names them on stderr and passes them on.
"""

import os

__all__ = ["InheritedSocket", "inherited_network_fds"]

# Families whose sockets reach a network, by their number in <bits/socket.h>.
_FAMILIES = {2: "AF_INET", 10: "AF_INET6", 17: "AF_PACKET", 40: "AF_VSOCK"}
_KINDS = {1: "stream", 2: "datagram", 3: "raw", 5: "seqpacket"}


class InheritedSocket:
    """One socket that an exec would hand on.

    :ivar fd: its number, 0 to 2 included.
    :ivar family: ``AF_INET``, ``AF_INET6``, ``AF_PACKET`` or ``AF_VSOCK``.
    :ivar kind: ``stream``, ``datagram``, ``raw`` …
    :ivar listening: true for one that accepts connections.
    """

    __slots__ = ("family", "fd", "kind", "listening")

    def __init__(self, fd: int, family: str, kind: str, listening: bool) -> None:
        self.fd = fd
        self.family = family
        self.kind = kind
        self.listening = listening

    def __repr__(self) -> str:
        return f"InheritedSocket(fd={self.fd}, {self.family}, {self.kind}{', listening' if self.listening else ''})"

    def __str__(self) -> str:
        return f"fd {self.fd} ({self.family} {self.kind}{', listening' if self.listening else ''})"


def inherited_network_fds() -> "list[InheritedSocket]":
    """Return the open sockets that reach a network and would survive an exec, by fd.

    Left out are those with close-on-exec set, ``AF_UNIX`` (native in the fence by design) and ``AF_NETLINK`` (speaks
    with the kernel only). Costs one directory listing and one link read per fd where there is no socket.
    """
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return []
    found = []
    for fd in sorted(map(int, names)):
        try:
            if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") and os.get_inheritable(fd):
                found.append(_look_at(fd))
        except OSError:  # the listing's own fd, closed by now
            continue
    return [each for each in found if each is not None]


def _look_at(fd: int) -> "InheritedSocket | None":
    """Ask the kernel what this socket is; not through :mod:`socket`, which a stand-in may have taken the place of."""
    import _socket
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def option(name: int) -> int:
        value, size = ctypes.c_int(-1), ctypes.c_uint(ctypes.sizeof(ctypes.c_int))
        if library.getsockopt(fd, _socket.SOL_SOCKET, name, ctypes.byref(value), ctypes.byref(size)) != 0:
            return -1
        return value.value

    family = _FAMILIES.get(option(_socket.SO_DOMAIN))
    if family is None:
        return None
    kind = option(_socket.SO_TYPE)
    return InheritedSocket(fd, family, _KINDS.get(kind, str(kind)), option(_socket.SO_ACCEPTCONN) == 1)
