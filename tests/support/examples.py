"""Small helpers for tests that go through many examples."""

from hypothesis import settings


def words(text: str) -> "list[str]":
    """Return the words of a text: how a long list of examples stays readable."""
    return text.split()


def at_least(count: int) -> settings:
    """Return the settings of the profile in force, with no fewer than ``count`` examples."""
    return settings(max_examples=max(count, settings().max_examples))
