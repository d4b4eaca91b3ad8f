"""Warnings about rules by name, and about names that limit look-ups."""

import pytest

from outgate.core.name.suffixes import is_public, is_top
from outgate.core.policy.decide import Policy
from outgate.core.policy.lint import lint


def warnings(**lists: object) -> "list[str]":
    """Return the warnings on a policy as text."""
    return [str(warning) for warning in lint(Policy.build("blog", **lists))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "lists",
    [
        {"allow": ["api.example:443", "*.cdn.example", "db"]},
        {"allow": ["api.example"], "deny": ["x.cdn.example"], "except_": ["*.corp:5432", "db.corp"]},
        {"allow": ["*.example:443"], "deny": ["bad.example:443"]},
        {"allow": ["*.example"], "deny": [{"rule": "bad.example", "mode": "report"}]},
        {"allow": ["mail.example:25,587"]},
        {"allow": ["public:443", "api.example:8443"]},
        {"allow": ["public:443", "api.example:443"], "names": ["*.corp"]},
        {"names": []},
        {"names": ["*.corp", "corp", "db.example"], "deny": ["*.corp:80"], "allow": ["public", "x.corp"]},
        {"allow": ["api.example"], "except_": ["10.0.0.5:80"], "names": []},
        {"allow": ["api.example"], "dev": True},
        {"allow": ["münchen.example", "日本語テスト.example", "xn--mnchen-3ya.test", "hôtel-été.example"]},
        {"allow": ["*.corp", "*.internal", "*.svc.cluster.local", "*.hq", "*.github.io.test"]},
        {"except_": ["*.rds.amazonaws.com:5432", "*.example.co.uk:443"]},
        {"allow": ["api.example"], "deny": ["*.ru", "*.zip", "*.duckdns.org"]},
        {"except_": ["db.corp:5432"], "deny": ["public:6667", {"rule": "8.8.0.0/16", "mode": "report"}]},
    ],
)
def test_nothing_to_say(lists: "dict[str, object]") -> None:
    """A policy with names that says what it means has no warnings, but for a denied name that leaves addresses open."""
    assert [text for text in warnings(**lists) if "denies the name and not its addresses" not in text] == []


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        # Allowed and always denied.
        (
            {"allow": ["x.bad.example:443"], "deny": ["*.bad.example"]},
            'apps.blog.allow[0]: "x.bad.example:443" can never match: "*.bad.example" (apps.blog.deny[0]) denies all '
            'of it first; to permit it: except = ["x.bad.example:443"]',
        ),
        ({"allow": ["*.a.bad.example"], "deny": ["*.bad.example"]}, "can never match"),
        ({"allow": ["mail.example:25"]}, '"*:25" (built-in) denies all of it first'),
        ({"allow": ["tcp://mail.example:25-26"], "deny": ["*:26"]}, "denies all of it first"),
        ({"allow": ["api.example"], "deny": ["public"]}, '"public" (apps.blog.deny[0]) denies all of it first'),
        # Denied and always lifted.
        (
            {"allow": ["*.example"], "deny": ["db.corp:443"], "except_": ["*.corp:443"]},
            'apps.blog.deny[0]: "db.corp:443" can never match: "*.corp:443" (apps.blog.except[0]) lifts all of it '
            "first; drop it, or narrow the exception",
        ),
        # The same again, or a broader one.
        ({"allow": ["*.example", "a.example:80"]}, '"a.example:80" adds nothing to "*.example" (apps.blog.allow[0])'),
        ({"allow": ["a.example", "A.example."]}, '"A.example." says the same as "a.example" (apps.blog.allow[0])'),
        ({"allow": ["public", "a.example:80"]}, 'allow[1]: "a.example:80" adds nothing to "public"'),
        ({"allow": ["*", "*.example"]}, 'allow[1]: "*.example" adds nothing to "*"'),
        ({"deny": ["*.x.example", "*.a.x.example"]}, '"*.a.x.example" adds nothing to "*.x.example"'),
        ({"except_": ["*.corp:80", "a.corp:80"]}, '"a.corp:80" adds nothing to "*.corp:80" (apps.blog.except[0])'),
        # A denied name is no blocked address.
        (
            {"deny": ["tracker.example"]},
            'apps.blog.deny[0]: "tracker.example" denies the name and not its addresses, which "public" (default) '
            "could allow; deny the addresses too, or have names alone in allow",
        ),
        ({"deny": ["a.example", "b.example", "*.c.example"]}, "not its addresses (as 2 more by name), which"),
        # Too broad.
        (
            {"allow": ["*.com"]},
            'apps.blog.allow[0]: "*.com" allows every name that anybody has below com; '
            'name at least one label more, as in "*.example.com"',
        ),
        ({"allow": ["*.github.io:443"]}, "allows every name that anybody has below github.io"),
        ({"except_": ["*.amazonaws.com:5432"]}, "lifts denials for every name that anybody has below amazonaws.com"),
        (
            {"except_": ["*.corp"]},
            'apps.blog.except[0]: "*.corp" lifts, for every name below corp, the denials of private addresses and of '
            "port 25; name the ports that are needed, as in *.corp:443",
        ),
        ({"names": ["*.com"]}, 'apps.blog.names[0]: "*.com" lets programs tell whoever has a name below com'),
        # An exception that lifts what its author has denied.
        (
            {"deny": ["8.8.0.0/16"], "except_": ["db.corp:5432"]},
            'apps.blog.except[0]: "db.corp:5432" also lifts "8.8.0.0/16" (apps.blog.deny[0]) wherever the name leads '
            "there; where the name leads to public addresses, allow it instead: an allow lifts nothing",
        ),
        # Look-ups.
        (
            {"allow": ["api.example:443"], "except_": ["db.corp:5432", "10.2.0.0/16:5432"]},
            'apps.blog.except[1]: "10.2.0.0/16:5432" keeps look-ups of every name open, as it is about addresses, '
            "though allow has names alone; names = [] limits look-ups to the names of allow and except",
        ),
        (
            {"allow": ["api.example"], "names": ["*.corp"]},
            'apps.blog.names[0]: "*.corp" opens nothing: no rule about addresses could allow what it leads to; '
            'rules by name open their own look-ups; to connect there, allow = ["*.corp"]',
        ),
        (
            {"names": ["a.bad.example"], "deny": ["*.bad.example"]},
            'apps.blog.names[0]: "a.bad.example" is never looked up: "*.bad.example" (apps.blog.deny[0]) denies it; '
            "drop it",
        ),
        ({"names": ["db.corp", "*.corp"]}, 'names[0]: "db.corp" adds nothing to "*.corp" (apps.blog.names[1])'),
        ({"names": ["db.corp", "DB.corp"]}, 'names[1]: "db.corp" says the same as "db.corp" (apps.blog.names[0])'),
        # Something else than it looks like.
        (
            {"allow": ["pаypal.example:443"]},
            '"pаypal.example:443" mixes CYRILLIC and LATIN letters, and means xn--pypal-4ve.example; '
            "write that, if it is the one",
        ),
        ({"deny": ["gοοgle.example"]}, "mixes GREEK and LATIN letters"),
    ],
)
def test_warning(lists: "dict[str, object]", expected: str) -> None:
    """Each of these policies has the warning, with its place."""
    found = warnings(**lists)
    assert any(expected in text for text in found), found
    assert all(text.startswith("apps.blog.") for text in found)


