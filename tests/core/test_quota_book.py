"""Quotas are never granted twice: not over windows, clocks that are set, zones that change, restarts or crashes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.quota.account import FULL, NEAR, REMEMBERED, Account, Kept
from outgate.core.quota.book import Book, Purse
from outgate.core.quota.quotas import CUT, DAY, DELAY, MINUTE, PERS, WARN, Quota
from outgate.core.quota.windows import window

UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC_ZONE, BERLIN, ZoneInfo("America/Los_Angeles"), ZoneInfo("Pacific/Auckland")]
NOON = datetime(2026, 6, 15, 12, tzinfo=UTC).timestamp()
#: The week in which Europe's clocks go back, and America's a week later.
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC).timestamp()


def quota(limit: int, per: str = MINUTE, over: str = CUT, warn_at: float = 0.8, resource: str = "connect") -> Quota:
    """Return a quota."""
    return Quota(resource, per, limit, over, warn_at)


counts = st.integers(0, 40)
#: Seconds that the clock moves between two uses: mostly forward, now and then set either way.
steps = st.one_of(st.floats(0, 200), st.floats(-7200, 7200), st.floats(-2 * 86400, 2 * 86400))


@given(st.lists(st.tuples(steps, counts), max_size=60), st.integers(0, 60), st.sampled_from(PERS))
def test_no_window_grants_more_than_its_limit(moves: list[tuple[float, int]], limit: int, per: str) -> None:
    """However the clock goes, a calendar window grants its limit at most, all that is asked for while there is some."""
    account, now = Account(quota(limit, per), BERLIN), AUTUMN
    granted: Counter[int] = Counter()
    for step, count in moves:
        now += step
        start = window(per, now, BERLIN).start
        given_ = account.reserve(count, now)
        assert given_ == min(count, limit - granted[start])
        granted[start] += given_
        assert (account.start, account.used) == (start, granted[start])


@given(st.lists(st.tuples(steps, counts), max_size=60), st.sampled_from(PERS))
def test_sums_over_windows(moves: list[tuple[float, int]], per: str) -> None:
    """What is counted is in one window each, and all of it is in some: nothing is lost when the clock is set back."""
    account, now, total = Account(quota(10, per, WARN), BERLIN), AUTUMN, 0
    seen: dict[int, int] = {}
    for step, count in moves:
        now += step
        account.count(count, now)
        total += count
        seen[account.start] = account.used
    assert sum(seen.values()) == total


@given(
    st.lists(st.tuples(st.floats(0, 90_000), counts, st.sampled_from(ZONES)), max_size=40),
    st.integers(1, 100),
)
def test_a_change_of_zone_grants_no_day_twice(moves: list[tuple[float, int, ZoneInfo]], limit: int) -> None:
    """No more is granted than the limit leaves of what was used since the day began, whatever zones were in force."""
    account, now = Account(quota(limit, DAY), ZONES[0]), AUTUMN
    log: list[tuple[float, int]] = []
    for step, count, zone in moves:
        now += step
        account.adopt(account.quota, zone)
        start = window(DAY, now, zone).start
        before = sum(granted for when, granted in log if when >= start)
        granted = account.reserve(count, now)
        assert granted <= max(limit - before, 0)
        log.append((now, granted))


def test_there_and_back_between_zones() -> None:
    """Changing the zone and changing it back within a day keeps all that was used in either."""
    account = Account(quota(10, DAY), UTC_ZONE)
    assert account.reserve(4, NOON) == 4
    account.adopt(account.quota, ZONES[3])
    assert account.reserve(4, NOON + 1) == 4
    account.adopt(account.quota, UTC_ZONE)
    assert account.reserve(4, NOON + 2) == 2
    assert account.used == 10


def test_a_clock_decades_ahead_for_a_moment() -> None:
    """After a leap of decades and back the day goes on as it was left, and the leap's own day was one more."""
    account = Account(quota(10, DAY), UTC_ZONE)
    assert account.reserve(7, NOON) == 7
    assert account.reserve(7, NOON + 30 * 366 * 86400) == 7
    assert account.reserve(7, NOON + 60) == 3
    assert account.reserve(7, NOON + 86400) == 7


