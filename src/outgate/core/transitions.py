"""Follow a table of states and events."""

from collections.abc import Mapping

from outgate.errors import InternalError


def follow(transitions: Mapping[str, Mapping[str, str]], state: str, event: str) -> str:
    """Return the state that follows. Raises :class:`InternalError` for a pair that is not in the table."""
    try:
        return transitions[state][event]
    except KeyError:
        raise InternalError(f"a lease that is {state!r} cannot see {event!r}") from None
