"""What a process leaves itself: never more than its app's, the same in any order, and named in every refusal."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.test_policy_twin import ADDRESSES, ASKS, MANY, NAMES, PATTERNS, POLICIES, RULES, Question
from outgate.core.policy import decide as app_policy
from outgate.core.policy import narrow
from outgate.core.policy.decide import Ask, Decision, Policy
from outgate.core.policy.narrow import CLOSED, NOT_NARROWED, Narrowed, Narrowing
from outgate.errors import ConfigError, LookUpDenied, PolicyDenied, build
from support.slow_policy import SlowPolicy

OWN = ["10.1.2.3"]
TEXTS = st.lists(RULES, max_size=4).map(tuple)
NARROWINGS = st.builds(
    Narrowing, st.one_of(st.none(), TEXTS), TEXTS, st.one_of(st.none(), st.lists(PATTERNS, max_size=3).map(tuple))
)


def narrowed_to(*narrowings: Narrowing) -> Narrowed:
    """Return what is left after some narrowings, one after the other."""
    left = NOT_NARROWED
    for each in narrowings:
        left = left.also(Narrowed({each: narrow.build("blog", each, OWN)}))
    return left


def ask_of(question: Question) -> Ask:
    """Return the question of (transport, address, port, name, bound names)."""
    transport, address, port, name, bound = question
    return Ask("blog", transport, name or address, address, port, name=name, bound=bound)


def verdict(policy: Policy, question: Question, *narrowings: Narrowing) -> Decision:
    """Decide for a process that has narrowed itself so."""
    return narrow.decide(policy, ask_of(question), narrowed_to(*narrowings))


@pytest.mark.slow
@MANY
@given(POLICIES, NARROWINGS, st.lists(ASKS, min_size=1, max_size=8))
def test_what_is_left_is_what_both_allow(
    lists: dict[str, object], narrowing: Narrowing, questions: list[Question]
) -> None:
    """A connect is let through if the app's policy lets it and a slow walk through the narrowing's rules allows it."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    slow = SlowPolicy(allow=("*",) if narrowing.allow is None else narrowing.allow, deny=narrowing.deny, own=OWN)
    del slow.deny[:3]  # the built-in denials: those are the app's to make
    for question in questions:
        before = app_policy.decide(policy, ask_of(question))
        after = verdict(policy, question, narrowing)
        is_left = slow.decide(*question)[0] == "allow"
        assert after.denied == (before.denied or not is_left)
        if before.denied or is_left:
            assert after == before


@pytest.mark.slow
@MANY
@given(POLICIES, st.lists(NARROWINGS, min_size=2, max_size=3), st.lists(ASKS, min_size=1, max_size=6))
def test_several_are_what_all_of_them_leave(
    lists: dict[str, object], narrowings: list[Narrowing], questions: list[Question]
) -> None:
    """Narrowed several times, in any order and again, a process has what each of them leaves: their intersection."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    for question in questions:
        each = [verdict(policy, question, one).denied for one in narrowings]
        for order in permutations(narrowings):
            assert verdict(policy, question, *order, *order[:1]).denied == any(each)


@pytest.mark.slow
@MANY
@given(POLICIES, st.lists(NARROWINGS, max_size=2), ASKS)
def test_what_may_be_connected_to_may_be_looked_up(
    lists: dict[str, object], narrowings: list[Narrowing], question: Question
) -> None:
    """An address that may be connected to is in the answer of a look-up; a name that may be, can be asked for."""
    policy, narrowed = Policy.build("blog", **lists), narrowed_to(*narrowings)  # type: ignore[arg-type]
    transport, address, port, name, bound = question
    if narrow.decide(policy, ask_of(question), narrowed).denied or bound:
        return
    assert not narrow.could_allow(policy, transport, address, narrowed, host=name or address, name=name).denied
    limits = lists["names"], *(each.names for each in narrowings)
    if name is not None and all(limit is None for limit in limits):  # a name may be kept from look-ups alone
        found = narrow.could_resolve(policy, name, transport, port, narrowed)
        # One that is denied is not looked up, though its address be excepted: nobody knows the address before.
        assert not found.denied or (".deny[" in found.place and lists["except_"])


@MANY
@given(st.lists(NARROWINGS, max_size=2), st.sampled_from(NAMES), ADDRESSES)
def test_a_narrowing_never_opens_a_look_up(narrowings: list[Narrowing], name: str, address: str) -> None:
    """A name or address that the app may not even look up stays so, and its refusal is the app's."""
    policy = Policy.build("blog", allow=["a.corp:80", "8.8.8.0/24:53"], names=["*.example"])
    narrowed = narrowed_to(*narrowings)
    for before, after in (
        (app_policy.could_resolve(policy, name), narrow.could_resolve(policy, name, narrowed=narrowed)),
        (app_policy.could_allow(policy, None, address), narrow.could_allow(policy, None, address, narrowed)),
    ):
        if before.denied:
            assert after == before


PUBLIC = Policy.build("blog", number=7)


