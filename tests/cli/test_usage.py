"""``outgate usage`` makes a bill of a ledger that adds up, and ``verify`` finds what does not; labels travel along."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from outgate.cli.main import main
from outgate.core.bill.tally import Destination
from outgate.core.bill.windows import WINDOW, moment
from outgate.gate.ledger.batch import Key, Totals
from outgate.gate.ledger.store import Store, connect
from outgate.testing.running import RunningGate
from support.ledger import account, batch, quick

pytestmark = pytest.mark.usefixtures("closed_databases")

Capture = pytest.CaptureFixture[str]
BERLIN = ZoneInfo("Europe/Berlin")
PAGE = Path(__file__).parents[2] / "docs" / "billing.md"
WEB, CDN = (
    Destination("tcp", "api.example.com", 443, "93.184.215.14"),
    Destination("tcp", "cdn.example.net", 443, "151.101.1.6"),
)
DB, DNS = Destination("tcp", "", 5432, "10.2.0.9"), Destination("udp", "", 53, "9.9.9.9")
GB = 10**9


def blocks(kind: str) -> list[str]:
    """Return the blocks of the page in one language."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The configuration of the page, with a ledger of October 2026 in which the clocks were set back."""
    path = tmp_path / "outgate.toml"
    path.write_text(blocks("toml")[0].replace("/var/lib/outgate/ledger.sqlite", str(tmp_path / "ledger.sqlite")))
    store = Store(quick(connect(f"sqlite:///{tmp_path / 'ledger.sqlite'}")), "web-1", "one")
    first, night, morning = (moment(day, BERLIN) for day in ("2026-10-01", "2026-10-25", "2026-10-26"))
    store.begin(first)
    rows = {
        first: {
            account("blog", "", WEB): [900 * GB, 80 * GB, 935 * GB, 84 * GB, 1019 * GB],
            account("blog", "", DB): [40 * GB, 5 * GB, 42 * GB, 6 * GB, 48 * GB],
        },
        night + 3 * 3600: {
            account("blog", "", WEB): [200 * GB + 1, 1, 208 * GB, 70, 208 * GB + 70],
            account("blog", "job=17", CDN): [7 * GB, GB, 8 * GB, GB, 9 * GB],
        },
        morning: {
            account("mail", "", WEB): [123_456_789, 0, 130_000_000, 9, 0],
            account("mail", "", DNS): [4096, 90_000, 9000, 99_000, 0],
        },
    }
    store.write(batch(1, morning + 5, rows, moment("2026-11", BERLIN)))
    store.write(
        batch(
            2,
            moment("2026-11", BERLIN) + 5,
            {moment("2026-11", BERLIN): {account("blog", "", WEB): [GB, 0, GB, 0, GB]}},
        )
    )
    store.end(moment("2026-11", BERLIN) + 9, "stopped")
    store.close()
    return str(path)


def usage(capsys: Capture, *words: str, status: int = 0) -> str:
    """Return what the command prints."""
    capsys.readouterr()
    assert main(["usage", *words]) == status, capsys.readouterr()
    done = capsys.readouterr()
    return done.out or done.err


def test_an_empty_ledger(tmp_path: Path, capsys: Capture) -> None:
    """Of a ledger in which nothing is booked no times are told, and where nothing is sealed nothing is called final."""
    path = str(tmp_path / "ledger.sqlite")
    store = Store(quick(connect(f"sqlite:///{path}")), "web-1", "one")
    first = moment("2026-10-01", BERLIN)
    store.begin(first)
    for words in ([], ["--from", "2026-10"], ["--to", "2026-11"]):
        assert usage(capsys, "--ledger", path, *words).endswith("the ledger is empty: nothing has been booked yet\n")
    found = json.loads(usage(capsys, "--ledger", path, "--json"))
    assert (found["from"], found["to"], found["sealed"], found["lines"]) == (None, None, None, [])
    store.write(batch(1, first + 5, {first: {account("blog", "", WEB): [1, 2, 3, 4, 0]}}))
    store.close()
    text = usage(capsys, "--ledger", path)
    assert "nothing is final yet; what is here was written by" in text
    assert "1970" not in text
    assert json.loads(usage(capsys, "--ledger", path, "--json"))["sealed"] is None


