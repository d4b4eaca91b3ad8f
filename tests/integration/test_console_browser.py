"""The console in a browser, as an operator uses it; and, where it is asked for, the pictures of docs/console.md.

``OUTGATE_PICTURES=docs/images pytest tests/integration/test_console_browser.py -k pictures`` makes the pictures anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gate.test_meter_close import PREAMBLE, Program
from outgate.core.bill.tally import Counts, Destination
from outgate.core.bill.windows import WINDOW, start_of
from support import browser as chrome
from support import peers
from support.browser import Browser, Keys
from support.consoles import HOSTILE, Console, console
from support.ledger import HandWriter

PAGES = ("", "apps/blog", "apps/blog?range=month", "log", "log?show=all", "policy?app=blog&to=10.0.0.1:5432")

#: Opens a socket that stays, and does what it reads: has a host refused, moves bytes there and back, or waits for the
#: end of its socket.
PROGRAM = """
import sys
say(open=True)
for line in sys.stdin:
    word, _, value = line.strip().partition(" ")
    if word == "ask":
        try:
            probe = socket.socket()
            probe.connect((value, 5432))
        except OSError as e:
            say(refused=str(e))
        probe.close()
    elif word == "move":
        s.sendall(bytes(int(value)))
        left = int(value)
        while left:
            left -= len(s.recv(left))
        say(moved=value)
    else:
        try:
            s.recv(1)
            say(ended="closed")
        except OSError as e:
            say(ended=type(e).__name__)
