"""Ask the C library for names and addresses, in a few threads per app.

The C library's way is the host's way: nsswitch, hosts file, search domains. Threads are bounded per app, so a slow name
server delays the look-ups of the app that asked it and nobody else's.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from outgate.errors import build

#: Look-ups of one app at work at once, and waiting beyond that.
THREADS = 4
WAITING = 256
#: Seconds: resolv.conf's default is two tries of 5 s at each of three servers.
LIMIT = 30.0

CALLS: dict[str, Callable[..., Any]] = {
    "getaddrinfo": socket.getaddrinfo,
    "gethostbyname_ex": socket.gethostbyname_ex,
    "gethostbyaddr": socket.gethostbyaddr,
    "getnameinfo": lambda address, flags: socket.getnameinfo(tuple(address), flags),
    "if_nametoindex": socket.if_nametoindex,
    "if_indextoname": socket.if_indextoname,
    "if_nameindex": socket.if_nameindex,
}


class Resolver:
    """The look-ups of one app."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._pool: ThreadPoolExecutor | None = None
        self._count = 0
        self._lock = threading.Lock()

    async def call(self, name: str, host: str, *args: Any) -> Any:
        """Run one look-up and return its answer.

        :param name: a key of :data:`CALLS`.
        :param host: what is looked up, for the error text.
        :raises socket.gaierror, socket.herror: what the C library said.
        :raises outgate.errors.ResolveFailed: too many look-ups at once, or no answer in time.
        """
        if self._count >= THREADS + WAITING:
            raise build("resolve-failed", {"host": host, "why": f"more than {WAITING} look-ups are waiting"})
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"resolve-{self._app}")
        loop = asyncio.get_running_loop()
        self._count += 1
        work = loop.run_in_executor(self._pool, self._run, CALLS[name], args)
        done, _ = await asyncio.wait((work,), timeout=LIMIT)
        if not done:
            raise build("resolve-failed", {"host": host, "why": f"no answer within {LIMIT:g} s"})
        return work.result()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return function(*args)
        finally:
            with self._lock:
                self._count -= 1

    def stop(self) -> None:
        """Start no further look-up; threads in the C library end when it answers them."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def numeric(host: str, family: int) -> tuple[str, int] | None:
    """Return (address, scope id) of a numeric host in any spelling the C library takes, or ``None`` for a name.

    :param family: 4 or 6.
    :raises socket.gaierror: a numeric address of the other family, as connect(2) callers see it.
    """
    if host == "":
        return ("0.0.0.0" if family == 4 else "::"), 0
    if host == "<broadcast>" and family == 4:
        return "255.255.255.255", 0
    wanted = socket.AF_INET if family == 4 else socket.AF_INET6
    try:
        return socket.inet_ntop(wanted, socket.inet_pton(wanted, host)), 0
    except (OSError, ValueError):  # a name, or a spelling that only getaddrinfo knows; 15 times as long
        pass
    try:
        answer = socket.getaddrinfo(host, None, wanted, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except socket.gaierror as e:
        if e.errno == socket.EAI_NONAME:
            return None
        raise
    except UnicodeError:
        return None
    address = answer[0][4]
    ip = str(address[0])
    if family == 6:
        return ip.partition("%")[0], int(address[3])  # type: ignore[misc]
    return ip, 0
