"""What a page shows of a gate's answers, and that everything in it is plain text of one direction."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outgate.console import views
from outgate.lookout.rates import Look, figures

DENIED = {
    "v": 1, "time": "2026-03-01T12:00:01.000Z", "event": "decision", "app": "shop", "pid": 7, "uid": 0, "lease": None,
    "program": "agent.py", "host": "10.0.0.5", "port": 5432, "transport": "tcp", "address": "10.0.0.5",
    "class": "private", "verdict": "deny", "rule": "non-public", "policy": 1, "path": "direct",
    "reason": 'shop → 10.0.0.5:5432 (tcp) denied: 10.0.0.5 (private); rule "non-public"',
    "cure": 'to permit: except = ["10.0.0.5:5432"]',
}  # fmt: skip
QUOTA = {
    "quota": "bytes_sent.day", "resource": "bytes_sent", "per": "day", "share": 1.3719, "use": "2.74 MB of 2 MB",
    "resets": "19 h", "retry_after": 68400.0, "runs_out_in": 0, "limit": 2_000_000,
}  # fmt: skip
SOCKET = {
    "lease": "aa-1", "app": "blog", "pid": 7, "uid": 0, "program": "agent\u202egnp.exe", "age": 3725.0, "idle": None,
    "sent": 1500, "received": 0, "tenure": "lent", "transport": "udp", "host": "", "address": "2001:db8::1",
    "port": 53, "path": "relay", "state": "orphan",
}  # fmt: skip


def counts(**apps: dict[str, int]) -> dict[str, Any]:
    """Return an answer to STAT."""
    zero = dict.fromkeys(["processes", "connects", "denied", "open", "sent", "received"], 0)
    return {
        "version": "1.2", "boot": "aa", "uptime": 7384.0, "policy": 3, "processes": 2, "log_dropped": 7,
        "draining": True, "apps": {name: zero | each for name, each in apps.items()},
    }  # fmt: skip


def test_a_refusal_has_all_that_is_asked_about_it() -> None:
    """Reason, cure and what it was about are there once: what the sentence repeats of other columns is left out."""
    row = views.line_row(DENIED)
    assert (row["kind"], row["word"], row["app"], row["program"]) == ("deny", "deny", "shop", "agent.py 7")
    assert (row["destination"], row["what"]) == ("10.0.0.5:5432", '10.0.0.5 (private); rule "non-public"')
    assert (row["rule"], row["cure"]) == ("", 'to permit: except = ["10.0.0.5:5432"]')


def test_other_lines() -> None:
    """What is allowed has its rule, an end its counts, an event its facts, and a quota's a sentence."""
    allowed = views.line_row({**DENIED, "verdict": "allow", "rule": "public", "reason": None, "cure": None})
    assert (allowed["kind"], allowed["rule"], allowed["what"], allowed["cure"]) == ("allow", "public", "", "")
    end = {**DENIED, "event": "end", "how": "closed", "sent": 1234567, "received": 5, "duration": 62.5}
    assert views.line_row(end)["what"] == "closed after 1 min 2 s: sent 1.23 MB, received 5 B"
    assert views.line_row({"event": "start", "pid": 6, "v": 1})["what"] == "pid 6"
    full = {"event": "quota-exceeded", "app": "shop", "quota": "connect.day", "use": "9 of 9", "reason": "100 % used"}
    row = views.line_row(full)
    assert (row["kind"], row["what"]) == ("report", "connect.day: 9 of 9; 100 % used")


@given(
    st.dictionaries(
        st.sampled_from([*DENIED, "how", "sent", "duration", "quota", "use"]),
        st.one_of(st.text(), st.integers(), st.floats(allow_nan=True), st.none(), st.booleans(), st.lists(st.text())),
    ),
    st.sampled_from(["decision", "end", "overruled", "quota-exceeded", "start", "x\u202e"]),
)
def test_any_line_is_shown(line: dict[str, Any], event: str) -> None:
    """Whatever a line has in it, its row is made of printable text, and its kind is one that the style knows."""
    row = views.line_row({**line, "event": event})
    assert all(isinstance(value, str) and (value.isprintable() or name == "when") for name, value in row.items())
    assert row["kind"] in ("allow", "deny", "report", "end", "event")
    json.dumps(row)


def test_a_socket() -> None:
    """A row of an open socket says where it leads, who has it and how it is, in text that keeps its direction."""
    row = views.socket_row(SOCKET)
    assert row["peer"] == "[2001:db8::1]:53 udp"
    assert row["program"] == "agent\\u202egnp.exe 7"
    assert (row["path"], row["age"], row["idle"], row["sent"]) == ("relay, lent, orphan", "1 h 2 min", "–", "1.50 kB")


def test_overview() -> None:
    """Names of what is shown are those of the page's elements; a bar is never more than full; trouble is said."""
    look = Look(
        counts(blog={"open": 30}, shop={}), {"blog": [QUOTA, {**QUOTA, "resource": "open_sockets", "limit": 40}]}
    )
    made = views.overview(figures(None, look), [(10.0, 0.0), (5.0, 20.0)])
    assert made.rows == ["blog", "shop"]
    assert (made.text["blog/open"], made.text["blog/limit"], made.text["blog/opens"]) == ("30", "40", "–")
    assert made.text["blog/quota"] == "137 % of bytes sent a day"
    assert (made.bars["blog/open"], made.bars["blog/quota"], made.bars["shop/quota"]) == (0.75, 1.0, 0.0)
    assert made.text["notice"] == "the gate drains: it opens nothing new · 7 lines of the log were lost"
    assert made.paths == {"sent": "M595.0 32.0L600.0 48.0", "received": "M595.0 64.0L600.0 0.0"}


def test_very_many_apps() -> None:
    """A page lists so many apps and no more, and knows of all of them, in an order that figures do not change."""
    look = Look(counts(**{f"app{number:04}": {"open": number} for number in range(1000)}))
    made = views.overview(figures(None, look), [])
    assert len([name for name in made.bars if name.endswith("/open")]) == views.MOST_APPS
    assert made.rows == [f"app{number:04}" for number in range(1000)]


def test_quotas_of_an_app() -> None:
    """Each quota has its use, when it resets, and what it comes to."""
    row = figures(None, Look(counts(blog={}))).apps[0]
    made = views.app(row, [QUOTA])
    at = "quota/bytes_sent.day/"
    assert made.bars == {at: 1.0}
    assert [made.text[at + name] for name in ("use", "share", "resets", "forecast")] == [
        "2.74 MB of 2 MB", "137 %", "19 h", "used up",
    ]  # fmt: skip
