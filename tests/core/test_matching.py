"""The rule index finds what a walk through the list would find."""

from hypothesis import given
from hypothesis import strategies as st

from outgate.core.address.addresses import judge
from outgate.core.policy.matching import PERMIT, REFUSE, RuleIndex, turning_ports
from outgate.core.policy.rules import TCP, UDP, parse_rule
from support.examples import at_least

MANY = at_least(200)

PORTS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 5)).map(lambda pair: f"{pair[0]}-{sum(pair)}"), min_size=1, max_size=3
).map(",".join)


@MANY
@given(st.lists(st.tuples(st.sampled_from(["", "tcp://", "udp://"]), PORTS), max_size=8))
def test_first_of_overlapping_ports(parts: "list[tuple[str, str]]") -> None:
    """Of rules for one network whose ports overlap, the first that has the port is found, at every port."""
    rules = [parse_rule(f"{scheme}1.2.3.0/24:{ports}") for scheme, ports in parts]
    index = RuleIndex(rules, PERMIT)
    buckets = index.matching(judge("1.2.3.4"))
    for transport in (TCP, UDP):
        turns = turning_ports(buckets, transport)
        before = None
        for port in (*range(30), 65535):
            expected = next(
                (r for r in rules if r.transports & transport and any(a <= port <= b for a, b in r.ports)), None
            )
            found = index.first(buckets, transport, port)
            assert found is expected
            assert found is before or port in turns or port == 0
            before = found


def test_order_beats_precision() -> None:
    """The first rule that matches decides, not the narrowest."""
    index = RuleIndex([parse_rule("10.0.0.0/8"), parse_rule("10.1.0.0/16"), parse_rule("*")], PERMIT)
    assert index.first(index.matching(judge("10.1.2.3")), TCP, 80) is index.rules[0]
    index = RuleIndex(index.rules[::-1], PERMIT)
    assert index.first(index.matching(judge("10.1.2.3")), TCP, 80) is index.rules[0]


def test_empty() -> None:
    """An index without rules finds none."""
    index = RuleIndex([], REFUSE)
    assert index.first(index.matching(judge("10.1.2.3")), UDP, 80) is None


def test_ten_thousand_rules_cost_no_more_than_their_prefix_lengths() -> None:
    """An address meets only the rules of networks that contain it, however many there are."""
    rules = [parse_rule(f"11.{number >> 8}.{number & 255}.0/24") for number in range(10_000)]
    index = RuleIndex([*rules, parse_rule("11.0.0.0/8:80")], REFUSE)
    assert len(index.matching(judge("11.1.1.1"))) == 2
    assert len(index.matching(judge("12.1.1.1"))) == 0


def test_group_of_networks() -> None:
    """A rule of several networks matches each, and keeps its place in the order."""
    groups = {"corp": ((4, 10 << 24, 8), (4, 192 << 24 | 168 << 16, 16))}
    index = RuleIndex([parse_rule("corp:80", groups=groups), parse_rule("private")], PERMIT)
    for text in ("10.0.0.1", "192.168.0.1"):
        assert index.first(index.matching(judge(text)), TCP, 80) is index.rules[0]
        assert index.first(index.matching(judge(text)), TCP, 81) is index.rules[1]


def test_naming() -> None:
    """A name meets the rules for it and for each suffix it is below, and the first of the list is found."""
    texts = ["*.corp:80", "db.corp", "*.b.corp", "10.0.0.0/8", "corp", "*.corp"]
    index = RuleIndex([parse_rule(text) for text in texts], PERMIT)
    assert index.has_names
    for name, port, expected in [
        ("db.corp", 80, "*.corp:80"),
        ("db.corp", 81, "db.corp"),
        ("a.b.corp", 81, "*.b.corp"),
        ("x.corp", 81, "*.corp"),
        ("corp", 81, "corp"),
        ("xcorp", 81, None),
        ("corp.example", 80, None),
    ]:
        found = index.first(index.naming(name), TCP, port)
        assert (found and found.text) == expected
    assert not RuleIndex([parse_rule("*")], PERMIT).has_names


def test_ten_thousand_names_cost_no_more_than_the_labels_of_one() -> None:
    """A name meets only the rules for it and its suffixes, however many there are."""
    rules = [parse_rule(f"h{number}.x{number % 100}.example") for number in range(10_000)]
    index = RuleIndex([*rules, parse_rule("*.x7.example:80"), parse_rule("*.example:90")], REFUSE)
    assert len(index.naming("h107.x7.example")) == 3
    assert len(index.naming("h1.x7.example")) == 2
    assert index.naming("h107.x7.test") == ()
