"""Decisions: the defaults, the order of the lists, evasions, words and cures."""

import pytest

from outgate import errors
from outgate.core.address.addresses import parse_numeric
from outgate.core.policy.decide import Ask, Decision, Policy, could_allow, decide
from outgate.errors import ConfigError, PolicyDenied
from support.examples import words


def ask(policy: Policy, address: str, port: int = 80, transport: str = "tcp", **more: str) -> Decision:
    """Decide one connect to a bare address."""
    more.setdefault("host", address)
    return decide(policy, Ask(policy.app, transport, address=address, port=port, **more))  # type: ignore[arg-type]


DEFAULT = Policy.build("blog")


class TestDefaults:
    """The policy without a configuration."""

    @pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    def test_public_is_allowed(self, address: str, transport: str) -> None:
        """Public addresses are allowed, and the rule that did it is named."""
        decision = ask(DEFAULT, address, 443, transport)
        assert (decision.verdict, decision.rule, decision.place) == ("allow", "public", "default")
        assert decision.address_class == "public"
        assert (decision.code, decision.reason, decision.cure, decision.permit) == ("", "", None, "")
        assert not decision.denied

    @pytest.mark.parametrize(
        ("address", "name"),
        [
            ("10.0.0.5", "private"),
            ("100.64.0.1", "shared"),
            ("127.0.0.1", "loopback"),
            ("0.0.0.0", "loopback"),
            ("::", "loopback"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
            ("168.63.129.16", "metadata"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("240.0.0.1", "reserved"),
            ("fe80::1%eth0", "link-local"),
        ],
    )
    def test_non_public_is_denied(self, address: str, name: str) -> None:
        """Every class but public is denied by a built-in rule, which is named."""
        decision = ask(DEFAULT, address)
        assert (decision.verdict, decision.rule, decision.place) == ("deny", "non-public", "built-in")
        assert decision.address_class == name
        assert decision.denied
        assert decision.code == "policy-denied"

    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    def test_port_25_is_denied(self, transport: str) -> None:
        """Port 25 is denied for both transports, 587 and 465 are not."""
        assert ask(DEFAULT, "8.8.8.8", 25, transport).rule == "*:25"
        assert ask(DEFAULT, "8.8.8.8", 587, transport).verdict == "allow"
        assert ask(DEFAULT, "8.8.8.8", 465, transport).verdict == "allow"

    def test_own(self) -> None:
        """The operator's ranges and the host's addresses are denied as own, by group and by argument."""
        policy = Policy.build(own=["9.9.9.9"], groups={"own": ["8.0.0.0/8"]})
        for address in ("9.9.9.9", "8.1.1.1"):
            assert (ask(policy, address).rule, ask(policy, address).address_class) == ("own", "own")
        assert ask(policy, "9.9.9.8").verdict == "allow"

    def test_own_private_address_needs_its_own_exception(self) -> None:
        """An exception for the group private does not lift the host's own private address, one for own does."""
        own = ["10.0.0.7"]
        assert ask(Policy.build(own=own, except_=["private"]), "10.0.0.7").rule == "own"
        assert ask(Policy.build(own=own, except_=["private"]), "10.0.0.8").verdict == "allow"
        assert ask(Policy.build(own=own, except_=["own"]), "10.0.0.7").verdict == "allow"

    def test_dev(self) -> None:
        """The development policy opens loopback, by any spelling, and nothing else."""
        policy = Policy.build(dev=True)
        for address in ("127.0.0.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"):
            decision = ask(policy, address)
            assert (decision.verdict, decision.rule, decision.place) == ("allow", "loopback", "--dev")
        for address in ("10.0.0.5", "169.254.169.254", "fc00::5efe:127.0.0.1"):
            assert ask(policy, address).denied
        assert ask(policy, "8.8.8.8", 25).denied


# Spellings of three hosts as programs pass them. The gate parses them as the C library would, then asks the policy.
EVASIONS = words("""
127.0.0.1 127.1 127.0.1 0x7f.1 0x7f000001 2130706433 017700000001 0177.0.0.1 0177.0.0.01 0 0.0.0.0 ::1
::ffff:127.0.0.1 ::ffff:7f00:1 0:0:0:0:0:ffff:7f00:0001 ::127.0.0.1 64:ff9b::127.0.0.1 64:ff9b:1::7f00:1 2002:7f00:1::
2002:7f00:1::1 ::ffff:0:127.0.0.1 2001:0:1:1::80ff:fffe fe80::5efe:127.0.0.1 2001:4860::5efe:127.0.0.1 :: ::%1 ::1%lo
169.254.169.254 169.254.43518 0xa9fea9fe 2852039166 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376 025177524776
::ffff:169.254.169.254 ::ffff:a9fe:a9fe ::a9fe:a9fe 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 2002:a9fe:a9fe::
2001:0:1:1::5601:5601 2001:4860::200:5efe:a9fe:a9fe fd00:ec2::254 fd00:ec2::254%eth0 FD00:EC2::254
10.0.0.5 10.5 0xa000005 167772165 012.0.0.5 ::ffff:10.0.0.5 64:ff9b::a00:5 2002:a00:5::1 <broadcast>
""")


@pytest.mark.parametrize("host", ["", "127.0.0.1\t", *EVASIONS])
def test_no_spelling_evades(host: str) -> None:
    """No spelling of a local address gets through the default policy, nor through the broadest allow."""
    address = parse_numeric(host)
    assert address is not None
    for policy in (DEFAULT, Policy.build(allow=["*"]), Policy.build(allow=["0.0.0.0/0", "::/0"])):
        for port in (80, 53):
            assert decide(policy, Ask("blog", "tcp", host, address, port)).denied


class TestOrder:
    """except, deny, allow; the first hit decides and is named."""

    def test_except_beats_deny_beats_allow(self) -> None:
        """Each list is only looked at where the ones before have no hit."""
        policy = Policy.build("blog", deny=["1.0.0.0/8"], except_=["1.2.0.0/16:80"])
        assert (ask(policy, "1.2.3.4").verdict, ask(policy, "1.2.3.4").place) == ("allow", "apps.blog.except[0]")
        assert (ask(policy, "1.2.3.4", 81).verdict, ask(policy, "1.2.3.4", 81).place) == ("deny", "apps.blog.deny[0]")
        assert (ask(policy, "2.2.3.4").verdict, ask(policy, "2.2.3.4").place) == ("allow", "default")

    def test_built_in_denial_is_named_before_the_apps(self) -> None:
        """Where both deny, the built-in rule is the one that is named."""
        assert ask(Policy.build(deny=["10.0.0.0/8"]), "10.0.0.5").rule == "non-public"

    def test_allow_does_not_take_away_from_denials(self) -> None:
        """An allow rule for a private range does not open it."""
        assert ask(Policy.build(allow=["10.0.0.0/8", "private", "*"]), "10.0.0.5").denied

    def test_no_rule(self) -> None:
        """What nothing denies and nothing allows is denied with that reason and a cure for allow."""
        policy = Policy.build("blog", allow=["1.0.0.0/8:443"])
        decision = ask(policy, "1.1.1.1")
        assert (decision.verdict, decision.code, decision.place) == ("deny", "policy-no-rule", "")
        assert decision.reason == "blog → 1.1.1.1:80 (tcp) denied: 1.1.1.1 (public); no rule of app 'blog' allows it"
        assert decision.cure == 'to permit: allow = ["1.1.1.1:80"]'
        assert ask(Policy.build(allow=[]), "8.8.8.8").code == "policy-no-rule"

    def test_transport(self) -> None:
        """A rule with a scheme is for that transport alone."""
        policy = Policy.build(allow=["tcp://public:443", "udp://public:53"])
        assert ask(policy, "8.8.8.8", 443, "tcp").verdict == "allow"
        assert ask(policy, "8.8.8.8", 443, "udp").denied
        assert ask(policy, "8.8.8.8", 53, "udp").verdict == "allow"
        assert ask(policy, "8.8.8.8", 53, "tcp").denied

    def test_group(self) -> None:
        """An operator's group works in every list and is named as written."""
        groups = {"corp": ["10.0.0.0/8", "fd00:1::/32"], "bad": ["1.0.0.0/8"]}
        policy = Policy.build(groups=groups, except_=["corp:443"], deny=["bad"])
        assert ask(policy, "10.0.0.5", 443).rule == "corp:443"
        assert ask(policy, "fd00:1::1", 443).verdict == "allow"
        assert ask(policy, "10.0.0.5", 80).denied
        assert ask(policy, "1.1.1.1", 443).rule == "bad"


class TestEmbedded:
    """Rules and addresses that embed others."""

    @pytest.mark.parametrize(
        "address",
        ["::ffff:1.2.3.4", "64:ff9b::1.2.3.4", "2002:102:304::", "2001:0:808:808::fefd:fcfb", "2620::5efe:1.2.3.4"],
    )
    def test_deny_matches_the_embedded_address(self, address: str) -> None:
        """A denied IPv4 range is denied in every IPv6 form of it."""
        assert ask(Policy.build(), address).verdict == "allow"
        assert ask(Policy.build(deny=["1.2.0.0/16"]), address).rule == "1.2.0.0/16"

    def test_deny_matches_the_address_as_asked(self) -> None:
        """A denied IPv6 range is denied though what it embeds is allowed."""
        for rule in ("::/0", "64:ff9b::/96"):
            assert ask(Policy.build(deny=[rule]), "64:ff9b::8.8.8.8").rule == rule
        assert ask(Policy.build(deny=["::/0"]), "::ffff:8.8.8.8").denied
        assert ask(Policy.build(deny=["64:ff9b::/96"]), "8.8.8.8").verdict == "allow"

    @pytest.mark.parametrize("address", ["::ffff:10.0.0.5", "64:ff9b::10.0.0.5"])
    def test_same_host_is_permitted_alike(self, address: str) -> None:
        """An exception for an IPv4 range lifts the forms that reach the same host."""
        assert ask(Policy.build(except_=["10.0.0.0/8"]), address).verdict == "allow"

    @pytest.mark.parametrize("address", ["2002:a00:5::", "2620::5efe:10.0.0.5", "64:ff9b:1::10.0.0.5", "::10.0.0.5"])
    def test_other_host_is_not_permitted(self, address: str) -> None:
        """An exception for an IPv4 range does not lift a tunnel's address, which is another host."""
        assert ask(Policy.build(except_=["10.0.0.0/8"]), address).denied
        assert ask(Policy.build(allow=["10.0.0.0/8"], except_=["10.0.0.0/8"]), address).denied

    def test_mapped_address_is_not_ipv6(self) -> None:
        """An exception or allow for all of IPv6 says nothing about a mapped address, which is dialled as IPv4."""
        assert ask(Policy.build(except_=["::/0"]), "::ffff:169.254.169.254").denied
        assert ask(Policy.build(allow=["::/0"]), "::ffff:8.8.8.8").code == "policy-no-rule"

    def test_group_lifts_only_what_is_wholly_in_it(self) -> None:
        """An exception for loopback does not open a private host whose address embeds a loopback one."""
        policy = Policy.build(except_=["loopback"])
        assert ask(policy, "::ffff:127.0.0.1").verdict == "allow"
        assert ask(policy, "fc00::5efe:127.0.0.1").denied

    def test_rule_in_mapped_form(self) -> None:
        """A rule written in mapped form is the rule of the IPv4 address."""
        assert ask(Policy.build(except_=["[::ffff:10.0.0.5]:80"]), "10.0.0.5").verdict == "allow"
        assert ask(Policy.build(deny=["::ffff:1.2.3.4"]), "1.2.3.4").denied


class TestReport:
    """mode = "report" lets through and names what would have been denied."""

    def test_app(self) -> None:
        """A policy in report mode denies nothing and gives the reason all the same."""
        decision = ask(Policy.build("blog", mode="report"), "10.0.0.5")
        assert (decision.verdict, decision.rule, decision.code) == ("report", "non-public", "policy-denied")
        assert "10.0.0.5 (private)" in decision.reason
        assert decision.cure == 'to permit: except = ["10.0.0.5:80"]'
        assert not decision.denied
        assert ask(Policy.build(mode="report", allow=[]), "8.8.8.8").verdict == "report"
        assert ask(Policy.build(mode="report"), "8.8.8.8").verdict == "allow"

    def test_rule(self) -> None:
        """A deny rule in report mode reports."""
        policy = Policy.build("blog", deny=[{"rule": "1.0.0.0/8", "mode": "report"}])
        decision = ask(policy, "1.1.1.1")
        assert (decision.verdict, decision.rule, decision.place) == ("report", "1.0.0.0/8", "apps.blog.deny[0]")

    def test_rule_in_report_mode_loosens_nothing(self) -> None:
        """What another rule denies, or none allows, stays denied under a rule in report mode."""
        report = {"rule": "*", "mode": "report"}
        assert ask(Policy.build(deny=[report]), "10.0.0.5").verdict == "deny"
        assert ask(Policy.build(deny=[report, "1.0.0.0/8"]), "1.1.1.1").verdict == "deny"
        assert ask(Policy.build(deny=[report], allow=["2.0.0.0/8"]), "1.1.1.1").verdict == "deny"


class TestWords:
    """What a decision says to people."""

    @pytest.mark.parametrize(
        ("address", "more", "text"),
        [
            (
                "10.0.0.5",
                {"host": "db.corp", "name": "db.corp"},
                'blog → db.corp:5432 (tcp) denied: db.corp is 10.0.0.5 (private); rule "non-public"; '
                'to permit: except = ["db.corp:5432"]',
            ),
            (
                "127.0.0.1",
                {"host": "0x7f.1"},
                'blog → 0x7f.1:5432 (tcp) denied: 0x7f.1 is 127.0.0.1 (loopback); rule "non-public"; '
                'to permit: except = ["127.0.0.1:5432"]',
            ),
            (
                "64:ff9b::a00:5",
                {},
                "blog → [64:ff9b::a00:5]:5432 (tcp) denied: 64:ff9b::a00:5 is NAT64 of 10.0.0.5 (private); "
                'rule "non-public"; to permit: except = ["[64:ff9b::a00:5]:5432"]',
            ),
            (
                "64:ff9b::a00:5",
                {"host": "db.corp", "name": "db.corp"},
                "blog → db.corp:5432 (tcp) denied: db.corp is 64:ff9b::a00:5, NAT64 of 10.0.0.5 (private); "
                'rule "non-public"; to permit: except = ["db.corp:5432"]',
            ),
            (
                "::ffff:10.0.0.5",
                {},
                "blog → [::ffff:10.0.0.5]:5432 (tcp) denied: ::ffff:10.0.0.5 is the v4-mapped form of 10.0.0.5 "
                '(private); rule "non-public"; to permit: except = ["10.0.0.5:5432"]',
            ),
            (
                "::1",
                {"host": "0:0:0:0:0:0:0:1"},
                'blog → [0:0:0:0:0:0:0:1]:5432 (tcp) denied: ::1 (loopback); rule "non-public"; '
                'to permit: except = ["[::1]:5432"]',
            ),
            (
                "fe80::1",
                {"host": "fe80::1%eth0"},
                'blog → [fe80::1%eth0]:5432 (tcp) denied: fe80::1 (link-local); rule "non-public"; '
                'to permit: except = ["[fe80::1]:5432"]',
            ),
        ],
    )
    def test_exception_text(self, address: str, more: "dict[str, str]", text: str) -> None:
        """The decision makes the exception whose text names destination, address, rule and cure."""
        decision = ask(DEFAULT, address, 5432, **more)
        error = errors.build(decision.code, decision.facts)
        assert isinstance(error, PolicyDenied)
        assert error.strerror == text
        assert (error.reason, error.cure) == (decision.reason, decision.cure)

    def test_udp_cure(self) -> None:
        """The cure of a datagram socket is a rule for UDP."""
        assert ask(DEFAULT, "10.0.0.5", 53, "udp").permit == "udp://10.0.0.5:53"
        assert ask(DEFAULT, "::1", 53, "udp").permit == "udp://[::1]:53"

    def test_number(self) -> None:
        """A decision carries the number of the policy that made it."""
        assert ask(Policy.build(number=7), "8.8.8.8").policy == 7
        assert ask(Policy.build(number=7), "10.0.0.5").policy == 7


class TestLookUps:
    """could_allow: an address of a look-up's answer, whose port is not known yet."""

    @pytest.mark.parametrize("transport", ["tcp", "udp", None])
    def test_default(self, transport: "str | None") -> None:
        """Public addresses could be allowed, others not."""
        assert could_allow(DEFAULT, transport, "8.8.8.8").verdict == "allow"  # type: ignore[arg-type]
        decision = could_allow(DEFAULT, transport, "10.0.0.5", host="db.corp")  # type: ignore[arg-type]
        assert (decision.verdict, decision.code, decision.rule) == ("deny", "policy-name", "non-public")

    def test_words(self) -> None:
        """The refusal is the row for names, and its cure has no port."""
        decision = could_allow(DEFAULT, None, "10.0.0.5", host="db.corp")
        assert decision.reason == (
            "blog → db.corp (look-up) denied: every address it has is forbidden: "
            'db.corp is 10.0.0.5 (private); rule "non-public"'
        )
        assert decision.cure == 'to permit: except = ["10.0.0.5"]'
        assert could_allow(DEFAULT, "udp", "::1").permit == "udp://[::1]"
        assert could_allow(DEFAULT, "tcp", "::1").permit == "::1"

    def test_one_port_is_enough(self) -> None:
        """An exception for one port of one transport makes a look-up worth answering."""
        policy = Policy.build(except_=["udp://10.0.0.5:53"])
        assert could_allow(policy, None, "10.0.0.5").rule == "udp://10.0.0.5:53"
        assert could_allow(policy, "udp", "10.0.0.5").verdict == "allow"
        assert could_allow(policy, "tcp", "10.0.0.5").denied

    def test_denied_at_the_only_allowed_port(self) -> None:
        """Where the ports that are allowed are the ones denied, none is left."""
        assert could_allow(Policy.build(allow=["public:25"]), None, "8.8.8.8").denied
        assert could_allow(Policy.build(allow=["public:25-26"]), None, "8.8.8.8").verdict == "allow"
        assert could_allow(Policy.build(allow=["public:65535"], deny=["*:65535"]), None, "8.8.8.8").denied

    def test_report(self) -> None:
        """What every port would only be let through in report mode is reported."""
        policy = Policy.build(deny=[{"rule": "1.0.0.0/8", "mode": "report"}])
        assert could_allow(policy, None, "1.1.1.1").verdict == "report"
        assert could_allow(Policy.build(mode="report"), None, "10.0.0.5").verdict == "report"


class TestBuild:
    """What cannot be a policy."""

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ({"allow": ["public", "htp://x"]}, r"^apps\.blog\.allow\[1\]: "),
            ({"deny": ["10.0.0.5/8"]}, r"^apps\.blog\.deny\[0\]: "),
            ({"except_": ["db..corp"]}, r"^apps\.blog\.except\[0\]: .*empty label"),
            ({"except_": ["*.corp", "*.com:443"]}, r'^apps\.blog\.except\[1\]: .*as in "\*\.example\.com:443"'),
            ({"except_": ["*.co.uk"]}, "anybody can register a name below co.uk"),
            ({"except_": ["*.de"]}, "anybody can register a name below de"),
            ({"names": ["*"]}, r"^apps\.blog\.names\[0\]: .*leave names out"),
            ({"names": "*.corp"}, r"^apps\.blog\.names: names are a list"),
            ({"except_": [{"rule": "10.0.0.1", "mode": "report"}]}, "only a deny rule can be in report mode"),
            ({"allow": "public"}, r'^apps\.blog\.allow: rules are a list; write allow = \["…"\]'),
            ({"deny": {"rule": "public"}}, r"^apps\.blog\.deny: rules are a list"),
            ({"deny": 1}, r"^apps\.blog\.deny: rules are a list"),
            ({"mode": "warn"}, r"^apps\.blog\.mode: 'warn' is not known"),
            ({"own": ["10.0.0.5/8"]}, r"^own: .*has bits set"),
            ({"groups": {"corp": ["x"]}}, r"^groups\.corp\[0\]: "),
        ],
    )
    def test_refused(self, arguments: "dict[str, object]", text: str) -> None:
        """A wrong configuration is a ConfigError that starts with the place."""
        with pytest.raises(ConfigError, match=text):
            Policy.build("blog", **arguments)  # type: ignore[arg-type]

    def test_place(self) -> None:
        """The caller may say where the rules were written."""
        policy = Policy.build("blog", except_=["10.0.0.5"], place="outgate.toml: apps.blog")
        assert ask(policy, "10.0.0.5").place == "outgate.toml: apps.blog.except[0]"

    def test_frozen(self) -> None:
        """A policy cannot be changed, only replaced."""
        with pytest.raises(AttributeError):
            DEFAULT.mode = "report"  # type: ignore[misc]

    @pytest.mark.parametrize(("transport", "address"), [("sctp", "8.8.8.8"), ("tcp", "localhost"), ("tcp", "")])
    def test_wrong_question(self, transport: str, address: str) -> None:
        """A transport or an address that is none is the caller's fault, and is never decided."""
        with pytest.raises(ValueError):
            ask(DEFAULT, address, 80, transport)
