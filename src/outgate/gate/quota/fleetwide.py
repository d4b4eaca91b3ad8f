"""Keep the shared quotas of a gate in step with its fleet's: ask when one is short and each second, hear, let go on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from outgate.core.quota.pool import Pool
from outgate.core.quota.shared import SharedAccount
from outgate.gate import wire
from outgate.gate.quota.app import AppQuotas, Short
from outgate.gate.quota.pooling import Asked, Heard, ask, key_of

if TYPE_CHECKING:
    from redis import Redis

    from outgate.gate.server import Gate

__all__ = ["Fleetwide"]

#: Windows in one question: Redis does nothing else meanwhile.
BATCH: Final = 200
#: Seconds between looks at quotas that nobody uses here: others may.
STATE_EVERY: Final = 5
#: Seconds between questions while nothing is given because everything was lost.
PATIENCE: Final = 0.1
#: Seconds for which a request waits for what an answer may bring; a client waits for ten.
LIMIT: Final = 2.5

#: What is charged to a quota, and may wait.
_WAIT: Final = (wire.Bind, wire.Connect, wire.Reach, wire.Resolve)

_Asking = tuple[SharedAccount, Asked]
_Handler = Callable[..., Any]


class Fleetwide:
    """What the quotas of one gate have to do with those of others. One question is on its way at a time.

    :ivar pool: what all its accounts have in common.
    """

    def __init__(self, gate: Gate, share: float, apps: Mapping[str, AppQuotas], look: Callable[[], None]) -> None:
        """Make one; it asks when it has begun.

        :param share: of a limit that may be granted where there is no answer.
        :param apps: all that have quotas; there may be more later.
        :param look: called when bytes that wait may go on.
        """
        self.pool: Pool[SharedAccount] = Pool(share, self._wake)
        self._gate, self._apps, self._look = gate, apps, look
        self._run = secrets.token_hex(8)
        self._number = self._seconds = 0
        self._born = b""
        self._is_asking = self._is_over = self._has_told = False
        #: What the next question is about beside those who want one: all, and whether a second has passed.
        self._all = self._looks = False
        self._timer: asyncio.Handle | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def begin(self) -> None:
        """Ask by the gate's line from now on, and have requests wait where an answer may turn their refusal."""
        shared = self._gate.shared
        shared.watchers.append(self._turned)
        self.pool.is_away = shared.is_away
        self._gate.handlers = _waiting(self, self._gate.handlers)
        self._all = True
        self._wake()

    # --- asking -------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """State what is held, give back what lies idle, ask ahead: a second has passed."""
        self._seconds += 1
        self._looks = True
        self._all = self._all or self._seconds % STATE_EVERY == 0
        self._ask()

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._gate.loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._timer = None
        self._ask()

    def _ask(self) -> None:
        """Ask what there is to ask, in batches, each a job of its own; not while an answer is awaited."""
        if self._is_asking or self._is_over or self.pool.is_away:
            return
        now = self._gate.quotas.now()
        looks, states = self._looks, self._all
        self._looks = self._all = False
        hungry = set(self.pool.take_hungry())
        found: list[_Asking] = []
        for name, account in self._accounts():
            if looks or states or account in hungry:
                question = account.ask(now, looks=looks, states=states)
                if question is not None:
                    key = key_of(name, account.quota.resource, account.quota.per, question.start)
                    found.append((account, Asked(key, question)))
        if not found and not looks and not states:
            return
        self._is_asking = True
        # With nothing to say it is asked all the same whether anything was lost.
        pieces = [found[start : start + BATCH] for start in range(0, len(found), BATCH)] or [[]]
        for piece in pieces:
            self._number += 1
            job = partial(self._job, self._number, [asked for _, asked in piece], now)
            self._gate.shared.ask(job, partial(self._heard, piece, piece is pieces[-1]))

    def _accounts(self) -> Iterator[tuple[str, SharedAccount]]:
        for name, app in self._apps.items():
            for account in app.book:
                if isinstance(account, SharedAccount):
                    yield name, account

    def _job(self, number: int, asked: list[Asked], now: float, redis: Redis) -> Heard:
        fleet = self._gate.settings.fleet
        assert fleet is not None
        return ask(redis, fleet.name, self._run, number, asked, now)

    def _heard(self, piece: list[_Asking], is_last: bool, heard: Heard | None) -> None:
        if is_last:
            self._is_asking = False
        if heard is None:  # it is away, as the accounts have been told
            self._go_on()
            return
        self._look_for_twins(piece, heard)
        for (account, asked), answer in zip(piece, heard.answers, strict=True):
            account.hear(asked.question, answer)
        if not is_last:
            return
        if heard.born != self._born:
            self._born, self._all = heard.born, True
            self._ask()
        elif heard.is_young:  # who waits would only ask the same again
            self._all = True
            if self._timer is None:
                self._timer = self._gate.loop.call_later(PATIENCE, self._woken)
        else:
            self._go_on()
            self._ask()

    def _look_for_twins(self, piece: list[_Asking], heard: Heard) -> None:
        """Say once that another gate has this one's name: each takes what the other holds for its own."""
        for account, asked in piece:
            if asked.key in heard.others and account.is_known and not self._has_told:
                self._has_told = True
                fleet = self._gate.settings.fleet
                name = fleet.name if fleet is not None else ""
                self._gate.log.event("fleet-name-twice", gate=name, reason="another gate has this name: see fleet.name")

    def _turned(self, is_away: bool) -> None:
        """Go on alone, or together again."""
        self.pool.is_away = is_away
        self.pool.take_hungry()
        for _, account in self._accounts():
            account.lost()
        self._all = True
        self._go_on()
        self._ask()

    # --- waiting ------------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Have decided again what has waited for an answer."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
        self._look()

    def answer(self) -> asyncio.Future[None]:
        """Return what ends with the next answer, or with the word that there is none: within a second or two."""
        future: asyncio.Future[None] = self._gate.loop.create_future()
        self._waiting.append(future)
        return future

    def later(self, function: Callable[[], None]) -> None:
        """Have something done after the next answer."""
        self.answer().add_done_callback(lambda _: function())

    # --- the end ------------------------------------------------------------------------------------------------------

    def stop(self) -> Callable[[Redis], Any] | None:
        """Ask nothing any more, and return what says the last: what was used, and that nothing else is held."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        asked = []
        for name, account in self._accounts():
            question = account.last_word()
            if question is not None:
                key = key_of(name, account.quota.resource, account.quota.per, question.start)
                asked.append(Asked(key, question))
        return partial(self._job, self._number + 1, asked, self._gate.quotas.now()) if asked else None


def _waiting(fleetwide: Fleetwide, inner: Mapping[type, _Handler]) -> dict[type, _Handler]:
    """Return the gate's handlers, of which those that are charged for wait for an answer that may turn a refusal."""
    return {**inner, **{kind: _patient(fleetwide, inner[kind]) for kind in _WAIT}}


def _patient(fleetwide: Fleetwide, inner: _Handler) -> _Handler:
    async def handler(gate: Gate, channel: Any, process: Any, request: Any) -> Any:
        reply = await inner(gate, channel, process, request)
        if type(reply) is not Short:
            return reply
        until = gate.loop.time() + LIMIT
        while type(reply) is Short and gate.loop.time() < until:
            await fleetwide.answer()
            reply = await inner(gate, channel, process, request)
        return reply

    return handler
