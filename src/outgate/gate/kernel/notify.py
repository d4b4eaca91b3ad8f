"""Talk to the service manager: say ready, feed its watchdog, take over its listening socket.

The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3); no library of systemd's is
needed, and any supervisor that speaks them will do. Only the gate as a service of its own uses this: in the gate that
``outgate run`` embeds, the variables are addressed to the program that runs.
"""

import array
import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from outgate.errors import ConfigError

__all__ = [
    "FIRST_FD",
    "STORED",
    "Notifier",
    "destination",
    "feed_watchdog",
    "inherited_listener",
    "listen_fds",
    "message",
    "passed",
    "watchdog_interval",
]

#: Where passed sockets begin (SD_LISTEN_FDS_START).
FIRST_FD: Final = 3

#: What the names of fds begin with that a gate has stored (FDNAME=: at most 255 characters, none of them a colon).
STORED: Final = "outgate-lease-"

#: Characters of STATUS=: it is one line for people.
STATUS_LIMIT: Final = 200


def destination(environ: Mapping[str, str]) -> str | bytes | None:
    """Return the address that NOTIFY_SOCKET names, or ``None`` where nobody listens.

    A leading ``@`` means the abstract namespace. What is neither that nor an absolute path (``vsock:``, which is for
    virtual machines) is left alone, as sd_notify(3) does.
    """
    name = environ.get("NOTIFY_SOCKET", "")
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return name if name.startswith("/") else None


def watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    """Return the seconds between two signs of life, or ``None`` where none is asked of this process.

    Half of WATCHDOG_USEC, as sd_watchdog_enabled(3) recommends. WATCHDOG_PID, where set, says which process is meant.
    """
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    limit = _number(environ.get("WATCHDOG_USEC", ""))
    return limit / 2_000_000 if limit > 0 else None


def listen_fds(environ: Mapping[str, str], pid: int) -> range:
    """Return the fds that were passed to this process by socket activation; none unless LISTEN_PID is this process."""
    if environ.get("LISTEN_PID") != str(pid):
        return range(0)
    return range(FIRST_FD, FIRST_FD + max(0, _number(environ.get("LISTEN_FDS", ""))))


def _named(environ: Mapping[str, str], pid: int) -> list[tuple[int, str]]:
    """Return the fds that were passed, each with its name (sd_listen_fds_with_names(3)), "" for none."""
    fds = listen_fds(environ, pid)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return [(fd, names[place] if place < len(names) else "") for place, fd in enumerate(fds)]


def passed(environ: Mapping[str, str], pid: int) -> dict[str, int]:
    """Return name → fd of what an earlier gate had stored, not inheritable any more; a second of a name is closed."""
    found: dict[str, int] = {}
    for fd, name in _named(environ, pid):
        if name.startswith(STORED) and found.setdefault(name, fd) == fd:
            os.set_inheritable(fd, False)
        elif name.startswith(STORED):
            os.close(fd)
    return found


def message(**variables: str | int) -> bytes:
    """Return one notification; a line end in a value, which would begin a variable of its own, becomes a space.

    >>> message(READY=1, STATUS="3 apps")
    b'READY=1\\nSTATUS=3 apps'
    """
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in variables.items())
    return "\n".join(lines).encode("utf-8", "replace")


class Notifier:
    """Tells the service manager how the gate is; does nothing where there is none.

    :param address: where to send, from :func:`destination`.
    :param interval: seconds between two signs of life, from :func:`watchdog_interval`.

    Nothing here waits or raises: a service manager that does not listen is no reason to stop serving. Each method
    returns whether the message went out.
    """

    def __init__(self, address: str | bytes | None = None, interval: float | None = None) -> None:
        self.interval = interval
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address is not None else None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], pid: int) -> "Notifier":
        """Make the notifier of the service ``pid`` that was started with ``environ``."""
        return cls(destination(environ), watchdog_interval(environ, pid))

    def ready(self, status: str = "") -> bool:
        """The gate answers: after the start, and after a reload whether or not the new file was taken."""
        return self._send(message(READY=1, STATUS=status) if status else message(READY=1))

    def reloading(self) -> bool:
        """A reload begins; :meth:`ready` ends it (the stamp is what ``Type=notify-reload`` waits for)."""
        return self._send(message(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000))

    def main_pid(self, pid: int) -> bool:
        """Another process is the service from now on (with ``NotifyAccess=all`` it may say so itself)."""
        return self._send(message(MAINPID=pid))

    def stopping(self, status: str = "") -> bool:
        """The gate is going down."""
        return self._send(message(STOPPING=1, STATUS=status) if status else message(STOPPING=1))

    def status(self, text: str) -> bool:
        """Show one line of text in ``systemctl status``."""
        return self._send(message(STATUS=text[:STATUS_LIMIT]))

    def watchdog(self) -> bool:
        """A sign of life. From the event loop, so that it stops when the loop does."""
        return self._send(message(WATCHDOG=1))

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager to talk to."""
        return self._socket is not None

    def store(self, name: str, fd: int) -> bool:
        """Have the service manager keep a duplicate of an fd, and pass it to the next gate.

        It is not watched there (``FDPOLL=0``): one whose far end has gone is kept too, with its counts.
        """
        return self._send(message(FDSTORE=1, FDNAME=name, FDPOLL=0), fd)

    def unstore(self, name: str) -> bool:
        """Have the service manager close what it keeps under a name."""
        return self._send(message(FDSTOREREMOVE=1, FDNAME=name))

    def close(self) -> None:
        """Give the socket back. A second call does nothing; later messages go nowhere."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, data: bytes, fd: int | None = None) -> bool:
        if self._socket is None or self._address is None:
            return False
        try:
            flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
            if fd is None:
                self._socket.sendto(data, flags, self._address)
            else:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
                self._socket.sendmsg([data], rights, flags, self._address)
        except OSError:
            return False
        return True


async def feed_watchdog(notifier: Notifier, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Send a sign of life from the event loop, for as long as the loop turns; return at once where none is asked for.

    A gate that hangs withholds every FIN of the sockets it holds duplicates of, so it must be restarted rather than
    waited for. Run it as a task and cancel it at the end.
    """
    while notifier.interval is not None:
        notifier.watchdog()
        await sleep(notifier.interval)


def inherited_listener(environ: Mapping[str, str], pid: int) -> socket.socket | None:
    """Return the listening socket that the service manager made, non-blocking and not inheritable, or ``None``.

    :raises ConfigError: what was passed is not one listening ``SOCK_SEQPACKET`` Unix socket.
    """
    fds = [fd for fd, name in _named(environ, pid) if not name.startswith(STORED)]
    if not fds:
        return None
    if len(fds) > 1:
        raise ConfigError(f"LISTEN_FDS: {len(fds)} sockets were passed; one ListenSequentialPacket= is what it takes")
    try:
        listener = socket.socket(fileno=fds[0])
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS: fd {fds[0]} is not a socket ({error.strerror}); use outgate.socket") from None
    if (
        listener.family != socket.AF_UNIX
        or listener.type != socket.SOCK_SEQPACKET
        or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        listener.detach()  # it is not ours
        raise ConfigError(
            f"LISTEN_FDS: fd {fds[0]} is not a listening Unix socket that keeps packets apart; "
            "write ListenSequentialPacket=, not ListenStream="
        )
    listener.set_inheritable(False)
    listener.setblocking(False)
    return listener


def _number(text: str) -> int:
    with contextlib.suppress(ValueError):
        if text.isascii():
            return int(text)
    return 0
