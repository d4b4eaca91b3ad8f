"""The console of a running gate, asked over HTTP: who may look, what every page shows, and what it does not do."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gate.test_meter_close import PREAMBLE, Program
from outgate.console import access
from support import peers
from support.commands import Served, environment, outgate
from support.consoles import HOSTILE, Console, console

#: Opens a socket that stays, is refused once, and reads until it is ended.
BUSY = """
s.sendall(b"x" * 1000)
s.recv(1000)
try:
    socket.create_connection(("10.0.0.1", 80))
except PermissionError:
    say(open=True)
try:
    s.recv(1)
except OSError as e:
    say(ended=type(e).__name__)
told()
"""


class Busy(Program):
    """A program of the app ``blog`` with an open socket."""

    def __init__(self, gate: Console, peer: peers.Peer) -> None:
        script = gate.log_path.parent / HOSTILE
        script.write_text(PREAMBLE + BUSY)
        self.process = gate.program(str(script), str(peer.port))
        self._status = 0


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A gate with a console for all tests that leave it as it is."""
    with console(tmp_path_factory.mktemp("gate")) as made:
        yield made


@pytest.fixture(scope="module")
def client(gate: Console) -> Iterator[httpx.Client]:
    """Whoever has logged in."""
    with gate.client() as made:
        yield made


@pytest.fixture(scope="module")
def peer() -> Iterator[peers.Peer]:
    """What sends everything back."""
    with peers.echo() as made:
        yield made


@pytest.fixture(scope="module")
def lease(gate: Console, client: httpx.Client, peer: peers.Peer) -> Iterator[str]:
    """Have a program with an open socket, and return the name of that."""
    with Busy(gate, peer) as program:
        assert program.said() == {"open": True}
        found = re.search(r'name="lease" data-value="lease" value="([^"]+)"', client.get("apps/blog").text)
        assert found is not None
        while "10.0.0.1 (private)" not in client.get("").text:  # its line is written a moment after
            pass
        yield found[1]
        client.post("apps/blog/kill", data={"lease": found[1], "proof": proof(client)})
        assert "ended" in program.said()
        program.tell()


def proof(client: httpx.Client) -> str:
    """Return what a form of the page carries."""
    found = re.search(r'name="proof" value="([0-9a-f]+)"', client.get("apps/blog").text)
    assert found is not None
    return found[1]


#: Seconds after which a wait is taken for a hang. Nothing is asserted on it.
PATIENCE = 30
PAGES = ["", "apps/blog", "log", "log?show=all&q=x", "policy", "policy?app=blog&to=10.0.0.1:80", "live", "log/live"]


@pytest.mark.parametrize("page", PAGES)
def test_without_the_token_there_is_nothing(gate: Console, page: str) -> None:
    """No page says anything of the gate to whoever has not shown the token, and each asks for it."""
    answer = httpx.get(gate.base + page, timeout=PATIENCE)
    assert answer.status_code == 401
    assert "blog" not in answer.text
    assert 'name="token"' in answer.text


def test_a_wrong_token(gate: Console) -> None:
    """It opens nothing, and no cookie comes of it, in an address or in the form."""
    for answer in (
        httpx.get(gate.base, params={"token": "wrong"}, timeout=PATIENCE),
        httpx.post(gate.base + "login", data={"token": "wrong"}, timeout=PATIENCE),
        httpx.get(gate.base, cookies={gate_cookie(gate): "wrong"}, timeout=PATIENCE),
    ):
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers


def gate_cookie(gate: Console) -> str:
    """Return the name of the cookie of this console."""
    return access.Access(gate.token).cookie


def test_the_token_becomes_a_cookie(gate: Console) -> None:
    """It leaves the address at once; the cookie is for this site alone, and no script may read it."""
    for answer in (
        httpx.get(gate.url, timeout=PATIENCE),
        httpx.post(gate.base + "login", data={"token": f" {gate.token}\n"}, timeout=PATIENCE),
    ):
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert gate.token not in cookie