@pytest.mark.parametrize(
    ("narrowing", "limit", "cure"),
    [
        (Narrowing(("192.0.43.7:443",)), "none of the rules that it left itself allows it", 'add "192.0.43.8:80" to'),
        (Narrowing(None, ("public:80",)), 'rule "public:80" (narrow.deny[0])', 'leave out "public:80"'),
        (CLOSED, "none of the rules that it left itself allows it", 'add "192.0.43.8:80" to allow'),
    ],
)
def test_a_refusal_says_that_the_program_made_it(narrowing: Narrowing, limit: str, cure: str) -> None:
    """The sentence names the narrowing as the program's own, the rule or that none allows it, and what to write."""
    decision = verdict(PUBLIC, ("tcp", "192.0.43.8", 80, None, ()), narrowing)
    assert decision.denied
    assert decision.reason.endswith(f"192.0.43.8 (public); narrowed by the program itself: {limit}")
    assert decision.cure is not None
    assert cure in decision.cure
    assert decision.policy == 7
    assert decision.place.startswith("narrow")
    assert type(build(decision.code, decision.facts)) is PolicyDenied


@pytest.mark.parametrize(
    ("narrowing", "name", "limit"),
    [
        (Narrowing(("api.example:443",)), "evil.example", "none of the rules that it left itself allows it"),
        (Narrowing(None, ("*.evil.example",)), "a.evil.example", 'rule "*.evil.example" (narrow.deny[0])'),
        (Narrowing(None, (), ("*.corp",)), "evil.example", "it is not among the names that it left itself"),
        (Narrowing(("public",), (), ()), "evil.example", "it is not among the names that it left itself"),
    ],
)
def test_a_refused_look_up_says_so_too(narrowing: Narrowing, name: str, limit: str) -> None:
    """A name that no rule left could allow is refused before anybody is asked, in the same words."""
    decision = narrow.could_resolve(PUBLIC, name, narrowed=narrowed_to(narrowing))
    assert decision.reason == f"blog → {name} (look-up) denied: narrowed by the program itself: {limit}"
    assert type(build(decision.code, decision.facts)) is LookUpDenied


def test_names_that_rules_allow_are_looked_up_whatever_the_list_says() -> None:
    """As in the policy of an app, a name that ``allow`` names need not be in ``names``."""
    narrowed = narrowed_to(Narrowing(("api.example:443",), (), ()))
    assert not narrow.could_resolve(PUBLIC, "api.example", narrowed=narrowed).denied


def test_a_narrowing_holds_in_report_mode() -> None:
    """What the program has given up is refused, although its app's policy only reports."""
    policy = Policy.build("blog", mode="report")
    question: Question = ("tcp", "10.0.0.5", 80, None, ())
    assert verdict(policy, question).verdict == "report"
    assert verdict(policy, question, Narrowing(("*",))).verdict == "report"
    assert verdict(policy, question, Narrowing(("public",))).verdict == "deny"


def test_a_rule_for_what_the_app_may_not_reach_is_pointless() -> None:
    """It allows nothing, and the refusal is the app's, which nothing in the program can change."""
    question: Question = ("tcp", "10.0.0.5", 80, None, ())
    decision = verdict(PUBLIC, question, Narrowing(("10.0.0.5:80",)))
    assert decision == verdict(PUBLIC, question)
    assert decision.rule == "non-public"


def test_groups_and_own_addresses_are_the_operators() -> None:
    """A rule may name a group of the configuration, and ``own`` is what it is for the app."""
    policy = narrow.build("blog", Narrowing(("databases:5432", "own")), ["192.0.43.9"], {"databases": ["192.0.43.8"]})
    narrowed = Narrowed({Narrowing(()): policy})
    for address, port, is_left in (("192.0.43.8", 5432, True), ("192.0.43.8", 80, False), ("192.0.43.9", 80, True)):
        ask = Ask("blog", "tcp", address, address, port)
        assert (narrow.refusal(ask, narrowed, 1) is None) == is_left


@pytest.mark.parametrize(
    ("narrowing", "complaint"),
    [
        (Narrowing(("10.2.*",)), 'narrow.allow[0]: "10.2.*"'),
        (Narrowing(("public", "web*.corp")), "narrow.allow[1]:"),
        (Narrowing(None, ("public:99999",)), "narrow.deny[0]:"),
        (Narrowing(None, (), ("a b",)), "narrow.names[0]:"),
    ],
)
def test_a_bad_rule_is_named_with_its_place(narrowing: Narrowing, complaint: str) -> None:
    """What is no rule is refused as in a configuration: place, what is wrong, and what to write."""
    with pytest.raises(ConfigError) as caught:
        narrow.build("blog", narrowing)
    assert str(caught.value).startswith(complaint)
    assert ";" in str(caught.value)


def test_saying_it_again_changes_nothing() -> None:
    """A narrowing that holds already, or none, leaves the same; only who has some counts as narrowed."""
    one, other = Narrowing(("public",)), Narrowing(None, ("*:25",))
    both = narrowed_to(one, other)
    assert both.also(narrowed_to(other)) is both
    assert both.also(NOT_NARROWED) is both
    assert not NOT_NARROWED
    assert both
