"""Expectations are read strictly, judged as a gate judges a connect, and what fails is told with a cure."""

from __future__ import annotations

import contextlib
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.policy.decide import Policy
from outgate.core.policy.expect import Outcome, Table, hold, read
from outgate.errors import ConfigError

BLOG = Policy.build(
    "blog",
    allow=["public", "db.corp:443"],
    deny=["evil.example", "*:23", {"rule": "8.8.8.0/24", "mode": "report"}],
    except_=["db.corp:5432", "10.2.0.0/16:5432"],
    own=["93.184.216.1"],
)
SHOP = Policy.build("shop", allow=["api.example:443"])
RESOLVE = """
[resolve]
"db.corp" = ["10.0.0.5"]
"api.example" = "93.184.215.14"
"Mixed.Example." = ["10.0.0.6", "93.184.215.15"]
"inner.example" = ["127.0.0.1"]
"nothing.example" = []
"""


def table(expect: str, head: str = 'policy = "outgate.toml"', resolve: str = RESOLVE) -> Table:
    """Return the table of a file with this ``[[expect]]``."""
    return read(tomllib.loads(f"version = 1\n{head}\n{resolve}\n[[expect]]\n{expect}\n"))


def outcome(expect: str, **policies: Policy) -> Outcome:
    """Return what comes of one expectation, of app ``blog`` unless others are given."""
    (found,) = hold(table(expect), policies or {"blog": BLOG})
    return found


class TestVerdicts:
    """What is allowed, denied and reported."""

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("allow", "93.184.215.14:443"),
            ("allow", "udp://1.1.1.1:53"),
            ("allow", "[2606:4700::1111]:443"),
            ("allow", "api.example:443"),
            ("allow", "API.Example.:443"),
            ("allow", "db.corp:5432"),
            ("allow", "10.2.0.9:5432"),
            ("allow", "mixed.example:443"),
            ("deny", "10.0.0.5:5432"),
            ("deny", "db.corp:443"),
            ("deny", "0x7f.1:80"),
            ("deny", "2130706433:80"),
            ("deny", "169.254.169.254:80"),
            ("deny", "inner.example:443"),
            ("deny", "evil.example:443"),
            ("deny", "api.example:25"),
            ("deny", "1.1.1.1:23"),
            ("deny", "93.184.216.1:443"),
            ("report", "8.8.8.8:53"),
        ],
    )
    def test_holds(self, key: str, text: str) -> None:
        """The verdict is that of a gate on a connect, by address or by name, and no other is expected to hold."""
        assert outcome(f'{key} = ["{text}"]').holds
        for other in {"allow", "deny", "report"} - {key}:
            assert not outcome(f'{other} = ["{text}"]').holds

    def test_one_address_that_may_be_dialled_is_enough(self) -> None:
        """A name is allowed where one of its addresses is, and denied where none is."""
        assert outcome('allow = ["mixed.example:443"]').holds
        assert outcome('deny = ["mixed.example:23"]').holds

    def test_report_mode_denies_nothing(self) -> None:
        """In report mode what rules deny is reported: whoever expects a denial is told that nothing is refused."""
        policy = Policy.build("blog", mode="report")
        assert outcome('report = ["10.0.0.5:22"]', blog=policy).holds
        found = outcome('deny = ["10.0.0.5:22"]', blog=policy)
        assert (found.holds, found.got) == (False, "report")
        assert "apps.blog.mode" in found.cure

    def test_an_app_without_sockets(self) -> None:
        """An app that gets no sockets is denied everything, whatever its policy says."""
        lines = 'allow = ["1.1.1.1:443"]\ndeny = ["10.0.0.5:22"]'
        allowed, denied = hold(table(lines), {"blog": BLOG}, {"blog": ("no billing", "billing = true")})
        assert (allowed.holds, allowed.got, allowed.cure) == (False, "deny", "billing = true")
        assert denied.holds


class TestLookUps:
    """Which names are asked for, and which give an address."""

    @pytest.mark.parametrize("name", ["db.corp", "API.EXAMPLE", "mixed.example"])
    def test_resolves(self, name: str) -> None:
        """A name resolves where it may be asked and an address of the answer could be connected to."""
        assert outcome(f'resolves = ["{name}"]').holds
        assert not outcome(f'no_lookup = ["{name}"]').holds

    def test_is_not_looked_up(self) -> None:
        """A denied name, or one that no rule could allow, is asked of nobody, so it needs no addresses in the table."""
        assert outcome('no_lookup = ["evil.example"]').holds
        assert outcome('no_lookup = ["other.example"]', shop=SHOP).holds
        found = outcome('resolves = ["evil.example"]')
        assert (found.got, found.rule) == ("not looked up", "evil.example")

    @pytest.mark.parametrize("name", ["inner.example", "nothing.example"])
    def test_nothing_is_left(self, name: str) -> None:
        """A name whose addresses are all forbidden, or that has none, does not resolve."""
        assert "no address is left" in outcome(f'resolves = ["{name}"]').got


