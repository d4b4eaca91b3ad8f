"""could_resolve: which names may be looked up, before anybody is asked."""

import pytest

from outgate import errors
from outgate.core.policy.decide import Policy, could_resolve

#: Lists of a policy → what may be looked up (for any port), and what may not.
TABLE = [
    # Rules about addresses leave look-ups open …
    ({}, "a.example db localhost x.tracker.example", ""),
    ({"allow": ["tcp://8.8.8.8:853"]}, "a.example", ""),
    ({"allow": [], "except_": ["10.2.0.0/16:5432"]}, "a.example", ""),
    ({"allow": ["api.example"], "except_": ["169.254.169.254:80"]}, "a.example", ""),
    ({"allow": ["fd00::/8", "2001:4860::/32"]}, "a.example", ""),
    ({"dev": True, "allow": []}, "a.example", ""),
    # … if they could permit anything.
    ({"allow": []}, "", "a.example localhost"),
    ({"allow": ["private", "10.0.0.0/8", "*:25", "fd00::/8"]}, "", "a.example"),
    ({"allow": ["8.8.8.0/24"], "deny": ["8.8.0.0/16"]}, "", "a.example"),
    ({"allow": ["8.8.8.0/24"], "deny": ["8.8.0.0/16:1-1000"]}, "a.example", ""),
    ({"allow": ["8.8.8.0/24"], "own": ["8.8.0.0/16"]}, "", "a.example"),
    ({"allow": ["public:80,25"], "deny": ["*:80"]}, "", "a.example"),
    ({"allow": ["public:80"], "deny": ["udp://public:80"]}, "a.example", ""),
    ({"allow": ["public"], "deny": ["public"]}, "", "a.example"),
    ({"allow": ["public"], "deny": [{"rule": "public", "mode": "report"}]}, "a.example", ""),
    ({"allow": ["none"], "groups": {"none": []}}, "", "a.example"),
    # Rules by name open their own look-ups.
    ({"allow": ["api.example:443", "*.cdn.example"]}, "api.example a.b.cdn.example", "a.example cdn.example"),
    ({"allow": [], "except_": ["db.corp:5432"]}, "db.corp", "a.db.corp corp"),
    ({"allow": ["mail.example:25"]}, "", "mail.example"),
    ({"allow": ["mail.example:25-26"]}, "mail.example", ""),
    ({"allow": [], "except_": ["mail.example:25"]}, "mail.example", ""),
    ({"allow": ["a.example"], "deny": ["public"]}, "", "a.example"),
    ({"allow": ["a.example"], "deny": ["public"], "except_": ["8.8.8.8"], "names": []}, "a.example", "b.example"),
    # Denied names are not looked up, unless a port is left, or an exception by name comes first.
    ({"deny": ["*.bad.example"]}, "bad.example", "x.bad.example"),
    ({"deny": ["bad.example:443"]}, "bad.example", ""),
    ({"deny": ["tcp://bad.example"]}, "bad.example", ""),
    ({"allow": ["public:443"], "deny": ["bad.example:443"]}, "a.example", "bad.example"),
    ({"allow": ["bad.example:443,444"], "deny": ["bad.example:443"]}, "bad.example", ""),
    ({"allow": ["bad.example:443"], "deny": ["bad.example:1-1000"]}, "", "bad.example"),
    ({"deny": ["*.bad.example"], "except_": ["ok.bad.example:443"]}, "ok.bad.example", "x.bad.example"),
    ({"deny": ["*.bad.example"], "except_": ["10.0.0.0/8"]}, "", "x.bad.example"),
    ({"deny": [{"rule": "bad.example", "mode": "report"}]}, "bad.example", ""),
    # names = […] limits look-ups that rules about addresses leave open, and no others.
    ({"names": ["*.corp", "db"]}, "a.corp a.b.corp db", "corp a.example db.example"),
    ({"names": []}, "", "a.example"),
    ({"names": [], "allow": ["public", "api.example:443"]}, "api.example", "a.example"),
    ({"names": [], "except_": ["*.corp:5432"]}, "db.corp", "a.example"),
    ({"names": ["*.corp"], "deny": ["bad.corp"]}, "db.corp", "bad.corp"),
    # They never open one that no rule could use.
    ({"names": ["*.corp"], "allow": ["api.example"]}, "api.example", "a.corp"),
    ({"names": ["*.corp"], "allow": []}, "", "a.corp"),
]


