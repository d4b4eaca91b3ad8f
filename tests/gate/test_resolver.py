"""The resolver of one app: what it remembers, what it shares, what it bounds, and that no other app waits for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from outgate.errors import ResolveFailed
from outgate.gate.names import resolver
from outgate.gate.names.resolver import KEPT, KEPT_MISSING, THREADS, WAITING, Resolver

PATIENCE = 20.0


class Library:
    """A C library that answers what it is told, counts, and waits where it is told to.

    :ivar asked: names in the order in which look-ups of them began.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, Any] = {}
        self._held: dict[str, threading.Event] = {}
        self._changed = threading.Condition()

    def hold(self, name: str) -> threading.Event:
        """Have look-ups of a name wait for the event that is returned."""
        event = self._held[name] = threading.Event()
        return event

    def release(self) -> None:
        """Let everything go on."""
        for event in self._held.values():
            event.set()

    def wait_until_asked(self, count: int) -> None:
        """Wait until so many look-ups have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE), self.asked

    def getaddrinfo(self, host: str, *_: Any) -> Any:
        """Answer, or raise, what stands in ``answers``."""
        with self._changed:
            self.asked.append(host)
            self._changed.notify_all()
        held = self._held.get(host)
        if held is not None:
            assert held.wait(PATIENCE)
        answer = self.answers.get(host, f"answer of {host}")
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The library that every look-up of the test asks."""
    library = Library()
    monkeypatch.setitem(resolver.CALLS, "getaddrinfo", library.getaddrinfo)
    yield library
    library.release()


def run(body: Callable[..., Awaitable[None]], resolvers: int = 1) -> None:
    """Run a coroutine function with resolvers and their clock, and stop them."""

    async def main() -> None:
        clock = Clock()
        mine = [Resolver(f"app{number}", clock) for number in range(resolvers)]
        try:
            await body(clock, *mine)
        finally:
            for each in mine:
                each.stop()

    asyncio.run(main())


def in_this_turn(coroutine: Any) -> Any:
    """Run a coroutine that must end without waiting for anything, and return its result."""
    with pytest.raises(StopIteration) as end:
        coroutine.send(None)
    return end.value.value


def test_an_answer_is_remembered_and_costs_no_turn(library: Library) -> None:
    """An answer holds for half a minute, is given in the same turn of the loop, and then is asked for again."""

    async def body(clock: Clock, mine: Resolver) -> None:
        first = await mine.call("getaddrinfo", "a.test", "a.test", 80)
        clock.now += KEPT - 0.1
        assert in_this_turn(mine.call("getaddrinfo", "a.test", "a.test", 80)) is first
        assert library.asked == ["a.test"]
        clock.now += 0.2
        await mine.call("getaddrinfo", "a.test", "a.test", 80)
        assert library.asked == ["a.test", "a.test"]

    run(body)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        socket.gaierror(socket.EAI_NODATA, "No address associated with hostname"),
        socket.gaierror(socket.EAI_ADDRFAMILY, "Address family for hostname not supported"),
        socket.herror(1, "Unknown host"),
    ],
    ids=repr,
)
def test_that_there_is_none_is_remembered_for_less_long(library: Library, error: OSError) -> None:
    """No such name, or no such address of it, holds for five seconds, with class, number and text."""
    library.answers["no.test"] = error

    async def body(clock: Clock, mine: Resolver) -> None:
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                await mine.call("getaddrinfo", "no.test", "no.test", 80)
            assert caught.value.args == error.args
        assert library.asked == ["no.test"]
        clock.now += KEPT_MISSING
        with pytest.raises(type(error)):
            await mine.call("getaddrinfo", "no.test", "no.test", 80)
        assert library.asked == ["no.test"] * 2

    run(body)


@pytest.mark.parametrize(
    "error",
    [
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"),
        socket.herror(2, "Host name lookup failure"),
        TypeError("no such argument"),
        OSError(5, "Input/output error"),
    ],
    ids=repr,
)
def test_other_errors_are_not_remembered(library: Library, error: Exception) -> None:
    """What may be otherwise at the next try is asked again at once."""
    library.answers["bad.test"] = error

    async def body(clock: Clock, mine: Resolver) -> None:
        for _ in range(2):
            with pytest.raises(type(error)):
                await mine.call("getaddrinfo", "bad.test", "bad.test", 80)
        assert len(library.asked) == 2

    run(body)