"""


class Asking(Program):
    """A program that is told what to ask for."""

    def __init__(self, gate: Console, peer: peers.Peer, name: str = HOSTILE, **options: Any) -> None:
        script = gate.log_path.parent / name
        script.write_text(PREAMBLE + PROGRAM)
        self.process = gate.program(str(script), str(peer.port), **options)
        self._status = 0
        assert self.said() == {"open": True}

    def do(self, what: str) -> dict[str, Any]:
        """Have it do something, and return what it says of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return self.said()

    def ask(self, host: str) -> None:
        """Have it ask for a host, and be refused."""
        assert "denied" in self.do(f"ask {host}")["refused"]


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A gate with a console, and a month in its ledger."""
    folder = tmp_path_factory.mktemp("gate")
    _keep_books(folder / "ledger.sqlite")
    with console(folder) as made:
        yield made


def _keep_books(path: Path) -> None:
    """Write a month of usage, which rises and falls with the days, as another gate would have."""
    destinations = (("api.example.com", 443), ("db.corp", 5432), ("cdn.example.net", 443), ("mail.example.org", 587))
    now = time.time()
    at = start_of(now - 30 * 86400)
    writer = HandWriter(f"sqlite:///{path}", "web-0", "run", lambda: at)
    while at < now - WINDOW:
        hour = at // 3600
        rows = {}
        for place, (host, port) in enumerate(destinations):
            sent = (60_000 + hour * 7919 % 90_000 * (2 + hour % 24)) // (place + 1)
            account = ("blog", "", Destination("tcp", host, port, f"93.184.215.{place}"))
            rows[account] = Counts(sent, 9_000 * (place + 1) * (1 + hour % 5), 0, 0)
        writer.put(at, at, {at: rows}, {}, set(), set())
        at += 4 * WINDOW
    writer.close("stopped", 10)


@pytest.fixture(scope="module")
def peer() -> Iterator[peers.Peer]:
    """What sends everything back."""
    with peers.echo() as made:
        yield made


@pytest.fixture(scope="module")
def _browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chrome.chromium(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture
def page(_browser: Browser, gate: Console) -> Iterator[Browser]:
    """A browser that has logged in, with the overview; what its console complains of at the end fails the test."""
    if chrome.missing():
        pytest.skip(chrome.missing())
    _browser.show()
    _browser.open(gate.url)
    _browser.complaints()
    yield _browser
    assert _browser.complaints() == []


def go(page: Browser, gate: Console, where: str) -> None:
    """Open a page of the console."""
    page.open(gate.base + where)


def go_until(page: Browser, gate: Console, where: str, text: str) -> None:
    """Open a page of the console again until it shows a text: a line of the log is written a moment after its cause."""

    def shows() -> bool:
        go(page, gate, where)
        return text in page.text()

    page.wait(shows, f"{where} does not show {text}")


def test_login(page: Browser, gate: Console) -> None:
    """Without the token the console asks for it; a wrong one is said; the right one opens it and leaves the address."""
    page.driver.delete_all_cookies()
    go(page, gate, "apps/blog")
    page.find("input[name=token]").send_keys("wrong", Keys.ENTER)
    page.wait_for("That is not this console's token.")
    page.find("input[name=token]").send_keys(gate.token, Keys.ENTER)
    page.wait_for("Recent refusals")
    assert page.driver.current_url == gate.base
    assert page.run("return document.cookie") == ""
    assert all("401" in text for text in page.complaints())


def test_it_is_live(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """Sockets, refusals and bytes appear in a page that is open, which is not loaded anew; a cure can be copied."""
    page.run("window.first = true")
    page.wait(lambda: page.find("[data-state]").get_attribute("data-state") == "live")
    before = int(page.text("[data-now='blog/open']"))
    with Asking(gate, peer) as program:
        page.wait(lambda: int(page.text("[data-now='blog/open']")) == before + 1)
        program.ask("10.0.0.7")
        page.wait_for("10.0.0.7 (private)", "[data-lines]")
        assert 'except = ["10.0.0.7:5432"]' in page.text("[data-lines] .cure code")
        page.find("[data-lines] [data-copy]").click()
        page.wait_for("Copied", "[data-lines] [data-copy]")
        assert page.run("return window.first")


def test_the_log_follows(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """Lines that the search wants come to the top as they are written, others do not; a pause keeps the page still."""
    with Asking(gate, peer) as program:
        go(page, gate, "log?q=10.1.&show=denied")
        page.wait(lambda: page.find("[data-state]").get_attribute("data-state") == "live")
        for host in ("10.2.0.1", "10.1.0.1", "10.1.0.2"):
            program.ask(host)
        page.wait_for("10.1.0.2:5432", "[data-lines]")
        shown = [row.text for row in page.all("[data-lines] [data-field=destination]")]
        assert shown[:2] == ["10.1.0.2:5432", "10.1.0.1:5432"]
        assert "10.2.0.1" not in page.text("[data-lines]")
        page.find("[data-pause]").click()
        program.ask("10.1.0.3")
        go_until(page, gate, "log?q=10.1.&show=denied", "10.1.0.3:5432")


def test_search_by_form(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """What is typed is searched for, and stays in the field."""
    with Asking(gate, peer) as program:
        program.ask("10.4.0.1")
        program.ask("10.5.0.1")
        go_until(page, gate, "log", "10.5.0.1:5432")
        page.find("input[name=q]").send_keys("10.5.0.1", Keys.ENTER)
        page.wait(lambda: "q=10.5.0.1" in page.driver.current_url)
        assert "10.5.0.1:5432" in page.text("[data-lines]")
        assert "10.4.0.1" not in page.text("[data-lines]")
        assert page.find("input[name=q]").get_attribute("value") == "10.5.0.1"


def test_kill(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """The button beside a socket ends it: its program's next call fails, and its row is gone."""
    with Asking(gate, peer) as program:
        go(page, gate, "apps/blog")
        row = page.all("[data-lease]")[-1]
        lease = row.get_attribute("data-lease")
        row.find_element("css selector", "summary").click()
        row.find_element("css selector", "button").click()
        page.wait_for(f"{lease} was ended")
        assert program.do("end")["ended"] in ("ConnectionResetError", "BrokenPipeError")
        page.wait(lambda: not page.all(f"[data-lease='{lease}']"))