class TestRules:
    """Which rule must decide."""

    @pytest.mark.parametrize("rule", ["non-public", "built-in"])
    def test_by_text_or_place(self, rule: str) -> None:
        """A rule is named by its text or by its place."""
        assert outcome(f'rule = "{rule}"\ndeny = ["10.0.0.5:22"]').holds

    def test_another_rule(self) -> None:
        """The right verdict by another rule does not hold, and both are told."""
        found = outcome('rule = "evil.example"\ndeny = ["1.1.1.1:23"]')
        assert (found.holds, found.expected, found.rule) == (False, 'deny by "evil.example"', "*:23")
        assert (found.place, found.cure) == (
            "apps.blog.deny[1]",
            "another rule comes first; change the rules, or what is expected",
        )


class TestCures:
    """What a line that fails is answered with."""

    @pytest.mark.parametrize(
        ("expect", "cure"),
        [
            ('allow = ["10.0.0.5:22"]', 'except = ["10.0.0.5:22"]'),
            ('deny = ["api.example:443"]', 'deny = ["tcp://api.example:443"]'),
            ('deny = ["udp://[2606:4700::1]:53"]', 'deny = ["udp://[2606:4700::1]:53"]'),
            ('deny = ["10.2.0.9:5432"]', "narrow or drop apps.blog.except[1]"),
            ('deny = ["8.8.8.8:53"]', "expect it under report"),
            ('allow = ["8.8.8.8:53"]', "8.8.8.8:53"),
            ('report = ["1.1.1.1:53"]', 'mode = "report"'),
            ('no_lookup = ["api.example"]', 'deny = ["api.example"]'),
            ('resolves = ["evil.example"]', "evil.example"),
            ('allow = ["nothing.example:443"]', "below [resolve]"),
        ],
    )
    def test_cure(self, expect: str, cure: str) -> None:
        """The cure is a line for the configuration or says what to change."""
        found = outcome(expect)
        assert not found.holds
        assert cure in found.cure

    @given(st.sampled_from(["10.0.0.5", "1.1.1.1", "2606:4700::1", "api.example", "db.corp"]), st.integers(1, 65535))
    def test_the_cure_of_a_missing_denial_cures(self, host: str, port: int) -> None:
        """Adding the rule that the cure names makes the expectation hold, where it is a rule."""
        text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        found = outcome(f'deny = ["{text}"]', blog=Policy.build("blog"))
        if found.holds:
            return
        rule = found.cure.partition('["')[2].partition('"]')[0]
        assert outcome(f'deny = ["{text}"]', blog=Policy.build("blog", deny=[rule])).holds


class TestApps:
    """Whose policy it is about."""

    def test_the_only_app_need_not_be_named(self) -> None:
        """With one app the key may be left out."""
        assert outcome('allow = ["api.example:443"]', shop=SHOP).app == "shop"

    def test_one_of_several(self) -> None:
        """With several, the one that is named decides."""
        found = outcome('app = "shop"\ndeny = ["1.1.1.1:443"]', blog=BLOG, shop=SHOP)
        assert (found.app, found.holds) == ("shop", True)

    @pytest.mark.parametrize("line", ['app = "bolg"', ""])
    def test_which_app(self, line: str) -> None:
        """An app that is not there, or not named where there are two, is an error that names those there are."""
        with pytest.raises(ConfigError, match=r"expect\[0\]\.app: .*blog, shop"):
            outcome(f'{line}\nallow = ["1.1.1.1:443"]', blog=BLOG, shop=SHOP)