def test_questions_differ_by_every_argument_and_its_type(library: Library) -> None:
    """Another port, family or type of an argument is another question."""

    async def body(clock: Clock, mine: Resolver) -> None:
        questions = [
            ("a.test", 80),
            ("a.test", 81),
            ("a.test", "80"),
            ("a.test", 80, 0),
            ("A.test", 80),
            ("a.test", True),
        ]
        for question in [*questions, *questions]:
            await mine.call("getaddrinfo", "a.test", *question)
        await mine.call("getaddrinfo", "a.test", "a.test", 1)
        assert len(library.asked) == len(questions) + 1

    run(body)


def test_equal_look_ups_at_one_time_share_one(library: Library) -> None:
    """A hundred equal look-ups at one time are one question, and all get its answer or its error."""
    held = library.hold("slow.test"), library.hold("fails.test")
    library.answers["fails.test"] = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    async def body(clock: Clock, mine: Resolver) -> None:
        good = [asyncio.create_task(mine.call("getaddrinfo", "slow.test", "slow.test", 80)) for _ in range(100)]
        bad = [asyncio.create_task(mine.call("getaddrinfo", "fails.test", "fails.test", 80)) for _ in range(100)]
        await asyncio.to_thread(library.wait_until_asked, 2)
        for event in held:
            event.set()
        assert set(await asyncio.gather(*good)) == {"answer of slow.test"}
        failed = await asyncio.gather(*bad, return_exceptions=True)
        assert {getattr(each, "errno", None) for each in failed} == {socket.EAI_AGAIN}
        assert sorted(library.asked) == ["fails.test", "slow.test"]

    run(body)


def test_one_app_does_not_wait_for_anothers_name_server(library: Library) -> None:
    """With every thread of one app in the hands of a dead name server, and more waiting, another's look-up is made."""
    for number in range(THREADS + 8):
        library.hold(f"dead{number}.test")

    async def body(clock: Clock, one: Resolver, other: Resolver) -> None:
        waiting = [
            asyncio.create_task(one.call("getaddrinfo", "dead", f"dead{number}.test", 80))
            for number in range(THREADS + 8)
        ]
        await asyncio.to_thread(library.wait_until_asked, THREADS)
        assert await other.call("getaddrinfo", "quick.test", "quick.test", 80) == "answer of quick.test"
        assert not any(task.done() for task in waiting)
        library.release()
        await asyncio.gather(*waiting)

    run(body, resolvers=2)


def test_apps_remember_apart(library: Library) -> None:
    """What one app has asked makes no look-up of another quicker."""

    async def body(clock: Clock, one: Resolver, other: Resolver) -> None:
        await one.call("getaddrinfo", "a.test", "a.test", 80)
        await other.call("getaddrinfo", "a.test", "a.test", 80)
        assert library.asked == ["a.test", "a.test"]

    run(body, resolvers=2)