def test_the_page_shows_an_invoice_of_a_real_ledger(config: str, capsys: Capture) -> None:
    """What docs/billing.md shows is what the commands above it print."""
    found = re.findall(r"```console\n\$ outgate usage (.*?)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(found) >= 3
    for words, shown in found:
        assert usage(capsys, *words.replace("/etc/outgate.toml", config).split()).strip() == shown.strip()


@pytest.mark.parametrize(
    "by", ["day", "hour", "month", "app", "label", "destination", "day,app", "month,label,destination"]
)
def test_every_division_comes_to_the_same(config: str, capsys: Capture, by: str) -> None:
    """However lines are made, they add up to the bytes and to the cent; JSON and CSV say the same."""
    words = ("--config", config, "--from", "2026-10", "--to", "2026-11", "--by", by)
    made = json.loads(usage(capsys, *words, "--json"))
    assert made["total"]["sent"] == 900 * GB + 40 * GB + 200 * GB + 1 + 7 * GB + 123_456_789 + 4096
    assert sum(line["sent"] for line in made["lines"]) == made["total"]["sent"]
    assert sum(Decimal(line["amount"]) for line in made["lines"]) == Decimal(made["total"]["amount"])
    # 1000 GB at 0.12 and 107.000000001 at 0.10; 40 within the company at 0.01; mail's 0.123460885 at 0.12.
    assert made["total"]["amount"] == "131.11"
    assert made["final"]
    rows = list(csv.DictReader(io.StringIO(usage(capsys, *words, "--csv"))))
    assert [{key: row[key] for key in by.split(",")} for row in rows] == [
        {key: line[key] for key in by.split(",")} for line in made["lines"]
    ]
    assert [int(row["sent"]) for row in rows] == [line["sent"] for line in made["lines"]]


def test_filters(config: str, capsys: Capture) -> None:
    """One app, one label and a stretch of time are shown alone."""
    month = ("--config", config, "--from", "2026-10", "--to", "2026-11", "--json")
    assert json.loads(usage(capsys, *month, "--app", "mail"))["total"]["sent"] == 123_460_885
    assert json.loads(usage(capsys, *month, "--label", "job=17"))["total"]["sent"] == 7 * GB
    night = json.loads(
        usage(capsys, "--config", config, "--from", "2026-10-25", "--to", "2026-10-26", "--by", "hour", "--json")
    )
    assert [line["hour"] for line in night["lines"]] == ["2026-10-25 02:00+01:00"]
    whole = json.loads(usage(capsys, "--config", config, "--json"))
    assert whole["total"]["sent"] == 900 * GB + 241 * GB + 7 * GB + 1 + 123_460_885
    assert not whole["final"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--by", "colour"], "--by colour: lines are made by hour, day, month, app, label, destination"),
        (["--by", "day,hour"], "one of hour, day and month"),
        (["--from", "soon"], "'soon' is not a time; write 2026-11-23"),
        (["--from", "2026-10-01T00:01"], "lies within a window; they begin at :00, :15, :30 and :45"),
        (["--zone", "Mars/Olympus"], "--zone Mars/Olympus: this host knows no such time zone"),
    ],
)
def test_wrong_words_are_refused(config: str, capsys: Capture, words: list[str], said: str) -> None:
    """What cannot be meant is refused with what to write."""
    assert said in usage(capsys, "--config", config, *words, status=2)


def test_no_ledger(tmp_path: Path, capsys: Capture) -> None:
    """Without a ledger it says how one is named."""
    assert "the ledger cannot be read" in usage(capsys, "--ledger", str(tmp_path / "none"), status=2)
    assert "--ledger FILE or --config FILE names it" in usage(capsys, "--socket", str(tmp_path / "none"), status=2)
    (tmp_path / "plain.toml").write_text("version = 1\n[apps.a]\nuid = [1]\nbilling = true\n")
    assert "has no [ledger]" in usage(capsys, "--config", str(tmp_path / "plain.toml"), status=2)


