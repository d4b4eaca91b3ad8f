"""One canonical form of a name, whatever it was written as; patterns; and what is no name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.address.addresses import parse_numeric
from outgate.core.name.names import MAX_LABEL, MAX_NAME, NameSet, Pattern, canonical, idna_2008, parents, parse_pattern
from support.examples import at_least, words

MANY = at_least(300)

LABELS = ["a", "b", "ab"]
LONGEST_LABEL = "x" * 63
#: 253 characters: three labels of 63, one of 61, three dots.
LONGEST = ".".join([LONGEST_LABEL] * 3 + ["y" * 61])


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("db.corp", "db.corp"),
        ("DB.Corp", "db.corp"),
        ("db.corp.", "db.corp"),
        ("db", "db"),
        ("_dmarc.example_host.corp", "_dmarc.example_host.corp"),
        ("-a-.b--c.corp", "-a-.b--c.corp"),
        ("4chan.example", "4chan.example"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0x7f.1.corp", "0x7f.1.corp"),
        ("cafe1.de", "cafe1.de"),
        # The C library asks a name server for these; they are no spellings of an address.
        ("1.2.3.4.5", "1.2.3.4.5"),
        ("256.0.0.1", "256.0.0.1"),
        ("1.2.3.09", "1.2.3.09"),
        # IDNA 2003, as the idna codec does it for every str host that a program passes to C.
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.example.", "xn--mnchen-3ya.example"),
        ("XN--MNCHEN-3YA.example", "xn--mnchen-3ya.example"),
        ("straße.example", "strasse.example"),
        ("βόλος.example", "xn--nxasmq6b.example"),
        ("βόλοσ.example", "xn--nxasmq6b.example"),
        ("a\u200db.example", "ab.example"),
        ("a\u00adb.example", "ab.example"),
        ("раураl.example", "xn--l-7sba6dbr.example"),  # Cyrillic but for the last letter
        ("日本語。example", "xn--wgv71a119e.example"),
        ("ｄｂ．corp", "db.corp"),
        ("a․b.corp", "a.b.corp"),  # a one-dot leader becomes a dot
        ("ﬁle.corp", "file.corp"),
        ("\u212aelvin.corp", "kelvin.corp"),
        # Limits of RFC 1035.
        (LONGEST_LABEL + ".corp", LONGEST_LABEL + ".corp"),
        (LONGEST, LONGEST),
        (LONGEST + ".", LONGEST),
    ],
)
def test_canonical(text: str, name: str) -> None:
    """Names that the C library would ask for alike have one canonical form, and that form is its own."""
    assert canonical(text) == name
    assert canonical(name) == name


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an empty name"),
        (".", '"." is no name'),
        ("..", "has an empty label"),
        ("db..", "has an empty label"),
        ("a..b", '"a..b" has an empty label'),
        (".corp", "has an empty label"),
        ("x" * 64, "has a label of 64 characters, a label has at most 63"),
        (LONGEST + "y", "has 254 characters, a name has at most 253"),
        ("x." * 150, "has 299 characters"),
        ("é" * 300 + ".corp", "is no name to IDNA"),
        ("é" * 5000, "has 5000 characters"),
        ("a\0b", "has a NUL in it"),
        ("db.corp\0.example", "has a NUL in it"),
        ("db corp", "has a space in it"),
        (" db.corp", "has a space in it"),
        ("db.corp\n", "has '\\n' in it"),
        ("user@db.corp", "has '@' in it"),
        ("db.corp:80", "has ':' in it"),
        ("db.corp/x", "has '/' in it"),
        ("℀.corp", "has '/' in it"),
        ("*.corp", "has '*' in it"),
        ("db.corp%eth0", "has '%' in it"),
        ("-", "has a label of hyphens alone"),
        ("a.--.b", "has a label of hyphens alone"),
        ("xn--é.corp", "is no name to IDNA"),
        ("\ud800.corp", "is no name to IDNA"),
        ("\u200d", "is no name to IDNA"),
        ("a\u0627.corp", "is no name to IDNA"),  # right-to-left and left-to-right in one label
    ],
)
def test_no_name(text: str, why: str) -> None:
    """What no name can be is refused in words, on one printable line that is not too long."""
    with pytest.raises(ValueError) as caught:
        canonical(text)
    said = str(caught.value)
    assert why in said
    assert type(caught.value) is ValueError
    assert said.isprintable()
    assert len(said) < 250


NUMERIC = words("""
127.0.0.1 127.0.0.1. 127.1 127.1. 0x7f.1 0X7F.1 0177.0.0.1 2130706433 017700000001 0 0x0 0xa9fea9fe 1.2.3.4
１２７.0.0.1 ①②⑦.0.0.1 127。0。0。1 ::1 ::ffff:127.0.0.1 fe80::1%eth0 2001:db8::1 [::1]
""")


@pytest.mark.parametrize("text", NUMERIC)
def test_a_number_is_never_a_name(text: str) -> None:
    """No numeric spelling of an address has a canonical form, or is a pattern, in any script."""
    for read in (canonical, parse_pattern):
        with pytest.raises(ValueError):
            read(text)


@MANY
@given(st.text(max_size=300))
def test_canonical_of_anything(text: str) -> None:
    """Whatever the text, there is a canonical name within the limits that is its own canonical form, or ValueError."""
    try:
        name = canonical(text)
    except ValueError:
        return
    assert name.isascii()
    assert name == name.lower() == canonical(name) == canonical(name.upper()) == canonical(name + ".")
    assert 0 < len(name) <= MAX_NAME
    assert all(0 < len(label) <= MAX_LABEL for label in name.split("."))
    assert parse_numeric(name) is None


@MANY
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=3).map(".".join))
def test_canonical_is_what_c_asks_for(text: str) -> None:
    """A name is what the idna codec makes of the text, which is what C does to it, but for case and the last dot."""
    try:
        name = canonical(text)
    except ValueError:
        return
    assert text.encode("idna").decode().lower().removesuffix(".") == name


class TestPatterns:
    """A name, or every name below one."""

    @pytest.mark.parametrize(
        ("text", "name", "is_suffix"),
        [
            ("db.corp", "db.corp", False),
            ("DB.corp.", "db.corp", False),
            ("*.corp", "corp", True),
            ("*.Corp.", "corp", True),
            ("*.a.b.corp", "a.b.corp", True),
            ("*.münchen.example", "xn--mnchen-3ya.example", True),
            ("*.10.in-addr.arpa", "10.in-addr.arpa", True),
        ],
    )
    def test_parse(self, text: str, name: str, is_suffix: bool) -> None:
        """A pattern is canonical, and reads back as what it prints."""
        pattern = parse_pattern(text)
        assert pattern == Pattern(name, is_suffix)
        assert parse_pattern(str(pattern)) == pattern

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "an empty name"),
            ("*", "names no suffix"),
            ("*.", "names no suffix"),
            ("*.*", "names no suffix"),
            ("*.*.corp", "names no suffix"),
            ("**.corp", "only a whole front may vary"),
            ("db.*", "only a whole front may vary"),
            ("db*.corp", "only a whole front may vary"),
            ("a.*.corp", "only a whole front may vary"),
            (".corp", "for every name below write *.corp"),
            ("*..corp", "begins with a dot"),
            ("a b.corp", "has a space"),
            ("*.corp:80", "has ':' in it"),
            ("256.0.0.1", "ends in a number"),
            ("corp.1", "ends in a number"),
            ("*.10", "an address and no name"),
            ("corp.0x1f", "ends in a number"),
            ("*.256.1", "ends in a number"),
            ("straße.example", "write xn--strae-oqa.example for IDNA 2008, or strasse.example for"),
            ("*.straẞe.example", r"write *.xn--strae-oqa.example for IDNA 2008, or *.strasse.example for"),
            ("βόλος.example", "write xn--nxasmm1c.example for IDNA 2008, or xn--nxasmq6b.example for"),
            ("नी\u200c.example", "has a zero-width non-joiner"),
            ("a\u200db.example", "has a zero-width joiner"),
        ],
    )
    def test_refused(self, text: str, why: str) -> None:
        """What is no pattern, or would be two names, is refused with the way out."""
        with pytest.raises(ValueError) as caught:
            parse_pattern(text)
        assert why in str(caught.value)

    @pytest.mark.parametrize(
        ("pattern", "name", "is_meant"),
        [
            ("db.corp", "db.corp", True),
            ("db.corp", "a.db.corp", False),
            ("db.corp", "xdb.corp", False),
            ("*.corp", "db.corp", True),
            ("*.corp", "a.b.c.corp", True),
            ("*.corp", "corp", False),
            ("*.corp", "xcorp", False),
            ("*.corp", "db.xcorp", False),
            ("*.corp", "corp.example", False),
            ("*.b.corp", "b.corp", False),
            ("*.b.corp", "a.b.corp", True),
        ],
    )
    def test_matches(self, pattern: str, name: str, is_meant: bool) -> None:
        """A suffix means any depth below it and not itself, at the borders of labels."""
        assert parse_pattern(pattern).matches(name) is is_meant
        assert (name in NameSet([parse_pattern(pattern)])) is is_meant

    @pytest.mark.parametrize(
        ("one", "other", "covers"),
        [
            ("db.corp", "db.corp", True),
            ("*.corp", "*.corp", True),
            ("*.corp", "db.corp", True),
            ("*.corp", "*.db.corp", True),
            ("*.corp", "corp", False),
            ("corp", "*.corp", False),
            ("*.db.corp", "*.corp", False),
            ("db.corp", "*.db.corp", False),
        ],
    )
    def test_covers(self, one: str, other: str, covers: bool) -> None:
        """A pattern covers another if it means every name of it."""
        assert parse_pattern(one).covers(parse_pattern(other)) is covers

    @MANY
    @given(
        st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join),
        st.lists(st.sampled_from(LABELS), min_size=1, max_size=4).map(".".join),
        st.booleans(),
    )
    def test_like_comparing_labels(self, text: str, name: str, is_suffix: bool) -> None:
        """A pattern matches as its labels, compared one by one from the right, say."""
        wanted, labels = text.split("."), name.split(".")
        is_below = len(labels) > len(wanted) and labels[-len(wanted) :] == wanted
        expected = is_below if is_suffix else labels == wanted
        assert Pattern(text, is_suffix).matches(name) is expected
        assert (name in NameSet([Pattern(text, is_suffix)])) is expected


def test_parents() -> None:
    """The names above a name come from the nearest to the last label."""
    assert list(parents("a.b.corp")) == ["b.corp", "corp"]
    assert list(parents("corp")) == []


def test_idna_2008_keeps_a_capital_sigma_medial() -> None:
    """A capital sigma at the end of a label becomes the letter that IDNA maps it to, not the final form."""
    assert idna_2008("ΟΔΟΣ.example") == canonical("οδοσ.example")
