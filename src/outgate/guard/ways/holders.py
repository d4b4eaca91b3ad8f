"""Dial with what somebody else has: sockets that the gate gave, other processes' sockets, other namespaces."""

from __future__ import annotations

import errno
import socket

from outgate.guard.ways.children import in_fork, in_python
from outgate.guard.ways.libc import NativeSocket, call
from outgate.guard.ways.target import SEAL, USER, V4, Target, Untried, Way

__all__ = ["INHERITED", "WAYS"]

# The same on every architecture that came after 2019, and on x86 and Arm (but for alpha, where they are 110 more).
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438
_NEW_NETWORK = 0x40000000


def _turn(target: Target, mark: bytes) -> None:
    """Take a socket that the gate made, and connect it natively: its network is the gate's."""
    with socket.socket() as given:
        native = NativeSocket(given.fileno())
        native.disconnect()
        native.connect(V4, target.port)
        native.send(mark)


def _turn_fast(target: Target, mark: bytes) -> None:
    with socket.socket() as given:
        NativeSocket(given.fileno()).fast_open(mark, V4, target.port)


def _hand_on(target: Target, mark: bytes) -> str | None:
    """Give a socket that the gate made to a Python which no client holds."""
    with socket.socket() as given:
        own = target._replace(only=(INHERITED.name,), fd=given.fileno())
        return in_python(own, mark, ["-I"], handed=[given.fileno()])


def _inherited(target: Target, mark: bytes) -> None:
    if target.fd < 0:
        raise Untried("nothing was handed on")
    with NativeSocket(target.fd) as sock:
        sock.connect(V4, target.port)
        sock.send(mark)


def _setns(target: Target, mark: bytes) -> str | None:
    return in_fork(_from_outside, target, mark)


def _from_outside(target: Target, mark: bytes) -> str:
    """Enter the network namespace of a process outside, and dial natively from wherever that led."""
    how = "entered it"
    try:
        with open(f"/proc/{target.outside}/ns/net", "rb") as namespace:
            call("setns", namespace.fileno(), _NEW_NETWORK)
    except OSError as e:
        how = f"setns: {errno.errorcode.get(e.errno or 0, e.strerror)}"
    with NativeSocket.new(socket.AF_INET, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(V4, target.port)
        except OSError as e:
            raise OSError(e.errno, f"{how}, then connect: {e.strerror}") from None
        sock.send(mark)
    return how


def _steal(target: Target, mark: bytes) -> None:
    """Take a socket out of another process of this user, which is not contained (pidfd_getfd(2))."""
    if target.bait < 0:
        raise Untried("nobody outside has a socket for it")
    process = call("syscall", _SYS_PIDFD_OPEN, target.outside, 0)
    try:
        taken = call("syscall", _SYS_PIDFD_GETFD, process, target.bait, 0)
    finally:
        call("close", process)
    with NativeSocket(taken) as sock:
        sock.connect(V4, target.port)
        sock.send(mark)


#: Not in the table: it is what a child does with a socket that it was handed.
INHERITED = Way("inherited", "a socket that was handed on", SEAL, _inherited)

WAYS = (
    Way("setns", "setns into an outside process's network", USER, _setns),
    Way("pidfd-getfd", "a socket taken out of an outside process", USER, _steal),
    Way("turn", "a socket of the gate's, turned by connect", SEAL, _turn),
    Way("turn-fast-open", "a socket of the gate's, turned by fast open", SEAL, _turn_fast),
    Way("hand-on", "a socket of the gate's, handed to python -I", SEAL, _hand_on),
)