@pytest.mark.parametrize(("per", "length"), [(DAY, 86400), (MINUTE, 60)])
def test_how_many_windows_are_remembered(per: str, length: int) -> None:
    """A clock set back within what is remembered finds every window used; beyond that, an empty one."""
    account = Account(quota(1, per), UTC_ZONE)
    most = REMEMBERED[per]
    for number in range(most + 2):
        assert account.reserve(1, NOON + number * length) == 1
    assert [account.reserve(1, NOON + number * length) for number in range(1, most + 2)] == [0] * (most + 1)
    assert account.reserve(1, NOON) == 1


def test_dst_days_have_one_window() -> None:
    """In the 25 hours of a day in autumn, and in the 23 of one in spring, the limit is granted once."""
    for day in ((2026, 10, 25), (2026, 3, 29)):
        start = datetime(*day, tzinfo=BERLIN).timestamp()
        end = window(DAY, start, BERLIN).end
        account = Account(quota(20, DAY), BERLIN)
        granted = [account.reserve(1, start + hour * 3600) for hour in range(int(end - start) // 3600)]
        assert sum(granted) == 20
        assert account.reserve(1, end) == 1


# --- limits that change -----------------------------------------------------------------------------------------------


def test_a_limit_that_is_raised_counts_at_once() -> None:
    """What is used stays used; a higher limit grants the difference, and a lower one nothing."""
    account = Account(quota(10), UTC_ZONE)
    assert account.reserve(20, NOON) == 10
    account.adopt(quota(15), UTC_ZONE)
    assert account.reserve(20, NOON) == 5
    account.adopt(quota(3), UTC_ZONE)
    assert (account.reserve(1, NOON), account.left(NOON), account.used) == (0, 0, 15)
    assert account.reserve(5, NOON + 60) == 3


def test_a_quota_that_is_taken_away_and_put_back() -> None:
    """A quota that a reload took away goes on where it was when another puts it back in the same window."""
    book = Book("a", [quota(5)], UTC_ZONE)
    assert book.reserve("connect", 4, NOON) == (4, None)
    book.adopt([], UTC_ZONE)
    assert book.reserve("connect", 100, NOON) == (100, None)
    book.adopt([quota(5)], UTC_ZONE)
    granted, least = book.reserve("connect", 4, NOON)
    assert granted == 1
    assert least is next(iter(book))


# --- several at once --------------------------------------------------------------------------------------------------

uses = st.lists(
    st.tuples(st.sampled_from(["create", "connect", "bytes_sent"]), st.integers(0, 30)), min_size=1, max_size=3
)


@given(
    st.lists(st.tuples(st.floats(0, 30), uses), max_size=40),
    st.dictionaries(
        st.tuples(st.sampled_from(["create", "connect", "bytes_sent"]), st.sampled_from(PERS)), st.integers(0, 80)
    ),
)
def test_all_or_nothing(moves: list[tuple[float, list[tuple[str, int]]]], limits: dict[tuple[str, str], int]) -> None:
    """A charge is counted whole in every quota that it concerns, or in none; and refused only where one lacks it."""
    book = Book("a", [quota(limit, per, resource=name) for (name, per), limit in limits.items()], UTC_ZONE)
    now = NOON
    used: Counter[tuple[str, str, int]] = Counter()
    for step, costs in moves:
        now += step
        total: Counter[str] = Counter()
        for name, count in costs:
            total[name] += count
        keys = {(name, per): (name, per, window(per, now, UTC_ZONE).start) for name, per in limits}
        fits = all(
            used[keys[name, per]] + total[name] <= limit for (name, per), limit in limits.items() if name in total
        )
        refused = book.charge(costs, now)
        assert (refused is None) == fits
        if fits:
            for (name, _), key in keys.items():
                used[key] += total[name]
        for account in book:
            key = keys[account.quota.resource, account.quota.per]
            assert account.left(now) == max(account.quota.limit - used[key], 0)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 200))
def test_a_reservation_is_what_the_least_of_them_grants(day: int, minute: int, count: int) -> None:
    """Where day and minute differ the lower of the two is granted, and counted in both."""
    book = Book("a", [quota(day, DAY), quota(minute, MINUTE)], UTC_ZONE)
    granted, least = book.reserve("connect", count, NOON)
    assert granted == min(count, day, minute)
    assert [account.used for account in book] == [granted, granted]
    assert (least is None) == (granted == count)


