"""A learned policy permits what was seen and nothing else, and whatever the log holds it is a sound file."""

from __future__ import annotations

import tomllib
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.test_observations import alone, asked, gather, line
from outgate.core.address import addresses
from outgate.core.learn.learning import Learned, Wishes, learn_all, to_toml
from outgate.core.policy.decide import ALLOW, Ask, Decision, Policy, could_resolve, decide
from outgate.core.policy.lint import lint
from support.examples import at_least

OWN = "9.9.9.9"


class Place(NamedTuple):
    """A destination of the generated world; ``name`` is ``""`` where a program knows the address alone."""

    name: str
    address: str
    transport: str
    port: int


#: Names with their addresses, among them some that change between public and private, and that read like a group.
NAMED = [
    ("api.example", "93.184.215.14"), ("mixed.example", "93.184.215.16"), ("mixed.example", "10.0.0.6"),
    ("db.corp", "10.0.0.5"), ("deep.a.corp", "100.64.0.1"), ("public", "93.184.215.15"), ("loopback", "127.0.0.2"),
    ("localhost", "127.0.0.1"), ("metadata.google.internal", "169.254.169.254"), ("self.example", OWN),
    ("xn--bcher-kva.example", "2606:4700::1111"), ("mapped.example", "::ffff:10.0.0.7"),
]  # fmt: skip
ALONE = [
    "8.8.8.8", "10.0.0.5", "93.184.215.14", "2606:4700::1111", "64:ff9b::a00:5", "64:ff9b::808:808", "::ffff:10.0.0.7",
    "fe80::1", "224.0.0.1", "255.255.255.255", "127.0.0.1", "::1", "2002:a00:5::1", OWN,
]  # fmt: skip
WORLD = [
    Place(name, address, transport, port)
    for name, address in [*NAMED, *(("", address) for address in ALONE)]
    for transport in ("tcp", "udp")
    for port in (25, 53, 442, 443, 444)
]
#: The host's own rules for what it would permit; in report mode they only name it.
OPEN = Policy.build("blog", mode="report", own=[OWN])


def judged(policy: Policy, place: Place, *, is_bound: bool = False) -> Decision:
    """Return the decision on a connect by name, or on one by the address that a look-up of the name gave."""
    name = place.name or None
    host = place.address if is_bound or not name else name
    bound = (place.name,) if is_bound and name else ()
    asked_by = None if is_bound else name
    return decide(policy, Ask("blog", place.transport, host, place.address, place.port, asked_by, bound=bound))  # type: ignore[arg-type]


def logged(place: Place, policy: Policy = OPEN, **changes: Any) -> dict[str, Any]:
    """Return the line that a gate with a policy writes of a connect."""
    decision = judged(policy, place)
    return line(
        host=place.name or place.address, name=decision.name, address=place.address, transport=place.transport,
        port=place.port, class_=decision.address_class, verdict=decision.verdict, rule=decision.rule, **changes,
    )  # fmt: skip


def learned(*lines: object, wishes: Wishes | None = None) -> tuple[Learned, Policy, dict[str, Any]]:
    """Return what is learned of app ``blog``, and, by way of the file, its policy and the table it stands in."""
    (result,) = learn_all(gather(*lines), wishes or Wishes())
    table = tomllib.loads(to_toml([result], ["A test's."]))["apps"]["blog"]
    assert (table["allow"], table.get("except", [])) == (result.rules("allow"), result.rules("except"))
    policy = Policy.build(
        "blog", allow=table["allow"], except_=table.get("except", []), names=table.get("names"), own=[OWN]
    )
    return result, policy, table


def rules(*lines: object, **wishes: Any) -> tuple[list[str], list[str]]:
    """Return the rules that are learned for ``allow`` and for ``except``."""
    result, _, _ = learned(*lines, wishes=Wishes(**wishes))
    return result.rules("allow"), result.rules("except")


# --- no more and no less than what was seen ---------------------------------------------------------------------------


