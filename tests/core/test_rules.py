"""What the rule grammar takes, and how it refuses the rest."""

import pytest

from outgate.core.address_table import CLASSES
from outgate.core.addresses import CLASS_BIT, NON_PUBLIC
from outgate.core.rules import ALL_CLASSES, ALL_PORTS, TCP, UDP, parse_entry, parse_groups, parse_rule
from outgate.errors import ConfigError

BOTH = TCP | UDP
TEN = (4, 10 << 24, 8)


@pytest.mark.parametrize(
    ("text", "transports", "classes", "networks", "ports"),
    [
        ("public", BOTH, CLASS_BIT["public"], (), ALL_PORTS),
        ("Public", BOTH, CLASS_BIT["public"], (), ALL_PORTS),
        ("non-public", BOTH, NON_PUBLIC, (), ALL_PORTS),
        ("*", BOTH, ALL_CLASSES, (), ALL_PORTS),
        ("*:25", BOTH, ALL_CLASSES, (), ((25, 25),)),
        ("tcp://*:25", TCP, ALL_CLASSES, (), ((25, 25),)),
        ("udp://8.8.8.8:53", UDP, 0, ((4, 0x08080808, 32),), ((53, 53),)),
        ("UDP://8.8.8.8:53", UDP, 0, ((4, 0x08080808, 32),), ((53, 53),)),
        ("10.0.0.0/8", BOTH, 0, (TEN,), ALL_PORTS),
        ("10.0.0.0/8:*", BOTH, 0, (TEN,), ALL_PORTS),
        ("  10.0.0.0/8:80,443,8000-8100\n", BOTH, 0, (TEN,), ((80, 80), (443, 443), (8000, 8100))),
        ("10.0.0.0/8:443,80,81,82-90,85-95", BOTH, 0, (TEN,), ((80, 95), (443, 443))),
        ("10.0.0.0/8:82-90,80-95", BOTH, 0, (TEN,), ((80, 95),)),
        ("10.0.0.0/8:0-65535", BOTH, 0, (TEN,), ALL_PORTS),
        ("::1", BOTH, 0, ((6, 1, 128),), ALL_PORTS),
        ("fc00::/7", BOTH, 0, ((6, 0xFC << 120, 7),), ALL_PORTS),
        ("[::1]", BOTH, 0, ((6, 1, 128),), ALL_PORTS),
        ("[::1]:80", BOTH, 0, ((6, 1, 128),), ((80, 80),)),
        ("tcp://[fc00::/7]:80", TCP, 0, ((6, 0xFC << 120, 7),), ((80, 80),)),
        ("[fc00::]/7:80", BOTH, 0, ((6, 0xFC << 120, 7),), ((80, 80),)),
        ("[::ffff:10.0.0.0/104]:80", BOTH, 0, (TEN,), ((80, 80),)),
        ("corp:80", BOTH, 0, (TEN, (6, 1, 128)), ((80, 80),)),
        ("own:80", BOTH, CLASS_BIT["own"], (), ((80, 80),)),
    ],
)
def test_rule(text: str, transports: int, classes: int, networks: object, ports: object) -> None:
    """Each form of the grammar is read as what it says."""
    rule = parse_rule(text, "here", {"corp": (TEN, (6, 1, 128))})
    assert (rule.transports, rule.classes, rule.networks, rule.ports) == (transports, classes, networks, ports)
    assert (rule.text, rule.place, rule.mode) == (text.strip(), "here", "enforce")
    assert rule.is_any == (classes == ALL_CLASSES)


@pytest.mark.parametrize("name", [*CLASSES, "non-public"])
def test_every_class_is_a_group(name: str) -> None:
    """Each address class, and non-public, can be written as a rule."""
    assert parse_rule(f"tcp://{name}:1-2").classes


