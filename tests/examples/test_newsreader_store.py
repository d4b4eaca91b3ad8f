"""What the news reader keeps: one life for a reading, whatever comes in whatever order, and nothing for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
import store
from articles import Body, Overview, Placed
from store import Group, Store


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Store:
    """An empty store."""
    return Store(tmp_path / "news.db", clock)


OUTLINE = [Placed(Overview(2, "b"), 0), Placed(Overview(1, "a"), 1)]


def test_a_life(kept: Store) -> None:
    """A reading waits, is read by another process, gets its articles in their places, and is done."""
    reading = kept.add("news.test", "a.group", 2, front=7)
    waiting = kept.find(reading)
    assert (waiting.state, waiting.front, waiting.back) == (store.WAITING, 7, None)
    assert kept.begin(reading, back=8)
    kept.outline(reading, OUTLINE)
    assert [(each.number, each.depth, each.text) for each in kept.articles(reading)] == [(2, 0, None), (1, 1, None)]
    kept.fill(reading, 1, Body("text", ("a note",)))
    filled = kept.articles(reading)[1]
    assert (filled.text, filled.notes) == ("text", ("a note",))
    kept.finish(reading)
    done = kept.find(reading)
    assert (done.state, done.back, done.is_over) == (store.DONE, 8, True)
    assert waiting.revision < filled.revision < done.revision


def test_it_is_taken_up_once(kept: Store) -> None:
    """A second back end, as after a retry, is told that nobody waits for it."""
    reading = kept.add("news.test", "a.group", 2, front=7)
    assert kept.begin(reading, back=8)
    assert not kept.begin(reading, back=9)
    assert not kept.begin("unknown", back=9)


def test_what_is_over_stays_so(kept: Store) -> None:
    """What has failed is not done afterwards, and the first reason stays."""
    reading = kept.add("news.test", "a.group", 2, front=7)
    kept.fail(reading, "the first reason", "a cure")
    kept.finish(reading)
    kept.fail(reading, "another")
    found = kept.find(reading)
    assert (found.state, found.trouble, found.cure) == (store.FAILED, "the first reason", "a cure")
    assert not kept.begin(reading, back=8)


def test_a_session_that_nobody_takes_up_has_failed(kept: Store, clock: Clock) -> None:
    """After half a minute a reading that still waits has failed, in words, and nobody may take it up any more."""
    reading = kept.add("news.test", "a.group", 2, front=7)
    clock.now += store.PATIENCE
    assert kept.find(reading).state == store.WAITING
    clock.now += 1
    found = kept.find(reading)
    assert found.state == store.FAILED
    assert "not taken the open session up" in found.trouble
    assert "outgate dev" in found.cure
    assert not kept.begin(reading, back=8)


def test_old_entries_go(kept: Store, clock: Clock) -> None:
    """An hour later a reading, its articles and lists of groups are gone, and what comes late changes nothing."""
    reading = kept.add("news.test", "a.group", 2, front=7)
    kept.begin(reading, back=8)
    kept.outline(reading, OUTLINE)
    kept.keep_groups("news.test", "*", [Group("a.group", "", 2)])
    clock.now += store.KEPT + 1
    assert kept.find(reading) is None
    assert kept.articles(reading) != [], "until somebody reads again"
    another = kept.add("news.test", "a.group", 2, front=7)
    assert kept.find(reading) is None
    assert kept.articles(reading) == []
    kept.outline(reading, OUTLINE)
    kept.fill(reading, 1, Body("late"))
    kept.finish(reading)
    assert kept.articles(reading) == []
    assert kept.find(another).state == store.WAITING


def test_no_more_than_so_many(kept: Store, clock: Clock) -> None:
    """Of too many readings the oldest go."""
    made = []
    for _ in range(store.MOST + 3):
        clock.now += 0.001
        made.append(kept.add("news.test", "a.group", 0, front=7))
    assert [kept.find(each) is not None for each in made] == [False] * 3 + [True] * store.MOST


def test_groups_are_fresh_or_unknown(kept: Store, clock: Clock) -> None:
    """A list of groups is remembered for its server and pattern, for five minutes."""
    groups = [Group("a.group", "about it", 2)]
    kept.keep_groups("news.test", "*", groups)
    assert kept.groups("news.test", "*") == groups
    assert kept.groups("news.test", "a.*") is None
    assert kept.groups("other.test", "*") is None
    clock.now += store.FRESH
    assert kept.groups("news.test", "*") is None


def test_two_processes_see_one_store(kept: Store, tmp_path: Path, clock: Clock) -> None:
    """What one service writes the other reads at once."""
    other = Store(tmp_path / "news.db", clock)
    reading = kept.add("news.test", "a.group", 2, front=7)
    assert other.begin(reading, back=8)
    assert kept.find(reading).back == 8
