"""How quotas are written and read, App Engine's figures, and how fast sockets may go that are paced."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.quota.pace import BUSY_SHARE, IDLE_SHARE, PACKET, SHORTEST, TRICKLE, UNPACED, pace
from outgate.core.quota.quotas import (
    APP_ENGINE,
    BYTES,
    CUT,
    DAY,
    DEFAULT,
    DELAY,
    MINUTE,
    MOST,
    PERS,
    RESOURCES,
    WARN,
    Quota,
    amount,
    default_over,
    parse_amount,
    written,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("20 GB", 20 * 10**9),
        ("113MB", 113 * 10**6),
        ("1.5 GB", 1_500_000_000),
        ("64 KiB", 65536),
        ("1 TiB", 2**40),
        ("10_000 kB", 10**7),
        ("7 B", 7),
        ("0 B", 0),
        (4096, 4096),
        ("unlimited", None),
    ],
)
def test_an_amount_of_bytes(text: str | int, count: int | None) -> None:
    """Bytes are a number, or a number with a unit; GB is a thousand million, GiB 2 to the 30th."""
    assert parse_amount("bytes_sent", text) == count


@pytest.mark.parametrize(
    "text",
    ["", "GB", "20", "20 gb", "-1 GB", "1e3 MB", "20 GB per day", "1..5 GB", "9 999 TB", "9999999 TB", -1, 2**60],
)
def test_what_is_no_amount(text: str | int) -> None:
    """Anything else is refused with what one looks like."""
    with pytest.raises(ValueError, match=r'is no limit; write "20 GB"'):
        parse_amount("bytes_received", text)


def test_calls_are_plain_numbers() -> None:
    """What is counted in calls takes no unit."""
    assert parse_amount("connect", 60_000) == 60_000
    assert parse_amount("connect", "unlimited") is None
    with pytest.raises(ValueError, match="is no limit; write 60000"):
        parse_amount("connect", "60 kB")


@given(st.sampled_from(sorted(BYTES)), st.integers(0, MOST))
def test_amounts_are_short_and_near(resource: str, count: int) -> None:
    """What people read has at most three digits and a unit, and reads back to within half a percent."""
    text = amount(resource, count)
    assert len(text) <= 8 or count >= 10**15
    if count < 10**15:
        back = parse_amount(resource, text)
        assert back is not None
        assert abs(back - count) <= count * 0.005


quotas = st.builds(
    lambda resource, per, limit, over, warn_at: Quota(
        resource, per, limit, CUT if over == DELAY and resource not in BYTES else over, warn_at
    ),
    st.sampled_from(sorted(RESOURCES)),
    st.sampled_from(PERS),
    st.integers(0, MOST),
    st.sampled_from([CUT, DELAY, WARN]),
    st.sampled_from([0.5, 0.8, 1.0]),
)


@given(st.lists(quotas, unique_by=lambda quota: (quota.resource, quota.per)))
def test_written_as_the_configuration_has_them(several: list[Quota]) -> None:
    """What is written says every limit, and what happens above it where that is not the default."""
    table = written(tuple(several))
    for quota in several:
        said = table[quota.resource][quota.per]
        said = said if isinstance(said, dict) else {"limit": said}
        over = default_over(quota.resource, quota.per)
        assert (said["limit"], said.get("over", over), said.get("warn_at", 0.8)) == (
            quota.limit,
            quota.over,
            quota.warn_at,
        )
    assert sum(map(len, table.values())) == len(several)


def test_app_engines_figures() -> None:
    """The table of App Engine: seven resources, each per day and per minute, the minute eight times the average one."""
    table = {(quota.resource, quota.per): quota for quota in APP_ENGINE}
    assert {resource for resource, _ in table} == set(RESOURCES) - {"look_ups"}
    for resource in ("create", "connect", "bind"):
        assert (table[resource, DAY].limit, table[resource, MINUTE].limit) == (864_000, 4_800)
    for resource in ("send", "receive"):
        assert (table[resource, DAY].limit, table[resource, MINUTE].limit) == (663_552_000, 3_686_400)
    for resource in BYTES:
        assert (table[resource, DAY].limit, table[resource, MINUTE].limit) == (20 * 10**9, 113 * 10**6)
        assert (table[resource, DAY].over, table[resource, MINUTE].over) == (CUT, DELAY)
    for (resource, per), quota in table.items():
        if per == DAY and resource not in BYTES:
            assert quota.limit / 1440 * 8 == table[resource, MINUTE].limit


def test_the_default_is_one_quota() -> None:
    """By default there is a bound on connects alone."""
    assert list(DEFAULT) == [Quota("connect", MINUTE, 60_000, CUT, 0.8)]


limits = st.integers(1, MOST)


@given(limits, st.floats(0, 1), st.floats(0, 86400), st.integers(0, 5000), st.integers(0, 5000))
def test_together_they_leave_half_of_what_is_left(
    limit: int, used: float, seconds: float, busy: int, idle: int
) -> None:
    """In a second all sockets of an app send half of what is left at most, or what the lowest paces come to."""
    left = int(limit * (1 - used))
    found = pace(limit, left, seconds, busy, idle)
    sockets = busy + idle
    share = left * (BUSY_SHARE + IDLE_SHARE)
    lowest = PACKET / min(max(seconds, 1.0), SHORTEST)
    assert busy * found.busy + idle * found.idle <= share + sockets * lowest + 1


@given(limits, st.floats(1, 86400), st.integers(0, 5000), st.integers(0, 5000))
def test_the_lowest_paces_come_to_little(limit: int, seconds: float, busy: int, idle: int) -> None:
    """Where nothing is left, all sockets send a fiftieth of the limit until the window ends, or a packet each."""
    found = pace(limit, 0, seconds, busy, idle)
    total = (busy * found.busy + idle * found.idle) * seconds
    slack = 1.001 * max(TRICKLE * limit, (busy + idle) * PACKET)
    assert total <= slack
    if busy:
        assert PACKET / found.busy <= 1.001 * max(seconds, SHORTEST), "a packet has gone by the time the window ends"


def test_a_burst_is_not_held() -> None:
    """At the beginning of a window a single socket goes as fast as it likes, where the limit is worth more than it."""
    assert pace(20 * 10**9, 20 * 10**9, 86400, 1, 0).busy >= UNPACED
    assert pace(113 * 10**6, 113 * 10**6, 60, 1, 0).busy == pytest.approx(45.2e6)