@pytest.mark.parametrize(("lists", "name", "is_open"), [
    (lists, name, is_open)
    for lists, opened, closed in TABLE
    for is_open, names in ((True, opened), (False, closed))
    for name in names.split()
])  # fmt: skip
def test_any_port(lists: "dict[str, object]", name: str, is_open: bool) -> None:
    """A name is looked up if some rule could allow some port of what it leads to, and only then."""
    decision = could_resolve(Policy.build("blog", **lists), name)  # type: ignore[arg-type]
    assert (not decision.denied) is is_open
    assert decision.name == name
    assert bool(decision.code) is (decision.verdict != "allow")
    reported = could_resolve(Policy.build("blog", mode="report", **lists), name)  # type: ignore[arg-type]
    assert not reported.denied
    assert (reported.verdict == "allow") is (decision.verdict == "allow")


@pytest.mark.parametrize(
    ("lists", "name", "transport", "port", "is_open"),
    [
        ({}, "a.example", "tcp", 443, True),
        ({}, "a.example", "tcp", 25, False),
        ({}, "a.example", "udp", 25, False),
        ({"except_": ["10.0.0.0/8:25"]}, "a.example", "tcp", 25, True),
        ({"except_": ["mail.example:25"]}, "mail.example", "tcp", 25, True),
        ({"except_": ["mail.example:25"]}, "a.example", "tcp", 25, False),
        ({"allow": ["public:443"]}, "a.example", "tcp", 443, True),
        ({"allow": ["public:443"]}, "a.example", "tcp", 80, False),
        ({"allow": ["tcp://public:443"]}, "a.example", "udp", 443, False),
        ({"allow": ["api.example:443"]}, "api.example", "tcp", 443, True),
        ({"allow": ["api.example:443"]}, "api.example", "tcp", 80, False),
        ({"allow": ["api.example:443", "8.8.8.8:53"]}, "a.example", "tcp", 53, True),
        ({"allow": ["api.example:443", "8.8.8.8:53"]}, "a.example", "tcp", 443, False),
        ({"deny": ["bad.example:443"]}, "bad.example", "tcp", 443, False),
        ({"deny": ["bad.example:443"]}, "bad.example", "tcp", 80, True),
        ({"names": ["*.corp"]}, "a.example", "tcp", 443, False),
        ({"names": ["*.corp"]}, "a.corp", "tcp", 443, True),
        ({"names": ["*.corp"]}, "a.corp", "tcp", 25, False),
        ({"names": [], "allow": ["public", "api.example:443"]}, "api.example", "tcp", 80, False),
    ],
)
def test_one_port(lists: "dict[str, object]", name: str, transport: str, port: int, is_open: bool) -> None:
    """For a connect by name only rules that have its transport and port count."""
    decision = could_resolve(Policy.build("blog", **lists), name, transport, port)  # type: ignore[arg-type]
    assert (not decision.denied) is is_open


@pytest.mark.parametrize(
    ("lists", "rule"),
    [
        ({}, "public"),
        ({"allow": ["10.0.0.0/8", "8.8.8.8:53"]}, "8.8.8.8:53"),
        ({"allow": ["public", "a.example"]}, "a.example"),
        ({"allow": [], "except_": ["10.0.0.0/8:80", "*.example:90"]}, "10.0.0.0/8:80"),
        ({"names": ["*.example"]}, "public"),
    ],
)
def test_rule_that_opens(lists: "dict[str, object]", rule: str) -> None:
    """An open look-up names a rule that it is open by: one by name before one about addresses, within a port."""
    decision = could_resolve(Policy.build("blog", **lists), "a.example")  # type: ignore[arg-type]
    assert (decision.verdict, decision.rule, decision.address_class, decision.what) == ("allow", rule, "", "")


