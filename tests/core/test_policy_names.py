"""Rules by name: what they decide, what an exception by name lifts, what binds to addresses, and the words for it."""

import dataclasses

import pytest

from outgate import errors
from outgate.core.name.names import Pattern
from outgate.core.policy.decide import Ask, Decision, Policy, could_allow, decide

PUBLIC, PRIVATE = "93.184.215.14", "10.0.0.5"


def connect(
    policy: Policy, name: str, address: str, port: int = 443, transport: str = "tcp", **more: "tuple[str, ...]"
) -> Decision:
    """Decide one connect by name."""
    return decide(policy, Ask(policy.app, transport, name, address, port, name=name, **more))  # type: ignore[arg-type]


def by_address(policy: Policy, address: str, bound: "tuple[str, ...]" = (), port: int = 443) -> Decision:
    """Decide one connect by address, after look-ups that bound these names to it."""
    return decide(policy, Ask(policy.app, "tcp", address, address, port, bound=bound))


class TestLists:
    """Rules by name in each of the lists, in the order except, deny, allow."""

    @pytest.mark.parametrize(
        ("rule", "name", "is_allowed"),
        [
            ("api.example", "api.example", True),
            ("api.example", "a.api.example", False),
            ("*.example", "api.example", True),
            ("*.example", "a.b.example", True),
            ("*.example", "example", False),
            ("*.example", "myexample", False),
            ("api.example:443", "api.example", True),
            ("api.example:80", "api.example", False),
            ("udp://api.example", "api.example", False),
            ("tcp://API.example.:443", "api.example", True),
            ("münchen.example", "xn--mnchen-3ya.example", True),
            ("api", "api", True),
        ],
    )
    def test_allow(self, rule: str, name: str, is_allowed: bool) -> None:
        """An allow by name permits that name, at its ports and transports, where it leads to a public address."""
        policy = Policy.build("blog", allow=[rule])
        decision = connect(policy, name, PUBLIC)
        assert (decision.verdict == "allow") is is_allowed
        assert decision.rule == (rule if is_allowed else "no rule allows it")
        assert decision.name == name
        assert connect(policy, name, PRIVATE).denied
        assert by_address(policy, PUBLIC).denied

    def test_deny(self) -> None:
        """A denied name is denied wherever it leads, and its address by another name is not."""
        policy = Policy.build("blog", deny=["*.tracker.example"])
        decision = connect(policy, "t.tracker.example", PUBLIC)
        assert (decision.verdict, decision.rule, decision.place) == ("deny", "*.tracker.example", "apps.blog.deny[0]")
        assert (decision.code, decision.kind, decision.name) == ("policy-denied", "name", "t.tracker.example")
        assert connect(policy, "cdn.example", PUBLIC).verdict == "allow"
        assert by_address(policy, PUBLIC).verdict == "allow"

    def test_first_hit_in_the_order_of_the_list(self) -> None:
        """Rules about names and about addresses are one list: the first that matches is named, whichever it is."""
        rules = ["*.example:443", "93.184.0.0/16", "api.example", "public"]
        for start in range(4):
            order = rules[start:] + rules[:start]
            matching = {
                ("allow",): Policy.build(allow=order),
                ("except",): Policy.build(except_=order),
                ("deny",): Policy.build(deny=order),
            }
            for policy in matching.values():
                assert connect(policy, "api.example", PUBLIC).rule == order[0]
                assert connect(policy, "api.example", PUBLIC, 80).rule == next(r for r in order if ":443" not in r)
                assert connect(policy, "other.test", PUBLIC).rule == next(r for r in order if "example" not in r)

    def test_except_beats_deny_beats_allow(self) -> None:
        """An exception by name lifts a denial by name, which comes before an allow by name."""
        policy = Policy.build("blog", allow=["*.example"], deny=["*.bad.example"], except_=["ok.bad.example:443"])
        assert connect(policy, "ok.bad.example", PUBLIC).rule == "ok.bad.example:443"
        assert connect(policy, "ok.bad.example", PUBLIC, 80).rule == "*.bad.example"
        assert connect(policy, "api.example", PUBLIC).rule == "*.example"

    def test_allow_takes_nothing_away(self) -> None:
        """An allow by name does not open a private address, nor port 25."""
        policy = Policy.build(allow=["db.corp", "mail.example:25,587"])
        assert connect(policy, "db.corp", PRIVATE).rule == "non-public"
        assert connect(policy, "mail.example", PUBLIC, 25).rule == "*:25"
        assert connect(policy, "mail.example", PUBLIC, 587).verdict == "allow"

    def test_report(self) -> None:
        """A denial by name in report mode reports, and an app in report mode denies no name."""
        policy = Policy.build(deny=[{"rule": "*.tracker.example", "mode": "report"}])
        decision = connect(policy, "t.tracker.example", PUBLIC)
        assert (decision.verdict, decision.rule) == ("report", "*.tracker.example")
        assert by_address(policy, PUBLIC, ("t.tracker.example",)).verdict == "allow"
        decision = connect(Policy.build(mode="report", deny=["*.tracker.example"]), "t.tracker.example", PUBLIC)
        assert (decision.verdict, decision.code) == ("report", "policy-denied")


