"""The news reader with a real INN, under its own policy, as somebody uses it: in a browser.

``OUTGATE_PICTURES=docs/images`` has the pictures of the documentation made anew.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from support import browser
from support.browser import Browser, chromium
from support.fenced import events
from support.forward import forwarded
from support.newsreader import EXAMPLE, Held, Reader, copy, news
from support.servers import inn
from support.world import DOMAIN, NEWS, PRIVATE4, World

#: Where pictures go; nowhere unless it is asked for.
PICTURES = os.environ.get("OUTGATE_PICTURES", "")
SERVER = f"news4.{DOMAIN}"
#: Name, width and height of what it is looked at on.
SCREENS = (("light", 1280, 800), ("dark", 1280, 800), ("phone", 390, 844))
#: Of the samples, those that INN takes: it knows a date when it sees none.
WRONG = ("001", "002", "004", "005", "006", "007")


@pytest.fixture
def reader(world: World, tmp_path: Path, log: Path) -> Iterator[Reader]:
    """The news reader in the world, reached through a port of this host's loopback. Its files are as they are."""
    environ = {**dict.fromkeys(os.environ), **world.environ(), "NEWS_SERVER": SERVER}
    with Reader(copy(tmp_path), "--log", str(log), prefix=world.near.command(), **environ) as reader:
        there = reader.port
        with forwarded(lambda: world.near.connect("127.0.0.1", there)) as reader.port:
            yield reader


@pytest.fixture
def page(reader: Reader, tmp_path: Path) -> Iterator[Browser]:
    """A browser that shows the first page."""
    with chromium(tmp_path / "profile") as page:
        page.open(f"http://localhost:{reader.port}/")
        yield page


def choose(page: Browser, group: str) -> None:
    """Choose a group, and wait until it has been read."""
    page.find(f'button[value="{group}"]').click()
    over = '#session[data-state="done"], #session[data-state="failed"], #trouble'
    page.wait(lambda: page.all(over), f"{group} is not read to its end")
    assert page.all('#session[data-state="done"]'), page.text()


@pytest.fixture(autouse=True)
def _browser_is_there() -> None:
    """Skip where no browser is."""
    if browser.missing():
        pytest.skip(browser.missing())


def picture(page: Browser, name: str) -> None:
    """Take a picture for the documentation, where it was asked for."""
    if PICTURES:
        page.picture(Path(PICTURES, f"newsreader-{name}.png"))


def test_a_session_with_inn_goes_from_process_to_process(page: Browser, reader: Reader, log: Path) -> None:
    """The page lists INN's groups, opens one, and shows its articles; it is one connection of two processes."""
    names = [each.text for each in page.all("nav .name")]
    assert {*inn.GROUPS, inn.FED, inn.SILENT} <= {*names}
    choose(page, inn.GROUPS[0])
    subjects = [each.text for each in page.all(".subject")]
    assert subjects == list(reversed(inn.SUBJECTS))
    page.all("summary")[0].click()
    assert "Article 5 of the test world." in page.text("details[open]")
    assert ".A line with a leading dot." in page.text("details[open]")
    assert {each.text for each in page.all(".by")} == {page.all(".by")[0].text}
    assert page.text(".by").startswith("Editor ")
    opener, worker = re.findall(r"process (\d+)", page.text("#session"))
    assert opener != worker
    complaints = page.complaints()
    reader.stop()  # the log is whole then
    made = [line for line in events(log, "decision") if line["port"] == 119]
    assert {(line["verdict"], line["class"], line["address"]) for line in made} == {("allow", "public", NEWS[0])}
    assert len(made) == 2, "one to list the groups, one that both processes had"
    assert {str(line["pid"]) for line in made} == {opener}
    assert complaints == []


def test_wrong_articles_are_text(world: World, page: Browser) -> None:
    """A hostile subject is text, no script of an article runs, and what is wrong with others is said beside them."""
    sample = EXAMPLE / "sample" / "sample.broken"
    inn.feed(world.far, world.folder / "inn", *(_as_fed((sample / f"{name}.eml").read_bytes()) for name in WRONG))
    choose(page, inn.FED)
    for each in page.all("summary"):
        each.click()
    text = page.text("#articles")
    for each in (
        "<script>document.title = 'taken over'</script>",
        "<img src=x onerror=",
        "Grüße in bare Latin-1",
        "Jörg",
    ):
        assert each in text
    for each in (
        "It says that it is utf-8 and is not",
        "HTML; this is the text in it",
        "Its parts are not what it says",
    ):
        assert each in text
    assert page.driver.title == f"{inn.FED} · News"
    assert page.complaints() == []


def test_an_empty_group(page: Browser) -> None:
    """A group of INN's in which nobody has said anything is said to be empty."""
    choose(page, inn.SILENT)
    assert "This group is empty." in page.text("#articles")


def test_refusals_are_in_words(world: World, page: Browser, reader: Reader) -> None:
    """What the policy denies, by address or by what a name answers, is refused in words, and no packet is sent."""
    with world.watch() as watch:
        for server, says in (
            (PRIVATE4, f"{PRIVATE4} (private)"),
            (f"inside.{DOMAIN}", "private"),
            (f"{NEWS[0]}:563", "563"),
        ):
            page.open(f"http://localhost:{reader.port}/?server={server}")
            assert says in page.text("#trouble .what")
            assert "to permit: " in page.text("#trouble .cure")
        assert watch.to(PRIVATE4) == []
    page.open(f"http://localhost:{reader.port}/?server=nobody.{DOMAIN}")
    assert "nobody" in page.text("#trouble .what")


def test_it_fits_every_screen(tmp_path: Path) -> None:
    """In the light and in the dark, on a phone and without scripts it is the same page, no wider than the screen."""
    with news(Held) as server, chromium(tmp_path / "profile") as page:
        port = server.server_address[1]
        with Reader(copy(tmp_path, port=port), NEWS_SERVER=f"127.0.0.1:{port}") as reader:
            page.open(f"http://localhost:{reader.port}/")
            page.find('button[value="sample.bread"]').click()
            for count in (5, 4, 3):
                Held.words.release()
                page.wait(lambda count=count: len(page.all(".coming")) == count)
            for number in (6, 4):
                page.find(f"#article-{number} summary").click()
            for name, width, height in SCREENS:
                page.show(width, height, dark=name == "dark")
                assert not page.scrolls_sideways()
                picture(page, name)
            page.show(1000, 330)
            page.find("input[name=server]").clear()
            page.find("input[name=server]").send_keys(PRIVATE4)
            page.find("header button").click()
            page.wait_for(f"{PRIVATE4} (private)")
            picture(page, "refused")
            page.without_scripts()
            front = f"http://localhost:{reader.port}/"
            page.open(front)
            for _ in range(3 + 6):
                Held.words.release()
            page.find('button[value="sample.bread"]').click()
            page.wait(lambda: page.driver.current_url != front)  # a click does not wait for a server that is slow
            address = page.driver.current_url
            page.wait(lambda: page.open(address) or "was told QUIT" in page.text("#session"))
            assert len(page.all(".subject")) == 6


def _as_fed(raw: bytes) -> bytes:
    """Return a sample as a feed would bring it today: INN takes nothing that is old, or of no group."""
    kept = b"\n".join(line for line in raw.split(b"\n") if not line.startswith((b"Newsgroups:", b"Date:")))
    head = f"Path: feed.outgate.test!not-for-mail\nNewsgroups: {inn.FED}\nDate: {formatdate()}\n"
    return head.encode() + kept