def test_one_apps_book_is_not_anothers() -> None:
    """What one app uses up is all there for another with the same quotas."""
    quotas = [quota(5)]
    one, other = Book("one", quotas, UTC_ZONE), Book("other", quotas, UTC_ZONE)
    assert one.charge([("connect", 5)], NOON) is None
    assert one.charge([("connect", 1)], NOON) is not None
    assert other.charge([("connect", 5)], NOON) is None


def test_warn_lets_everything_through_and_counts_it() -> None:
    """A quota that only warns grants all, counts all, and says once each that its share and its limit are reached."""
    account = Account(quota(10, over=WARN), UTC_ZONE)
    news = []
    for _ in range(15):
        assert account.reserve(1, NOON) == 1
        news.append(account.news(NOON))
    assert account.used == 15
    assert {used: said for used, said in enumerate(news, 1) if said} == {8: NEAR, 10: FULL}


# --- purses -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(0, 50)), max_size=60), st.integers(0, 300), st.integers(1, 64))
def test_a_purse_spends_what_is_granted(moves: list[tuple[float, int]], limit: int, batch: int) -> None:
    """In batches too a window grants its limit and no more, and what is left over is given back to its window."""
    book = Book("a", [quota(limit, over=DELAY, resource="bytes_sent")], UTC_ZONE)
    purse, now = Purse(book, "bytes_sent", batch), NOON
    spent: Counter[int] = Counter()
    for step, wanted in moves:
        now += step
        start = window(MINUTE, now, UTC_ZONE).start
        while wanted and (room := purse.room(now)):
            count = min(room, wanted)
            purse.spend(count)
            spent[start] += count
            wanted -= count
        assert not wanted or spent[start] == limit
    purse.empty()
    (account,) = book
    account.left(now)
    assert account.used == spent[account.start]
    assert all(count <= limit for count in spent.values())


def test_a_purse_says_who_refused() -> None:
    """Where there is no room the purse names the account; where nothing limits it there is always a batch."""
    book = Book("a", [quota(5, DAY, resource="bytes_sent")], UTC_ZONE)
    purse = Purse(book, "bytes_sent", 64)
    assert purse.room(NOON) == 5
    purse.spend(5)
    assert purse.room(NOON) == 0
    assert purse.refused is next(iter(book))
    assert Purse(book, "bytes_received", 64).room(NOON) == 64


# --- what is kept -----------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 30), counts, st.sampled_from(["", "keep", "stop"])), max_size=50))
def test_a_clean_restart_keeps_the_count(moves: list[tuple[float, int, str]]) -> None:
    """A book that is stored and opened again goes on at the very count."""
    disk: dict[tuple[str, str, int, int], Kept] = {}
    quotas = [quota(200, MINUTE), quota(1000, DAY)]
    book, now = Book("a", quotas, BERLIN), AUTUMN
    used: Counter[tuple[str, int]] = Counter()
    for step, count, event in moves:
        now += step
        granted, _ = book.reserve("connect", count, now)
        for per in PERS:
            used[per, window(per, now, BERLIN).start] += granted
        if event:
            for kept in book.kept(exact=event == "stop"):
                disk[kept.resource, kept.per, kept.start, kept.end] = kept
        if event == "stop":
            book = Book("a", quotas, BERLIN, disk.values())
            book.standings(now)
        for account in book:
            assert account.used == used[account.quota.per, account.start]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 20)), min_size=1, max_size=30), st.integers(1, 5000))
