"""A gate shows what is in force: each rule once, in the order in which they decide, to whom it concerns."""

from __future__ import annotations

import os
from typing import Any

from outgate.core.formats import messages
from outgate.lookout import ask
from outgate.testing.running import RunningGate

HEAD = "version = 1\n[apps.blog]\nbilling = true\nuid = [{uid}]\n"
RULES = """
except = ["db.corp:5432"]
deny = [{ rule = "192.0.2.0/24", mode = "report" }, "*:23"]
allow = ["public", "*.example.com:443"]
names = ["*.corp"]
"""


def shown(gate: RunningGate, **message: Any) -> Any:
    """Return what the gate answers to a question for its policy."""
    return ask.request(gate.socket, {"op": messages.POLICY, **message})["answer"]


def test_rules_in_their_order() -> None:
    """Exceptions come first, then denials with the built-in ones, then what is allowed, then what only reports."""
    with RunningGate(config=HEAD.format(uid=os.getuid()) + RULES) as gate:
        answer = shown(gate, app="blog")
    rules = [(row["list"], row["rule"], row["mode"]) for row in answer["rules"]]
    assert rules == [
        ("except", "db.corp:5432", "enforce"),
        ("deny", "non-public", "enforce"),
        ("deny", "own", "enforce"),
        ("deny", "*:25", "enforce"),
        ("deny", "*:23", "enforce"),
        ("allow", "public", "enforce"),
        ("allow", "*.example.com:443", "enforce"),
        ("deny", "192.0.2.0/24", "report"),
        ("names", "*.corp", "enforce"),
    ]
    assert {row["place"] for row in answer["rules"][1:4]} == {"built-in"}
    assert answer["rules"][4]["place"] == "apps.blog.deny[1]"
    assert (answer["policy"], answer["settings"]["open_sockets"], answer["next"]) == (1, 4000, None)


def test_many_rules_come_in_pages() -> None:
    """A policy of a thousand rules is had page by page, each in a packet, and every rule once."""
    rules = [f"10.{number // 250}.{number % 250}.0/24:5432" for number in range(1000)]
    text = HEAD.format(uid=os.getuid()) + f"except = {rules}\n"
    found: list[str] = []
    after = 0
    with RunningGate(config=text) as gate:
        while after is not None:
            answer = shown(gate, app="blog", after=after)
            found += [row["rule"] for row in answer["rules"] if row["list"] == "except"]
            after = answer["next"]
    assert found == rules


def test_an_app_that_is_not_there() -> None:
    """For a name that is no app's the answer says which there are."""
    with RunningGate() as gate:
        assert shown(gate, app="nobody") == {
            "ok": False,
            "error": "no app 'nobody' is configured; there are default",
        }
