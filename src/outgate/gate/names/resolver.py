"""Ask the C library for names and addresses, in a few threads per app, and remember what it said for a short while.

The C library's way is the host's way: nsswitch, hosts file, search domains. Threads, what waits for them, how many
look-ups begin in a second and what is remembered are bounded per app, so a slow name server, or a program that asks for
ever new names, delays the app that asked and nobody else; and since nothing remembered is shared, no app can tell by
timing what another has asked.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from outgate.core.name.answers import Answers
from outgate.errors import build
from outgate.gate.metrics.counts import ANSWERED, FAILED, LATE, MISSING, REMEMBERED, LookedUp, ignored
from outgate.gate.onloop import call_on

#: Look-ups of one app at work at once, and different ones waiting beyond that.
THREADS = 4
WAITING = 1024
#: Look-ups of one app that may begin in a second, once a burst of so many is used up. Each costs the gate's loop a
#: tenth of a millisecond, which is everybody's; a name server of average speed answers four threads less often.
RATE = 500.0
BURST = 500
#: Seconds: resolv.conf's default is two tries of 5 s at each of three servers.
LIMIT = 30.0
#: Seconds after which a look-up beyond :data:`WAITING` is refused. At once, a program that floods would only ask again.
PAUSE = 1.0
#: Seconds an answer is remembered. The C library tells no TTL; this spares a burst of connects its look-ups, and is
#: short beside the ten minutes of :mod:`outgate.core.name.bindings` and beside what people wait for a change of a zone.
KEPT = 30.0
#: Seconds that it is remembered that there is no such name: somebody may be waiting for it to come up.
KEPT_MISSING = 5.0
#: Characters of the longest question that is asked, and of the longest whose answer is remembered; the longest name has
#: 253 (RFC 1035), and a client passes on up to four times as much.
LONGEST = 4096
LONGEST_KEPT = 600

CALLS: dict[str, Callable[..., Any]] = {
    "getaddrinfo": socket.getaddrinfo,
    "gethostbyname_ex": socket.gethostbyname_ex,
    "gethostbyaddr": socket.gethostbyaddr,
    "getnameinfo": lambda address, flags: socket.getnameinfo(tuple(address), flags),
    "if_nametoindex": socket.if_nametoindex,
    "if_indextoname": socket.if_indextoname,
    "if_nameindex": socket.if_nameindex,
}
#: The calls whose answers come from name servers or files, and are remembered.
_REMEMBERED = frozenset(("getaddrinfo", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"))
#: "There is no such name" and "it has no such address"; other errors say nothing about the next try.
_MISSING = {
    socket.gaierror: frozenset((socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY)),
    socket.herror: frozenset((1, 4)),  # HOST_NOT_FOUND and NO_DATA of netdb.h
}

#: :meth:`Resolver.forget` so many times, call, its arguments in text.
_Key = tuple[int, str, str]


class _Flight:
    """One look-up on its way, for everybody who asks for the same meanwhile.

    :ivar waiters: a future for each of them: one that two coroutines waited for could be cancelled by either.
    :ivar timer: ends their patience.
    """

    __slots__ = ("args", "host", "key", "loop", "timer", "waiters")

    def __init__(self, key: _Key, host: str, args: tuple[Any, ...], loop: asyncio.AbstractEventLoop) -> None:
        self.key = key
        self.host = host
        self.args = args
        self.loop = loop
        self.waiters: list[asyncio.Future[Any]] = []
        self.timer: asyncio.TimerHandle | None = None

    def wait(self, late: Callable[[_Flight], None]) -> asyncio.Future[Any]:
        """Return a future of the answer; ``late`` is called if there is none within :data:`LIMIT` of the first."""
        if self.timer is None:
            self.timer = self.loop.call_later(LIMIT, late, self)
        waiter = self.loop.create_future()
        self.waiters.append(waiter)
        return waiter

    def tell(self, answer: Any, error: Exception | None) -> None:
        """Give everybody who waits the answer or the error, and wait no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if waiter.done():  # cancelled: the gate ends
                continue
            if error is None:
                waiter.set_result(answer)
            else:
                waiter.set_exception(error)


class Remembered:
    """What the C library said.

    :ivar error: the class of what it raised, with the arguments in ``answer``; ``None`` for an answer.
    :ivar judged: what whoever asked made of the answer, kept and forgotten with it; a reload forgets both.
    """

    __slots__ = ("answer", "error", "judged")

    def __init__(self, answer: Any, error: type[Exception] | None = None) -> None:
        self.answer = answer
        self.error = error
        self.judged: Any = None


def _outcome(error: Exception | None) -> str:
    if error is None:
        return ANSWERED
    is_missing = isinstance(error, OSError) and error.errno in _MISSING.get(type(error), ())
    return MISSING if is_missing else FAILED