REFUSED = [
    ("", "one rule an entry"),
    ("   ", "one rule an entry"),
    ("10.0.0.1 10.0.0.2", "one rule an entry"),
    ("10.0.0.1\x00", "one rule an entry"),
    ("http://example.com/", "write tcp://example.com:80"),
    ("https://10.0.0.1", "write tcp://10.0.0.1:443"),
    ("icmp://10.0.0.1", "write tcp://… or udp://…"),
    ("10.0.0.5/8", "write 10.0.0.0/8, or 10.0.0.5"),
    ("10.0.0.0/33", "neither an address nor a CIDR"),
    ("10.0.0.0/255.0.0.0.0", "prefix length"),
    ("10.0.0.0/", "prefix length"),
    ("010.0.0.1", "means 8.0.0.1; write that"),
    ("127.1", "means 127.0.0.1; write that"),
    ("0x7f000001:80", "means 127.0.0.1; write that"),
    ("10.1/16", "means 10.0.0.1; write that, or a CIDR"),
    ("256.0.0.1", "neither an address nor a CIDR"),
    ("10.0.0.*", "write 10.0.0.0/24"),
    ("10.*", "write 10.0.0.0/8"),
    ("10.2.*.*:80", "write 10.2.0.0/16"),
    ("web*", "patterns are not for addresses"),
    ("10.0.0.1-10.0.0.9", "one rule for each CIDR"),
    ("10.0.0.1:", '"" is not a port'),
    ("10.0.0.1:http", "write 80"),
    ("10.0.0.1:https", "write 443"),
    ("10.0.0.1:70000", "ports are numbers from 0 to 65535"),
    ("10.0.0.1:-1", "ports are numbers"),
    ("10.0.0.1:80,", "ports are numbers"),
    ("10.0.0.1:8100-8000", "write 8000-8100"),
    ("10.0.0.1:８０", "ports are numbers"),
    ("fd00::/8:443", r"write \[fd00::/8\]:443"),
    ("2001:db8::zz:443", r"with a port, write \[2001:db8::zz\]:443"),
    ("::1::2", "with a port"),
    ("::g", "check the groups"),
    ("[::1", "the brackets hold no IPv6 address"),
    ("[10.0.0.1]:80", "the brackets hold no IPv6 address"),
    ("[::1]80", 'unexpected "80" after the bracket'),
    ("[fc00::/7]/8", 'unexpected "/8" after the bracket'),
    ("fe80::1%eth0", "scope id"),
    ("[fe80::1%eth0]:80", "scope id"),
    ("localhost", 'write "loopback"'),
    ("localhost.:80", 'write "loopback"'),
    ("metadata.google.internal", 'write "metadata"'),
    ("internet", 'write "public"'),
    ("any", r'write "\*"'),
    ("privat", 'did you mean "private"'),
    ("nonpublic", 'did you mean "non-public"'),
    ("corpo", 'did you mean "corp"'),
    ("db.corp:5432", "rules by name come with the next version; write the address"),
    ("*.corp", "rules by name come with the next version"),
    ("münchen.example", "rules by name come with the next version"),
    ("smtp.gmail.com.:465,587", "rules by name come with the next version"),
    ("host", "rules by name come with the next version"),
    ("-", "is no group, address or CIDR"),
    ("a..b", "is no group, address or CIDR"),
    ("tcp://", "is no group, address or CIDR"),
    (":80", "is no group, address or CIDR"),
    ("!private", 'did you mean "private"'),
]


@pytest.mark.parametrize(("text", "hint"), REFUSED)
def test_refused_with_place_and_hint(text: str, hint: str) -> None:
    """What is no rule is refused with the place it stands at and what to write instead."""
    with pytest.raises(ConfigError, match=rf"^apps\.blog\.allow\[3\]: .*{hint}"):
        parse_rule(text, "apps.blog.allow[3]", {"corp": (TEN,)})


def test_denied_name_says_what_it_would_not_do() -> None:
    """A name in deny is refused with a word on people's expectation that it blocks the address."""
    with pytest.raises(ConfigError, match="would not keep the program from its address"):
        parse_rule("tracker.example", "apps.blog.deny[0]")


