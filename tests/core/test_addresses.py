"""Classes of addresses, what is embedded in them, and numeric spellings, held against the C library."""

import ipaddress
import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outgate.core.address import addresses
from outgate.core.address.address_table import CLASSES, TABLE
from outgate.core.address.addresses import NetworkSet, classify, judge, parse_network, parse_numeric
from support import slow_policy
from support.examples import at_least, words

MANY = at_least(300)

CLASS_OF = {
    "public": """
        8.8.8.8 1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255
        169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0 192.0.3.0 192.31.196.1 192.52.193.1 192.175.48.1
        192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0
        223.255.255.255 168.63.129.15 168.63.129.17
        2000:: 2001:4860:4860::8888 2606:4700::1111 2001:200:: 2001:3::1 2001:4:112::1 2001:20::1 2001:30::1
        2620:4f:8000::1 2001:db7:ffff:: 2001:db9:: 3ffe:ffff:: 3fff:1000:: 64:ff9b::8.8.8.8 2002:808:808::1
        ::ffff:8.8.8.8 2001:0:808:808:0:0:f7f7:f7f7 2001:4860::5efe:8.8.8.8 2001:4860::200:5efe:8.8.8.8""",
    "private": """
        10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 fc00:: fdff:ffff:: fd00:ec2::253
        fec0:: feff:ffff:: 64:ff9b:1::8.8.8.8 64:ff9b:1:ffff::8.8.8.8 ::ffff:10.0.0.5 64:ff9b::10.0.0.5 2002:a00:5::
        2001:0:808:808:0:0:f5ff:fffa 2001:0:a00:5:0:0:f7f7:f7f7 2001:4860::5efe:10.0.0.5 2001:4860::200:5efe:192.168.1.1
        2001:4860::300:5efe:10.0.0.5""",
    "shared": "100.64.0.0 100.127.255.255 100.100.100.199 100.100.100.201 ::ffff:100.64.0.1 64:ff9b::100.64.0.1",
    "loopback": """
        127.0.0.0 127.0.0.1 127.255.255.255 0.0.0.0 :: ::1 ::ffff:127.0.0.1 ::ffff:0.0.0.0 ::127.0.0.1
        64:ff9b::127.0.0.1 64:ff9b::0.0.0.0 2002:7f00:1::
        2002:: ::ffff:0:127.0.0.1 64:ff9b:1::127.0.0.1 2001:0:808:808:0:0:80ff:fffe
        fe80::5efe:127.0.0.1 fc00::5efe:127.0.0.1 2002:808:808::5efe:127.0.0.1""",
    "link-local": """
        169.254.0.0 169.254.255.255 169.254.169.253 fe80:: fe80::1%eth0 febf:ffff:: ::ffff:169.254.1.1
        fe80::5efe:10.0.0.5 fe80::200:5efe:8.8.8.8 64:ff9b::169.254.1.1 2002:a9fe:101::""",
    "metadata": """
        169.254.169.254 169.254.170.2 169.254.170.23 169.254.0.23 169.254.10.10 169.254.42.42 100.100.100.200
        100.96.0.96 192.0.0.192 168.63.129.16 fd00:ec2::254
        fd00:ec2::23 fd20:ce::254 fd00:a9fe:a9fe::1 fd00:c1::a9fe:a9fe
        fd00:42::42 fd00:100::100:200 fe80::a9fe:a9fe ::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::169.254.169.254
        64:ff9b:1::169.254.169.254 2002:a9fe:a9fe:: 2001:0:808:808:0:0:5601:5601 fe80::5efe:169.254.169.254
        2001:4860::5efe:100.100.100.200 ::ffff:0:169.254.169.254 64:ff9b::168.63.129.16""",
    "multicast": "224.0.0.0 224.0.0.1 239.255.255.255 ff00:: ff02::1 ffff:: ::ffff:224.0.0.1 ff02::5efe:127.0.0.1",
    "broadcast": "255.255.255.255 ::ffff:255.255.255.255 64:ff9b::255.255.255.255",
    "reserved": """
        0.0.0.1 0.255.255.255 192.0.0.0 192.0.0.8 192.0.0.9 192.0.0.10 192.0.0.170 192.0.0.255 192.0.2.1 192.88.99.1
        198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.7 240.0.0.0 255.255.255.254 100:: 100:0:0:1:: 2001:1::1
        2001:1::2
        2001:2:: 2001:10:: 2001:db8:: 3fff:: 5f00:: 4000:: 1:: 1fff:: fe00:: ::8.8.8.8 ::ffff:0:8.8.8.8""",
}
SAMPLES = [(text, name) for name, texts in CLASS_OF.items() for text in texts.split()]