def test_gaps_are_shown(tmp_path: Path, capsys: Capture) -> None:
    """When a gate was away with sockets open, the statement says from when to when."""
    url = f"sqlite:///{tmp_path / 'l'}"
    first = Store(quick(connect(url)), "gate", "one")
    first.begin(WINDOW)
    first.write(batch(1, WINDOW + 9, {WINDOW: {account(): [1, 1, 1, 1, 0]}}, open={Key(1, 1): Totals(1, 1, 1, 1)}))
    first.close()
    second = Store(quick(connect(url)), "gate", "two")
    second.begin(WINDOW + 60)
    second.close()
    when = "from 1970-01-01T00:15:09+00:00 to 1970-01-01T00:16:00+00:00"
    said = f"incomplete: gate gate was away (crashed) {when}, with 1 sockets open"
    assert said in usage(capsys, "--ledger", str(tmp_path / "l"))
    assert json.loads(usage(capsys, "--ledger", str(tmp_path / "l"), "--json"))["incomplete"][0]["how"] == "crashed"


def test_verify_finds_a_byte(config: str, tmp_path: Path, capsys: Capture) -> None:
    """A ledger that agrees with itself passes; one byte changed behind its back is named, with status 1."""
    assert "agrees: the ledger, with itself" in usage(capsys, "verify", "--config", config)
    with connect(f"sqlite:///{tmp_path / 'ledger.sqlite'}").begin() as connection:
        connection.execute(text("UPDATE days SET sent = sent + 1 WHERE account = 1"))
    assert "differs: days: 1 sums are not those of their windows" in usage(
        capsys, "verify", "--config", config, status=1
    )
    assert not json.loads(usage(capsys, "verify", "--config", config, "--json", status=1))["ok"]


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (1148123460886, "agrees"),
        (123_460_890, "the ledger has 1,147,999,999,996 bytes sent more"),
        (2 * 10**12, "the log has ends of 1,999,876,539,115 bytes sent"),
    ],
)
def test_verify_holds_the_log_against_the_ledger(
    config: str, tmp_path: Path, capsys: Capture, sent: int, said: str
) -> None:
    """Ends in the decision log come to what is booked, or the difference is named."""
    log = tmp_path / "decisions.jsonl"
    lines = [
        {"time": "2026-09-30T00:00:00.000Z", "event": "start"},
        {"time": "x", "event": "end", "app": "mail", "sent": 123_460_885, "received": 90_000},
    ]
    lines.append({"time": "x", "event": "end", "app": "blog", "sent": sent - 123_460_885, "received": 86 * GB + 1})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut sh')
    assert said in usage(capsys, "verify", "--config", config, "--log", str(log), status=0 if said == "agrees" else 1)
    log.write_text(json.dumps({"time": "2027-01-01T00:00:00.000Z", "event": "start"}) + "\n")
    assert "begins after the ledger" in usage(capsys, "verify", "--config", config, "--log", str(log))


# --- with a gate -----------------------------------------------------------------------------------------------------

PROGRAM = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(b"x" * 100_000)
s.shutdown(socket.SHUT_WR)
got = 0
while data := s.recv(65536):
    got += len(data)