def liftable(place: Place) -> bool:
    """Whether a name can lift what is denied there (DESIGN, 5)."""
    classes = {"public", "private", "shared", "own"}
    return addresses.judge(place.address, addresses.NetworkSet([OWN])).address_class in classes


def is_plain(place: Place) -> bool:
    """Whether no built-in denial stands before it."""
    return judged(Policy.build(own=[OWN]), place).verdict == ALLOW


def is_by_name(place: Place) -> bool:
    """Whether a rule by name is what permits it."""
    return bool(place.name) and place.name not in ("localhost", "metadata.google.internal") and liftable(place)


def is_meant(place: Place, seen: Place) -> bool:
    """Whether the narrowest rule that permits ``seen`` permits ``place`` too."""
    if (place.transport, place.port) != (seen.transport, seen.port):
        return False
    if is_by_name(seen):
        return place.name == seen.name and (is_plain(place) if is_plain(seen) else liftable(place))
    target = addresses.parse_network(addresses.judge(seen.address).target)[:2]
    return target in addresses.judge(place.address).target_keys and (is_plain(place) or not is_plain(seen))


@pytest.mark.slow
@at_least(200)
@given(st.sets(st.sampled_from(WORLD), min_size=1, max_size=12))
def test_permits_what_was_seen_and_nothing_else(seen: set[Place]) -> None:
    """Of a world of destinations the learned policy permits those that were seen, by name and by address, alone."""
    _, policy, _ = learned(*(logged(place) for place in sorted(seen)))
    for place in WORLD:
        wanted = any(is_meant(place, each) for each in seen)
        for is_bound in (False, True):
            assert (judged(policy, place, is_bound=is_bound).verdict == ALLOW) == wanted, (place, is_bound)
        if place in seen and place.name:
            assert not could_resolve(policy, place.name).denied
            assert not could_resolve(policy, place.name, place.transport, place.port).denied  # type: ignore[arg-type]


@given(st.sets(st.sampled_from([place for place in WORLD if place.name]), min_size=1, max_size=8))
def test_names_limit_look_ups_to_what_was_seen(seen: set[Place]) -> None:
    """With ``names`` every name that was reached may be looked up and no other name of the world."""
    _, policy, _ = learned(*map(logged, sorted(seen)), wishes=Wishes(limit_lookups=True))
    reached = {place.name for place in seen}
    for name in dict(NAMED):
        assert (not could_resolve(policy, name).denied) == (name in reached)


@given(st.sets(st.sampled_from(WORLD), min_size=1, max_size=12), st.sets(st.sampled_from(WORLD), max_size=12))
def test_what_was_refused_is_not_permitted(seen: set[Place], refused: set[Place]) -> None:
    """What was refused stays so unless what was let through says otherwise; on demand it is permitted."""
    strict = Policy.build("blog", allow=[], own=[OWN])
    lines = [*map(logged, sorted(seen)), *(logged(place, strict) for place in sorted(refused - seen))]
    _, policy, _ = learned(*lines)
    _, wide, _ = learned(*lines, wishes=Wishes(include_denied=True))
    for place in refused - seen:
        allowed = judged(policy, place).verdict == ALLOW
        assert not allowed or any(is_meant(place, each) for each in seen)
        assert judged(wide, place).verdict == ALLOW


@given(st.sets(st.sampled_from(WORLD), min_size=1, max_size=20))
def test_has_nothing_superfluous(seen: set[Place]) -> None:
    """No rule of a learned policy covers another, is too broad or can never match: it has no warnings, with ``names``.

    That an exception is for a metadata service is rightly warned of.
    """
    _, policy, _ = learned(*map(logged, sorted(seen)), wishes=Wishes(limit_lookups=True))
    assert not [str(warning) for warning in lint(policy) if "metadata" not in str(warning)]


# --- shape of the rules -----------------------------------------------------------------------------------------------


def test_ports_of_a_host_are_one_rule() -> None:
    """Ports are joined; a run of three is a range; both transports are one rule where both were seen."""
    lines = [line(port=port) for port in (443, 80, 8002, 8000, 8001)] + [line(port=443, transport="udp")]
    assert rules(*lines)[0] == ["api.example:443", "tcp://api.example:80,8000-8002"]