def test_the_token_is_nowhere_to_be_read(gate: Console) -> None:
    """Neither the arguments nor the environment of any of its processes has it, and the log has not."""
    children = Path(f"/proc/{gate.process.pid}/task/{gate.process.pid}/children").read_text().split()
    threads = Path(f"/proc/{gate.process.pid}/task").iterdir()
    children += [child for each in threads for child in (each / "children").read_text().split()]
    assert children
    for pid in children:
        for file in ("cmdline", "environ"):
            assert gate.token.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    assert gate.token not in gate.log_path.read_text()


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.1", ""])
def test_another_name_is_not_answered(gate: Console, client: httpx.Client, host: str) -> None:
    """A page that has its own name lead here gets nothing, even with the cookie."""
    answer = client.get("", headers={"host": host})
    assert answer.status_code in (400, 421)
    assert "blog" not in answer.text


@pytest.mark.parametrize("page", [*PAGES[:-2], "nowhere", "static/console.js", "apps/nobody"])
def test_every_answer_forbids_foreign_scripts(client: httpx.Client, page: str) -> None:
    """Whatever is asked for, found or not, the headers are there."""
    answer = client.get(page)
    assert answer.headers["content-security-policy"] == access.HEADERS["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"<script(?! src=)|<style| style=| on[a-z]+=", answer.text.partition("<main")[0])


def test_overview(client: httpx.Client, lease: str) -> None:
    """Apps with their sockets, and refusals with reason and cure, are in the first answer: no script is needed."""
    page = client.get("").text
    assert '<a href="/apps/blog">blog</a>' in page
    assert 'data-now="blog/open">' in page
    assert "10.0.0.1 (private)" in page
    assert "except = [&#34;10.0.0.1:80&#34;]" in page


@pytest.mark.parametrize("sort", ["open", "opens", "denied", "sent", "received", "quota", "app", "nonsense"])
def test_sorts(client: httpx.Client, sort: str) -> None:
    """Every order there is a link to, and any other word, is a page."""
    assert client.get("", params={"sort": sort}).status_code == 200


@pytest.mark.parametrize("range", ["day", "week", "month", "nonsense"])
def test_an_app(client: httpx.Client, lease: str, range: str) -> None:
    """Its usage from the ledger, its quotas, its live sockets with what ends them, its refusals."""
    page = client.get("apps/blog", params={"range": range}).text
    assert 'class="chart"' in page
    assert "4 MB" in page
    assert lease in page
    assert ">Reset it</button>" in page
    assert "10.0.0.1 (private)" in page


def test_a_hostile_name_is_text(client: httpx.Client, lease: str) -> None:
    """What a program is called, and what somebody asks for in an address, stands in the pages as it is, escaped."""
    for page in ("", "apps/blog", "log", f"log?q={HOSTILE}", f"policy?app={HOSTILE}&to={HOSTILE}", f"apps/{HOSTILE}"):
        text = client.get(page).text
        assert "<img" not in text
        assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_search(client: httpx.Client, lease: str) -> None:
    """The log is searched by any field, by app, by verdict and by time; what is no time is said."""
    assert "10.0.0.1:80" in client.get("log", params={"q": "10.0.0.1"}).text
    assert "10.0.0.1:80" not in client.get("log", params={"q": "10.0.0.2"}).text
    assert "127.0.0.1:" not in client.get("log", params={"show": "denied"}).text
    assert "127.0.0.1:" in client.get("log", params={"app": "blog", "since": "1h"}).text
    assert "No line is like that." in client.get("log", params={"app": "shop"}).text
    assert "Since is no time" in client.get("log", params={"since": "yesterday"}).text


def test_policy_and_why(client: httpx.Client) -> None:
    """The rules stand in their order, and a destination has its decision, or what is wrong with it."""
    page = client.get("policy", params={"app": "blog", "to": "10.0.0.1:5432"}).text
    rules = re.findall(r'<th scope="row" class="where"><code>([^<]+)</code>', page)
    assert rules == ["127.0.0.1", "non-public", "own", "*:25", "public"]
    assert "except = [&#34;10.0.0.1:5432&#34;]" in page
    assert "a port is required" in client.get("policy", params={"app": "blog", "to": "10.0.0.1"}).text.lower()
    assert "No app &#39;nobody&#39; is configured" in client.get("policy", params={"app": "nobody"}).text


@pytest.mark.parametrize(
    ("headers", "field"),
    [({}, "wrong"), ({}, ""), ({"origin": "http://evil.example"}, None), ({"sec-fetch-site": "cross-site"}, None)],
)
def test_a_form_from_elsewhere_ends_nothing(
    client: httpx.Client, lease: str, headers: dict[str, str], field: str | None
) -> None:
    """Without the proof, or from another page, a kill is refused and the socket stays."""
    data = {"lease": lease, "proof": proof(client) if field is None else field}
    answer = client.post("apps/blog/kill", data=data, headers=headers)
    assert answer.status_code == 403
    assert "Nothing was done" in answer.text
    assert lease in client.get("apps/blog").text


@pytest.mark.slow
def test_kill(gate: Console, peer: peers.Peer) -> None:
    """A kill by the form ends that connection, with a reset, and says so; once more it says that none is open."""
    with gate.client() as client, Busy(gate, peer) as program:
        assert program.said() == {"open": True}
        leases = re.findall(r'name="lease" data-value="lease" value="([^"]+)"', client.get("apps/blog").text)
        data = {"lease": leases[-1], "proof": proof(client)}
        answer = client.post("apps/blog/kill", data=data)
        assert f"{leases[-1]} was ended" in answer.text
        assert "ended" in program.said()
        again = client.post("apps/blog/kill", data=data)
        assert again.status_code == 409
        assert "is open" in again.text
        assert client.post("apps/blog/kill", data={**data, "lease": "<b>"}).status_code == 400
        program.tell()


def events(client: httpx.Client, path: str) -> Iterator[dict[str, Any]]:
    """Give what a page would be sent."""
    with client.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


@pytest.mark.slow
def test_what_changes_is_sent(gate: Console, client: httpx.Client, lease: str, peer: peers.Peer) -> None:
    """Open pages get figures, sockets and new lines of the log as they come."""
    overview, app, log = (events(client, path) for path in ("live", "apps/blog/live", "log/live?q=10.0.0.1"))
    while int(next(overview)["live"]["text"]["blog/open"]) < 1:
        pass  # a look of just before is good for a second
    assert next(app)["sockets"][0]["lease"] == lease
    assert next(log)["lines"] == []
    with Busy(gate, peer) as program:
        assert program.said() == {"open": True}
        for stream in (overview, app, log):
            lines: list[dict[str, str]] = []
            while not lines:
                lines = [line for line in next(stream)["lines"] if line["destination"] == "10.0.0.1:80"]
            assert lines[0]["cure"] == 'to permit: except = ["10.0.0.1:80"]'
        other = next(row["lease"] for row in next(app)["sockets"] if row["lease"] != lease)
        client.post("apps/blog/kill", data={"lease": other, "proof": proof(client)})
        assert "ended" in program.said()
        program.tell()
    for stream in (overview, app, log):
        stream.close()


def test_what_is_not_there(client: httpx.Client) -> None:
    """A page or an app that is not there is a 404 that says so."""
    for path, says in (
        ("nowhere", "no such page"),
        ("apps/nobody", "no app &#39;nobody&#39;"),
        ("static/x", "no such page"),
    ):
        answer = client.get(path)
        assert answer.status_code == 404
        assert says in answer.text


@pytest.mark.slow
def test_a_console_that_is_killed_harms_nobody(tmp_path: Path, peer: peers.Peer) -> None:
    """The gate says that its console has ended, and goes on."""
    with console(tmp_path) as gate, Busy(gate, peer) as program:
        assert program.said() == {"open": True}
        os.kill(gate.console_pid, signal.SIGKILL)
        assert gate.wait_for(r"the console has (ended \(status -9\))")
        done = outgate("ps", "--socket", gate.socket, "--json")
        (lease,) = json.loads(done.stdout)["sockets"]
        assert outgate("kill", "--socket", gate.socket, lease["lease"]).returncode == 0
        assert "ended" in program.said()
        program.tell()


@pytest.mark.slow
def test_a_console_that_hangs_harms_nobody(tmp_path: Path, peer: peers.Peer) -> None:
    """With its console stopped the gate answers, and ends when it is told to, and its console with it."""
    with console(tmp_path) as gate:
        pid = gate.console_pid
        os.kill(pid, signal.SIGSTOP)
        assert outgate("status", "--socket", gate.socket).returncode == 0
        assert gate.stop()[0] == 0
        assert not Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_a_gate_that_is_killed_takes_its_console_along(tmp_path: Path) -> None:
    """Nothing is left behind that would serve pages of a gate that is no more."""
    with console(tmp_path) as gate:
        watched = os.pidfd_open(gate.console_pid)
        gate.stop(signal.SIGKILL)
        assert select.select([watched], [], [], PATIENCE)[0]
        os.close(watched)


@pytest.mark.slow
def test_no_gate_is_said(tmp_path: Path) -> None:
    """While the gate does not answer pages say so in a sentence, and work again when it does."""
    with console(tmp_path) as gate, gate.client() as client:
        moved = gate.socket + ".away"
        os.rename(gate.socket, moved)
        answer = client.get("log")
        assert answer.status_code == 503
        assert f"No gate answers at {gate.socket}" in answer.text
        os.rename(moved, gate.socket)
        assert client.get("log").status_code == 200


@pytest.mark.slow
def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """Without a ledger, and with a log that is no file, the pages say what to do."""
    gate = Served(tmp_path, "--console", "127.0.0.1:0", "--log", "-", env=environment())
    try:
        found = re.search(r"console at (\S+)", gate.line())
        assert found is not None
        with httpx.Client(base_url=found[1].partition("?")[0], follow_redirects=True, timeout=PATIENCE) as client:
            assert "standard output" in client.get(found[1]).text
            assert "standard output" in client.get("log").text
            page = client.get("apps/default").text
            assert "keeps no ledger; begin one with [ledger]" in page
            assert next(events(client, "log/live"))["lines"] == []
    finally:
        gate.stop()


@pytest.mark.slow
def test_over_a_unix_socket(tmp_path: Path) -> None:
    """It can be had by a path, which is gone when the gate is."""
    path = tmp_path / "console.sock"
    tmp_path.chmod(0o700)
    with console(tmp_path, where=f"unix:{path}") as gate:
        transport = httpx.HTTPTransport(uds=str(path))
        with httpx.Client(
            transport=transport, base_url="http://localhost", follow_redirects=True, timeout=PATIENCE
        ) as client:
            assert client.get("/", params={"token": gate.token}).status_code == 200
            assert client.get("/apps/blog").status_code == 200
    assert not path.exists()


@pytest.mark.slow
def test_a_takeover_has_its_console_follow(tmp_path: Path) -> None:
    """The next gate's console is to be had at the same port as soon as the one before has gone, with its own token."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        where = f"127.0.0.1:{probe.getsockname()[1]}"
    with console(tmp_path, where=where) as gate:
        before = gate.token
        with console(tmp_path, "--takeover", where=where) as after:
            assert gate.process.wait(PATIENCE) == 0
            assert after.base == f"http://{where}/"
            with after.client() as client:
                assert client.get("apps/blog").status_code == 200
                assert client.get("", params={"token": before}).status_code == 401


@pytest.mark.parametrize(("where", "says"), [("0.0.0.0:80", "ssh -L"), ("nonsense", "no port")])
def test_a_place_that_is_none(tmp_path: Path, where: str, says: str) -> None:
    """A gate does not start with a console that it cannot have, and says why."""
    done = outgate("serve", "--socket", str(tmp_path / "gate.sock"), "--console", where)
    assert done.returncode == 2
    assert says in done.stderr
