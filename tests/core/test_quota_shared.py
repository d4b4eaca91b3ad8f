"""Quotas that gates share: never above the limit by more than is stated, never refused while there is room."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outgate.core.quota.account import FULL, NEAR
from outgate.core.quota.book import Book, charge
from outgate.core.quota.pool import Answer, Pool, Question, reserved
from outgate.core.quota.quotas import CUT, DAY, MINUTE, WARN, Quota
from outgate.core.quota.shared import SharedAccount, ahead_of

NOON = 1_800_000_000.0 // 60 * 60


class Redis:
    """What the script does: what each gate holds of each window, and what is left."""

    def __init__(self) -> None:
        self.held: dict[int, dict[str, int]] = {}
        self.is_young = False

    def answer(self, gate: str, question: Question) -> Answer:
        """Hear what a gate holds, and give it more."""
        window = self.held.setdefault(question.start, {})
        window.pop(gate, None)
        room = max(0, question.limit - sum(window.values()) - question.holds)
        gates = len(window) + 1
        granted = 0
        if not self.is_young:
            granted = min(question.need, room)
            granted += min(question.ahead, (room - granted) // (2 * gates))
        if question.holds + granted:
            window[gate] = question.holds + granted
        return Answer(granted, sum(window.values()), gates)


class Gate:
    """One gate with one quota, and what its adapter does with it."""

    def __init__(self, name: str, quota: Quota, redis: Redis, share: float) -> None:
        self.name, self.redis = name, redis
        self.pool: Pool[SharedAccount] = Pool(share, lambda: None)
        self.account = SharedAccount(quota, UTC, (), self.pool)
        self.was_away = False

    def ask(self, now: float, *, looks: bool = False, states: bool = False, lost: str = "") -> None:
        """Ask, if there is cause; what is lost on the way makes the pool away."""
        if self.pool.is_away:
            return
        question = self.account.ask(now, looks=looks, states=states)
        if question is None:
            return
        answer = None if lost == "question" else self.redis.answer(self.name, question)
        if lost or answer is None:
            self.turn(True)
        else:
            self.account.hear(question, answer)

    def turn(self, is_away: bool) -> None:
        """Go away, or come back."""
        self.was_away |= is_away
        self.pool.is_away = is_away
        self.account.lost()

    def use(self, count: int, now: float) -> bool:
        """Use some, as a request does: one that is short waits and is decided on again."""
        for _ in range(3):
            if charge(((self.account, count),), now) is None:
                return True
            if not self.account.is_short:
                return False
            self.ask(now)
        raise AssertionError("still short after two answers")


OPS = st.one_of(
    st.tuples(st.just("use"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("burst"), st.integers(0, 2), st.integers(5, 40)),
    st.tuples(st.just("tick"), st.integers(0, 2), st.just(0)),
    st.tuples(st.sampled_from(["question", "answer"]), st.integers(0, 2), st.just(0)),
    st.tuples(st.sampled_from(["away", "back", "restart", "lose", "turn"]), st.integers(0, 2), st.just(0)),
)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 120),
    st.sampled_from([0.0, 0.01, 0.25]),
    st.lists(OPS, max_size=60),
)
@example(
    40, 0.01, [("away", 0, 0), ("burst", 0, 40), ("burst", 1, 40), ("back", 0, 0), ("away", 1, 0), ("burst", 1, 9)]
)
@example(9, 0.01, [("away", 0, 0), ("away", 1, 0), ("away", 2, 0), *[("burst", gate, 20) for gate in range(3)]])
@example(40, 0.0, [("burst", 0, 10), ("tick", 0, 0), ("answer", 0, 0), ("burst", 1, 40), ("burst", 0, 15)])
def test_the_limit_holds(limit: int, share: float, ops: list[tuple[str, int, int]]) -> None:
    """Whatever is lost, dies or comes back: what is used is at most the limit, and each gate that was away's share.

    And nothing is refused, by who reaches the pool, that it had room for when it last answered.
    """
    quota = Quota("connect", MINUTE, limit, CUT)
    redis, now = Redis(), NOON
    gates = [Gate(name, quota, redis, share) for name in "abc"]
    most = reserved("connect", limit, share)
    for op, number, count in ops:
        gate = gates[number]
        if op in ("use", "burst"):
            size, times = (count, 1) if op == "use" else (1, count)
            for _ in range(times):
                if not gate.use(size, now) and not gate.pool.is_away:
                    assert gate.account.room < size or gate.account.used + size > limit
        elif op == "tick":
            gate.ask(now, looks=True)
        elif op in ("question", "answer"):
            gate.ask(now, looks=True, states=True, lost=op)
        elif op == "away":
            gate.turn(True)
        elif op == "back":
            gate.turn(False)
            gate.ask(now, states=True)
        elif op == "restart":
            kept = gate.account.keep(exact=True)
            gate.account = SharedAccount(quota, UTC, () if kept is None else (kept,), gate.pool)
            gate.ask(now, states=True)
        elif op == "lose" and not any(each.pool.is_away for each in gates):
            redis.held, redis.is_young = {}, True
            for each in gates:
                each.ask(now, states=True)
            redis.is_young = False
        elif op == "turn":
            now += 60
            for each in gates:
                each.was_away = each.pool.is_away
        used = sum(each.account.used for each in gates if each.account.start == now // 60 * 60)
        assert used <= limit + most * sum(each.was_away for each in gates)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 200), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=30))
def test_what_is_left_can_be_used_by_whoever_wants_it(limit: int, uses: list[tuple[int, int]]) -> None:
    """However the gates have used it, within two seconds one of them gets all that is left: none of it lies idle."""
    redis = Redis()
    gates = [Gate(name, Quota("connect", MINUTE, limit, CUT), redis, 0.01) for name in "abc"]
    for number, count in uses:
        for _ in range(count):
            gates[number].use(1, NOON)
        gates[number].ask(NOON, looks=True)
    for _ in range(3):
        for gate in gates:
            gate.ask(NOON, looks=True)
    last = gates[0]
    while last.use(1, NOON):
        pass
    assert sum(gate.account.used for gate in gates) == limit


def shared(limit: int = 100, share: float = 0.01, over: str = CUT, per: str = MINUTE) -> Gate:
    """A gate alone at its pool."""
    return Gate("a", Quota("connect", per, limit, over), Redis(), share)


def test_a_burst_takes_no_more_than_it_needs() -> None:
    """What is asked for at once is given exactly; only who goes on using is given some ahead."""
    gate = shared(100)
    for _ in range(64):
        assert gate.use(1, NOON)
    assert (gate.account.allotted, gate.account.room) == (64, 36)
    gate.ask(NOON, looks=True)
    assert (gate.account.allotted, gate.account.room) == (82, 18), "half of what is left: it is alone"
    gate.ask(NOON, looks=True)
    assert gate.account.allotted == 64, "it lay idle for a second"


@pytest.mark.parametrize(
    ("rate", "left", "gates", "ahead"),
    [(0, 100, 1, 0), (10, 1000, 1, 20), (10, 30, 1, 15), (10, 30, 3, 5), (10, 5, 3, 0), (10, 0, 1, 0), (1, 9, 0, 2)],
)
def test_what_is_held_ahead(rate: int, left: int, gates: int, ahead: int) -> None:
    """Twice a second's use, at most half of what is left divided by the gates, and nothing near the end."""
    assert ahead_of(rate, left, gates) == ahead