print(got)
"""


@contextmanager
def echoing() -> Iterator[int]:
    """Serve on a port: who has sent all gets half as many bytes back."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer = server.accept()[0]
                except OSError:
                    return
                with closing(peer):
                    count = 0
                    while data := peer.recv(65536):
                        count += len(data)
                    peer.sendall(b"y" * (count // 2))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


CONFIG = """\
version = 1
[gate]
log = "{folder}/log.jsonl"
[ledger]
url = "{folder}/ledger.sqlite"
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["loopback"]
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_gate_books_what_programs_move(tmp_path: Path, capsys: Capture, path: str) -> None:
    """A program's bytes, its children's and their labels are in the ledger of the gate, which agrees with the log."""
    text = CONFIG.format(folder=tmp_path, uid=os.getuid(), path=path)
    (tmp_path / "outgate.toml").write_text(text)
    with echoing() as port, RunningGate(config=text) as gate:
        for label in ("17", "18", "18"):
            environ = {**gate.environ(), "OUTGATE_LABELS": f"team=web,job={label}"}
            command = [sys.executable, "-c", PROGRAM, str(port)]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
            assert done.stdout == "50000\n", done.stderr
        said = json.loads(usage(capsys, "verify", "--socket", gate.socket, "--json"))
        assert said["ok"], said
        assert gate.faults == []
        assert gate.stop() == 0, gate.stderr()
    made = json.loads(
        usage(capsys, "--ledger", str(tmp_path / "ledger.sqlite"), "--by", "app,label,destination", "--json")
    )
    assert [(line["app"], line["label"], line["sent"], line["received"]) for line in made["lines"]] == [
        ("blog", "job=17,team=web", 100_000, 50_000),
        ("blog", "job=18,team=web", 200_000, 100_000),
    ]
    assert {line["destination"] for line in made["lines"]} == {f"tcp://127.0.0.1:{port}"}
    # Loopback segments are large, and each has 52 bytes of headers.
    assert 300_000 <= made["total"]["wire_sent"] < 400_000
    assert 150_000 <= made["total"]["wire_received"] < 250_000


OPENS_AND_SHARES = """
import outgate, socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
    s.sendall(bytes(1000))
    print(outgate.descriptor(s))
"""
GOES_ON = """
import outgate, socket, sys
with outgate.adopt(sys.argv[1]) as s:
    s.sendall(bytes(234))
    s.shutdown(socket.SHUT_WR)
    print(len(s.recv(617, socket.MSG_WAITALL)))
"""


@pytest.mark.parametrize("path", ["direct", "relay"])
def test_a_socket_that_was_passed_on_is_booked_once(tmp_path: Path, capsys: Capture, path: str) -> None:
    """What all who have had a socket moved is on the bill of who opened it, under its labels."""
    text = CONFIG.format(folder=tmp_path, uid=os.getuid(), path=path)
    with echoing() as port, RunningGate(config=text) as gate:

        def run(label: str, code: str, argument: object) -> str:
            environ = {**gate.environ(), "OUTGATE_LABELS": f"job={label}"}
            command = [sys.executable, "-c", code, str(argument)]
            done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert run("2", GOES_ON, run("1", OPENS_AND_SHARES, port)) == "617"
        gate.wait_for_counts("blog", open=0)
        assert gate.stop() == 0, gate.stderr()
    made = json.loads(usage(capsys, "--ledger", str(tmp_path / "ledger.sqlite"), "--by", "app,label", "--json"))
    assert [(line["label"], line["sent"], line["received"]) for line in made["lines"]] == [("job=1", 1234, 617)]


def test_run_keeps_a_ledger_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    """``outgate run --ledger FILE --label`` leaves a ledger in which everything is final, run after run."""
    file = tmp_path / "ledger.sqlite"
    with echoing() as port:
        for label in ("job=1", "job=2"):
            command = [
                "run",
                "-q",
                "--dev",
                "--ledger",
                str(file),
                "--label",
                label,
                "--",
                sys.executable,
                "-c",
                PROGRAM,
                str(port),
            ]
            done = subprocess.run(
                [sys.executable, "-m", "outgate", *command], capture_output=True, text=True, timeout=60
            )
            assert (done.stdout, done.returncode) == ("50000\n", 0), done.stderr
    deadline = threading.Event()
    made: dict[str, object] = {}
    for _ in range(200):  # each gate ends after its program
        made = json.loads(usage(capsys, "--ledger", str(file), "--by", "label", "--json"))
        if made["final"] and len(made["lines"]) == 2:  # type: ignore[arg-type]
            break
        deadline.wait(0.1)
    assert [(line["label"], line["sent"]) for line in made["lines"]] == [("job=1", 100_000), ("job=2", 100_000)]  # type: ignore[attr-defined]
    assert made["final"]
    assert "agrees" in usage(capsys, "verify", "--ledger", str(file))


@pytest.mark.parametrize("label", ["job", "Job=1", "job=a,b"])
def test_run_refuses_what_is_no_label(label: str) -> None:
    """A label that is none is refused before anything is started."""
    command = [sys.executable, "-m", "outgate", "run", "--dev", "--label", label, "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "outgate run: --label: " in done.stderr
