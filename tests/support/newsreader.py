"""The news reader of ``examples/newsreader`` under ``outgate dev``, and what its page shows."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from newsserver import Server, Session
from page import Page

from support.devserver import PATIENCE, Answer, DevServer

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
EXAMPLE = Path(__file__).parents[2] / "examples" / "newsreader"


class Held(Session):
    """A server that gives an article for each release of :attr:`words`."""

    words = threading.Semaphore(0)

    def article(self, wanted: str) -> None:
        """Answer ARTICLE when it may."""
        self.words.acquire(timeout=PATIENCE)
        super().article(wanted)


@contextmanager
def news(session: type[Session] = Session) -> Iterator[Server]:
    """Serve the sample articles on a free port of loopback."""
    with Server(0, session=session) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(PATIENCE)


def copy(folder: Path, *, port: int = 7119) -> Path:
    """Copy the example, so that what it writes and what is changed are nobody else's; return its folder.

    :param port: of loopback, where the news server of its policy is.
    """
    made = folder / "newsreader"
    shutil.copytree(EXAMPLE, made, ignore=shutil.ignore_patterns("__pycache__", "news.db*"))
    yaml = made / "front.yaml"
    yaml.write_text(yaml.read_text().replace("7119", str(port)))
    return made


class Reader(DevServer):
    """``outgate dev`` with both services, asked as a browser would, but for the script.

    :param folder: a copy of the example.
    """

    def __init__(self, folder: Path, *arguments: str, prefix: Sequence[str] = (), **changes: str | None) -> None:
        super().__init__(folder, "front.yaml", "back.yaml", *arguments, prefix=prefix, **changes)

    def open(self, server: str, group: str) -> Answer:
        """Choose a group, and return the answer: 303 to the reading, or a page that says what is wrong."""
        form = urlencode({"server": server, "group": group, "match": "*"}).encode()
        return self.ask("/readings", method="POST", body=form, headers=FORM)

    def events(self, answer: Answer) -> Iterator[tuple[str, str]]:
        """Follow the reading that an answer leads to: yield id and HTML of each part of its page, when it changes."""
        assert answer.status == 303, answer.text
        path = answer.headers["location"].partition("?")[0]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}/events", headers={"Host": f"localhost:{self.port}"})
            event = ""
            for line in connection.getresponse():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "part":
                    part = json.loads(value)
                    yield part["id"], part["html"]
        assert event == "over", "the stream has ended before the reading"

    def read(self, server: str, group: str) -> Page:
        """Choose a group, wait until its reading is over, and return the page that is then there."""
        answer = self.open(server, group)
        for _ in self.events(answer):
            pass
        return Page(self.ask(answer.headers["location"]).text)