def test_a_crash_counts_at_least_what_was_used(moves: list[tuple[float, int]], limit: int) -> None:
    """After an end without a word the count is that at the last time it was stored, and ahead of it by the bound."""
    account, now = Account(quota(limit, DAY), UTC_ZONE), NOON
    stored = None
    for step, count in moves:
        now += step
        account.reserve(count, now)
        stored = account.keep() or stored
    if stored is None:
        assert account.used == 0
        return
    after = Account(account.quota, UTC_ZONE, [stored])
    after.left(now)
    assert account.used <= after.used <= limit
    assert after.used <= account.used + max(2 * 20, limit // 1000)


def test_steady_use_is_never_lost_in_a_crash() -> None:
    """As long as use does not double from one time to the next, every grant is in what was stored before it."""
    account, now = Account(quota(10_000, DAY), UTC_ZONE), NOON
    stored = 0
    for rate in (5, 8, 14, 27, 50, 50, 3, 10):
        for _ in range(rate):
            now += 0.001
            account.reserve(1, now)
            if stored:
                assert account.used <= stored
        kept = account.keep()
        stored = kept.used if kept is not None else stored


def test_what_has_not_changed_is_not_stored() -> None:
    """An account that nobody used gives nothing to store, and one that was stored gives it once."""
    book = Book("a", [quota(10), quota(10, DAY)], UTC_ZONE)
    assert book.kept() == []
    book.charge([("connect", 1)], NOON)
    assert [(kept.per, kept.used) for kept in book.kept()] == [(MINUTE, 3), (DAY, 3)]
    assert book.kept() == []
    assert [(kept.per, kept.used) for kept in book.kept(exact=True)] == [(MINUTE, 1), (DAY, 1)]


def test_a_zone_that_changed_while_the_gate_was_down() -> None:
    """What was stored under another zone counts in the day that now runs."""
    book = Book("a", [quota(10, DAY)], UTC_ZONE)
    book.charge([("connect", 6)], NOON)
    after = Book("a", [quota(10, DAY)], ZONES[2], book.kept(exact=True))
    assert after.charge([("connect", 5)], NOON + 60) is not None
    assert after.charge([("connect", 4)], NOON + 60) is None


# --- what is said -----------------------------------------------------------------------------------------------------


def test_a_warning_comes_once_a_window() -> None:
    """The share and the limit are news once in each window; in one that the clock goes back to, not again."""
    account = Account(quota(10), UTC_ZONE)

    def news(count: int, now: float) -> int:
        account.reserve(count, now)
        return account.news(now)

    assert [news(1, NOON) for _ in range(12)] == [0] * 7 + [NEAR, 0, FULL, 0, 0]
    assert [news(8, NOON + 60), news(1, NOON + 60)] == [NEAR, 0]
    assert [news(1, NOON), news(1, NOON + 60)] == [0, FULL]
    account.adopt(quota(100), UTC_ZONE)
    assert [news(70, NOON + 60), news(1, NOON + 60), news(30, NOON + 60)] == [NEAR, 0, FULL]


def test_a_restart_does_not_warn_again() -> None:
    """What was said of a window is stored with it."""
    account = Account(quota(10), UTC_ZONE)
    account.reserve(9, NOON)
    assert account.news(NOON) == NEAR
    kept = account.keep(exact=True)
    assert kept is not None
    after = Account(quota(10), UTC_ZONE, [kept])
    assert after.news(NOON) == 0
    assert after.reserve(1, NOON) == 1
    assert after.news(NOON) == FULL


@pytest.mark.parametrize(
    ("used", "per", "passed", "text"),
    [
        (82, DAY, 21 * 3600, "82 % used, resets in 3 h"),
        (82, DAY, 12 * 3600, "82 % used, resets in 12 h, at this pace used up in 3 h"),
        (100, DAY, 12 * 3600, "100 % used, resets in 12 h"),
        (0, MINUTE, 30, "0 % used, resets in 30 s"),
        (50, MINUTE, 10, "50 % used, resets in 50 s, at this pace used up in 10 s"),
    ],
)
def test_a_forecast(used: int, per: str, passed: int, text: str) -> None:
    """The forecast says the share, when the window ends, and whether it will last."""
    account = Account(quota(100, per), UTC_ZONE)
    now = window(per, NOON, UTC_ZONE).start + passed
    account.reserve(used, now)
    assert account.standing(now).text == text


def test_facts_of_a_refusal() -> None:
    """A refusal names the quota, what was used of it, and when it resets."""
    account = Account(Quota("bytes_sent", DAY, 20 * 10**9, CUT), UTC_ZONE)
    account.count(20_480_000_000, NOON)
    assert account.standing(NOON).facts("blog") == {
        "app": "blog",
        "quota": "bytes_sent.day",
        "used": 20_480_000_000,
        "limit": 20_000_000_000,
        "use": "20.5 GB of 20 GB",
        "retry_after": 43200.0,
        "resets": "12 h",
    }


def test_a_limit_of_nothing() -> None:
    """A limit of 0 grants nothing, is news when somebody asks, and divides nothing by 0."""
    account = Account(quota(0), UTC_ZONE)
    assert account.standing(NOON).share == 1.0
    assert account.news(NOON) == 0
    assert (account.reserve(1, NOON), account.news(NOON), account.news(NOON)) == (0, FULL, 0)
