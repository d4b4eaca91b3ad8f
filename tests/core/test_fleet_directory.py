"""What gates announce of themselves: written small, read whatever it is, and compared."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.core.fleet.directory import MOST, Entry, Standing, differences, digest, read, row, write

STANDING = Standing("0123456789abcdef", 4, 1, 2)
ENTRY = Entry(
    name="a",
    boot="5d1c9a02",
    host="host-a",
    at="192.0.2.1:7400",
    version="0.1.0",
    since=1_800_000_000,
    number=3,
    policy="00ff00ff00ff00ff",
    ends=1_800_600_000,
    skew=-0.5,
    clash=False,
    apps={"blog": STANDING, "worker": Standing("x")},
    left_out=0,
)

counts = st.integers(0, 1 << 40)
words = st.text(max_size=20)
standings = st.builds(Standing, words, counts, counts, counts)
entries = st.builds(
    Entry,
    st.from_regex(r"[a-z]([a-z-]{0,20}[a-z])?", fullmatch=True),
    words,
    words,
    words,
    words,
    counts,
    counts,
    words,
    counts,
    st.floats(-1e6, 1e6),
    st.booleans(),
    st.dictionaries(words, standings, max_size=6),
    counts,
)


@given(entries)
def test_what_is_written_is_read(entry: Entry) -> None:
    """An announcement comes back as it was, from at most 16 KiB."""
    written = write(entry)
    assert len(written) <= MOST
    assert read(written) == entry


@given(st.binary(max_size=200) | st.recursive(st.none() | words, st.lists).map(lambda said: json.dumps(said).encode()))
def test_anything_else_is_nothing(written: bytes) -> None:
    """Whatever lies there, it is read as nothing, and nothing is raised."""
    assert read(written) is None


@given(st.sampled_from([*Entry._fields, "v"]), st.recursive(st.none() | st.integers() | st.floats() | words, st.lists))
def test_a_field_of_another_kind_is_nothing_or_harmless(field: str, value: object) -> None:
    """With any one field changed, what is read is still an announcement by its types, or nothing."""
    said = {**json.loads(write(ENTRY)), field: value}
    found = read(json.dumps(said).encode())
    if found is not None:
        assert read(write(found)) == found


@pytest.mark.parametrize("field", Entry._fields)
def test_without_a_field_it_is_nothing(field: str) -> None:
    """Every field must be there; one that is not known may be."""
    said = json.loads(write(ENTRY))
    assert read(json.dumps({**said, "later": [1, 2]}).encode()) == ENTRY
    del said[field]
    assert read(json.dumps(said).encode()) is None


@pytest.mark.parametrize(
    "said",
    [["x", 1, 1], ["x", 1, 1, -1], ["x", 1, 1, True], [1, 1, 1, 1], ["x" * 400, 1, 1, 1], [], None, 7, "abcd"],
)
def test_an_app_that_is_none_makes_it_nothing(said: object) -> None:
    """What stands for an app is a digest and three counts; more may follow."""
    whole = json.loads(write(ENTRY))
    whole["apps"]["blog"] = said
    assert read(json.dumps(whole).encode()) is None
    whole["apps"]["blog"] = [*STANDING, "later"]
    assert read(json.dumps(whole).encode()) == ENTRY


def test_a_thousand_apps_have_no_room_and_those_in_use_go_first() -> None:
    """As many as fit are told, those with open sockets before the others, and how many are not."""
    apps = {f"app-{number:04}-{'x' * 40}": Standing("0" * 16, int(number % 100 == 99)) for number in range(1000)}
    written = write(ENTRY._replace(apps=apps, left_out=0))
    found = read(written)
    assert found is not None
    assert MOST - 400 < len(written) <= MOST
    assert len(found.apps) + found.left_out == 1000
    assert [standing.open for standing in found.apps.values()][:11] == [1] * 10 + [0]
    assert read(b" " * (MOST + 1)) is None
    assert len(write(ENTRY._replace(host="h" * 40_000))) < 1000


def _at(name: str, **apps: str) -> Entry:
    return ENTRY._replace(name=name, apps={app: Standing(policy) for app, policy in apps.items()})


def test_who_differs_from_whom() -> None:
    """Apps that are not the same everywhere are named, with the gates of each kind; one that is only here is not."""
    assert differences([]) == {}
    assert differences([_at("a", blog="1", one="1"), _at("b", blog="1", two="2")]) == {}
    found = differences([_at("c", blog="2"), _at("b", blog="1", worker="7"), _at("a", blog="1", worker="8")])
    assert found == {"blog": {"1": ["a", "b"], "2": ["c"]}, "worker": {"8": ["a"], "7": ["b"]}}
    assert list(found) == ["blog", "worker"]


def test_what_no_announcement_had_room_for_differs_as_a_whole() -> None:
    """Gates that leave apps out are compared by their whole policy, where nothing else is known to differ."""
    one, other = (
        _at("a", blog="1")._replace(left_out=3, policy="p"),
        _at("b", blog="1")._replace(left_out=3, policy="q"),
    )
    assert differences([one, other]) == {"": {"p": ["a"], "q": ["b"]}}
    assert differences([one, other._replace(policy="p")]) == {}


def test_digests_and_rows() -> None:
    """The same texts have the same digest; a row is plain data."""
    assert digest(["a"], {"b": 1}) == digest(["a"], {"b": 1}) != digest(["a"], {"b": 2})
    assert len(digest()) == 16
    assert row(ENTRY)["apps"]["blog"] == {"policy": STANDING.policy, "open": 4, "of_others": 1, "with_others": 2}
    assert json.loads(json.dumps(row(ENTRY))) == row(ENTRY)
