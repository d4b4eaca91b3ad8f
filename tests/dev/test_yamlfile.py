"""YAML as plain data: limits hold, what is meant as text stays text, and garbage is refused with a place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.dev import yamlfile
from outgate.errors import ConfigError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="ascii", categories="LN")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-_", min_size=1), inner, max_size=4),
    max_leaves=6,
)


def test_everything_that_app_yaml_uses() -> None:
    """Mappings, lists, text, numbers, booleans, nothing, aliases and merge keys come out as Python has them."""
    text = b"""
base: &base {a: 1, b: [x, "2"]}
other: *base
merged: {<<: *base, a: 3}
many: {<<: [{a: 1, c: 1}, {a: 2, d: 2}]}
nothing:
yes_it_is: true
half: 0.5
"""
    base = {"a": 1, "b": ["x", "2"]}
    assert yamlfile.parse(text, "f") == {
        "base": base,
        "other": base,
        "merged": {"a": 3, "b": ["x", "2"]},
        "many": {"a": 1, "c": 1, "d": 2},
        "nothing": None,
        "yes_it_is": True,
        "half": 0.5,
    }


def test_dates_and_keys_of_digits_stay_text() -> None:
    """A date is text, and a key of digits is the name it was written as."""
    assert yamlfile.parse(b"version: 2026-11-23\n0123: x\n", "f") == {"version": "2026-11-23", "0123": "x"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_document_is_an_empty_mapping(text: str) -> None:
    """Nothing at all is a mapping without keys."""
    assert yamlfile.parse(text.encode(), "f") == {}


def _laughs() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_laughs(), "more than 20000 values"),
        ("a: &a [*a]", "nested deeper than 32 levels"),
        ("a: &a {b: *a}", "nested deeper than 32 levels"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper than 32 levels"),
        ("a: " + "[" * 120_000, "is nested deeper than 32 levels"),
        ("a: " + "{b: " * 20_000, "is nested deeper than 32 levels"),
        ("- " * 60_000, "is nested deeper than 32 levels"),
        ("a: &a {<<: *a}", "nested deeper than 32 levels"),
        ("a: {<<: 3}", "<< stands before something else"),
        ("a: 1\na: 2", "line 2, column 1: 'a' stands here a second time"),
        ("? [a]\n: 1", "is not a name for a key"),
        ("a: !!python/object/apply:os.system [id]", "has the tag"),
        ("a: !!binary aGk=", "has the tag"),
        ("a: !!set {x}", "has the tag"),
        ("a: !own x", "has the tag"),
        ("a: !!int x", "is no int"),
        ("a: !!float x", "is no float"),
        ("a: !!bool x", "is no bool"),
        ("a: " + "9" * 5000, "is no int"),
        ("a: [1", "line 1, column"),
        ("a: b: c", "line 1, column"),
        ("a: *nobody", "undefined alias"),
        ("- a", "holds no keys"),
        ("just text", "holds no keys"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_what_is_refused_and_how(text: str, says: str) -> None:
    """Bombs, recursion, tags, second keys and broken syntax are refused, with the file's name and what is wrong."""
    with pytest.raises(ConfigError) as caught:
        yamlfile.parse(text.encode(), "f")
    assert str(caught.value).startswith("f: ")
    assert says in str(caught.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    """What is not UTF-8 is refused as such."""
    with pytest.raises(ConfigError, match="UTF-8"):
        yamlfile.parse(b"a: \xff\xfe\x00", "f")


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path) -> None:
    """A file over the limit is refused for its size, whatever is in it."""
    path = tmp_path / "app.yaml"
    path.write_bytes(b"#" * (yamlfile.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="more than 128 KiB"):
        yamlfile.read(str(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is not there is named, and so is a folder."""
    with pytest.raises(ConfigError, match="cannot be read"):
        yamlfile.read(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be read"):
        yamlfile.read(str(tmp_path))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=5), PLAIN, max_size=4))
def test_what_yaml_writes_comes_back(data: dict[str, object]) -> None:
    """Plain data written by PyYAML reads as it was."""
    import yaml

    assert yamlfile.parse(yaml.safe_dump(data, allow_unicode=True).encode(), "f") == data


@given(st.one_of(st.binary(max_size=200), st.text("ab:-[]{}&*!|>'\"#,?%@<\n\t 1.", max_size=80).map(str.encode)))
def test_garbage_is_data_or_a_complaint(raw: bytes) -> None:
    """Whatever the bytes, there is a mapping or a ConfigError that begins with the file's name; nothing else."""
    try:
        found = yamlfile.parse(raw, "f")
    except ConfigError as error:
        complaint = str(error)
    else:
        assert isinstance(found, dict)
        complaint = "f: "
    assert complaint.startswith("f: ")