class TestExceptions:
    """What an exception by name lifts, and what only one by address does."""

    POLICY = Policy.build("blog", own=["9.9.9.9", "10.7.0.0/16"], except_=["*.corp"])

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.5",
            "192.168.1.1",
            "fd00::1",
            "100.64.0.1",
            "9.9.9.9",
            "10.7.0.1",
            "93.184.215.14",
            "::ffff:10.0.0.5",
            "64:ff9b::10.0.0.5",
            "64:ff9b:1::10.0.0.5",
            "2002:a00:5::1",
            "fd00::5efe:192.168.0.1",
        ],
    )
    def test_lifts(self, address: str) -> None:
        """Private, shared and own addresses, and port 25, are lifted, embedded ones too."""
        for port in (25, 443):
            decision = connect(self.POLICY, "db.corp", address, port)
            assert (decision.verdict, decision.rule) == ("allow", "*.corp")

    @pytest.mark.parametrize(
        ("address", "name"),
        [
            ("127.0.0.1", "loopback"),
            ("0.0.0.0", "loopback"),
            ("::1", "loopback"),
            ("::", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("64:ff9b::127.0.0.1", "loopback"),
            ("fd00::5efe:127.0.0.1", "loopback"),
            ("2002:7f00:1::1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("fe80::5efe:10.0.0.5", "link-local"),
            ("169.254.169.254", "metadata"),
            ("fd00:ec2::254", "metadata"),
            ("100.100.100.200", "metadata"),
            ("64:ff9b::a9fe:a9fe", "metadata"),
            ("fd00::5efe:169.254.169.254", "metadata"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("192.0.2.1", "reserved"),
            ("2001:db8::1", "reserved"),
        ],
    )
    def test_does_not_lift(self, address: str, name: str) -> None:
        """Whoever owns a zone cannot point its names at what only an exception by address lifts."""
        decision = connect(self.POLICY, "db.corp", address)
        assert (decision.verdict, decision.rule, decision.address_class) == ("deny", "non-public", name)
        assert decision.cure is not None
        assert decision.cure.endswith(f"(by address: a name does not lift {name})")
        assert could_allow(self.POLICY, None, address, name="db.corp").denied
        cured = Policy.build("blog", own=["9.9.9.9"], except_=["*.corp", decision.permit])
        assert connect(cured, "db.corp", address).verdict == "allow"

    def test_exception_is_for_its_ports(self) -> None:
        """An exception by name with ports lifts these alone."""
        policy = Policy.build(except_=["tcp://db.corp:5432"])
        assert connect(policy, "db.corp", PRIVATE, 5432).verdict == "allow"
        assert connect(policy, "db.corp", PRIVATE, 5433).denied
        assert connect(policy, "db.corp", PRIVATE, 5432, "udp").denied
        assert connect(policy, "other.corp", PRIVATE, 5432).denied
        assert by_address(policy, PRIVATE, port=5432).denied


class TestBound:
    """A connect by address, after look-ups of the app bound names to it."""

    POLICY = Policy.build(
        "blog", allow=["api.example:443", "8.8.8.0/24"], deny=["*.tracker.example"], except_=["db.corp:5432"]
    )

    def test_allow_and_except_bind(self) -> None:
        """An address is judged as any of the names that are bound to it, at the ports of the rule."""
        decision = by_address(self.POLICY, PUBLIC, ("api.example",))
        assert (decision.verdict, decision.rule, decision.name) == ("allow", "api.example:443", "api.example")
        assert by_address(self.POLICY, PUBLIC, ("api.example",), 80).denied
        decision = by_address(self.POLICY, PRIVATE, ("x.corp", "db.corp"), 5432)
        assert (decision.verdict, decision.rule, decision.name) == ("allow", "db.corp:5432", "db.corp")
        assert by_address(self.POLICY, "127.0.0.1", ("db.corp",), 5432).denied

    def test_deny_does_not_bind(self) -> None:
        """A denied name on the same address poisons neither its neighbours nor the address."""
        both = ("t.tracker.example", "api.example")
        assert by_address(self.POLICY, PUBLIC, both).rule == "api.example:443"
        assert by_address(self.POLICY, "8.8.8.8", ("t.tracker.example",)).rule == "8.8.8.0/24"

    def test_a_name_given_to_connect_stands_alone(self) -> None:
        """A connect by name is judged as that name, whatever else is bound to the address."""
        decision = connect(self.POLICY, "x.example", PUBLIC, bound=("api.example",))
        assert (decision.verdict, decision.name) == ("deny", "x.example")

    def test_first_rule_of_the_list_wins_over_the_first_name(self) -> None:
        """Of rules for several bound names the first in the list decides, and its name is told."""
        policy = Policy.build(allow=["b.example", "a.example"])
        decision = by_address(policy, PUBLIC, ("a.example", "b.example"))
        assert (decision.rule, decision.name) == ("b.example", "b.example")

    def test_words(self) -> None:
        """A refusal speaks of the name that was looked up, as its cure does."""
        decision = by_address(self.POLICY, PRIVATE, ("x.corp", "y.corp"))
        assert decision.reason == ('blog → 10.0.0.5:443 (tcp) denied: x.corp is 10.0.0.5 (private); rule "non-public"')
        assert (decision.cure, decision.name) == ('to permit: except = ["x.corp:443"]', "x.corp")
        assert by_address(self.POLICY, PRIVATE).name == ""


class TestWords:
    """Sentences and cures of refusals by name."""

    @pytest.mark.parametrize(
        ("lists", "name", "address", "text"),
        [
            (
                {},
                "db.corp",
                PRIVATE,
                'blog → db.corp:443 (tcp) denied: db.corp is 10.0.0.5 (private); rule "non-public"; '
                'to permit: except = ["db.corp:443"]',
            ),
            (
                {"allow": ["api.example"]},
                "cdn.example",
                PUBLIC,
                "blog → cdn.example:443 (tcp) denied: cdn.example is 93.184.215.14 (public); no rule of app 'blog' "
                'allows it; to permit: allow = ["cdn.example:443"]',
            ),
            (
                {"deny": ["*.tracker.example"]},
                "t.tracker.example",
                PUBLIC,
                "blog → t.tracker.example:443 (tcp) denied: t.tracker.example is 93.184.215.14 (public); "
                'rule "*.tracker.example"; to permit: except = ["t.tracker.example:443"]',
            ),
            (
                {},
                "localtest.example",
                "127.0.0.1",
                "blog → localtest.example:443 (tcp) denied: localtest.example is 127.0.0.1 (loopback); "
                'rule "non-public"; to permit: except = ["127.0.0.1:443"] (by address: a name does not lift loopback)',
            ),
            (
                {},
                "rebind.example",
                "64:ff9b::a9fe:a9fe",
                "blog → rebind.example:443 (tcp) denied: rebind.example is 64:ff9b::a9fe:a9fe, NAT64 of "
                '169.254.169.254 (metadata); rule "non-public"; to permit: except = ["[64:ff9b::a9fe:a9fe]:443"] '
                "(by address: a name does not lift metadata)",
            ),
            (
                {},
                "share",
                PRIVATE,
                'blog → share:443 (tcp) denied: share is 10.0.0.5 (private); rule "non-public"; '
                'to permit: except = ["share.:443"]',
            ),
            (
                {},
                "node.1",
                PRIVATE,
                'blog → node.1:443 (tcp) denied: node.1 is 10.0.0.5 (private); rule "non-public"; '
                'to permit: except = ["10.0.0.5:443"]',
            ),
        ],
    )
    def test_text_and_cure(self, lists: "dict[str, list[str]]", name: str, address: str, text: str) -> None:
        """The text names the cure by name where a name lifts it, else by address, and the cure works."""
        decision = connect(Policy.build("blog", **lists), name, address)  # type: ignore[arg-type]
        assert errors.build(decision.code, decision.facts).strerror == text
        key = "except_" if "except" in str(decision.cure) else "allow"
        cured = Policy.build("blog", **{**lists, key: [*lists.get(key, ()), decision.permit]})  # type: ignore[arg-type]
        assert connect(cured, name, address).verdict == "allow"

    def test_group_of_the_same_name(self) -> None:
        """Where the operator has a group called like the host, the cure names the host."""
        policy = Policy.build(groups={"db": ["10.9.0.0/16"]})
        decision = connect(policy, "db", PRIVATE)
        assert decision.permit == "db.:443"
        assert connect(Policy.build(groups={"db": []}, except_=["db.:443"]), "db", PRIVATE).verdict == "allow"

    def test_udp(self) -> None:
        """The cure of a datagram socket is a rule for UDP."""
        assert connect(Policy.build(), "dns.corp", PRIVATE, 53, "udp").permit == "udp://dns.corp:53"

    @pytest.mark.parametrize(
        ("lists", "name", "address", "kind"),
        [
            ({}, "db.corp", PRIVATE, "address"),
            ({"deny": ["*.corp"]}, "db.corp", PUBLIC, "name"),
            ({"deny": ["*:443"]}, "db.corp", PUBLIC, "port"),
            ({"allow": []}, "db.corp", PUBLIC, "none"),
        ],
    )
    def test_brief(self, lists: "dict[str, list[str]]", name: str, address: str, kind: str) -> None:
        """The brief facts make a sentence of the same code with the kind of rule, and no address or class."""
        decision = connect(Policy.build("blog", **lists), name, address)  # type: ignore[arg-type]
        assert decision.kind == kind
        assert decision.brief() == {"app": "blog", "host": name, "port": 443, "transport": "tcp", "kind": kind}
        error = errors.build(decision.code, decision.brief())
        assert error.reason == f"blog → db.corp:443 (tcp) denied by the policy; kind of rule: {kind}"
        assert address not in str(error)
        assert "private" not in str(error)

    def test_brief_of_an_allow(self) -> None:
        """What is allowed has no facts to withhold."""
        assert connect(Policy.build(), "db.corp", PUBLIC).brief() == {}


class TestAnswers:
    """could_allow: an address of the answer to a look-up of a name."""

    POLICY = Policy.build("blog", allow=["api.example:443"], deny=["bad.example"], except_=["db.corp:5432"])

    @pytest.mark.parametrize(
        ("name", "address", "rule"),
        [
            ("api.example", PUBLIC, "api.example:443"),
            ("db.corp", PRIVATE, "db.corp:5432"),
            ("db.corp", PUBLIC, "db.corp:5432"),
            ("db.corp", "127.0.0.1", None),
            ("api.example", PRIVATE, None),
            ("x.example", PUBLIC, None),
            ("bad.example", PUBLIC, None),
        ],
    )
    def test_by_name(self, name: str, address: str, rule: "str | None") -> None:
        """An address stays in the answer if a rule by name could allow it at some port."""
        decision = could_allow(self.POLICY, None, address, host=name, name=name)
        assert (decision.verdict, decision.name) == ("allow" if rule else "deny", name)
        assert decision.rule == rule or rule is None

    def test_words(self) -> None:
        """The refusal tells what the name is, and a cure by name, with the port where it is known."""
        decision = could_allow(self.POLICY, None, PRIVATE, host="DB.example", name="db.example", port=5432)
        assert decision.reason == (
            "blog → DB.example (look-up) denied: every address it has is forbidden: "
            'db.example is 10.0.0.5 (private); rule "non-public"'
        )
        assert decision.cure == 'to permit: except = ["db.example:5432"]'
        decision = could_allow(self.POLICY, None, "127.0.0.1", name="db.corp")
        assert decision.cure == 'to permit: except = ["127.0.0.1"] (by address: a name does not lift loopback)'

    def test_no_rule(self) -> None:
        """Where nothing denies the address and nothing allows it, the cure is an allow."""
        decision = could_allow(self.POLICY, None, PUBLIC, name="x.example")
        assert (decision.code, decision.cure) == ("policy-name-no-rule", 'to permit: allow = ["x.example"]')


class TestBuild:
    """What a policy tells about its rules by name."""

    def test_names(self) -> None:
        """Exact names of allow and except are listed once each; those of deny and suffixes are not."""
        policy = Policy.build(
            allow=["b.example:80", "*.example", "public"], deny=["c.example"], except_=["a.corp:1", "b.example"]
        )
        assert policy.exact_names == ("b.example", "a.corp")
        assert policy.has_name_permits
        assert policy.names is None
        assert policy.allow[0].pattern == Pattern("b.example")
        assert not Policy.build(deny=["c.example"]).has_name_permits
        assert Policy.build(names=["*.corp", "db"]).names == (Pattern("corp", True), Pattern("db"))
        assert Policy.build(names=[]).names == ()

    @pytest.mark.parametrize("kept", ["locate", "naming", "meet", "meet_bound"])
    def test_what_is_remembered_is_bounded(self, kept: str) -> None:
        """A program that goes through names or addresses cannot fill the gate's memory."""
        policy = Policy.build(allow=["*.example"])
        for number in range(5000):
            name = f"h{number}.example"
            connect(policy, name, PUBLIC)
            by_address(policy, f"8.8.{number >> 8}.{number & 255}", (name,))
        assert getattr(policy, kept).cache_info().currsize <= 4096


def test_decisions_are_remembered_within_bounds_and_not_over_a_reload() -> None:
    """A question asked again has the same decision, a scan leaves no more than a thousand, a new number none."""
    policy = Policy.build("app")
    ask = Ask("app", "tcp", "93.184.215.14", "93.184.215.14", 443)
    assert decide(policy, ask) is decide(policy, ask)
    for number in range(3000):
        decide(policy, ask._replace(port=number))
    assert len(policy.decided) <= 1024
    again = dataclasses.replace(policy, number=2)
    assert decide(again, ask).policy == 2
    assert decide(policy, ask).policy == 1