@pytest.mark.parametrize(("text", "expected"), SAMPLES)
def test_class(text: str, expected: str) -> None:
    """Each address of the list has the class it is listed under."""
    assert classify(text) == expected


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.network)
def test_row_holds_at_both_ends(row: object) -> None:
    """The first and the last address of each row are what the slow twin says they are."""
    network = ip_network(row.network)  # type: ignore[attr-defined]
    for address in (network[0], network[-1]):
        assert judge(address).mask == sum(addresses.CLASS_BIT[name] for name in slow_policy.classes_of(address))


def test_every_class_has_samples() -> None:
    """No address class but own, which the operator fills, is without samples."""
    assert set(CLASS_OF) == set(CLASSES) - {"own"}


IPV6_STARTS = [ip_network(row.network) for row in TABLE if ":" in row.network] + [
    ip_network(text) for text in ("::/96", "::ffff:0:0:0/96", "2001:4860:0:1:0:5efe::/96", "fe80::200:5efe:0:0/96")
]
V4 = st.one_of(
    st.ip_addresses(v=4),
    st.sampled_from([ip_network(row.network) for row in TABLE if "." in row.network]).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
    ),
)
V6 = st.one_of(
    st.ip_addresses(v=6),
    st.sampled_from(IPV6_STARTS).flatmap(
        lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv6Address)
    ),
    st.tuples(st.sampled_from(IPV6_STARTS), V4).map(lambda pair: IPv6Address(int(pair[0][0]) | int(pair[1]))),
)


@MANY
@given(st.one_of(V4, V6))
def test_classes_are_those_of_the_slow_twin(address: "IPv4Address | IPv6Address") -> None:
    """Class by class, an address is judged like the linear search through the table judges it."""
    expected = slow_policy.classes_of(address)
    assert {name for name in CLASSES if judge(address).mask & addresses.CLASS_BIT[name]} == expected
    assert classify(address) == max(expected, key=CLASSES.index)


@MANY
@given(V4)
def test_public_ipv4_is_global_to_the_standard_library(address: IPv4Address) -> None:
    """What is public here is global in ``ipaddress`` as well: our table is never the laxer one."""
    if classify(address) == "public":
        assert address.is_global


@MANY
@given(V4, st.sampled_from(["::ffff:", "64:ff9b::"]))
def test_same_host_has_the_same_class(address: IPv4Address, prefix: str) -> None:
    """Mapped and NAT64 forms have exactly the class of the address in them."""
    assert classify(f"{prefix}{address}") == classify(address)


@given(st.ip_addresses(v=4))
def test_ipv4_is_written_as_the_library_does(address: IPv4Address) -> None:
    """The text of an IPv4 address is the standard library's."""
    assert addresses.judge(address).text == str(address)


@pytest.mark.parametrize("form", [str, lambda text: ip_address(text).packed, ip_address])
def test_forms_of_an_address(form: object) -> None:
    """Text, packed bytes and ipaddress objects are judged alike."""
    for text in ("10.0.0.5", "64:ff9b::a00:5"):
        assert classify(form(text)) == "private"  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["", "x", "127.1", "010.0.0.1", "1.2.3.4%lo", "::1::", "1.2.3.4 ", "[::1]", "1.2.3.4/32"]
)
def test_what_is_no_address(text: str) -> None:
    """Loose spellings are no addresses to the policy: they are parsed before, or not at all."""
    with pytest.raises(ValueError):
        classify(text)


class TestOwn:
    """The operator's ranges and the host's own addresses."""

    OWN = ("8.8.0.0/16", "10.1.0.0/16", "2001:4860::/32", "127.0.0.0/8", "169.254.0.0/16", "::ffff:9.9.9.0/120")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("8.8.8.8", "own"),
            ("8.9.8.8", "public"),
            ("10.1.2.3", "own"),
            ("10.2.2.3", "private"),
            ("9.9.9.9", "own"),
            ("2001:4860::1", "own"),
            ("::ffff:8.8.8.8", "own"),
            ("64:ff9b::8.8.8.8", "own"),
            ("2002:808:808::", "own"),
            ("127.0.0.1", "loopback"),
            ("169.254.1.1", "link-local"),
            ("169.254.169.254", "metadata"),
        ],
    )
    def test_class(self, text: str, expected: str) -> None:
        """Own outranks public, shared and private, and nothing more restrictive."""
        assert classify(text, self.OWN) == expected
        assert classify(text, NetworkSet(self.OWN)) == expected

    def test_set(self) -> None:
        """A set of networks knows its members, what it covers and what it touches."""
        own = NetworkSet(["10.1.0.0/16", "fd00::/8"])
        assert own
        assert not NetworkSet()
        assert own.covers(parse_network("10.1.2.0/24"))
        assert own.covers(parse_network("10.1.0.0/16"))
        assert not own.covers(parse_network("10.0.0.0/8"))
        assert not NetworkSet(["10.0.0.0/24"]).covers(parse_network("10.0.0.0/16"))
        assert own.touches(parse_network("10.0.0.0/8"))
        assert own.touches(parse_network("10.1.2.3"))
        assert not own.touches(parse_network("11.0.0.0/8"))
        assert own.touches(parse_network("fd00:1::/32"))
        assert repr(own) == "NetworkSet(['10.1.0.0/16', 'fd00::/8'])"


