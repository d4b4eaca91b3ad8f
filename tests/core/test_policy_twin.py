"""The policy, held against a slow and obvious twin, and the properties that nobody may break."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.address.addresses import judge
from outgate.core.policy.decide import Ask, Decision, Policy, could_allow, could_resolve, decide
from outgate.core.policy.rules import parse_rule
from support.examples import at_least, words
from support.slow_policy import SlowPolicy

pytestmark = pytest.mark.slow  # ten seconds of a minute that the fast suite has

MANY = at_least(150)
MOST = at_least(300)

# Few addresses, blocks around them and few ports, so that rules and questions meet often.
V4 = words("""8.8.8.8 8.8.8.9 8.8.4.4 1.2.3.4 10.0.0.5 10.0.0.6 10.1.2.3 192.168.1.1 127.0.0.1 0.0.0.0 169.254.169.254
169.254.1.1 100.64.0.1 100.100.100.200 224.0.0.1 255.255.255.255 240.0.0.1 192.0.2.1""")
V6 = words("""::1 :: 2001:4860::8888 2001:4860::8889 2620::5efe:8.8.8.8 fd00::1 fd00:ec2::254 fe80::1 ff02::1
2001:db8::1
fc00::2 fd00::5efe:127.0.0.1 64:ff9b:1::10.0.0.5 2001:0:808:808::f5ff:fffa""")
FORMS = ["::ffff:{}", "64:ff9b::{}", "::{}", "::ffff:0:{}", "2620::5efe:{}", "fe80::200:5efe:{}", "64:ff9b:1::{}"]
PORTS = [*range(22, 28), 53, 80, 443]
#: These, and what is beside them: every port at which something may begin or end.
EACH = sorted({0, 1, 65535, *(port + step for port in PORTS for step in range(-1, 6))})
GROUPS = words("public non-public private loopback link-local shared metadata multicast broadcast reserved own *")


def six_to_four(text: str) -> str:
    """Return the 6to4 prefix of an IPv4 address, as an address."""
    return str(IPv6Address(0x2002 << 112 | int(ip_address(text)) << 80))


EMBEDDING = st.one_of(
    st.builds(lambda form, text: str(ip_address(form.format(text))), st.sampled_from(FORMS), st.sampled_from(V4)),
    st.sampled_from(V4).map(six_to_four),
)
ADDRESSES = st.one_of(st.sampled_from(V4), st.sampled_from(V6), EMBEDDING)


def block(text: str, drop: int) -> str:
    """Return the CIDR around an address that leaves out ``drop`` bits; a mapped one as what it maps."""
    address = ip_address(text)
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    drop = min(drop, address.max_prefixlen)
    value = int(address) >> drop << drop
    return f"{type(address)(value)}/{address.max_prefixlen - drop}"


def bracketed(target: str) -> str:
    """Put IPv6 into brackets, so that ports can follow."""
    return f"[{target}]" if ":" in target else target


# Names that share suffixes, and one that only looks as if it did.
NAMES = words("a.corp b.corp a.b.corp xb.corp corp db a.example b.a.example")
PATTERNS = st.sampled_from([*NAMES, *words("*.corp *.b.corp *.a.example *.example *.db")])
TARGETS = st.one_of(
    PATTERNS,
    st.sampled_from(GROUPS),
    ADDRESSES.map(lambda text: block(text, 0).rpartition("/")[0]).map(bracketed),
    st.builds(block, ADDRESSES, st.sampled_from([1, 8, 16, 24, 32, 64, 112, 128])).map(bracketed),
)
PORT_PARTS = st.one_of(
    st.sampled_from(PORTS).map(str),
    st.tuples(st.sampled_from(PORTS), st.integers(0, 4)).map(lambda p: f"{p[0]}-{sum(p)}"),
)
PORT_TEXTS = st.one_of(
    st.just(""), st.lists(PORT_PARTS, min_size=1, max_size=3).map(lambda parts: ":" + ",".join(parts))
)
RULES = st.builds("{}{}{}".format, st.sampled_from(["", "", "tcp://", "udp://"]), TARGETS, PORT_TEXTS)
LISTS = st.lists(RULES, max_size=5)
DENIES = st.lists(
    st.one_of(RULES, st.fixed_dictionaries({"rule": RULES, "mode": st.sampled_from(["enforce", "report"])})), max_size=5
)
OWN = st.lists(st.builds(block, st.sampled_from([*V4, *V6]), st.sampled_from([0, 8, 64])), max_size=2)
POLICIES = st.fixed_dictionaries(
    {
        "allow": LISTS,
        "deny": DENIES,
        "except_": LISTS,
        "own": OWN,
        "mode": st.sampled_from(["enforce"] * 4 + ["report"]),
        "names": st.one_of(st.none(), st.lists(PATTERNS, max_size=3)),
    }
)
TRANSPORTS = st.sampled_from(["tcp", "udp"])
#: By address, by name, or by an address that names are bound to.
ASKED = st.one_of(
    st.just((None, ())),
    st.tuples(st.sampled_from(NAMES), st.just(())),
    st.tuples(st.none(), st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)),
)
Question = tuple  # (transport, address, port[, name, bound])
ASKS = st.builds(lambda first, asked: (*first, *asked), st.tuples(TRANSPORTS, ADDRESSES, st.sampled_from(PORTS)), ASKED)


def put(policy: Policy, question: Question) -> Decision:
    """Ask a policy about (transport, address, port, name, bound names)."""
    transport, address, port, name, bound = (*question, None, ())[:5]
    return decide(policy, Ask("blog", transport, name or address, address, port, name=name, bound=bound))


@pytest.mark.slow
@MOST
@given(POLICIES, st.lists(ASKS, min_size=1, max_size=12))
def test_decides_like_the_slow_twin(lists: "dict[str, object]", questions: "list[Question]") -> None:
    """Verdict and deciding rule are those of the walk through all rules, for any policy and any question."""
    policy, slow = Policy.build("blog", **lists), SlowPolicy(**lists)  # type: ignore[arg-type]
    for question in questions:
        decision = put(policy, question)
        verdict, rule = slow.decide(*question)
        assert (decision.verdict, decision.rule) == (verdict, rule or "no rule allows it")
        asked = [name for name in (question[3], *question[4]) if name]
        assert decision.name in asked or (not asked and decision.name == "")


#: Rules of whole classes, where what could be allowed can be found by trying one address of each class.
CLASS_RULES = st.builds(
    "{}{}{}".format, st.sampled_from(["", "", "tcp://", "udp://"]), st.sampled_from(GROUPS) | PATTERNS, PORT_TEXTS
)
CLASS_POLICIES = st.fixed_dictionaries(
    {
        "allow": st.lists(CLASS_RULES, max_size=5),
        "deny": st.lists(
            st.one_of(CLASS_RULES, st.builds(lambda rule: {"rule": rule, "mode": "report"}, CLASS_RULES)), max_size=5
        ),
        "except_": st.lists(CLASS_RULES, max_size=3),
        "own": st.just(["10.1.2.3"]),
        "names": st.one_of(st.none(), st.lists(PATTERNS, max_size=3)),
        "mode": st.sampled_from(["enforce"] * 4 + ["report"]),
    }
)


@MANY
@given(CLASS_POLICIES, st.sampled_from(NAMES), TRANSPORTS, st.sampled_from(PORTS))
def test_look_ups_like_the_slow_twin(lists: "dict[str, object]", name: str, transport: str, port: int) -> None:
    """With rules of names and classes a name may be looked up exactly if it might lead to an address let through."""
    policy, slow = Policy.build("blog", **lists), SlowPolicy(**lists)  # type: ignore[arg-type]
    decision = could_resolve(policy, name, transport, port)  # type: ignore[arg-type]
    expected = slow.could_resolve(name, transport, port, V4)
    if lists["mode"] == "report":
        assert not decision.denied
        assert expected or decision.verdict == "report"
    else:
        assert decision.denied is not expected


@MANY
@given(POLICIES, ADDRESSES, st.sampled_from(NAMES), TRANSPORTS, st.sampled_from(PORTS))
def test_what_is_let_through_may_be_looked_up(
    lists: "dict[str, object]", address: str, name: str, transport: str, port: int
) -> None:
    """No look-up is refused of a name that a connect could go to, but for denied names and those not in names."""
    policy = Policy.build("blog", **{**lists, "names": None})  # type: ignore[arg-type]
    if put(policy, (transport, address, port, name)).denied:
        return
    decision = could_resolve(policy, name, transport, port)  # type: ignore[arg-type]
    if decision.denied:  # an exception for the address, which is not known yet, had come before a denial of the name
        assert decision.kind == "name"
        assert decision.place.startswith("apps.blog.deny")
    else:
        assert not could_resolve(policy, name).denied
        assert not could_allow(policy, None, address, name=name).denied


@MANY
@given(POLICIES, st.sampled_from(NAMES), st.sampled_from(["tcp", "udp", None]))
def test_any_port_is_the_best_port(lists: "dict[str, object]", name: str, transport: "str | None") -> None:
    """A look-up is judged like the port of it that comes off best."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    order = ["deny", "report", "allow"]
    transports = [transport] if transport else ["tcp", "udp"]
    best = max(order.index(could_resolve(policy, name, each, port).verdict) for each in transports for port in EACH)  # type: ignore[arg-type]
    assert could_resolve(policy, name, transport).verdict == order[best]  # type: ignore[arg-type]


