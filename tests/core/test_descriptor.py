"""A descriptor is read again by its gate for its app, and whatever was changed in it is nothing at all."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outgate.core import descriptor
from outgate.core.descriptor import Descriptor, seal, unseal
from outgate.core.formats import messages

KEY = bytes(range(descriptor.KEY_SIZE))
APP = "blog"
ONE = Descriptor("0414b3e3", 0x1F, 3, 1_234, 56_789)
TEXT = seal(KEY, APP, ONE)
#: The most that each of its numbers can be: 2**64 leases and bytes.
LARGEST = Descriptor("f" * 8, (1 << 64) - 1, 255, (1 << 64) - 1, (1 << 64) - 1)

_names = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=63)
_counts = st.integers(0, (1 << 64) - 1)
_descriptors = st.builds(
    Descriptor, st.text("0123456789abcdef", min_size=8, max_size=8), _counts, st.integers(0, 255), _counts, _counts
)


@given(said=_descriptors, app=_names)
@example(LARGEST, APP)
def test_it_says_what_was_put_in(said: Descriptor, app: str) -> None:
    """What was sealed for an app is what unseal gives for that app."""
    assert unseal(KEY, app, seal(KEY, app, said)) == said


@given(said=_descriptors)
@example(LARGEST)
def test_it_is_short_and_safe_to_copy(said: Descriptor) -> None:
    """It fits into the limit of the channel, and needs no quoting in JSON, a URL, a file name or the environment."""
    text = seal(KEY, APP, said)
    assert set(text) <= set(string.ascii_lowercase + string.digits + ".")
    assert len(text) <= descriptor.MOST == messages.MAX_DESCRIPTOR


def test_it_carries_its_version() -> None:
    """Its first part names the format, and those after it stand as they are documented."""
    assert TEXT.split(".")[:-1] == ["outgate1", "0414b3e3", "1f", "3", "1234", "56789"]
    assert len(TEXT.split(".")[-1]) == 32


def changed_bits() -> list[bytes]:
    """Return the descriptor with each of its bits flipped."""
    data = TEXT.encode()
    return [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]


def test_no_bit_may_be_flipped() -> None:
    """With any one of its bits flipped, read as UTF-8 or as Latin-1, it is nothing."""
    for data in changed_bits():
        assert unseal(KEY, APP, data.decode("utf-8", "replace")) is None
        assert unseal(KEY, APP, data.decode("utf-8", "surrogateescape")) is None
        assert unseal(KEY, APP, data.decode("latin-1")) is None


def test_no_part_may_be_missing() -> None:
    """Cut at any place, from its end or its beginning, or with any one character left out, it is nothing."""
    for at in range(len(TEXT)):
        assert unseal(KEY, APP, TEXT[:at]) is None
        assert unseal(KEY, APP, TEXT[at + 1 :]) is None
        assert unseal(KEY, APP, TEXT[:at] + TEXT[at + 1 :]) is None


@pytest.mark.parametrize("more", ["0", ".", " ", "\n", "\0", ".0", "\ud800", "é", TEXT, "." + TEXT])
def test_nothing_may_be_added(more: str) -> None:
    """With anything before or behind it, or in between, it is nothing."""
    assert unseal(KEY, APP, TEXT + more) is None
    assert unseal(KEY, APP, more + TEXT) is None
    for at in range(1, len(TEXT)):
        assert unseal(KEY, APP, TEXT[:at] + more + TEXT[at:]) is None


@pytest.mark.parametrize("swap", [str.upper, str.title, str.swapcase], ids=["upper", "title", "swapped"])
def test_it_has_one_spelling(swap: object) -> None:
    """In other letters it is nothing: two texts never mean one descriptor."""
    assert callable(swap)
    assert unseal(KEY, APP, swap(TEXT)) is None


@given(app=st.text())
@example("")
@example("blog\0")
@example("Blog")
@example("blo")
@example("blog\0outgate1")
def test_it_is_its_apps_alone(app: str) -> None:
    """For any other app, whatever its name is, it is nothing."""
    assert (unseal(KEY, app, TEXT) is None) == (app != APP)


def test_an_apps_name_does_not_run_into_the_text() -> None:
    """What is sealed for one name is nothing for another that begins or ends with the same characters."""
    assert unseal(KEY, "a", seal(KEY, "a.b", ONE)) is None
    assert unseal(KEY, "a.b", seal(KEY, "a", ONE)) is None
    assert unseal(KEY, "a\0" + descriptor.PREFIX, seal(KEY, "a", ONE)) is None


@given(key=st.binary(min_size=descriptor.KEY_SIZE, max_size=descriptor.KEY_SIZE))
def test_it_is_its_gates_alone(key: bytes) -> None:
    """With any other key it is nothing."""
    assert (unseal(key, APP, TEXT) is None) == (key != KEY)


def test_every_bit_of_the_key_counts() -> None:
    """With any one bit of the key flipped it is nothing."""
    for at in range(len(KEY)):
        for bit in range(8):
            key = KEY[:at] + bytes([KEY[at] ^ 1 << bit]) + KEY[at + 1 :]
            assert unseal(key, APP, TEXT) is None


_parts = st.lists(st.text("0123456789abcdef-+_ \0", max_size=40) | st.text(max_size=8), max_size=9)


@given(text=st.text() | _parts.map(".".join) | _parts.map(lambda parts: ".".join(["outgate1", *parts])))
@example("")
@example(".")
@example("." * 160)
@example("\ud800.\udfff")
@example("\0" * 160)
@example("x" * 65_536)
@example(TEXT.rpartition(".")[0] + "." + "\ud800" * 32)
@example(TEXT.rpartition(".")[0] + "." + "０" * 32)
def test_any_text_is_nothing(text: str) -> None:
    """Any text that this gate has not made, lone surrogates and nulls among them, is nothing, and never an error."""
    assert unseal(KEY, APP, text) is None


def test_parts_of_two_do_not_make_a_third() -> None:
    """The code of one descriptor does not fit another, in whatever part they differ."""
    others = [
        ONE._replace(gate="1414b3e3"),
        ONE._replace(lease=ONE.lease + 1),
        ONE._replace(serial=ONE.serial + 1),
        ONE._replace(sent=ONE.sent + 1),
        ONE._replace(received=ONE.received + 1),
    ]
    for other in others:
        body, _, _ = seal(KEY, APP, other).rpartition(".")
        assert unseal(KEY, APP, f"{body}.{TEXT.rpartition('.')[2]}") is None
