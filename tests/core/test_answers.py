"""What is remembered of look-ups: until its moment, bounded, the longest unasked first to go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outgate.core.name.answers import Answers


def test_an_answer_is_good_until_its_moment() -> None:
    """Before its moment an answer is there, at it and after it is not, and is kept no longer."""
    answers = Answers()
    answers.put("a", 1, until=30.0)
    assert answers.get("a", 29.9) == 1
    assert answers.get("a", 30.0) is None
    assert len(answers) == 0
    assert answers.get("never", 0.0) is None


def test_a_later_answer_replaces_the_earlier() -> None:
    """The last answer to a question counts, with its own moment."""
    answers = Answers()
    answers.put("a", 1, until=30.0)
    answers.put("a", 2, until=5.0)
    assert answers.get("a", 1.0) == 2
    assert answers.get("a", 6.0) is None


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    """Beyond the limit the answer goes that nobody has asked for the longest."""
    answers = Answers(limit=2)
    answers.put("a", 1, until=9.0)
    answers.put("b", 2, until=9.0)
    assert answers.get("a", 0.0) == 1
    answers.put("c", 3, until=9.0)
    assert [answers.get(key, 0.0) for key in "abc"] == [1, None, 3]


def test_clear_forgets_everything() -> None:
    """After clear() nothing is known."""
    answers = Answers()
    answers.put("a", 1, until=9.0)
    answers.clear()
    assert answers.get("a", 0.0) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), max_size=80))
def test_never_more_than_the_limit(asked: list[tuple[int, float]]) -> None:
    """Whatever is put in, there are never more answers than the limit, and the last one is there."""
    answers = Answers(limit=5)
    for key, until in asked:
        answers.put(key, "answer", until)
        assert len(answers) <= 5
        assert answers.get(key, -1.0) == "answer"