class TestWords:
    """How an address is named to people."""

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("10.0.0.5", "10.0.0.5 (private)"),
            ("64:ff9b::a00:5", "64:ff9b::a00:5 is NAT64 of 10.0.0.5 (private)"),
            ("::ffff:a00:5", "::ffff:10.0.0.5 is the v4-mapped form of 10.0.0.5 (private)"),
            ("::a00:5", "::a00:5 is the v4-compatible form of 10.0.0.5 (reserved)"),
            ("::2", "::2 is the v4-compatible form of 0.0.0.2 (reserved)"),
            ("::ffff:0:a00:5", "::ffff:0:a00:5 is the v4-translated form of 10.0.0.5 (reserved)"),
            ("2002:a00:5::", "2002:a00:5:: is 6to4 of 10.0.0.5 (private)"),
            ("2001:0:808:808::f5ff:fffa", "2001:0:808:808::f5ff:fffa is Teredo of 10.0.0.5 (private)"),
            ("2001:0:a00:5::f7f7:f7f7", "2001:0:a00:5::f7f7:f7f7 is Teredo by server 10.0.0.5 (private)"),
            ("64:ff9b:1::808:808", "64:ff9b:1::808:808 is local-use NAT64 of 8.8.8.8 (private)"),
            ("fe80::5efe:a00:5", "fe80::5efe:a00:5 is ISATAP of 10.0.0.5 (link-local)"),
            ("fe80::1%3", "fe80::1 (link-local)"),
        ],
    )
    def test_what(self, text: str, what: str) -> None:
        """An embedded address is named with its scheme, and the class is the most restrictive."""
        assert judge(text).what == what

    def test_source(self) -> None:
        """Each class can be traced to who says so."""
        assert addresses.source_of("10.0.0.5") == "RFC 1918"
        assert "Alibaba" in addresses.source_of("100.100.100.200")


class TestNetworks:
    """CIDRs as rules and groups have them."""

    @pytest.mark.parametrize(
        ("text", "network"),
        [
            ("10.0.0.0/8", (4, 10 << 24, 8)),
            ("1.2.3.4", (4, 0x01020304, 32)),
            ("::1", (6, 1, 128)),
            ("::ffff:10.0.0.0/104", (4, 10 << 24, 8)),
            ("::ffff:0:0/96", (4, 0, 0)),
            ("::/0", (6, 0, 0)),
        ],
    )
    def test_parse(self, text: str, network: object) -> None:
        """A mapped block is the IPv4 block it maps."""
        assert parse_network(text) == network

    @pytest.mark.parametrize("text", ["10.0.0.5/8", "fc00::1/7"])
    def test_host_bits(self, text: str) -> None:
        """Bits below the prefix are refused with both things that may have been meant."""
        with pytest.raises(ValueError, match=r"bits set below its prefix; write .*/.*, or "):
            parse_network(text)


# -- numeric spellings -------------------------------------------------------------------------------------------------

SPELLINGS = [
    *words("""
127.0.0.1 127.1 127.0.1 0x7f.1 0x7F000001 0X7f.0.0.1 2130706433 017700000001 0177.0.0.1 0177.1 0 0.0 0x0 00 000.000 1
255.255.255.255 4294967295 4294967296 0xffffffff 0x100000000 037777777777 040000000000 256.1 255.16777215 255.16777216
1.2.65535 1.2.65536 1.2.3.255 1.2.3.256 1.2.3.4.5 1.2.3. .1 1..2 1. 08 09.1 0x 0xg 0x.1 1.0x 00x1 1.2.3.04 1.2.3.0xff
+1 -1 1e3 1_000 0b1 0o17 a 0.0x7f 169.0xfe.43518 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe 0251.0376.0251.0376
00000000000000000000000000000001 0x000000000000000000000000000000007f.1 99999999999999999999 18446744073709551615
18446744073709551616 0xffffffffffffffffffff 1.2.3.4x 1.2.3.4/32 1.2.3.4% 1.2.3.4%lo
"""),
    "1.2.3.4 ",
    " 1.2.3.4",
    "1.2.3.4 x",
    "1.2.3.4\t",
    "1.2.3.4\nfoo",
    "1.2 .3.4",
    "1.2.3.4\r",
    "127.1\v",
    "1 2",
]