@pytest.mark.parametrize("lists", [{"allow": ["api.example"]}, {"allow": []}, {"allow": ["private"]}])
def test_a_denied_name_is_enough_where_names_alone_are_allowed(lists: "dict[str, object]") -> None:
    """Where no rule about addresses could allow anything, a denied name is not warned about."""
    assert not any("not its addresses" in text for text in warnings(deny=["tracker.example"], **lists))


@pytest.mark.parametrize("key", ["allow", "deny", "except_", "names"])
def test_many_names(key: str) -> None:
    """A policy of thousands of names is linted without comparing each pair."""
    names = [f"h{number}.x{number % 50}.example" for number in range(3000)]
    lists: dict[str, object] = {"allow": ["1.1.1.1"], key: names}
    assert len(warnings(**lists)) <= 1


@pytest.mark.parametrize(
    ("name", "top", "public"),
    [
        ("com", True, True),
        ("de", True, True),
        ("co.uk", True, True),
        ("com.au", True, True),
        ("xn--p1ai", True, True),
        ("github.io", False, True),
        ("example.com", False, False),
        ("co.corp", False, False),
        ("corp", False, False),
        ("local", False, False),
        ("internal", False, False),
        ("hq", False, False),
        ("web.de", False, False),
        ("a.github.io", False, False),
    ],
)
def test_suffixes(name: str, top: bool, public: bool) -> None:
    """Registries' and providers' suffixes are known, and nobody's own is taken for one."""
    assert (is_top(name), is_public(name)) == (top, public)
