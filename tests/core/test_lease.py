"""The life of a lease: every state with every event, and the limits."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core import lease
from outgate.core.transitions import follow
from outgate.errors import InternalError

EXPECTED = {
    (lease.BORN, lease.DIAL): lease.DIALLED,
    (lease.BORN, lease.END): lease.ENDED,
    (lease.DIALLED, lease.CONNECTED): lease.OPEN,
    (lease.DIALLED, lease.RESET): lease.FAILED,
    (lease.DIALLED, lease.END): lease.ENDED,
    (lease.OPEN, lease.RESET): lease.FAILED,
    (lease.OPEN, lease.END): lease.ENDED,
    (lease.FAILED, lease.DIAL): lease.DIALLED,
    (lease.FAILED, lease.END): lease.ENDED,
}


@pytest.mark.parametrize(("state", "event"), [*itertools.product(lease.STATES, lease.EVENTS)])
def test_every_pair(state: str, event: str) -> None:
    """A pair leads where it should, and one that is not in the table is a fault of our own that is said."""
    if (state, event) in EXPECTED:
        assert follow(lease.TRANSITIONS, state, event) == EXPECTED[state, event]
    else:
        with pytest.raises(InternalError, match=state):
            follow(lease.TRANSITIONS, state, event)


def test_the_end_is_the_end() -> None:
    """Nothing follows the end, and every other state can come to it."""
    assert not lease.TRANSITIONS[lease.ENDED]
    assert all(lease.END in events for state, events in lease.TRANSITIONS.items() if state != lease.ENDED)


@pytest.mark.parametrize(("held", "count", "limit", "may"), [(0, 1, 1, True), (1, 1, 1, False), (3994, 6, 4000, True)])
def test_a_limit_is_reached_and_not_passed(held: int, count: int, limit: int, may: bool) -> None:
    """An app may hold exactly as many as its limit."""
    assert lease.may_hold(held, count, limit) is may


@given(st.integers(4, 10**7), st.integers(0, 500))
def test_shares_fit_into_what_there_is(descriptors: int, apps: int) -> None:
    """The shares of all apps together leave the gate descriptors for itself, and nobody's is nothing."""
    share = lease.share(descriptors, apps)
    assert share >= 1
    assert share == 1 or share * max(apps, 1) <= descriptors * 3 // 4 + 1
