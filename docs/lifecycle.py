"""Draw the life of a lease from its two tables in the core, for docs/lease.md."""

import inspect
import re
from collections.abc import Callable, Mapping
from types import ModuleType

from outgate.core import lease, tenure

_PAGE = """\
# The life of a lease

<!-- Made by docs/generate.py; do not edit. -->

A lease is an app's right to one outbound socket. Two tables say all of its life, and the gate follows nothing else:
`core/lease.py` what becomes of the connection, `core/tenure.py` who has the socket. A pair of state and event that is
in neither is a fault of the gate's own, which its log says.

## The connection

A socket that is closed before it was ever dialled is no lease, and not in the log. One that failed may be dialled
again, and is a new lease then.

{connection}

## Who has it

A socket may be passed on at any time: before it is connected, while it is, and after it failed. What is shared stays
usable for everybody who has it, and ends with the last of them. Between a descriptor and whoever redeems it the gate
has the socket itself; what nobody redeems is reclaimed after `idle_timeout`.

{tenure}
"""
_STATE_OR_EVENT = re.compile(r'^[A-Z]+ = "([a-z]+)"(?:  #: (.+))?$', re.MULTILINE)


def meanings(table: ModuleType) -> dict[str, str]:
    """Return what each state and event of a table means, as its source says beside it."""
    return {match[1]: match[2] or "" for match in _STATE_OR_EVENT.finditer(inspect.getsource(table))}


def drawing(transitions: Mapping[str, Mapping[str, str]], first: str, last: str) -> str:
    """Return a table as a Mermaid state diagram, with one arrow for all the events between two states."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, events in transitions.items():
        for event, after in events.items():
            arrows.setdefault((state, after), []).append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {state} --> {after}: {', '.join(events)}" for (state, after), events in arrows.items()]
    return "\n".join([*lines, f"    {last} --> [*]"])


def section(table: ModuleType, make: Callable[..., str]) -> str:
    """Return drawing and table of one of the two, and what its words mean.

    :param make: makes a Markdown table of a head and rows.
    """
    transitions, states, events = table.TRANSITIONS, table.STATES, table.EVENTS
    rows = [(f"**{state}**", *(transitions[state].get(event, "") for event in events)) for state in states]
    said = meanings(table)
    words = [
        (f"`{word}`", kind, said[word]) for kind, group in (("state", states), ("event", events)) for word in group
    ]
    return "\n\n".join(
        (
            f"```mermaid\n{drawing(transitions, states[0], states[-1])}\n```",
            make(("", *events), rows),
            make(("word", "is a", "means"), words),
        )
    )


def page(make: Callable[..., str]) -> str:
    """Return docs/lease.md.

    :param make: makes a Markdown table of a head and rows.
    """
    return _PAGE.format(connection=section(lease, make), tenure=section(tenure, make))
