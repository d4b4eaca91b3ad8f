"""A connection that is judged again is judged as the connect that opened it; what changes between two policies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.learn import connections
from outgate.core.learn.connections import Connections
from outgate.core.learn.observations import Observations, TooMany
from outgate.core.policy.again import Again, Opened, again, is_overruled
from outgate.core.policy.decide import Ask, Policy, could_resolve, decide, lets_through
from outgate.core.policy.difference import DIRECTIONS, Withheld, compare
from support.examples import at_least

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.5"
RULES = ["public", "db.corp:5432", "*.corp", "10.0.0.0/8:5432", "tcp://*:443", "udp://8.8.8.8:53", "*:5432"]
NAMES = ["db.corp", "www.corp", "example.com"]


def policies() -> st.SearchStrategy[Policy]:
    """Return policies of few rules about few destinations, so that they decide differently often."""
    lists = st.lists(st.sampled_from(RULES), max_size=3, unique=True)
    named = st.one_of(st.none(), st.lists(st.sampled_from(NAMES), max_size=2, unique=True))
    mode = st.sampled_from(["enforce", "report"])
    denials = st.lists(st.sampled_from([*RULES[1:], "example.com"]), max_size=2, unique=True)
    return st.builds(
        lambda allow, deny, except_, names, mode: Policy.build(
            "blog", allow=allow, deny=deny, except_=except_, names=names, mode=mode
        ),
        lists, denials, lists, named, mode,
    )  # fmt: skip


DESTINATIONS = st.tuples(
    st.sampled_from(["tcp", "udp"]), st.sampled_from([PUBLIC, PRIVATE, "8.8.8.8"]), st.sampled_from([53, 443, 5432])
)


@given(policies(), DESTINATIONS, st.sampled_from(["", *NAMES]))
@at_least(200)
def test_an_address_is_judged_as_a_connect_to_it(policy: Policy, to: tuple[str, str, int], name: str) -> None:
    """A connection by address has the decision of a connect to it now, with the name that opened it bound to it."""
    transport, address, port = to
    opened = Opened(transport, address, address, port, name)  # type: ignore[arg-type]
    bound = (name,) if name else ()
    expected = decide(policy, Ask("blog", transport, address, address, port, None, 0, bound))  # type: ignore[arg-type]
    assert again(policy, opened) == expected


@given(policies(), DESTINATIONS, st.sampled_from(NAMES), st.sampled_from([str, str.upper, "{}.".format]))
@at_least(200)
def test_a_name_is_judged_as_a_connect_by_it(policy, to, name, spelling) -> None:
    """A connection by name is let through just if the name may be looked up and the address dialled."""
    transport, address, port = to
    found = again(policy, Opened(transport, spelling(name), address, port, name))
    first = could_resolve(policy, name, transport, port)
    then = decide(policy, Ask("blog", transport, spelling(name), address, port, name))
    assert found.denied == (first.denied or then.denied)
    if "deny" not in (first.verdict, then.verdict):
        assert found.verdict == max(first.verdict, then.verdict), "report comes after allow"


OPENINGS = st.tuples(st.sampled_from([PUBLIC, PRIVATE, *NAMES]), st.sampled_from([53, 443, 5432]),
                     st.sampled_from([PUBLIC, PRIVATE]), st.sampled_from(["", *NAMES]))  # fmt: skip
BOUND = st.dictionaries(st.sampled_from([PUBLIC, PRIVATE]), st.lists(st.sampled_from(NAMES), max_size=2).map(tuple))


@given(policies(), st.lists(OPENINGS, max_size=30), BOUND)
@at_least(200)
def test_shared_answers_are_those_of_each(policy, openings, bound) -> None:
    """What many connections share is what each would have been answered alone, and each question is put once."""
    asked: list[str] = []

    def names_for(address: str) -> tuple[str, ...]:
        asked.append(address)
        return bound.get(address, ())

    shared = Again(policy, names_for)
    for host, port, address, name in openings:
        alone = again(policy, Opened("tcp", host, address, port, name), bound.get(address, ()))
        found = shared[(host, port), address, name]
        assert found is None if alone.verdict == "allow" else found == alone
    assert len(asked) == len(shared) == len(set(openings))


@given(policies(), DESTINATIONS, st.sampled_from([None, *NAMES]), st.lists(st.sampled_from(NAMES), max_size=2))
@at_least(200)
def test_what_is_let_through_is_what_is_allowed(policy, to, name, bound) -> None:
    """The short answer is the verdict of the long one."""
    transport, address, port = to
    ask = Ask("blog", transport, address, address, port, name, 0, tuple(bound))
    assert lets_through(policy, ask) == (decide(policy, ask).verdict == "allow")


def test_a_policy_is_known_by_all_it_is_made_of() -> None:
    """Policies that differ in anything but their number have another digest."""
    ways = [
        {}, {"allow": []}, {"allow": ["db.corp"]}, {"deny": ["db.corp"]}, {"except_": ["db.corp"]}, {"mode": "report"},
        {"own": ["10.0.0.0/8"]}, {"groups": {"a": ["10.0.0.0/8"]}}, {"dev": True}, {"names": ["db.corp"]},
        {"deny": [{"rule": "db.corp", "mode": "report"}]}, {"built_in": []}, {"exempt": ["db.corp"]}, {"place": "here"},
    ]  # fmt: skip
    assert len({Policy.build("blog", **way).digest for way in ways}) == len(ways)
    assert Policy.build("blog", number=2).digest == Policy.build("blog").digest != Policy.build("web").digest


def test_what_is_bound_now_counts_too() -> None:
    """A connection by address stays where a rule permits a name that its address has by now."""
    policy = Policy.build("blog", allow=["www.corp:443"])
    opened = Opened("tcp", PUBLIC, PUBLIC, 443, "db.corp")
    assert again(policy, opened).denied
    found = again(policy, opened, ("www.corp",))
    assert (found.verdict, found.name) == ("allow", "www.corp")


def test_a_name_without_an_address() -> None:
    """What was refused by its name alone is judged by its name alone."""
    opened = Opened("tcp", "db.corp", "", 5432, "db.corp")
    assert again(Policy.build("blog", allow=[]), opened).denied
    assert again(Policy.build("blog", allow=["db.corp:5432"]), opened).verdict == "allow"


def test_overruled() -> None:
    """A verdict is overruled by a worse one, and by no other."""
    verdicts = ("allow", "report", "deny")
    worse = [(a, b) for a in verdicts for b in verdicts if is_overruled(a, b)]
    assert worse == [("allow", "report"), ("allow", "deny"), ("report", "deny")]


# --- two policies -----------------------------------------------------------------------------------------------------


def test_changes_in_their_order() -> None:
    """What is newly denied comes first, the most frequent first; what stays as it is, is no change."""
    before = {"blog": Policy.build("blog", except_=["10.0.0.5"]), "shop": Withheld("billing", "no billing")}
    after = {"blog": Policy.build("blog", deny=["93.184.215.14"]), "shop": Policy.build("shop")}
    seen = [
        ("shop", Opened("tcp", PUBLIC, PUBLIC, 443), 9, "2026-03-01T00:00:00.000Z"),
        ("blog", Opened("tcp", PUBLIC, PUBLIC, 443), 1, ""),
        ("blog", Opened("udp", PRIVATE, PRIVATE, 53), 2, ""),
        ("blog", Opened("tcp", "8.8.8.8", "8.8.8.8", 443), 5, ""),
        ("gone", Opened("tcp", PUBLIC, PUBLIC, 443), 7, ""),
    ]
    changes = compare(before, after, seen)
    assert [(each.direction, each.app, each.times) for each in changes] == [
        ("newly-denied", "blog", 2), ("newly-denied", "blog", 1), ("newly-allowed", "shop", 9),
    ]  # fmt: skip
    assert changes[0].after.cure == 'to permit: except = ["udp://10.0.0.5:53"]'
    assert (changes[1].before.rule, changes[1].after.rule) == ("public", "93.184.215.14")
    assert (changes[2].before.rule, changes[2].before.verdict) == ("billing", "deny")


@given(policies(), policies(), st.lists(st.tuples(DESTINATIONS, st.sampled_from(NAMES), st.booleans()), max_size=6))
@at_least(100)
def test_both_ways(one: Policy, other: Policy, asked) -> None:
    """What is newly denied one way is newly allowed the other way, and no policy differs from itself."""
    seen = [
        ("blog", Opened(transport, name if by_name else address, address, port, name), 1, "")
        for (transport, address, port), name, by_name in asked
    ]
    there = compare({"blog": one}, {"blog": other}, seen)
    back = compare({"blog": other}, {"blog": one}, seen)
    assert {each.opened for each in there} == {each.opened for each in back}
    for each in there:
        assert each.direction in DIRECTIONS
        (reverse,) = {e.direction for e in back if e.opened == each.opened}
        assert (each.direction == "newly-allowed") != (reverse == "newly-allowed")
    assert compare({"blog": one}, {"blog": one}, seen) == []


def test_look_ups() -> None:
    """A refused look-up (port 0) is judged as a look-up: the name, and its address where one was dropped."""
    before, after = Policy.build("blog", allow=[]), Policy.build("blog", allow=["db.corp:5432"])
    asked = Opened("tcp", "db.corp", "", 0, "db.corp")
    dropped = Opened("tcp", "db.corp", PRIVATE, 0, "db.corp")
    found = compare({"blog": before}, {"blog": after}, [("blog", asked, 1, ""), ("blog", dropped, 1, "")])
    assert [each.opened for each in found] == [asked]


# --- from a log -------------------------------------------------------------------------------------------------------


def line(event: str = "decision", **fields: object) -> dict[str, object]:
    """Return a decoded line of a log."""
    known = {"v": 1, "time": "2026-03-01T10:00:00.000Z", "app": "blog", "transport": "tcp", "port": 443}
    return {**known, "event": event, "host": PUBLIC, "address": PUBLIC, "verdict": "allow", **fields}


def test_each_connection_counts_once() -> None:
    """A decision and its end are one connection; an end alone is one too, as allowed decisions may not be logged."""
    seen = Connections()
    for each in (
        line(lease="a-1"),
        line("end", lease="a-1", time="2026-03-01T11:00:00.000Z"),
        line("end", lease="a-2"),
    ):
        seen.add(each)
    assert list(seen) == [("blog", Opened("tcp", PUBLIC, PUBLIC, 443), 2, "2026-03-01T10:00:00.000Z")]
    assert (seen.count, seen.misread, seen.lost) == (2, 0, 0)


def test_app_and_since() -> None:
    """Other apps, and what is older, are left out."""
    seen = Connections("blog", "2026-03-01T09:30:00.000Z")
    for each in (
        line(),
        line(app="shop"),
        line(time="2026-03-01T09:00:00.000Z"),
        line(time="2026-03-01T09:30:00.000Z"),
    ):
        seen.add(each)
    assert seen.count == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"app": 7}, {"app": "No App"}, {"transport": "sctp"}, {"port": "443"}, {"port": 65536}, {"port": True},
        {"address": "nowhere"}, {"name": "a b"}, {"address": "", "host": "a b"}, {"host": "\x00", "address": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_connection(fields: dict[str, object]) -> None:
    """A line whose fields are not those of a connection is counted as misread, and nothing is gathered of it."""
    seen = Connections()
    for each in (line(**fields), None, [], {"event": 7}):
        seen.add(each)
    assert (seen.count, seen.misread, len(seen)) == (0, 4, 0)


def test_what_is_not_in_the_log_is_counted() -> None:
    """Lines that a log says are missing are counted by whoever reads it, dropped ones and folded ones."""
    for seen in (Connections(), Observations()):
        seen.add(line("log-dropped", count=3))
        seen.add(line("log-folded", allowed=1, denied=20, ended=300, others=7))
        assert seen.lost == 324


def test_there_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log with more kinds of connections than can be kept is an error that says what to do."""
    monkeypatch.setattr(connections, "MOST", 2)
    seen = Connections()
    for port in (1, 2, 1):
        seen.add(line(port=port))
    with pytest.raises(TooMany, match="--since"):
        seen.add(line(port=3))