def test_a_gate_that_is_busy_asks_before_it_is_short() -> None:
    """Where half of what is held ahead is used more is asked for, while the rest is there to go on with."""
    gate = shared(10_000)
    for _ in range(100):
        gate.use(1, NOON)
    gate.ask(NOON, looks=True)
    assert gate.account.allotted - gate.account.used == 200
    gate.pool.take_hungry()
    for number in range(1, 201):
        assert charge(((gate.account, 1),), NOON) is None
        assert (gate.account in gate.pool.hungry) == (number > 100)
    gate.ask(NOON)
    assert gate.account.allotted - gate.account.used == 200


def test_where_the_pool_is_away_the_reservation_is_granted_and_counted_afterwards() -> None:
    """Each window anew, on top of what is held; the refusal then says why, and what was used is stated afterwards."""
    gate = shared(1000)
    other = Gate("b", Quota("connect", MINUTE, 1000, CUT), gate.redis, 0.01)
    for _ in range(30):
        gate.use(1, NOON)
    gate.turn(True)
    assert [gate.use(1, NOON) for _ in range(11)] == [True] * 10 + [False]
    assert not gate.account.is_short
    assert not gate.account.is_spent(NOON)
    assert "fleet.state does not answer" in gate.account.facts("blog", NOON)["use"]
    assert [gate.use(1, NOON + 60) for _ in range(5)] == [True] * 5
    gate.turn(False)
    assert charge(((gate.account, 1),), NOON + 60) is gate.account
    assert gate.account.is_short, "it can be asked for again"
    gate.ask(NOON + 60, states=True)
    other.ask(NOON + 60, states=True)
    assert (other.account.elsewhere, other.account.standing(NOON + 60).used) == (6, 6)