def test_hostile_names_are_text(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """A program that is called as a piece of a page is shown by its name: at first, when it comes live, in a search."""
    with Asking(gate, peer) as program:
        for where in ("", "apps/blog", "log"):
            go(page, gate, where)
            page.wait(lambda: page.find("[data-state]").get_attribute("data-state") == "live")
            program.ask("10.6.0.1")
            page.wait_for(HOSTILE)
            assert page.all("main img") == []
        go(page, gate, f"policy?app={HOSTILE}&to={HOSTILE}")
        page.wait_for(HOSTILE)
        assert page.all("main img") == []


def test_by_keyboard(page: Browser, gate: Console) -> None:
    """Tab goes to the content, the pages, the apps, each with a mark that can be seen; Enter follows."""
    keys = page.find("body")
    keys.send_keys(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "To the content"
    seen = []
    for _ in range(16):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        active = page.driver.switch_to.active_element
        outline = page.run("return getComputedStyle(arguments[0]).outlineStyle", active)
        assert outline != "none"
        seen.append(active.text)
        if active.text == "blog":
            active.send_keys(Keys.ENTER)
            break
    assert seen[:4] == ["outgate", "Overview", "Log", "Policy"]
    page.wait_for("Live sockets")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("where", PAGES)
def test_on_a_phone(page: Browser, gate: Console, where: str, dark: bool) -> None:
    """No page is wider than 375 points, light or dark, and every field has a label."""
    page.show(375, 812, dark=dark)
    go(page, gate, where)
    assert not page.scrolls_sideways()
    unnamed = "input:not([type=hidden]):not(label input), select:not(label select)"
    assert page.all(unnamed) == []
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 300) == dark


def test_without_scripts(page: Browser, gate: Console, peer: peers.Peer) -> None:
    """With no script at all everything is there but what moves: figures, refusals, search, and the kill button."""
    page.without_scripts()
    try:
        with Asking(gate, peer) as program:
            program.ask("10.7.0.1")
            go_until(page, gate, "", "10.7.0.1 (private)")
            go(page, gate, "apps/blog")
            page.all("[data-lease] summary")[-1].click()
            page.all("[data-lease] button")[-1].click()
            page.wait_for("was ended")
            assert program.do("end")["ended"] in ("ConnectionResetError", "BrokenPipeError")
    finally:
        page.without_scripts(False)


def test_pictures(page: Browser, gate: Console, peer: peers.Peer, tmp_path: Path) -> None:
    """Each page that docs/console.md shows can be taken as a picture, into the folder that somebody asks for."""
    folder = Path(os.environ.get("OUTGATE_PICTURES", tmp_path))
    names = ("agent.py", "feed.py", "report.py")
    programs = [Asking(gate, peer, name) for name in names] + [Asking(gate, peer, "checkout.py", shop=True)]
    for program, host in zip(programs, ("10.0.0.5", "169.254.169.254", "192.168.7.20", "172.16.3.4"), strict=True):
        program.ask(host)
    shots = [
        ("overview", "", 1180, 620, False), ("overview-dark", "", 1180, 620, True),
        ("app", "apps/blog?range=month", 1180, 1000, False), ("log", "log", 1180, 640, True),
        ("policy", "policy?app=blog&to=10.0.0.5:5432", 1180, 900, False),
        ("phone", "apps/blog?range=month", 375, 812, True),
    ]  # fmt: skip
    for name, where, width, height, dark in shots:
        page.show(width, height, dark=dark, scale=1 if width > 600 else 2)
        go(page, gate, where)
        if "policy" not in where:
            page.wait(lambda: page.find("[data-state]").get_attribute("data-state") == "live")
        if not where:
            for number in range(8):  # so that the line has a shape
                seen = page.find("path.sent").get_attribute("d")
                for program in programs:
                    program.do(f"move {20_000 + number * 7919 % 31_000}")
                page.wait(lambda seen=seen: page.find("path.sent").get_attribute("d") != seen)
        page.picture(folder / f"console-{name}.png")
    for program in programs:
        program.__exit__(None)
