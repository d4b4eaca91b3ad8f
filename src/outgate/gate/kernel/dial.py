"""Begin a connect on a socket that a program holds too, without ever blocking on it."""

from __future__ import annotations

import errno
import socket
from _socket import socket as native
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_MSG_FASTOPEN = 0x20000000
_FLAGS = _MSG_FASTOPEN | socket.MSG_DONTWAIT


def fast_open_is_on() -> bool:
    """Tell whether ``net.ipv4.tcp_fastopen`` lets this network namespace send with fast open (bit 1)."""
    try:
        with open("/proc/sys/net/ipv4/tcp_fastopen", encoding="ascii") as setting:
            return bool(int(setting.read()) & 1)
    except (OSError, ValueError):
        return False


def begin(sock: native, address: tuple[Any, ...]) -> int:
    """Begin to connect and return 0, EINPROGRESS, or why not.

    O_NONBLOCK belongs to the open file that the program shares, so it is neither trusted nor touched: a zero-length
    ``sendto(MSG_FASTOPEN | MSG_DONTWAIT)`` is a connect that does not wait, whatever that flag says. No data rides in
    the SYN. A second call on a socket whose first dial has ended harvests that result, which is then the answer.

    A socket that was made not to wait (:func:`.births.make_own`) is nobody else's: connect(2) does, at less cost.
    """
    if sock.gettimeout() == 0:
        number = sock.connect_ex(address)
        return 0 if number == errno.EISCONN else number
    try:
        sock.sendto(b"", _FLAGS, address)
    except OSError as e:
        return 0 if e.errno == errno.EISCONN else e.errno or errno.EIO
    return 0


def wait(sock: socket.socket, address: tuple[Any, ...]) -> int:
    """Connect, close this duplicate, and return 0 or why not; for a thread of the app, where fast open is off."""
    with sock:
        return connect(sock, address)


def connect(sock: socket.socket, address: tuple[Any, ...]) -> int:
    """Connect, however long it takes, and return 0 or why not."""
    try:
        sock.connect(address)
    except OSError as e:
        return 0 if e.errno == errno.EISCONN else e.errno or errno.ETIMEDOUT
    return 0


class Threads:
    """Those that connects wait on where fast open is off: some for each app, so that none waits for another's."""

    def __init__(self) -> None:
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def of(self, app: str) -> ThreadPoolExecutor:
        """Return those of an app."""
        pool = self._pools.get(app)
        if pool is None:
            pool = self._pools[app] = ThreadPoolExecutor(16, thread_name_prefix=f"dial-{app}")
        return pool

    def stop(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
