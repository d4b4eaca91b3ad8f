"""Warnings about rules that do nothing, too much, or something else than was meant."""

import pytest

from outgate.core.policy.decide import Policy
from outgate.core.policy.lint import lint


def warnings(**lists: object) -> "list[str]":
    """Return the warnings on a policy as text."""
    return [str(warning) for warning in lint(Policy.build("blog", **lists))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "lists",
    [
        {},
        {"dev": True},
        {"allow": []},
        {"allow": ["public"]},
        {"allow": ["tcp://public:443", "udp://8.8.8.8:53"], "deny": ["1.0.0.0/8", "public:6667"]},
        {"except_": ["10.2.0.0/16:5432", "169.254.169.254:80", "[fd00:1::/32]:443", "public:25", "udp://8.8.8.8:53"]},
        {"except_": ["private:5432"]},
        {"deny": [{"rule": "1.0.0.0/8", "mode": "report"}, "1.2.0.0/16"]},
        {"deny": ["8.8.8.8"], "allow": ["8.8.8.0/24"]},
        {"allow": ["8.0.0.0/8"], "own": ["8.8.0.0/16"]},
        {"except_": ["1.1.1.1:80", "1.1.1.1:81", "tcp://1.1.1.1:82", "udp://1.1.1.1:82"]},
        {"allow": ["2001:db7::1:4430"]},
    ],
)
def test_nothing_to_say(lists: "dict[str, object]") -> None:
    """A policy that says what it means has no warnings."""
    assert warnings(**lists) == []


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        # An allow inside what is denied.
        (
            {"allow": ["10.0.0.0/8:80"]},
            'apps.blog.allow[0]: "10.0.0.0/8:80" can never match: "non-public" (built-in) denies all of it first; '
            'to permit it: except = ["10.0.0.0/8:80"]',
        ),
        ({"allow": ["private"]}, "can never match"),
        ({"allow": ["non-public", "public"]}, "can never match"),
        ({"allow": ["public:25"]}, '"*:25" (built-in) denies all of it first'),
        ({"allow": ["64:ff9b::10.0.0.0/104"]}, "can never match"),
        ({"allow": ["fc00::/7"]}, "can never match"),
        ({"allow": ["8.8.8.0/24"], "deny": ["8.8.0.0/16"]}, '"8.8.0.0/16" (apps.blog.deny[0]) denies all of it first'),
        ({"allow": ["8.8.8.0/24"], "deny": ["public"]}, '"public" (apps.blog.deny[0]) denies all of it first'),
        ({"allow": ["8.8.8.0/24"], "own": ["8.8.0.0/16"]}, '"own" (built-in) denies all of it first'),
        ({"allow": ["corp"], "groups": {"corp": ["10.0.0.0/8", "fd00::/8"]}}, "can never match"),
        # The same again, or a broader one.
        (
            {"allow": ["public", "8.8.8.8"]},
            'apps.blog.allow[1]: "8.8.8.8" adds nothing to "public" (apps.blog.allow[0]); drop it, or narrow the other',
        ),
        ({"allow": ["8.8.8.8", "public"]}, 'apps.blog.allow[0]: "8.8.8.8" adds nothing to "public"'),
        (
            {"except_": ["10.0.0.5:80", "tcp://10.0.0.6", "[::ffff:10.0.0.5]:80-80"]},
            '"[::ffff:10.0.0.5]:80-80" says the same as "10.0.0.5:80" (apps.blog.except[0])',
        ),
        ({"except_": ["10.1.0.0/16:80", "10.0.0.0/8:1-100"]}, '"10.1.0.0/16:80" adds nothing to "10.0.0.0/8:1-100"'),
        ({"deny": ["10.0.0.0/8"]}, '"10.0.0.0/8" adds nothing to "non-public" (built-in)'),
        ({"deny": ["tcp://1.1.1.1:25"]}, 'adds nothing to "*:25" (built-in)'),
        ({"deny": [{"rule": "1.1.1.1", "mode": "report"}, "1.0.0.0/8"]}, '"1.1.1.1" adds nothing to "1.0.0.0/8"'),
        ({"dev": True, "except_": ["127.0.0.1:80"]}, '"127.0.0.1:80" adds nothing to "loopback" (--dev)'),
        (
            {
                "except_": ["corp:80", "wide:80"],
                "groups": {"corp": ["10.1.0.0/16", "fd00:1::/32"], "wide": ["10.0.0.0/8", "fd00::/16"]},
            },
            '"corp:80" adds nothing to "wide:80"',
        ),
        # Too broad.
        (
            {"allow": ["*"]},
            'apps.blog.allow[0]: "*" allows no more than public addresses: denials come first; write "public"',
        ),
        ({"allow": ["0.0.0.0/0"]}, "allows no more than public addresses"),
        ({"allow": ["::/0"]}, "allows no more than public addresses"),
        ({"except_": ["*"]}, "lifts every denial, of loopback and of metadata services too"),
        ({"except_": ["non-public"]}, "lifts every denial"),
        ({"except_": ["*:25"]}, 'for public addresses alone write "public:25"'),
        ({"except_": ["tcp://*:25"]}, 'for public addresses alone write "tcp://public:25"'),
        ({"except_": ["0.0.0.0/0"]}, "is a very broad exception"),
        ({"except_": ["0.0.0.0/0:443"]}, "is a very broad exception"),
        ({"except_": ["fc00::/7"]}, "is a very broad exception"),
        # Exceptions that hide a whole denied group.
        ({"except_": ["private"]}, "lifts the denial of a whole group: private"),
        ({"except_": ["127.0.0.0/8"]}, "lifts the denial of a whole group: loopback"),
        ({"except_": ["100.64.0.0/10"]}, "metadata services: 100.96.0.96, 100.100.100.200"),
        ({"except_": ["169.254.0.0/16:80"]}, "169.254.169.254"),
        ({"except_": ["fd00:ec2::/32"]}, "metadata services: fd00:ec2::23, fd00:ec2::254"),
        ({"except_": ["public"]}, "lifts port 25 and every deny rule"),
        # Something else than was meant.
        ({"allow": ["2001:db7::1:443"]}, 'is one IPv6 address and no port; with a port it is "[2001:db7::1]:443"'),
        ({"except_": ["::ffff:10.0.0.5"]}, "is IPv4 in an IPv6 spelling"),
        ({"except_": ["10.0.0.5:0"]}, "names port 0"),
        ({"except_": ["corp"], "groups": {"corp": []}}, "matches nothing: the group is empty"),
    ],
)
def test_warning(lists: "dict[str, object]", expected: str) -> None:
    """Each of these policies has the warning, with its place."""
    found = warnings(**lists)
    assert any(expected in text for text in found), found
    assert all(text.startswith("apps.blog.") for text in found)


def test_duplicate_is_said_once() -> None:
    """Of two rules that say the same, the later one is warned about."""
    assert [text.partition(":")[0] for text in warnings(deny=["1.1.1.1", "1.1.1.1"])] == ["apps.blog.deny[1]"]


def test_many_rules_of_one_target() -> None:
    """A policy of thousands of rules for one address is linted without comparing each pair."""
    assert warnings(except_=[f"10.0.0.5:{port}" for port in range(1, 3000)]) == []