def test_nothing_is_granted_where_the_pool_has_said_that_nothing_is_left() -> None:
    """A gate that has heard so and then loses the pool grants nothing more in this window; in the next one it does."""
    gate = shared(20)
    assert sum(gate.use(1, NOON) for _ in range(25)) == 20
    assert gate.account.is_spent(NOON)
    gate.turn(True)
    assert not gate.use(1, NOON)
    assert gate.account.facts("blog", NOON)["use"] == "20 of 20"
    assert gate.use(1, NOON + 60)


def test_a_reservation_of_nothing_is_exact() -> None:
    """With 0 a gate that cannot ask grants what it holds, and nothing more."""
    gate = shared(100, share=0.0)
    assert gate.use(1, NOON)
    gate.turn(True)
    assert not gate.use(1, NOON)
    assert reserved("connect", 1000, 0.0) == 0


@pytest.mark.parametrize(
    ("resource", "limit", "share", "most"),
    [
        ("connect", 60_000, 0.01, 600),
        ("connect", 100, 0.01, 10),
        ("connect", 3, 0.01, 3),
        ("connect", 0, 0.01, 0),
        ("bytes_sent", 20 * 10**9, 0.01, 2 * 10**8),
        ("bytes_sent", 10**6, 0.01, 65536),
    ],
)
def test_how_much_a_reservation_is(resource: str, limit: int, share: float, most: int) -> None:
    """A share of the limit, ten calls or 64 KiB at least, and never more than the limit itself."""
    assert reserved(resource, limit, share) == most


def test_limits_may_differ() -> None:
    """What all have used is one; each gate goes by the limit that it has."""
    redis = Redis()
    low, high = (Gate(name, Quota("connect", DAY, limit, CUT), redis, 0.01) for name, limit in (("a", 10), ("b", 50)))
    assert sum(high.use(1, NOON) for _ in range(30)) == 30
    assert not low.use(1, NOON)
    assert low.account.standing(NOON).used == 30
    assert sum(high.use(1, NOON) for _ in range(30)) == 20


def test_a_limit_that_is_raised_counts_at_once() -> None:
    """A gate that has heard of the end goes on where its configuration gives it more."""
    gate = shared(5)
    assert sum(gate.use(1, NOON) for _ in range(9)) == 5
    gate.account.adopt(Quota("connect", MINUTE, 8, CUT), UTC)
    assert sum(gate.use(1, NOON) for _ in range(9)) == 3


def test_warnings_go_by_what_all_have_used() -> None:
    """Each gate says once that a quota comes near its end, and that it is there, wherever it was used."""
    redis = Redis()
    one, other = (Gate(name, Quota("connect", DAY, 10, CUT), redis, 0.01) for name in "ab")
    for _ in range(8):
        one.use(1, NOON)
    other.ask(NOON, states=True)
    assert [gate.account.news(NOON) for gate in (one, other)] == [NEAR, NEAR]
    for _ in range(2):
        other.use(1, NOON)
    one.ask(NOON, states=True)
    assert [gate.account.news(NOON) for gate in (one, other)] == [FULL, FULL]
    assert [gate.account.news(NOON) for gate in (one, other)] == [0, 0]


def test_waiting_for_an_answer_is_no_news() -> None:
    """Who is short is not refused yet: nothing is said of it."""
    gate = shared(100)
    assert charge(((gate.account, 1),), NOON) is gate.account
    assert gate.account.is_short
    assert gate.account.news(NOON) == 0


def test_a_quota_that_warns_is_counted_and_never_asked_for() -> None:
    """Above the limit it goes on; what was used is stated each second."""
    gate = shared(5, over=WARN)
    assert all(gate.use(1, NOON) for _ in range(9))
    question = gate.account.ask(NOON, looks=True)
    assert question is not None
    assert (question.holds, question.need, question.ahead) == (9, 0, 0)
    gate.account.hear(question, gate.redis.answer("a", question))
    assert gate.account.news(NOON) == FULL


def test_bytes_that_the_kernel_has_carried_are_stated_whatever_the_limit() -> None:
    """What was counted beyond what is held is said with the next question, and is spent for all."""
    redis = Redis()
    one, other = (Gate(name, Quota("bytes_sent", DAY, 1000, CUT), redis, 0.01) for name in "ab")
    one.account.count(1200, NOON)
    one.ask(NOON, looks=True)
    assert one.account.is_spent(NOON)
    assert not other.use(1, NOON)
    assert other.account.is_spent(NOON)


def test_a_gate_that_ends_gives_back_what_it_has_not_used() -> None:
    """Its last word is what it has used."""
    gate = shared(1000)
    for _ in range(50):
        gate.use(1, NOON)
    gate.ask(NOON, looks=True)
    assert gate.account.allotted > 50
    question = gate.account.last_word()
    assert question is not None
    assert (question.holds, question.need) == (50, 0)
    assert shared().account.last_word() is None