class TestNames:
    """Names whose addresses the table does not say."""

    def test_every_one_is_told(self) -> None:
        """All of them are named at once, each with its place and what to write."""
        with pytest.raises(ConfigError) as caught:
            hold(table('allow = ["a.example:443", "api.example:443"]\nresolves = ["B.example"]'), {"blog": BLOG})
        lines = str(caught.value).splitlines()
        assert lines[0].startswith(
            'expect[0].allow[0]: what is a.example? Nothing is looked up here; below [resolve] write "a.example"'
        )
        assert lines[1].startswith("expect[0].resolves[0]: what is b.example?")

    def test_a_refused_name_needs_none(self) -> None:
        """A name that is refused before its look-up needs no addresses."""
        assert outcome('deny = ["evil.example:443"]').holds
        assert outcome('deny = ["other.example:443"]', shop=SHOP).holds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('policy = "x"', "version: missing; begin the file with: version = 1"),
        ("version = true", "version: True is no version"),
        ("version = 0", "version: 0 is no version"),
        ("version = 2", "version: 2 is newer"),
        ("version = 1", "policy: missing"),
        ('version = 1\npolicy = "x"\npolcy = 1', 'polcy: unknown key; did you mean "policy"?'),
        ("version = 1\npolicy = 7", "policy: takes a path"),
        ('version = 1\npolicy = "x"\n[apps.blog]', "policy: the policy is in x, and in [apps] too"),
        ('version = 1\npolicy = "x"', "expect: there is no expectation"),
        ('version = 1\npolicy = "x"\nexpect = []', "expect: there is no expectation"),
        ('version = 1\npolicy = "x"\nexpect = [1]', "expect: there is no expectation"),
        ('version = 1\npolicy = "x"\n[expect]\nallow = ["1.1.1.1:1"]', "expect: there is no expectation"),
        ('version = 1\npolicy = "x"\nresolve = 7', "resolve: takes a table"),
        ('version = 1\npolicy = "x"\nown = "1.1.1.1"', "own: takes a list of texts"),
        ('version = 1\npolicy = "x"\nown = ["1.1.1.1/8"]', "own[0]: "),
        (
            'version = 1\npolicy = "x"\n[resolve]\ndb.corp = ["10.0.0.5"]',
            'a name with dots stands in quotes: "db.corp"',
        ),
        ('version = 1\npolicy = "x"\n[resolve]\n"db.corp" = ["db2.corp"]', 'resolve."db.corp"[0]: '),
        ('version = 1\npolicy = "x"\n[resolve]\n"db.corp" = 7', 'resolve."db.corp": takes a list of texts'),
        ('version = 1\npolicy = "x"\n[resolve]\n"a b" = []', 'resolve."a b": '),
        ('version = 1\npolicy = "x"\n[resolve]\n"a" = []\n"A." = []', "is there twice, as a"),
    ],
)
def test_a_wrong_file(text: str, sentence: str) -> None:
    """What is wrong is told with its place and a hint."""
    with pytest.raises(ConfigError) as caught:
        read(tomllib.loads(text))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("expect", "sentence"),
    [
        ('app = "blog"', "expect[0]: expects nothing"),
        ("allow = []", "expect[0]: expects nothing"),
        ('alow = ["1.1.1.1:1"]', 'expect[0].alow: unknown key; did you mean "allow"?'),
        ('allow = "1.1.1.1:1"', "expect[0].allow: takes a list of texts"),
        ("allow = [1]", "expect[0].allow: takes a list of texts"),
        ('app = 7\nallow = ["1.1.1.1:1"]', "expect[0].app: takes text"),
        ('rule = ""\nallow = ["1.1.1.1:1"]', "expect[0].rule: takes text"),
        ('allow = ["1.1.1.1"]', "expect[0].allow[0]: a port is required"),
        ('allow = ["https://a.example/x"]', "expect[0].allow[0]: a URL is not a destination; write a.example:443"),
        ('allow = [":443"]', 'expect[0].allow[0]: ":443" has no host'),
        ('allow = ["a b:443"]', "expect[0].allow[0]: "),
        ('allow = ["a:99999"]', "expect[0].allow[0]: '99999' is not a port"),
        ('resolves = ["1.1.1.1"]', "expect[0].resolves[0]: 1.1.1.1 is an address"),
        ('no_lookup = ["0x7f.1"]', "expect[0].no_lookup[0]: 0x7f.1 is an address"),
        ('no_lookup = ["a:443"]', "expect[0].no_lookup[0]: "),
        ('no_lookup = [""]', "expect[0].no_lookup[0]: "),
    ],
)
def test_a_wrong_expectation(expect: str, sentence: str) -> None:
    """A wrong line is told with its place: nothing is skipped, since what is skipped would hold."""
    with pytest.raises(ConfigError) as caught:
        table(expect)
    assert sentence in str(caught.value)


def test_a_policy_of_its_own() -> None:
    """Without ``policy`` the file's own ``apps`` and ``groups`` are the configuration, in the newest version."""
    found = table('allow = ["1.1.1.1:1"]', '[groups]\nx = ["10.0.0.0/8"]\n[apps.blog]\nbilling = true')
    assert found.policy == ""
    assert found.configuration == {"version": 1, "groups": {"x": ["10.0.0.0/8"]}, "apps": {"blog": {"billing": True}}}


def _values(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(leaf, max_size=3), st.dictionaries(st.text(max_size=5), leaf, max_size=3))


@given(
    st.dictionaries(
        st.sampled_from(["version", "policy", "own", "resolve", "groups", "apps", "expect", "other"]),
        st.recursive(st.one_of(st.integers(), st.booleans(), st.text(max_size=9), st.floats()), _values, max_leaves=6),
    )
)
def test_any_toml(raw: dict[str, Any]) -> None:
    """Whatever TOML a file holds, it is a table or an error for people."""
    with contextlib.suppress(ConfigError):
        read({"version": 1, "policy": "x", **raw})
