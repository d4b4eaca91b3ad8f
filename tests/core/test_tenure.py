"""Who has a lease: every state with every event."""

from __future__ import annotations

import itertools

import pytest

from outgate.core import tenure
from outgate.core.transitions import follow
from outgate.errors import InternalError

EXPECTED = {
    (tenure.HELD, tenure.SHARE): tenure.LENT,
    (tenure.HELD, tenure.REDEEM): tenure.LENT,
    (tenure.HELD, tenure.SETTLE): tenure.HELD,
    (tenure.HELD, tenure.LEAVE): tenure.ENDED,
    (tenure.HELD, tenure.END): tenure.ENDED,
    (tenure.LENT, tenure.SHARE): tenure.LENT,
    (tenure.LENT, tenure.REDEEM): tenure.LENT,
    (tenure.LENT, tenure.TAKE): tenure.LENT,
    (tenure.LENT, tenure.SETTLE): tenure.HELD,
    (tenure.LENT, tenure.LEAVE): tenure.PARKED,
    (tenure.LENT, tenure.END): tenure.ENDED,
    (tenure.PARKED, tenure.SHARE): tenure.PARKED,
    (tenure.PARKED, tenure.REDEEM): tenure.PARKED,
    (tenure.PARKED, tenure.TAKE): tenure.LENT,
    (tenure.PARKED, tenure.SETTLE): tenure.HELD,
    (tenure.PARKED, tenure.END): tenure.ENDED,
}


@pytest.mark.parametrize(("state", "event"), [*itertools.product(tenure.STATES, tenure.EVENTS)])
def test_every_pair(state: str, event: str) -> None:
    """A pair leads where it should, and one that is not in the table is a fault of our own that is said."""
    if (state, event) in EXPECTED:
        assert follow(tenure.TRANSITIONS, state, event) == EXPECTED[state, event]
    else:
        with pytest.raises(InternalError, match=f"{state}.*{event}"):
            follow(tenure.TRANSITIONS, state, event)


def test_the_end_is_the_end() -> None:
    """Nothing follows the end, and every other state can come to it."""
    assert not tenure.TRANSITIONS[tenure.ENDED]
    assert all(tenure.END in events for state, events in tenure.TRANSITIONS.items() if state != tenure.ENDED)


def test_the_table_has_every_state_and_knows_every_event() -> None:
    """The table has a line for each state, in which nothing stands that is no event or leads to no state."""
    assert tuple(tenure.TRANSITIONS) == tenure.STATES
    assert {event for events in tenure.TRANSITIONS.values() for event in events} == set(tenure.EVENTS)
    assert {state for events in tenure.TRANSITIONS.values() for state in events.values()} == set(tenure.STATES)


def test_only_who_takes_it_brings_a_parked_lease_back() -> None:
    """Asking with a descriptor leaves a parked lease parked: the answer may be lost on its way."""
    back = {event for event, state in tenure.TRANSITIONS[tenure.PARKED].items() if state in (tenure.HELD, tenure.LENT)}
    assert back == {tenure.TAKE, tenure.SETTLE}