def test_rule_is_frozen() -> None:
    """A rule cannot be changed after it was read."""
    with pytest.raises(AttributeError):
        parse_rule("public").text = "private"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        ("*:1-10", "*:2,4-6", True),
        ("*:1-10", "*:2,11", False),
        ("*", "udp://*:1", True),
        ("tcp://*", "*:1", False),
        ("*:1-5,6-9", "*:4-8", True),
    ],
)
def test_covers_ports(one: str, other: str, covers: bool) -> None:
    """A rule covers another's ports when it has each of its transports and ports."""
    assert parse_rule(one).covers_ports(parse_rule(other)) is covers


class TestEntries:
    """Lists of a configuration hold texts, or tables with a mode."""

    def test_table(self) -> None:
        """The table form gives a rule its mode."""
        assert parse_entry({"rule": "10.0.0.0/8", "mode": "report"}, "here", {}, may_report=True).mode == "report"
        assert parse_entry({"rule": "10.0.0.0/8", "mode": "enforce"}, "here", {}).mode == "enforce"
        assert parse_entry({"rule": "10.0.0.0/8"}, "here", {}).mode == "enforce"
        assert parse_entry("10.0.0.0/8", "here", {}).mode == "enforce"

    @pytest.mark.parametrize(
        ("entry", "hint"),
        [
            ({"rule": "public", "mode": "report"}, "only a deny rule can be in report mode"),
            ({"rule": "public", "mode": "warn"}, 'it is "enforce" or "report"'),
            ({"mode": "report"}, "the table has no rule"),
            ({"rule": 1}, "the table has no rule"),
            ({"rule": "public", "ports": 1}, "unknown key 'ports'"),
            (25, "write it as text"),
            (None, "write it as text"),
            (["public"], "write it as text"),
        ],
    )
    def test_refused(self, entry: object, hint: str) -> None:
        """Every other entry is refused with its place."""
        with pytest.raises(ConfigError, match=rf"^here: .*{hint}"):
            parse_entry(entry, "here", {})  # type: ignore[arg-type]


class TestGroups:
    """The operator's groups."""

    def test_groups(self) -> None:
        """A group is a name and its networks; brackets around IPv6 do no harm."""
        groups = parse_groups({"corp": ["10.0.0.0/8", "[::1]"], "own": ["9.0.0.0/8"], "none": []})
        assert groups == {"corp": (TEN, (6, 1, 128)), "own": ((4, 9 << 24, 8),), "none": ()}

    @pytest.mark.parametrize(
        ("groups", "text"),
        [
            ({"private": ["10.0.0.0/8"]}, "groups.private: 'private' is a built-in group"),
            ({"non-public": []}, "groups.non-public: 'non-public' is a built-in group"),
            ({"Corp": []}, "groups.Corp: 'Corp' cannot name a group"),
            ({"db.corp": []}, "cannot name a group"),
            ({"": []}, "cannot name a group"),
            ({"corp": "10.0.0.0/8"}, "groups.corp: a group is a list"),
            ({"corp": 1}, "groups.corp: a group is a list"),
            ({"corp": ["::1", 1]}, r"groups.corp\[1\]: 1 is not text"),
            ({"corp": ["10.0.0.1/8"]}, r"groups.corp\[0\]: '10.0.0.1/8' has bits set below its prefix"),
            ({"corp": ["private"]}, r"groups.corp\[0\]: 'private' is neither an address nor a CIDR"),
            ({"corp": ["10.0.0.1:80"]}, r"groups.corp\[0\]: '10.0.0.1:80' is neither"),
        ],
    )
    def test_refused(self, groups: object, text: str) -> None:
        """A bad name or member is refused with its place."""
        with pytest.raises(ConfigError, match=text):
            parse_groups(groups)  # type: ignore[arg-type]