def test_report() -> None:
    """A name that is denied in report mode is looked up, and reported with the rule."""
    policy = Policy.build("blog", deny=[{"rule": "*.bad.example", "mode": "report"}])
    decision = could_resolve(policy, "x.bad.example")
    assert (decision.verdict, decision.rule) == ("report", "*.bad.example")
    assert decision.reason == 'blog → x.bad.example (look-up) denied: rule "*.bad.example"'
    assert could_resolve(policy, "a.example").verdict == "allow"
    narrow = Policy.build("blog", deny=[{"rule": "*.bad.example:443", "mode": "report"}])
    assert could_resolve(narrow, "x.bad.example").verdict == "allow"


@pytest.mark.parametrize(
    ("lists", "port", "code", "kind", "text"),
    [
        (
            {"deny": ["*.example"]},
            None,
            "policy-name-denied",
            "name",
            'blog → a.example (look-up) denied: rule "*.example"; to permit: except = ["a.example"]',
        ),
        (
            {"deny": ["*.example"]},
            443,
            "policy-denied",
            "name",
            'blog → a.example:443 (tcp) denied: a.example is not looked up; rule "*.example"; '
            'to permit: except = ["a.example:443"]',
        ),
        (
            {},
            25,
            "policy-denied",
            "port",
            'blog → a.example:25 (tcp) denied: a.example is not looked up; rule "*:25"; '
            'to permit: except = ["a.example:25"]',
        ),
        (
            {"deny": ["public"]},
            None,
            "policy-name-denied",
            "address",
            'blog → a.example (look-up) denied: rule "public"; to permit: except = ["a.example"]',
        ),
        (
            {"allow": ["a.example:25"]},
            None,
            "policy-name-denied",
            "port",
            'blog → a.example (look-up) denied: rule "*:25"; to permit: except = ["a.example"]',
        ),
        (
            {"allow": ["b.example"]},
            None,
            "policy-name-no-rule",
            "none",
            "blog → a.example (look-up) denied: no rule of app 'blog' could allow what it leads to; "
            'to permit: allow = ["a.example"]',
        ),
        (
            {"allow": ["b.example"]},
            443,
            "policy-no-rule",
            "none",
            "blog → a.example:443 (tcp) denied: a.example is not looked up; no rule of app 'blog' allows it; "
            'to permit: allow = ["a.example:443"]',
        ),
        (
            {"names": ["*.corp"]},
            None,
            "policy-names",
            "names",
            "blog → a.example (look-up) denied: the names of app 'blog' do not have it, and no rule allows it by name; "
            'to permit: add "a.example" to names, or allow = ["a.example"]',
        ),
        (
            {"names": ["*.corp"]},
            443,
            "policy-names",
            "names",
            "blog → a.example (look-up) denied: the names of app 'blog' do not have it, and no rule allows it by name; "
            'to permit: add "a.example" to names, or allow = ["a.example:443"]',
        ),
    ],
)
def test_words(lists: "dict[str, list[str]]", port: "int | None", code: str, kind: str, text: str) -> None:
    """A refusal to look up says why, and has a cure that works."""
    transport = None if port is None else "tcp"
    decision = could_resolve(Policy.build("blog", **lists), "a.example", transport, port)  # type: ignore[arg-type]
    assert (decision.verdict, decision.code, decision.kind) == ("deny", code, kind)
    assert errors.build(decision.code, decision.facts).strerror == text
    brief = errors.build(decision.code, decision.brief())
    assert str(brief.cure) == "the gate's log says which rule, and what would permit it"
    assert brief.reason.endswith(f"kind of rule: {kind}")
    key = "except_" if "except" in text else "allow"
    before = lists.get(key, ["public"] if key == "allow" else [])
    cured = Policy.build("blog", **{**lists, key: [*before, decision.permit]})  # type: ignore[arg-type]
    assert could_resolve(cured, "a.example", transport, port).verdict == "allow"  # type: ignore[arg-type]