def test_ten_thousand_names_cost_their_own_app_only(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten thousand names at once those beyond the bound fail with EAI_AGAIN; another app's are answered."""
    monkeypatch.setattr(resolver, "PAUSE", 0.0)
    monkeypatch.setattr(resolver, "BURST", 10_000)
    for number in range(THREADS):
        library.hold(f"n{number}.test")

    async def body(clock: Clock, one: Resolver, other: Resolver) -> None:
        flood = [asyncio.create_task(one.call("getaddrinfo", f"n{n}", f"n{n}.test", 80)) for n in range(10_000)]
        await asyncio.to_thread(library.wait_until_asked, THREADS)
        refused = [task for task in flood if task.done()]
        assert len(refused) == 10_000 - THREADS - WAITING
        error = refused[0].exception()
        assert isinstance(error, ResolveFailed)
        assert error.errno == socket.EAI_AGAIN
        assert f"more than {WAITING} look-ups are waiting" in str(error)
        assert await other.call("getaddrinfo", "mine", "mine.test", 80) == "answer of mine.test"
        assert len(library.asked) == THREADS + 1, "no thread beyond its own has begun anything for the flood"
        library.release()
        answers = await asyncio.gather(*flood, return_exceptions=True)
        assert sum(isinstance(each, str) for each in answers) == THREADS + WAITING

    run(body, resolvers=2)


def test_a_flood_is_paced(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups beyond the burst begin at the rate and no quicker, and those of another app do not wait for it."""
    monkeypatch.setattr(resolver, "BURST", 3)
    monkeypatch.setattr(resolver, "RATE", 0.001)

    async def body(clock: Clock, one: Resolver, other: Resolver) -> None:
        tasks = [asyncio.create_task(one.call("getaddrinfo", "n", f"n{n}.test", 80)) for n in range(10)]
        await asyncio.wait(tasks[:3])
        assert await other.call("getaddrinfo", "mine", "mine.test", 80) == "answer of mine.test"
        assert sorted(library.asked) == ["mine.test", "n0.test", "n1.test", "n2.test"]
        for task in tasks[3:]:
            task.cancel()

    run(body, resolvers=2)


def test_a_burst_is_over_in_its_time(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pace holds back begins when its time has come."""
    monkeypatch.setattr(resolver, "BURST", 1)
    monkeypatch.setattr(resolver, "RATE", 1000.0)

    async def body(clock: Clock, mine: Resolver) -> None:
        calls = [mine.call("getaddrinfo", f"n{n}.test", f"n{n}.test", 80) for n in range(10)]
        assert await asyncio.gather(*calls) == [f"answer of n{n}.test" for n in range(10)]

    run(body)


def test_a_dead_name_holds_one_thread_however_often_it_is_asked(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again for what has not been answered in time waits for the same look-up."""
    monkeypatch.setattr(resolver, "LIMIT", 0.02)
    held = library.hold("dead.test")

    async def body(clock: Clock, mine: Resolver) -> None:
        for _ in range(2 * THREADS):
            with pytest.raises(ResolveFailed):
                await mine.call("getaddrinfo", "dead.test", "dead.test", 80)
        assert library.asked == ["dead.test"]
        monkeypatch.setattr(resolver, "LIMIT", PATIENCE)
        last = asyncio.create_task(mine.call("getaddrinfo", "dead.test", "dead.test", 80))
        await asyncio.sleep(0)
        held.set()
        assert await last == "answer of dead.test"

    run(body)


def test_a_look_up_has_a_time_limit(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer in time is EAI_AGAIN with words; what comes later is remembered, and what had not begun never does."""
    monkeypatch.setattr(resolver, "LIMIT", 0.05)
    for number in range(THREADS + 1):
        library.hold(f"slow{number}.test")

    async def body(clock: Clock, mine: Resolver) -> None:
        calls = [mine.call("getaddrinfo", f"slow{n}.test", f"slow{n}.test", 80) for n in range(THREADS + 1)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, ResolveFailed)
            assert "no answer within 0.05 s" in str(error)
        library.release()
        monkeypatch.setattr(resolver, "LIMIT", PATIENCE)
        assert await mine.call("getaddrinfo", "slow0.test", "slow0.test", 80) == "answer of slow0.test"
        assert await mine.call("getaddrinfo", "new.test", "new.test", 80) == "answer of new.test"
        assert sorted(library.asked) == ["new.test", *(f"slow{number}.test" for number in range(THREADS))]

    run(body)


def test_a_reload_forgets(library: Library) -> None:
    """After forget() every name is asked again, and an answer that was on its way is not kept."""
    held = library.hold("slow.test")

    async def body(clock: Clock, mine: Resolver) -> None:
        await mine.call("getaddrinfo", "a.test", "a.test", 80)
        slow = asyncio.create_task(mine.call("getaddrinfo", "slow.test", "slow.test", 80))
        await asyncio.to_thread(library.wait_until_asked, 2)
        mine.forget()
        again = asyncio.create_task(mine.call("getaddrinfo", "slow.test", "slow.test", 80))
        await asyncio.to_thread(library.wait_until_asked, 3)
        held.set()
        assert await slow == await again == "answer of slow.test"
        await mine.call("getaddrinfo", "a.test", "a.test", 80)
        assert library.asked == ["a.test", "slow.test", "slow.test", "a.test"]

    run(body)


def test_long_questions_are_not_remembered(library: Library) -> None:
    """What is longer than any name is asked anew each time or not at all: nobody fills the memory with it."""

    async def body(clock: Clock, mine: Resolver) -> None:
        for _ in range(2):
            await mine.call("getaddrinfo", "long", "x" * 1000, 80)
        assert len(library.asked) == 2
        with pytest.raises(ValueError, match="more than 4096 characters"):
            await mine.call("getaddrinfo", "long", "x" * 5000, 80)

    run(body)


@pytest.mark.parametrize("host", ["127.0.0.1", "0x7f.1", "1", "::1", "fe80::1%lo", "::ffff:1.2.3.4", "", "<broadcast>"])
def test_numbers_are_told_from_names(host: str) -> None:
    """Every spelling that the C library takes for an address is a number, with the addresses it stands for."""
    assert resolver.is_numeric(host)
    assert resolver.numbers(host)


@pytest.mark.parametrize(
    "host", ["localhost", "cafe", "dead.beef", "0x7g", "1.2.3.4.5", "256.1.1.1", "x", "a b", "☃", "*"]
)
def test_names_are_told_from_numbers(host: str) -> None:
    """What the C library would look up is a name, also where it is made of hexadecimal digits."""
    assert not resolver.is_numeric(host)
    assert resolver.numbers(host) == []
