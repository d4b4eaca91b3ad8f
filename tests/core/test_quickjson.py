"""The quick reader and writer agree with the json package."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outgate.core.formats import quickjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_written_is_read(value: object) -> None:
    """What one of the two writes the other reads as the same."""
    text = quickjson.dumps(value)
    assert text.isascii()
    assert json.loads(text) == value
    assert quickjson.loads(json.dumps(value)) == value
    assert quickjson.loads(text) == value


@example("NaN")
@given(st.text())
def test_bad_text(text: str) -> None:
    """Any text is read as the json package does, or refused as there with a ValueError."""
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            quickjson.loads(text)
    else:
        assert repr(quickjson.loads(text.strip())) == repr(expected)  # NaN is not equal to itself


@pytest.mark.parametrize("text", ["", "{", "[1", '{"a"}', "1 2", " 1", "nul", '"\n"', "\x00"])
def test_examples_of_bad_text(text: str) -> None:
    """What is cut off, doubled, surrounded by blanks or no JSON at all is a ValueError."""
    with pytest.raises(ValueError):
        quickjson.loads(text)


def test_fractions_and_constants() -> None:
    """Fractions, exponents and the three constants that are not in the standard are read as Python reads them."""
    assert quickjson.loads("[0.25,1e3,-Infinity]") == [0.25, 1000.0, float("-inf")]


def test_what_is_not_for_json() -> None:
    """Another type is refused, not guessed at."""
    with pytest.raises(TypeError):
        quickjson.dumps({1, 2})