def test_an_answer_about_an_earlier_window_is_nothing() -> None:
    """What was asked before the minute turned is not this minute's."""
    gate = shared(10)
    charge(((gate.account, 1),), NOON + 59)
    question = gate.account.ask(NOON + 59)
    assert question is not None
    charge(((gate.account, 1),), NOON + 60)
    gate.account.hear(question, Answer(1, 1, 1))
    assert (gate.account.allotted, gate.account.is_known) == (0, False)


def test_what_other_gates_may_use_is_not_paced_twice() -> None:
    """What is left is what is held, and this gate's part of what nobody holds."""
    redis = Redis()
    one, other = (Gate(name, Quota("bytes_sent", DAY, 1000, CUT), redis, 0.01) for name in "ab")
    other.use(200, NOON)
    one.use(100, NOON)
    assert one.account.left(NOON) == 350
    one.turn(True)
    assert one.account.left(NOON) == 1000 - 200 - 100, "all that others did not hold may be granted meanwhile"


def books() -> Iterator[Book]:
    """A book alone, and one that shares."""
    quotas = [Quota("connect", MINUTE, 5, CUT), Quota("create", MINUTE, 5, CUT)]
    yield Book("blog", quotas, UTC)
    yield Book("blog", quotas, UTC, pool=Pool(0.01, partial(int)))


def test_only_a_book_with_a_pool_shares() -> None:
    """A gate that is alone has accounts that know of nobody."""
    alone, with_others = books()
    assert [type(each) for each in alone] != [type(each) for each in with_others]
    assert all(isinstance(each, SharedAccount) for each in with_others)
    assert alone.charge((("connect", 1),), NOON) is None
    short = with_others.charge((("connect", 1),), NOON)
    assert short is not None
    assert short.is_short


def test_one_answer_is_enough_for_all_that_a_call_is_short_of() -> None:
    """What is short of several quotas has the pool asked for each of them at once, for as much as it lacks."""
    pool = Pool[SharedAccount](0.01, lambda: None)
    quotas = [Quota(resource, per, 50, CUT) for resource in ("create", "connect") for per in (DAY, MINUTE)]
    book = Book("blog", quotas, UTC, pool=pool)
    uses = (("create", 1), ("connect", 1))
    for number in range(1, 4):
        short = book.charge(uses, NOON)
        assert short is not None
        assert short.is_short
        for account in pool.take_hungry():
            question = account.ask(NOON)
            assert question is not None
            assert question.need == 1
            account.hear(question, Answer(1, number, 1))
        assert book.charge(uses, NOON) is None
        assert {(account.used, account.allotted) for account in accounts_of(book)} == {(number, number)}


def accounts_of(book: Book) -> list[SharedAccount]:
    """Return the accounts of a book that shares."""
    return [each for each in book if isinstance(each, SharedAccount)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=3),
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=40),
)
def test_several_quotas_hold_each(limits: list[int], calls: list[tuple[str, bool]]) -> None:
    """Gates that are short of several quotas at once exceed none; what one refuses uses none of the others.

    And what was given for a call that was refused all the same can be used by others when a second has passed.
    """
    quotas = [
        Quota(name, MINUTE, limit, CUT) for name, limit in zip(("create", "connect", "bind"), limits, strict=True)
    ]
    pools = {name: Pool[SharedAccount](0.01, lambda: None) for name in "ab"}
    books = {name: Book("blog", quotas, UTC, pool=pool) for name, pool in pools.items()}
    redis = {quota.resource: Redis() for quota in quotas}

    def hear(name: str, account: SharedAccount, question: Question | None) -> None:
        if question is not None:
            account.hear(question, redis[account.quota.resource].answer(name, question))

    def tick() -> None:
        for name, book in books.items():
            for account in accounts_of(book):
                hear(name, account, account.ask(NOON, looks=True))

    def use(name: str) -> bool:
        for _ in range(2):
            short = books[name].charge([(quota.resource, 1) for quota in quotas], NOON)
            if short is None or not short.is_short:
                return short is None
            for account in pools[name].take_hungry():
                hear(name, account, account.ask(NOON))
        return books[name].charge([(quota.resource, 1) for quota in quotas], NOON) is None

    done = 0
    for name, passes in calls:
        done += use(name)
        if passes:
            tick()
        for at, quota in enumerate(quotas):
            used = sum(accounts_of(book)[at].used for book in books.values())
            assert used == done <= quota.limit
    for _ in range(3):
        tick()
    while use("a"):
        done += 1
    assert done == min(limits)