def test_order_is_that_of_names_and_then_addresses() -> None:
    """The rules stand in the same order whatever the log's was, names first and numbers as numbers."""
    lines = [line(**alone(address)) for address in ("93.184.215.14", "8.8.8.8", "2606:4700::1111")]
    lines += [line(**asked(name, "8.8.4.4")) for name in ("b.example", "a.example")]
    assert rules(*lines) == rules(*reversed(lines))
    assert [rule.removeprefix("tcp://") for rule in rules(*lines)[0]] == [
        "a.example:443", "b.example:443", "8.8.8.8:443", "93.184.215.14:443", "[2606:4700::1111]:443",
    ]  # fmt: skip


def test_a_name_that_is_also_private() -> None:
    """Where a port of a name was reached at a private address too, the exception alone says so: it comes first."""
    lines = [line(**asked("db.corp", "93.184.215.14")), line(**asked("db.corp", "10.0.0.5"))]
    assert rules(*lines) == ([], ["tcp://db.corp:443"])


def test_suffixes() -> None:
    """``--suffix`` widens names below it, the longest one first, and neither the name itself nor others."""
    names = ("a.corp", "b.x.corp", "corp", "acorp", "y.example")
    lines = [line(**asked(name, "8.8.8.8"), port=number) for number, name in enumerate(names, 100)]
    found = rules(*lines, suffixes=("corp", "x.corp"))[0]
    assert found == [
        "tcp://*.corp:100", "tcp://*.x.corp:101", "tcp://acorp:103", "tcp://corp:102", "tcp://y.example:104",
    ]  # fmt: skip


def test_networks() -> None:
    """``--cidr`` widens addresses without a name to their network, and merges their ports."""
    lines = [line(**alone("8.8.8.8"), port=53), line(**alone("8.8.8.4"), port=443), line(**alone("2606:4700::1"))]
    lines.append(line(**asked("api.example", "8.8.8.1")))
    found = rules(*lines, prefixes={4: 24, 6: 32})[0]
    assert found == ["tcp://api.example:443", "tcp://8.8.8.0/24:53,443", "tcp://[2606:4700::/32]:443"]


@pytest.mark.parametrize(
    ("address", "length", "rule"),
    [
        ("10.1.2.3", 16, "tcp://10.1.0.0/16:443"),
        ("10.1.2.3", 4, "tcp://10.1.2.3:443"),
        ("169.254.7.7", 24, "tcp://169.254.7.0/24:443"),
        ("169.254.169.7", 24, "tcp://169.254.169.7:443"),
        ("127.0.0.1", 8, "tcp://127.0.0.0/8:443"),
    ],
)
def test_an_exception_stays_in_its_class(address: str, length: int, rule: str) -> None:
    """An exception is widened only to a network that is of one class: no metadata service comes with its neighbours."""
    assert rules(line(**alone(address)), prefixes={4: length}) == ([], [rule])


def test_the_hosts_own_address_is_not_widened() -> None:
    """The host's own address stays alone: what its neighbours are the log does not say."""
    assert rules(line(**alone(OWN), class_="own"), prefixes={4: 24}) == ([], [f"tcp://{OWN}:443"])


def test_what_no_rule_can_name_is_a_comment() -> None:
    """A refused name that no rule can have is told in a comment, even where all is to be permitted."""
    refused = line(**asked("localhost", "") | {"address": None}, verdict="deny", rule="names")
    (result,) = learn_all(gather(refused), Wishes(include_denied=True))
    text = to_toml([result])
    assert (result.rules("allow"), result.refused) == ([], 1)
    assert "# no rule can name localhost" in text


# --- the text ---------------------------------------------------------------------------------------------------------


