"""What the rule grammar takes, and how it refuses the rest."""

import pytest

from outgate.core.address.address_table import CLASSES
from outgate.core.address.addresses import CLASS_BIT, NON_PUBLIC
from outgate.core.name.names import Pattern
from outgate.core.policy.rules import (
    ALL_CLASSES,
    ALL_PORTS,
    TCP,
    UDP,
    parse_entry,
    parse_groups,
    parse_names,
    parse_rule,
    writable,
)
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
    ("1.2.3.4.5", "neither an address nor a CIDR"),
    ("0xcafe", "means 0.0.202.254; write that"),
    ("web*", "only a whole front may vary"),
    ("a.*.corp:80", r"only a whole front may vary, as in \*\.corp"),
    ("*.", r"names no suffix; write \*\.example\.com"),
    (".corp", r"for every name below write \*\.corp"),
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
    ("*.localhost", 'write "loopback"'),
    ("web.localhost", 'write "loopback"'),
    ("metadata.google.internal", 'write "metadata"'),
    ("internet", 'write "public"'),
    ("any", r'write "\*"'),
    ("privat", 'did you mean "private"'),
    ("share", 'did you mean "shared"\\? A host of that name is written with a dot, "share."'),
    ("nonpublic", 'did you mean "non-public"'),
    ("corpo", 'did you mean "corp"'),
    ("-", "has a label of hyphens alone"),
    ("a..b", "has an empty label"),
    ("tcp://", "an empty name"),
    (":80", "an empty name"),
    ("db.corp/x", "neither an address nor a CIDR"),
    ("user@db.corp", "which no name has"),
    ("corp.5:80", "ends in a number"),
    ("straße.example", "write xn--strae-oqa.example for IDNA 2008, or strasse.example for"),
    ("tcp://*.βόλος.example:443", r"write \*\.xn--nxasmm1c\.example for IDNA 2008"),
    ("a\u200db.example", "has a zero-width joiner, .* write xn--ab-m1t.example"),
    ("x" * 64 + ".corp", "a label has at most 63"),
    ("x." * 150 + "corp", "a name has at most 253"),
    ("!private", 'did you mean "private"'),
]


@pytest.mark.parametrize(("text", "hint"), REFUSED)
def test_refused_with_place_and_hint(text: str, hint: str) -> None:
    """What is no rule is refused with the place it stands at and what to write instead."""
    with pytest.raises(ConfigError, match=rf"^apps\.blog\.allow\[3\]: .*{hint}"):
        parse_rule(text, "apps.blog.allow[3]", {"corp": (TEN,)})


@pytest.mark.parametrize(
    ("text", "transports", "pattern", "ports"),
    [
        ("db.corp:5432", BOTH, Pattern("db.corp"), ((5432, 5432),)),
        ("tcp://DB.corp.:80,443", TCP, Pattern("db.corp"), ((80, 80), (443, 443))),
        ("*.corp", BOTH, Pattern("corp", True), ALL_PORTS),
        ("udp://*.a.corp:53", UDP, Pattern("a.corp", True), ((53, 53),)),
        ("*.com", BOTH, Pattern("com", True), ALL_PORTS),
        ("münchen.example:*", BOTH, Pattern("xn--mnchen-3ya.example"), ALL_PORTS),
        ("xn--strae-oqa.example", BOTH, Pattern("xn--strae-oqa.example"), ALL_PORTS),
        ("db", BOTH, Pattern("db"), ALL_PORTS),
        ("cafe1.de", BOTH, Pattern("cafe1.de"), ALL_PORTS),
        ("deadbeef", BOTH, Pattern("deadbeef"), ALL_PORTS),
        ("1.2.3.4.example", BOTH, Pattern("1.2.3.4.example"), ALL_PORTS),
        ("private.corp", BOTH, Pattern("private.corp"), ALL_PORTS),
        ("public.", BOTH, Pattern("public"), ALL_PORTS),
        ("share.:445", BOTH, Pattern("share"), ((445, 445),)),
        ("corp.:445", BOTH, Pattern("corp"), ((445, 445),)),
        ("internal.", BOTH, Pattern("internal"), ALL_PORTS),
    ],
)
def test_name(text: str, transports: int, pattern: Pattern, ports: object) -> None:
    """A name or a suffix stands where an address may, and is canonical; a dot at its end says it is no group."""
    rule = parse_rule(text, "here", {"corp": (TEN,)})
    assert (rule.transports, rule.pattern, rule.ports) == (transports, pattern, ports)
    assert (rule.classes, rule.networks, rule.text) == (0, (), text)
    assert not rule.is_any


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("db.corp", "db.corp"),
        ("db", "db"),
        ("public", "public."),
        ("share", "share."),
        ("corp", "corp."),
        ("internal", "internal."),
        ("localhost", ""),
        ("web.localhost", ""),
        ("metadata.google.internal", ""),
        ("node.1", ""),
        ("4chan.4chan", "4chan.4chan"),
    ],
)
def test_writable(name: str, text: str) -> None:
    """A canonical name is written in a rule so that it is read as that name, or it is said that none can have it."""
    assert writable(name, frozenset({"corp"})) == text
    if text:
        assert parse_rule(text, "here", {"corp": (TEN,)}).pattern == Pattern(name)


class TestNames:
    """The list that limits look-ups."""

    def test_patterns(self) -> None:
        """Names and suffixes, in canonical form; names of groups have no meaning of their own here."""
        patterns = parse_names(["*.Corp", " db.corp. ", "public", "localhost", "share"])
        assert [str(pattern) for pattern in patterns] == ["*.corp", "db.corp", "public", "localhost", "share"]
        assert parse_names([]) == ()

    @pytest.mark.parametrize(
        ("names", "text"),
        [
            ("*.corp", r'^here: names are a list of names and suffixes; write names = \["db.corp"'),
            (1, "^here: names are a list"),
            ([1], r"^here\[0\]: 1 is not text"),
            (["db.corp", "*"], r'^here\[1\]: "\*" limits nothing; leave names out'),
            (["db.corp:5432"], r'^here\[0\]: .*neither port nor transport; write "db.corp"'),
            (["tcp://db.corp"], r'^here\[0\]: .*neither port nor transport; write "db.corp"'),
            (["10.0.0.1"], r'^here\[0\]: "10.0.0.1" is an address and no name; as in "db.corp"'),
            (["10.0.0.0/8"], "has '/' in it"),
            (["::1"], "is an address and no name"),
            (["a.*"], "only a whole front may vary"),
            (["straße.example"], "write xn--strae-oqa.example for IDNA 2008"),
        ],
    )
    def test_refused(self, names: object, text: str) -> None:
        """What is no list of patterns is refused with its place and a hint."""
        with pytest.raises(ConfigError, match=text):
            parse_names(names, "here")  # type: ignore[arg-type]


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