@MANY
@given(POLICIES, st.sampled_from(NAMES), TRANSPORTS, st.sampled_from(PORTS))
def test_cure_opens_the_look_up(lists: "dict[str, object]", name: str, transport: str, port: int) -> None:
    """The rule that a refused look-up has as its cure opens that look-up, and no other name's."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    decision = could_resolve(policy, name, transport, port)  # type: ignore[arg-type]
    if not decision.denied:
        return
    key = "except_" if "except" in str(decision.cure) else "allow"
    cured = Policy.build("blog", **{**lists, key: [*lists[key], decision.permit]})  # type: ignore[dict-item]
    after = could_resolve(cured, name, transport, port)  # type: ignore[arg-type]
    assert not after.denied
    for other in NAMES:
        if other != name:
            before = could_resolve(policy, other, transport, port).verdict  # type: ignore[arg-type]
            assert could_resolve(cured, other, transport, port).verdict == before  # type: ignore[arg-type]


@MANY
@given(POLICIES, ASKS, st.lists(ASKS, max_size=12))
def test_cure_permits_exactly(lists: "dict[str, object]", question: Question, others: "list[Question]") -> None:
    """The rule of a cure, added to the list it names, permits what was denied and no other destination."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    decision = put(policy, question)
    if decision.verdict == "allow":
        return
    name = "except_" if "except" in str(decision.cure) else "allow"
    cured = Policy.build("blog", **{**lists, name: [*lists[name], decision.permit]})  # type: ignore[dict-item]
    after = put(cured, question)
    # A rule in report mode may still report what a missing allow had denied.
    assert after.verdict == "allow" or (name == "allow" and after.verdict == "report")
    by_name = parse_rule(decision.permit).pattern
    target = ip_address(judge(question[1]).target)
    for other in others:
        if by_name is not None:
            is_touched = any(name and by_name.matches(name) for name in (other[3], *other[4]))
        else:
            is_touched = (target.version, int(target)) in judge(other[1]).target_keys
        if not is_touched or other[2] != question[2]:
            assert put(cured, other).verdict == put(policy, other).verdict


