"""The news reader for real: two services of ``outgate dev``, a session that goes from one to the other, bad servers."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from newsserver import Server, Session
from page import Element, Page

from support.devserver import PATIENCE
from support.newsreader import FORM, Held, Reader, copy, news

pytestmark = pytest.mark.slow


class Troublesome(Held):
    """A server that does, in a group of each name, what servers do."""

    def choose(self, name: str) -> None:
        """Answer GROUP, or do not."""
        self.trouble = name
        if name == "hangs-up.at-once":
            self.connection.shutdown(socket.SHUT_RDWR)
        elif name == "wants.login":
            self.say("480 who are you?")
        elif name == "speaks.nonsense":
            self.say("<html>\x1b[31m")
        elif name == "claims.articles":
            self.say("211 5 1 5 claims.articles")
            self.group = "sample.empty"
        else:
            super().choose(name if name in self.server.spool.groups else "sample.bread")

    def article(self, wanted: str) -> None:
        """Answer ARTICLE, or do not."""
        if self.trouble == "stops.in-the-middle" and wanted == "4":
            self.wfile.write(b"220 4 article\r\nSubject: half of it\r\n\r\nand th")
            self.connection.shutdown(socket.SHUT_RDWR)
        elif self.trouble == "loses.one" and wanted == "5":
            self.say("430 it was here a moment ago")
        elif self.trouble == "never.stops" and wanted == "6":
            self.wfile.write(b"220 6 article\r\n\r\n")
            while True:
                self.wfile.write(b"and another thing\r\n" * 1000)
        elif self.trouble == "waits.for-a-word":
            super().article(wanted)
        else:
            Session.article(self, wanted)

    def handle(self) -> None:
        """Answer until either has had enough."""
        try:
            super().handle()
        except OSError:
            pass

    def finish(self) -> None:
        """End; there may be nobody to write to any more."""
        try:
            super().finish()
        except OSError:
            pass


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """The local server, with some more groups than it lists."""
    with news(Troublesome) as server:
        yield server


@pytest.fixture(scope="module")
def at(server: Server) -> str:
    """Where that server is."""
    return f"127.0.0.1:{server.server_address[1]}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the decision log goes."""
    return tmp_path_factory.mktemp("log") / "decisions.jsonl"


