"""The line to Redis or Valkey: jobs on a thread of its own, answers on the loop, and a word when it is away.

Whatever Redis does, it does it to this thread: a server that hangs, dies, or answers nonsense never holds the gate. Who
asks is answered within :data:`LIMIT`, with what the job returned or with ``None``; a job whose answer was lost may have
been done, may be done later, and is done again where a connection had broken, so what jobs do must bear that: say how
things are, not what has changed.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from outgate.gate.onloop import call_on
from outgate.gate.shared.unshared import Unshared

if TYPE_CHECKING:
    from redis import Redis

    from outgate.gate.configuration.settings import StateSettings

__all__ = ["LIMIT", "Shared", "client"]

#: Seconds after which who asks is told that there is no answer; the thread's own time-outs are the same, each.
LIMIT: Final = 1.0
#: Seconds between attempts while it is away, and between looks at it while nobody asks.
RETRY: Final = 1.0
IDLE: Final = 5.0

T = TypeVar("T")


def client(settings: StateSettings) -> Redis:
    """Return a client that has not connected yet, and tries nothing twice. Nothing newer than Redis 6 is needed.

    :raises ValueError: the URL says something that the library does not know.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    words: dict[str, Any] = {}
    if settings.credentials is not None:
        words["username"], words["password"] = settings.credentials
    return redis.Redis.from_url(
        settings.url,
        socket_connect_timeout=LIMIT,
        socket_timeout=LIMIT,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        max_connections=1,
        **words,
    )


class _Question:
    """A job that somebody waits for, on the loop."""

    __slots__ = ("_timer", "job", "then")

    def __init__(self, job: Callable[[Redis], Any], then: Callable[[Any], None]) -> None:
        self.job = job
        self.then: Callable[[Any], None] | None = then
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, loop: asyncio.AbstractEventLoop, late: Callable[[], None]) -> None:
        """Have it said when the answer is late."""
        self._timer = loop.call_later(LIMIT, late)

    def answer(self, value: Any) -> None:
        """Say what came of it; once."""
        if self._timer is not None:
            self._timer.cancel()
        then, self.then = self.then, None
        if then is not None:
            then(value)


class Shared(Unshared):
    """The state that the gates of a fleet share.

    :ivar why: what was last wrong with it; "" while all is well.
    """

    is_there = True

    def __init__(
        self,
        settings: StateSettings,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[..., None],
        connect: Callable[[StateSettings], Redis] = client,
    ) -> None:
        """Begin to connect.

        :param tell: called on the loop with the name and the fields of a line for the log.
        :param connect: makes a client, where not the usual one is wanted.
        """
        self.watchers = []
        self.is_away = False
        self.why = ""
        self._settings, self._loop, self._tell = settings, loop, tell
        self._since = 0.0
        self._has_answered = False
        self._waiting: set[_Question] = set()
        self._jobs: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._client = connect(settings)
        #: Of the thread: whether the last thing it tried came to nothing.
        self._fails = False
        self._thread = threading.Thread(target=self._run, name="outgate-state", daemon=True)
        self._thread.start()

    # --- on the loop --------------------------------------------------------------------------------------------------

    def ask(self, job: Callable[[Redis], T], then: Callable[[T | None], None]) -> None:
        """Have something done there, on the thread, and hear what came of it, on the loop and within :data:`LIMIT`.

        While it is away nothing is tried for who asks: the answer is ``None``, in the next turn of the loop.

        :param job: what to do; it may be done twice, or late, and returns anything but ``None``.
        :param then: is called with that, or with ``None`` where it does not answer.
        """
        question = _Question(job, then)
        if self.is_away:
            self._loop.call_soon(question.answer, None)
            return
        self._waiting.add(question)
        question.wait(self._loop, self._late)
        self._jobs.put(question)

    def _late(self) -> None:
        self._failed(f"no answer within {LIMIT:g} s")

    def _answered(self, question: _Question, value: Any) -> None:
        if question in self._waiting:  # otherwise it was too late
            self._waiting.discard(question)
            question.answer(value)

    def _failed(self, why: str) -> None:
        """Note that it is away: everybody who waits is told so, for what they wait for is behind what has failed."""
        self.why = why
        if not self.is_away:
            self.is_away, self._since = True, time.monotonic()
            self._tell("fleet-state-failed", reason=why, state=self._settings.shown_url)
            for watcher in self.watchers:
                watcher(True)
        waiting, self._waiting = self._waiting, set()
        for question in waiting:
            question.answer(None)

    def _is_back(self) -> None:
        self._has_answered = True
        if self.is_away:
            self.is_away, self.why = False, ""
            self._tell(
                "fleet-state-back",
                seconds=round(time.monotonic() - self._since, 1),
                state=self._settings.shown_url,
            )
            for watcher in self.watchers:
                watcher(False)

    def _fault(self, error: Exception) -> None:
        self._tell("fault", reason=f"{type(error).__name__}: {error}", request="fleet.state")

    def statistics(self) -> dict[str, Any] | None:
        """Return what ``outgate status`` shows: for how many seconds it has been away, ``None`` while it answers."""
        return {
            "url": self._settings.shown_url,
            "answers": self._has_answered and not self.is_away,
            "away": round(time.monotonic() - self._since, 1) if self.is_away else None,
            "why": self.why,
        }

    def stop(self, last: Callable[[Redis], Any] | None = None) -> None:
        """Ask nothing any more; the loop has stopped, or will.

        :param last: a job to do before, unless it is away.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        if last is not None and not self.is_away:
            self._jobs.put(_Question(last, _nobody))
        self._jobs.put(None)
        self._thread.join(2 * LIMIT if not self.is_away else 0.1)

    # --- on the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._try(_Question(_ping, _nobody))
        while True:
            try:
                question = self._jobs.get(timeout=RETRY if self._fails else IDLE)
            except queue.Empty:
                question = _Question(_ping, _nobody)
            if question is None:
                break
            if question.then is not None:  # nobody waits any more for what came too late
                self._try(question)
        self._client.close()

    def _try(self, question: _Question) -> None:
        from redis.exceptions import ConnectionError as Broken
        from redis.exceptions import RedisError

        try:
            try:
                value = question.job(self._client)
            except Broken:
                # A connection that was idle may have been closed by the other side, or by the server's restart. What
                # is really away says so again at once.
                value = question.job(self._client)
        except (RedisError, OSError) as error:
            self._fails = True
            call_on(self._loop, self._failed, _reason(error))
        except Exception as error:
            self._fails = True
            call_on(self._loop, self._fault, error)
            call_on(self._loop, self._failed, _reason(error))
        else:
            self._fails = False
            call_on(self._loop, self._is_back)
            call_on(self._loop, self._answered, question, value)


def _nobody(value: Any) -> None:
    """Hear the answer to what nobody has asked."""


def _ping(redis: Redis) -> Any:
    return redis.ping()


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