def test_comments_tell_how_often_when_and_by_whom() -> None:
    """The comment of a rule has the count, the last time, the programs, the class, and what would have been denied."""
    lines = [
        line(**asked("db.corp", "10.0.0.5"), verdict="report", rule="non-public", program="worker.py", lease="1"),
        line(**asked("db.corp", "10.0.0.5"), verdict="report", rule="non-public", program="agent.py", lease="2"),
        line(**asked("db.corp", "10.0.0.5"), event="end", lease="1", verdict="report", connected=False),
        line(verdict="report", rule="no rule allows it", time="2026-11-21T08:00:00.5Z"),
        line(**asked("evil.example", "8.8.8.8"), verdict="deny", rule="*.example"),
        line(**asked("gone.example", "8.8.8.8"), verdict="deny", rule="names", port=0),
    ]
    (result,) = learn_all(gather(*lines))
    text = to_toml([result])
    for comment in (
        "# private (10.0.0.5); 2 times, last 2026-11-20T10:00:00Z, by worker.py, agent.py; never established\n",
        "# would have been denied: no rule allows it; once, last 2026-11-21T08:00:00Z, by agent.py\n",
        '# refused, *.example; once, last 2026-11-20T10:00:00Z, by agent.py\n    # "tcp://evil.example:443",\n',
        "# look-up refused: gone.example, once,",
    ):
        assert comment in text
    assert (result.destinations, result.reported, result.refused) == (2, 2, 2)


def test_a_comment_does_not_claim_what_is_not_so() -> None:
    """What was refused and is covered by a wider rule now is not called refused."""
    lines = [line(**asked("a.corp", "8.8.8.8")), line(**asked("b.corp", "8.8.4.4"), verdict="deny", rule="b.corp")]
    (result,) = learn_all(gather(*lines), Wishes(suffixes=("corp",)))
    assert '# refused once, and permitted now by "tcp://*.corp:443"; once' in to_toml([result])
    assert result.refused == 0


def test_one_uid_of_two_apps() -> None:
    """A user that was seen as two apps is a comment in both: a configuration with both would be refused."""
    policies = learn_all(gather(line(), line(app="shop"), line(app="shop", uid=7)))
    tables = tomllib.loads(to_toml(policies))["apps"]
    assert {name: table["uid"] for name, table in tables.items()} == {"blog": [], "shop": [7]}


def test_an_app_with_a_dot() -> None:
    """The name of an app is quoted where TOML would take it for two."""
    assert list(tomllib.loads(to_toml(learn_all(gather(line(app="a.b")))))["apps"]) == ["a.b"]


HOSTILE = st.one_of(
    st.text(),
    st.sampled_from(
        ['"', '"]\n[apps.x]', "\r\nallow = ['*']", "# x\n", "\x00\x1b[2J", "\u202e", "\ud800", "'''", "é" * 999]
    ),
)


@at_least(300)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(("program", "rule", "host", "name", "class", "lease"), HOSTILE))
)
def test_hostile_text_stays_text(changes: dict[str, str]) -> None:
    """Whatever texts a log holds, the file says what the policy says, in printable lines of sane length."""
    lines = [
        line(**changes),
        line(verdict="deny", **changes),
        line(port=25, **changes),
        line(**changes, verdict="report"),
    ]
    policies = learn_all(gather(*lines), Wishes(limit_lookups=True))
    text = to_toml(policies, [repr(changes), *changes.values()])
    document = tomllib.loads(text)
    assert set(document) == {"version", "apps"}
    for policy in policies:
        table = document["apps"][policy.app]
        assert set(table) <= {"uid", "billing", "trusted", "allow", "except", "names"}
        assert (table["allow"], table.get("except", [])) == (policy.rules("allow"), policy.rules("except"))
        Policy.build(policy.app, allow=table["allow"], except_=table.get("except", []), names=table["names"])
    assert all(each.isprintable() for each in text.splitlines())
    text.encode()
    assert all(len(each) < 1000 for each in to_toml(policies).splitlines())


def test_without_comments() -> None:
    """Without comments the file says the same."""
    policies = learn_all(gather(line(), line(**asked("db.corp", "10.0.0.5")), line(port=1, verdict="deny")))
    bare = to_toml(policies, with_comments=False)
    assert tomllib.loads(bare) == tomllib.loads(to_toml(policies))
    assert len(bare) < len(to_toml(policies))