IPV6_SPELLINGS = words("""
::1 :: 0:0:0:0:0:0:0:1 00:0:0:0:0:0:0:1 ::ffff:127.0.0.1 ::ffff:7f00:1 ::FFFF:127.0.0.1 64:ff9b::10.0.0.5
1:2:3:4:5:6:7:: ::2:3:4:5:6:7:8 1::8 1:2:3:4:5:6:1.2.3.4 ::1.2.3 ::01.2.3.4 ::1.2.3.256 12345:: ::g 1:::2 1::2::3 :1 1:
fe80::1%lo fe80::1%1 ::1%1 [::1] ::1/128 ::0x1 1:2:3:4:5:6:7:8:9 1:2:3:4:5:6:7 ::127.1
""")


def _aton(text: str) -> "IPv4Address | None":
    try:
        return IPv4Address(socket.inet_aton(text))
    except OSError:
        return None


def _numeric_host(text: str) -> "ipaddress._BaseAddress | None":
    try:
        found = socket.getaddrinfo(text, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return ip_address(str(found[0][4][0]).partition("%")[0])


ATON_TEXT = st.one_of(
    st.lists(
        st.one_of(
            st.integers(0, 1 << 34).map(str),
            st.integers(0, 1 << 34).map(hex),
            st.integers(0, 1 << 34).map("0{:o}".format),
        ),
        min_size=1,
        max_size=5,
    ).map(".".join),
    st.text("0123456789abfxX. ", min_size=1, max_size=18),
    st.ip_addresses(v=4).map(str),
)


@pytest.mark.parametrize("text", SPELLINGS)
def test_spelling_means_what_the_c_library_says(text: str) -> None:
    """Each IPv4 spelling is taken, or not, exactly as inet_aton and getaddrinfo of this machine do."""
    assert parse_numeric(text) == _aton(text)
    assert parse_numeric(text, exact=True) == _numeric_host(text)


@pytest.mark.parametrize("text", IPV6_SPELLINGS)
def test_ipv6_spelling_means_what_the_c_library_says(text: str) -> None:
    """Each IPv6 spelling is taken, or not, exactly as getaddrinfo does."""
    assert parse_numeric(text) == _numeric_host(text)


@MANY
@given(ATON_TEXT)
@example("1." * 5)
def test_any_ipv4_text_means_what_the_c_library_says(text: str) -> None:
    """Whatever is made of digits, dots, letters and spaces means to us what it means to the C library."""
    assert parse_numeric(text) == _aton(text)
    assert parse_numeric(text, exact=True) == _numeric_host(text)


@MANY
@given(st.one_of(st.text("0123456789abcdef:.", min_size=2, max_size=24), st.ip_addresses(v=6).map(str)))
def test_any_ipv6_text_means_what_the_c_library_says(text: str) -> None:
    """Whatever is made of hex digits, colons and dots means to us what it means to the C library."""
    if ":" in text:
        assert parse_numeric(text) == _numeric_host(text)


@pytest.mark.parametrize(
    ("text", "address"), [("", "0.0.0.0"), ("<broadcast>", "255.255.255.255"), ("fe80::1%no-such-interface", "fe80::1")]
)
def test_spellings_of_python(text: str, address: str) -> None:
    """The empty host is the unspecified address, <broadcast> is broadcast, and a scope id does not matter."""
    assert parse_numeric(text) == ip_address(address)


@pytest.mark.parametrize(
    "text", ["localhost", "1.2.3.4\0", "1.2.3.4 \0", "１２７.0.0.1", "127。0。0。1", "٣.1", "1" * 100_000]
)
def test_what_is_a_name(text: str) -> None:
    """Text that is no spelling is a name: NULs, other scripts, and numbers without end."""
    assert parse_numeric(text) is None


@given(
    st.one_of(st.ip_addresses(v=4).map(str), st.lists(st.text("0123456789 .x٣", max_size=4), max_size=5).map(".".join))
)
def test_what_is_dotted_is_read_as_the_standard_library_does(text: str) -> None:
    """Text is the IPv4 address that ipaddress makes of it, and none where it makes none."""
    try:
        expected = ipaddress.ip_address(text)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            addresses.parse_address(text)
    else:
        assert addresses.parse_address(text) == (expected.version, int(expected))