class Resolver:
    """The look-ups of one app.

    :param app: its name, for the names of its threads.
    :param clock: gives seconds; for how long answers are remembered.
    :param looked_up: told of each (app, outcome, seconds that the C library took); the outcomes are those of
        :mod:`outgate.gate.metrics.counts`.
    """

    def __init__(self, app: str, clock: Callable[[], float] = time.monotonic, looked_up: LookedUp = ignored) -> None:
        self._app = app
        self._looked_up = looked_up
        self._clock = clock
        self._pool: ThreadPoolExecutor | None = None
        self._answers = Answers()
        self._flights: dict[_Key, _Flight] = {}
        self._waiting: deque[_Flight] = deque()
        #: Threads at work, also for those who have given up.
        self._working = 0
        #: When the look-ups begun so far would all have begun at :data:`RATE`.
        self._paced_until = 0.0
        self._pacing = False
        #: Counts :meth:`forget`: a look-up that began before it is neither joined nor remembered.
        self._age = 0

    async def call(self, name: str, host: str, *args: Any) -> Any:
        """Run one look-up and return its answer, which must not be changed: others get the same object.

        A remembered answer is returned without waiting for anything, so in the same turn of the loop. Equal look-ups
        at one time share a thread.

        :param name: a key of :data:`CALLS`.
        :param host: what is looked up, for the error text.
        :raises socket.gaierror, socket.herror: what the C library said.
        :raises outgate.errors.ResolveFailed: too many look-ups at once, or no answer in time.
        :raises ValueError: the arguments are longer than those of any look-up.
        """
        key = (self._age, name, repr(args))  # repr() tells 1 from True and 1.0, which are equal as keys
        known = self._answers.get(key, self._clock())
        if known is not None:
            self.note_remembered()
            if known.error is not None:
                raise known.error(*known.answer)
            return known.answer
        flight = self._flights.get(key)
        if flight is None:
            if len(key[2]) > LONGEST:  # it would be kept while it waits
                raise ValueError(f"more than {LONGEST} characters")
            if len(self._waiting) >= WAITING:
                self._looked_up(self._app, FAILED, None)
                await asyncio.sleep(PAUSE)
                raise build("resolve-failed", {"host": host, "why": f"more than {WAITING} look-ups are waiting"})
            flight = self._flights[key] = _Flight(key, host, args, asyncio.get_running_loop())
            self._waiting.append(flight)
            self._begin()
        return await flight.wait(self._late)

    def remembered(self, name: str, *args: Any) -> Remembered | None:
        """Return what is remembered of a look-up, if anything is."""
        known: Remembered | None = self._answers.get((self._age, name, repr(args)), self._clock())
        return known

    def note_remembered(self) -> None:
        """Count a look-up that needed no answer because there was one."""
        self._looked_up(self._app, REMEMBERED, None)

    def _begin(self) -> None:
        """Begin what waits, as far as there are threads and the pace allows."""
        while self._waiting and self._working < THREADS and not self._pacing:
            loop = self._waiting[0].loop
            now = loop.time()
            early = self._paced_until - (BURST - 1) / RATE - now
            if early > 0:
                self._pacing = True
                loop.call_later(early, self._begin_again)
                return
            self._paced_until = max(self._paced_until, now) + 1 / RATE
            flight = self._waiting.popleft()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=f"resolve-{self._app}")
            self._working += 1
            self._pool.submit(self._work, flight, CALLS[flight.key[1]])

    def _begin_again(self) -> None:
        self._pacing = False
        self._begin()

    def _work(self, flight: _Flight, function: Callable[..., Any]) -> None:
        """Ask the C library; on a thread."""
        answer: Any = None
        error: Exception | None = None
        began = time.perf_counter()
        try:
            answer = function(*flight.args)
        except Exception as e:
            error = e
        seconds = time.perf_counter() - began
        call_on(flight.loop, self._landed, flight, answer, error, seconds)

    def _landed(self, flight: _Flight, answer: Any, error: Exception | None, seconds: float) -> None:
        """Give the answer to all who wait, and remember it, also where they have given up."""
        self._working -= 1
        self._looked_up(self._app, _outcome(error), seconds)
        self._begin()
        key = flight.key
        if key[1] in _REMEMBERED and key[0] == self._age and len(key[2]) <= LONGEST_KEPT:
            if error is None:
                self._answers.put(key, Remembered(answer), self._clock() + KEPT)
            elif _outcome(error) is MISSING and isinstance(error, OSError):
                self._answers.put(key, Remembered(error.args, type(error)), self._clock() + KEPT_MISSING)
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.tell(answer, error)

    def _late(self, flight: _Flight) -> None:
        """Tell whoever waits that it has been too long. What had not begun never does; the rest may be joined again."""
        if flight in self._waiting:
            self._waiting.remove(flight)
            self._flights.pop(flight.key, None)
        self._looked_up(self._app, LATE, None)
        flight.tell(None, build("resolve-failed", {"host": flight.host, "why": f"no answer within {LIMIT:g} s"}))

    def forget(self) -> None:
        """Forget every answer, those on their way too: the host's files may have changed."""
        self._answers.clear()
        self._age += 1

    def stop(self) -> None:
        """Start no further look-up; threads in the C library end when it answers them."""
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


#: What the C library can take for a number: digits, hexadecimal and dots, and anything with a colon.
_LIKE_A_NUMBER = re.compile(r"[0-9a-fA-FxX.]*\Z|.*:", re.DOTALL)


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
    if not _LIKE_A_NUMBER.match(host):
        return None
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


def is_numeric(host: str) -> bool:
    """Tell whether the C library takes a host for an address of either family, in any spelling."""
    if host and not _LIKE_A_NUMBER.match(host):
        return host == "<broadcast>"
    try:
        return numeric(host, 4) is not None or numeric(host, 6) is not None
    except socket.gaierror:  # of one family when asked for the other
        return True


def numbers(host: str) -> list[str]:
    """Return the address of a numeric host, in one family or both; nothing for a name."""
    found = []
    for family in (4, 6):
        try:
            number = numeric(host, family)
        except socket.gaierror:
            continue
        if number is not None:
            found.append(number[0])
    return found