@MANY
@given(POLICIES, RULES, ASKS)
def test_deny_only_takes_and_except_only_gives(lists: "dict[str, object]", rule: str, question: Question) -> None:
    """One more deny never permits anything, one more except or allow never denies anything."""
    order = ["deny", "report", "allow"]
    before = order.index(put(Policy.build("blog", **lists), question).verdict)  # type: ignore[arg-type]

    def with_one_more(name: str) -> int:
        more = {**lists, name: [*lists[name], rule]}  # type: ignore[misc]
        return order.index(put(Policy.build("blog", **more), question).verdict)  # type: ignore[arg-type]

    assert with_one_more("deny") <= before
    assert with_one_more("except_") >= before
    assert with_one_more("allow") >= before


@MANY
@given(POLICIES, ADDRESSES, st.sampled_from(["tcp", "udp", None]), st.sampled_from([None, *NAMES]))
def test_could_allow_is_the_best_port(
    lists: "dict[str, object]", address: str, transport: "str | None", name: "str | None"
) -> None:
    """A look-up's answer is judged like the port of it that comes off best."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    order = ["deny", "report", "allow"]
    transports = [transport] if transport else ["tcp", "udp"]
    best = max(order.index(put(policy, (each, address, port, name)).verdict) for each in transports for port in EACH)
    assert could_allow(policy, transport, address, name=name).verdict == order[best]  # type: ignore[arg-type]


@MANY
@given(LISTS, DENIES, st.sampled_from(V4 + V6), st.sampled_from(PORTS))
def test_without_except_nothing_local_is_reached(
    allow: "list[str]", deny: "list[object]", address: str, port: int
) -> None:
    """Whatever is allowed and denied, without an exception no address that is not public is reached, nor port 25."""
    policy = Policy.build("blog", allow=allow, deny=deny)  # type: ignore[arg-type]
    if put(policy, ("tcp", address, port)).verdict != "deny":
        assert judge(address).address_class == "public"
        assert port != 25
