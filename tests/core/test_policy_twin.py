"""The policy, held against a slow and obvious twin, and the properties that nobody may break."""

from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.addresses import judge
from outgate.core.policy import Ask, Decision, Policy, could_allow, decide
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


TARGETS = st.one_of(
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
    }
)
TRANSPORTS = st.sampled_from(["tcp", "udp"])
ASKS = st.tuples(TRANSPORTS, ADDRESSES, st.sampled_from(PORTS))


def put(policy: Policy, question: "tuple[str, str, int]") -> Decision:
    """Ask a policy about (transport, address, port)."""
    transport, address, port = question
    return decide(policy, Ask("blog", transport, address, address, port))  # type: ignore[arg-type]


@pytest.mark.slow
@MOST
@given(POLICIES, st.lists(ASKS, min_size=1, max_size=12))
def test_decides_like_the_slow_twin(lists: "dict[str, object]", questions: "list[tuple[str, str, int]]") -> None:
    """Verdict and deciding rule are those of the walk through all rules, for any policy and any question."""
    policy, slow = Policy.build("blog", **lists), SlowPolicy(**lists)  # type: ignore[arg-type]
    for question in questions:
        decision = put(policy, question)
        verdict, rule = slow.decide(*question)
        assert (decision.verdict, decision.rule) == (verdict, rule or "no rule allows it")


@MANY
@given(POLICIES, ASKS, st.lists(ASKS, max_size=12))
def test_cure_permits_exactly(
    lists: "dict[str, object]", question: "tuple[str, str, int]", others: "list[tuple[str, str, int]]"
) -> None:
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
    target = ip_address(judge(question[1]).target)
    for other in others:
        reached = {(version, value) for version, value in judge(other[1]).target_keys}
        if (target.version, int(target)) not in reached or other[2] != question[2]:
            assert put(cured, other).verdict == put(policy, other).verdict


@MANY
@given(POLICIES, RULES, ASKS)
def test_deny_only_takes_and_except_only_gives(
    lists: "dict[str, object]", rule: str, question: "tuple[str, str, int]"
) -> None:
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
@given(POLICIES, ADDRESSES, st.sampled_from(["tcp", "udp", None]))
def test_could_allow_is_the_best_port(lists: "dict[str, object]", address: str, transport: "str | None") -> None:
    """A look-up's answer is judged like the port of it that comes off best."""
    policy = Policy.build("blog", **lists)  # type: ignore[arg-type]
    order = ["deny", "report", "allow"]
    transports = [transport] if transport else ["tcp", "udp"]
    ports = sorted({0, 1, 65535, *(port + step for port in PORTS for step in range(-1, 6))})
    best = max(order.index(put(policy, (name, address, port)).verdict) for name in transports for port in ports)
    assert could_allow(policy, transport, address).verdict == order[best]  # type: ignore[arg-type]


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
