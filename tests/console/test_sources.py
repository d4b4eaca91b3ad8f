"""The latest lines of a log are found from its end, the same ones as by reading it all from its beginning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outgate.console import sources
from outgate.console.sources import FileLog, Missing, log_of
from outgate.lookout.loglines import Wanted, parse

DENIED = {"event": "decision", "verdict": "deny", "app": "blog", "host": "db.corp", "time": "2026-03-01T12:00:00.000Z"}
ALLOWED = {**DENIED, "verdict": "allow", "app": "shop", "host": "example.com"}
ENDED = {**ALLOWED, "event": "end", "how": "closed"}


def log_at(path: Path | str) -> FileLog:
    """Return the log of a gate that says it is there."""
    return log_of(lambda message: {"log": str(path)})


def whole(path: Path, wanted: Wanted) -> list[dict[str, Any]]:
    """Return what is wanted, the latest first, by reading from the beginning: the slow, obvious twin."""
    *texts, _ = path.read_bytes().split(b"\n")  # what has no line end is just being written
    lines = [parse(text) for text in texts]
    return [line for line in reversed(lines) if line is not None and wanted.has(line)]


LINE = st.one_of(
    st.sampled_from([DENIED, ALLOWED, ENDED]).map(lambda line: json.dumps(line).encode()),
    st.integers(0, 60).map(lambda length: json.dumps({**DENIED, "host": "é" * length}, ensure_ascii=False).encode()),
    st.sampled_from([b"", b"garbage", b"{", b'{"event": 7}', b"\xff\xfe"]),
)


@given(st.lists(LINE, max_size=30), st.booleans(), st.integers(1, 7), st.integers(20, 400), st.integers(50, 5000))
def test_pages_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, count: int, chunk: int, limit: int
) -> None:
    """However small the pieces that are read, pages one after the other have every wanted line once, latest first."""
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"\n".join(lines) + (b"\n" if ends else b""))
    for wanted in (Wanted(everything=True), Wanted(denied=True), Wanted(app="shop"), Wanted(text="DB.corp")):
        found: list[dict[str, Any]] = []
        before = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "_CHUNK", chunk)
            for _ in range(500):
                page = log_at(path).last(wanted, count, before, max(limit, 400))
                assert len(page.lines) <= count
                found += page.lines
                before = page.older
                if before is None:
                    break
        assert before is None
        assert found == whole(path, wanted)


def test_what_is_older_than_wanted_is_not_read(tmp_path: Path) -> None:
    """Reading ends at the first line from before the time that was asked for."""
    path = tmp_path / "log"
    lines = [{**DENIED, "time": f"2026-03-01T12:00:{second:02d}.000Z"} for second in range(10)]
    path.write_bytes(b"not a line of this log\n" + b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    page = log_at(path).last(Wanted(since="2026-03-01T12:00:07.000Z"), 100)
    assert [line["time"][17:19] for line in page.lines] == ["09", "08", "07"]
    assert page.older is None


def test_a_limit_says_that_there_is_more(tmp_path: Path) -> None:
    """What ends at its limit of bytes says so, and where to go on."""
    path = tmp_path / "log"
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in [DENIED, *[ALLOWED] * 100]))
    page = log_at(path).last(Wanted(denied=True), 5, None, 1000)
    assert (page.lines, page.is_whole) == ([], False)
    assert page.older is not None
    assert log_at(path).last(Wanted(denied=True), 5, page.older).lines == [DENIED]


@pytest.mark.parametrize(
    ("path", "says"), [("-", "standard output"), ("journald", "journalctl"), ("/nowhere/log", "No such file")]
)
def test_a_log_that_is_no_file(path: str, says: str) -> None:
    """Where there is no file to be read, the reason and what to do instead are said, for lines old and new."""
    for ask in (lambda log: log.last(Wanted(), 1), lambda log: log.news(None)):
        with pytest.raises(Missing, match=says):
            ask(log_at(path))


def test_news_go_on_over_a_rotation(tmp_path: Path) -> None:
    """Lines that come are given once, from the moment on, over a rename, and a torn one only when it is whole."""
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    news = log_at(path).news(None)
    assert list(news.come()) == []
    with path.open("ab") as file:
        file.write(b"one\ntw")
    assert list(news.come()) == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\n")
    path.rename(tmp_path / "log.1")
    path.write_bytes(b"three\n")
    assert list(news.come()) == [b"two", b"three"]
    news.close()


def test_nothing_is_lost_between_a_page_and_its_news(tmp_path: Path) -> None:
    """What is written after a page was made, and before its news begin, is the first of them, and only that."""
    path = tmp_path / "log"
    path.write_bytes(json.dumps(DENIED).encode() + b"\n" + b'{"event": "dec')
    page = log_at(path).last(Wanted(), 10)
    assert page.lines == [DENIED]
    with path.open("ab") as file:
        file.write(b'ision"}\n')
    news = log_at(path).news(page.end)
    assert list(news.come()) == [b'{"event": "decision"}']
    assert news.place == path.stat().st_size
    again = log_at(path).news(news.place)
    assert list(again.come()) == []
    news.close()
    again.close()