@pytest.fixture(scope="module")
def reader(server: Server, at: str, log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The news reader, which may reach that server."""
    folder = copy(tmp_path_factory.mktemp("reader"), port=server.server_address[1])
    with Reader(folder, "--log", str(log), NEWS_SERVER=at) as reader:
        yield reader


def test_the_page_lists_the_groups(reader: Reader) -> None:
    """The first page has the groups of the server that the environment names, and the form has others by a pattern."""
    page = Page(reader.ask().text)
    assert page.all("name") == ["sample.bread", "sample.broken", "sample.empty", "sample.sky"]
    assert page.all("about")[0] == "Flour, water, salt and patience"
    assert page.all("count") == ["6", "7", "0", "4"]
    assert Page(reader.ask("/?match=*.sky,nothing").text).all("name") == ["sample.sky"]
    assert "No group fits" in reader.ask("/?match=comp.*").text


def test_the_session_goes_on_in_another_process(reader: Reader, at: str, log: Path) -> None:
    """S19: the front end opens the session and the back end reads on in it: one connection, from GROUP to QUIT."""
    before = datetime.now(UTC)
    answer = reader.open(at, "sample.bread")
    assert dict(reader.events(answer))
    (end,) = _wait_for(log, "end", before)
    (decision,) = _wait_for(log, "decision", before)
    page = Page(reader.ask(answer.headers["location"]).text)
    assert _state(page) == "done"
    opener, worker = (int(pid) for pid in re.findall(r"process (\d+)", page.one("session")))
    assert b"GAE_SERVICE=default" in Path(f"/proc/{opener}/environ").read_bytes().split(b"\0")
    assert b"GAE_SERVICE=back" in Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    assert (decision["verdict"], decision["pid"], end["how"]) == ("allow", opener, "closed")
    assert decision["lease"] == end["lease"]


def test_articles_are_shown_as_they_arrive(reader: Reader, at: str) -> None:
    """The list is there before any text is, and each text before the server has given the next."""
    events = reader.events(reader.open(at, "waits.for-a-word"))
    listed = next(Page(html) for name, html in events if name == "articles" and "article-6" in html)
    assert len(listed.all("coming")) == 6
    for number in (6, 5, 4, 3, 2, 1):
        Held.words.release()
        html = next(html for name, html in events if name.startswith("article-"))
        assert f'id="article-{number}"' in html
        assert Page(html).all("own")
    assert "was told QUIT" in "".join(html for name, html in events if name == "session")


def test_articles_are_threaded_and_dated(reader: Reader, at: str) -> None:
    """The page has the newest thread first, answers below what they answer, names without addresses, dates in UTC."""
    page = reader.read(at, "sample.bread")
    found = [(min(each.names & {"depth-0", "depth-1", "depth-2"}), each.attributes["id"]) for each in _articles(page)]
    assert found == [
        ("depth-0", "article-6"), ("depth-0", "article-3"), ("depth-1", "article-5"),
        ("depth-0", "article-1"), ("depth-1", "article-2"), ("depth-2", "article-4"),
    ]  # fmt: skip
    assert page.all("subject")[2] == "Re: Rye starter, day six – yes!"
    assert page.all("by")[1] == "Brötchen 2026-11-02 17:05"
    assert "@" not in " ".join(page.all("by"))
    assert page.all("signature") == ["-- Old Mill, grinding since the flood"]


def test_wrong_articles_are_shown_and_do_nothing(reader: Reader, at: str) -> None:
    """Articles with broken encodings are text with a note; a hostile one is text and no element of the page."""
    page = reader.read(at, "sample.broken")
    assert _state(page) == "done"
    assert page.all("subject") == [
        "Only HTML desrever dna",
        "Re: I answer the one that answers me",
        "I answer the one that answers me",
        "Says UTF-8, is not",
        "Ⓢ not base64 and half a \ufffd",
        "Grüße in bare Latin-1, and no charset",
        "<script>document.title = 'taken over'</script>",
    ]
    text = page.one("articles")
    for each in ("Jörg", "Hört ihr mich? – said", "x-klingon, is unknown", "cé n'est pas", "Base64 with", "Résumé"):
        assert each in text
    assert "<img src=x onerror=" in text
    tags = [each.tag for each in page.elements]
    assert tags.count("script") == 1
    assert "img" not in tags


def test_an_empty_group(reader: Reader, at: str) -> None:
    """A group without articles is said to be empty, and no back end is troubled."""
    page = reader.read(at, "sample.empty")
    assert "This group is empty." in page.one("articles")
    assert "back end" not in page.one("session")


def test_a_group_whose_articles_are_not_there(reader: Reader, at: str) -> None:
    """A group that claims articles and has none in its range is empty, too."""
    page = reader.read(at, "claims.articles")
    assert (_state(page), "This group is empty." in page.one("articles")) == ("done", True)


def test_a_server_that_stops_in_the_middle(reader: Reader, at: str) -> None:
    """What had arrived stays, and the page says that the server has ended the connection; nothing is tried again."""
    since = reader.mark
    page = reader.read(at, "stops.in-the-middle")
    assert _state(page) == "failed"
    assert f"{at} has ended the connection." in page.one("session")
    assert len(page.all("coming")) == 4
    reader.wait_for("has failed for good: .*has ended the connection", since=since)


def test_a_server_that_loses_an_article(reader: Reader, at: str) -> None:
    """An article that is gone by the time it is asked for is said to be, and the others are read."""
    page = reader.read(at, "loses.one")
    assert _state(page) == "done"
    assert page.all("note") == ["It is not there any more."]
    assert len(page.all("own")) == 5


def test_a_server_that_never_stops(reader: Reader, at: str) -> None:
    """An article without an end is given up, with a word, and neither memory nor patience are used up by it."""
    page = reader.read(at, "never.stops")
    assert _state(page) == "failed"
    assert "does not end" in page.one("session")


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ("no.such.group\r\nQUIT", "one word"),
        ("hangs-up.at-once", "has ended the connection"),
        ("wants.login", "wants a login"),
        ("speaks.nonsense", "<html>?[31m"),
    ],
)
def test_a_server_that_refuses(reader: Reader, at: str, group: str, says: str) -> None:
    """What is wrong when a group is opened is said in words, beside the groups that are known."""
    reader.ask()
    answer = reader.open(at, group)
    assert answer.status == 502
    page = Page(answer.text)
    assert says in page.one("trouble")
    assert len(page.all("name")) == 4


def test_the_policy_refuses_with_reason_and_cure(reader: Reader) -> None:
    """A server that the policy denies is refused with its reason and what would permit it, before a packet is sent."""
    for answer in (reader.open("10.1.2.3:119", "a.group"), reader.ask("/?server=10.1.2.3")):
        page = Page(answer.text)
        assert answer.status == 502
        assert "The policy of this app refuses 10.1.2.3" in page.one("trouble")
        assert "10.1.2.3 (private)" in page.one("trouble")
        assert 'except = ["10.1.2.3:119"]' in page.one("cure")
    assert "rule" in Page(reader.open("93.184.215.11:80", "a.group").text).one("trouble")


@pytest.mark.parametrize("text", ["", "two words", "host:0", "host:99999", "user@host", "[::1", "http://host/"])
def test_what_is_no_server(reader: Reader, text: str) -> None:
    """What cannot be a server is said to be none, with an example, and nothing is asked."""
    assert "news.example.com:1119" in Page(reader.open(text, "a.group").text).one("trouble")


def test_a_session_that_cannot_be_unpickled(server: Server, at: str, tmp_path: Path) -> None:
    """A back end of another version, which has no such function, fails for good: page and terminal say why."""
    folder = copy(tmp_path, port=server.server_address[1])
    with (folder / "back.py").open("a") as file:
        file.write("\ndel sessions.read_on\n")
    with Reader(folder) as reader:
        page = reader.read(at, "sample.bread")
        reader.wait_for(r"of queue news has failed for good: its payload cannot be unpickled")
    assert _state(page) == "failed"
    assert "could not go on with the session" in page.one("trouble")
    assert "cannot be unpickled: AttributeError" in page.one("cure")


def test_what_the_browser_is_told(reader: Reader, at: str) -> None:
    """Every answer forbids what the page does not need; nothing on the page comes from elsewhere or stands in it."""
    answer = reader.ask()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    for each in Page(answer.text).elements:
        assert each.tag != "style"
        assert "style" not in each.attributes
        assert not any(name.startswith("on") for name in each.attributes)
        assert each.attributes.get("src", each.attributes.get("href", "/")).startswith("/")
    for path in ("/static/style.css", "/static/reader.js", "/static/icon.svg"):
        assert reader.ask(path).status == 200
        assert "//" not in reader.ask(path).text.replace("http://www.w3.org/2000/svg", "").replace("// Put", "")


def test_forms_of_other_sites_are_refused(reader: Reader) -> None:
    """A form that another site's page sends opens no connection; the page's own does."""
    for origin, status in (("http://evil.test", 403), ("null", 403), (f"http://localhost:{reader.port}", 502)):
        headers = {**FORM, "Origin": origin}
        answer = reader.ask("/readings", method="POST", body=b"server=10.1.2.3&group=x", headers=headers)
        assert answer.status == status


def test_a_reading_that_is_not_there(reader: Reader) -> None:
    """An address of a reading that was purged, or never was, says so."""
    for path in ("/readings/gone", "/readings/gone/events"):
        answer = reader.ask(path)
        assert answer.status == 404
        assert "kept for an hour" in Page(answer.text).one("trouble")


def _state(page: Page) -> str:
    (found,) = (each for each in page.elements if "session" in each.names)
    return found.attributes["data-state"]


def _articles(page: Page) -> list[Element]:
    return [each for each in page.elements if "article" in each.names]


def _wait_for(log: Path, event: str, since: datetime) -> list[dict[str, Any]]:
    """Return the lines of an event about connections that were decided since, when there is one."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        decided = [line for line in lines if line["event"] == "decision"]
        leases = {line["lease"] for line in decided if datetime.fromisoformat(line["time"]) > since}
        found = [line for line in lines if line.get("lease") in leases and line["event"] == event]
        if found:
            return found
        time.sleep(0.01)  # nobody tells of a line in a file
    raise AssertionError(log.read_text())
