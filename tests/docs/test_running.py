"""The examples in the pages do what the pages say: commands, their output, and Python."""

import pytest

from support import pages, stage
from support.session import NotAsShown, Session, agrees

PAGES = {str(path.relative_to(pages.ROOT)): pages.blocks(path) for path in pages.paths()}
RUN = [
    page
    for page, blocks in PAGES.items()
    if any(block.language in ("console", "python") and block.excuse is None for block in blocks)
]


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN)
def test_the_examples_of_a_page_do_what_it_says(page: str, request: pytest.FixtureRequest) -> None:
    """Every command and every line of Python on the page runs, and says what the page shows."""
    if reason := stage.missing():
        pytest.skip(reason)
    with stage.stage(request.getfixturevalue("net")) as place:
        session = Session(place, PAGES[page])
        session.play()
    assert session.count


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```console\n$ echo one\ntwo\n```\n", r"page.md:2: \$ echo one\nsaid something else than\n  two"),
        ("```console\n$ false\n```\n", "ended with 1 instead of 0"),
        ("<!-- exit status: 1 -->\n```console\n$ true\n```\n", "ended with 0 instead of 1"),
        ("```console\n$ false &\n```\n", "ended with 1 instead of 0"),
        ("```console\n$ cat /dev/zero | head -c0; echo no\nyes\n^C\n```\n", "said something else than\n  yes"),
        ("```python\nprint(1)  # one\n```\n", "said something else than\n  one"),
        ("```python\n\n\nraise KeyError\n```\n", 'page.md", line 4'),
    ],
)
def test_what_is_wrong_on_a_page_is_told(text: str, says: str, request: pytest.FixtureRequest) -> None:
    """An example that does something else than its page says fails, with its place, and what came instead."""
    if reason := stage.missing():
        pytest.skip(reason)
    with stage.stage(request.getfixturevalue("net")) as place, pytest.raises(NotAsShown, match=says):
        Session(place, list(pages._read("page.md", text))).play()


def test_pages_were_found() -> None:
    """There are pages with examples: an empty list would pass everything."""
    assert len(RUN) >= 10


@pytest.mark.parametrize(
    ("shown", "came", "is_same"),
    [
        (["a 1.5 kB in 3 s"], ["a  27.25 kB in 12 s"], True),
        (["to 10.0.0.5:5432"], ["to 10.0.0.5:5432"], True),
        (["to 10.0.0.5:5432"], ["to 10.0.0.6:5432"], False),
        (["to db.corp:22"], ["to db.corp:23"], False),
        (["[Errno 13] no"], ["[Errno 111] no"], False),
        (["5d1c9a02-1734 open"], ["00aa0102-3 open"], True),
        (["2026-03-01 14:00:07 x"], ["2025-01-01 00:00:00 x"], True),
        (["first", "...", "last"], ["first", "last"], True),
        (["first", "...", "last"], ["first", "b", "c", "last"], True),
        (["first", "...", "last"], ["first", "b", "c"], False),
        (["a … c"], ["a b b c"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
    ],
)
def test_output_is_compared(shown: list[str], came: list[str], is_same: bool) -> None:
    """Numbers, times and leases may differ; words, addresses, ports and errors may not."""
    assert agrees(shown, came) is is_same
