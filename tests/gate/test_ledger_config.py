"""``[ledger]`` is read with place and hint, and a reload changes its prices alone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from outgate.cli.main import main
from outgate.core.bill.tally import Destination
from outgate.errors import ConfigError
from outgate.gate.configuration import config

WEB = Destination("tcp", "", 443, "93.184.215.14")
HEAD = """\
version = 1
[gate]
state = "/var/lib/here"
[groups]
dc = ["93.184.215.0/24"]
[apps.a]
uid = [1]
billing = true
"""


def load(tmp_path: Path, text: str) -> config.Settings:
    """Return the settings of a file with this ``[ledger]``."""
    path = tmp_path / "outgate.toml"
    path.write_text(HEAD + text)
    return config.load(str(path), environ={}, uid=0)


def test_without_a_table_there_is_no_ledger(tmp_path: Path) -> None:
    """A configuration that does not speak of a ledger keeps none."""
    assert load(tmp_path, "").ledger is None


def test_an_empty_table_is_a_ledger(tmp_path: Path) -> None:
    """``[ledger]`` alone keeps one beside the gate's state, named by the host, with an hour's grace."""
    read = load(tmp_path, "[ledger]\n").ledger
    assert read is not None
    assert (read.url, read.spool) == ("sqlite:////var/lib/here/ledger.sqlite", "/var/lib/here")
    assert (read.gate, read.grace, read.after_grace) == (socket.gethostname(), 3600, "open")
    assert read.prices.find(WEB).name == ""


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("postgresql://u:secret@db/x", "postgresql://u:secret@db/x"),
        ("sqlite:////a/b", "sqlite:////a/b"),
        ("/a/b c", "sqlite:////a/b%20c"),
    ],
)
def test_places(tmp_path: Path, url: str, read: str) -> None:
    """A path is a file of SQLite, and a URL is what it says."""
    found = load(tmp_path, f'[ledger]\nurl = "{url}"\n').ledger
    assert found is not None
    assert found.url == read


def test_a_path_starts_at_the_folder_of_the_file(tmp_path: Path) -> None:
    """A path that is not absolute is beside the configuration."""
    found = load(tmp_path, '[ledger]\nurl = "l.sqlite"\n').ledger
    assert found is not None
    assert found.url == f"sqlite:///{tmp_path}/l.sqlite"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('url = "mysql://db/x"', "outgate.toml: ledger.url: this is no place for a ledger; as in "),
        ('url = "sqlite:///x"', 'ledger.url: "sqlite:///x" names no file by an absolute path'),
        ("grace = -1", "ledger.grace: -1 s is no time"),
        ('after_grace = "shut"', 'ledger.after_grace: "shut" is not a value it takes; one of "open", "closed"'),
        ('urk = "x"', 'ledger.urk: unknown key; did you mean "url"?'),
        ("grace = 1.5", "ledger.grace: takes a whole number"),
        ('gate = "a\\u0007"', "ledger.gate: is not a name"),
        (
            '[ledger.prices]\ncurrency = "EUR"\nrules = [{ to = "*", sent = 0.1 }]',
            "ledger.prices.rules[0].sent: 0.1 is not an amount; write it in quotes",
        ),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, table: str, said: str) -> None:
    """What cannot be is refused with the file, the place and what to write."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[ledger]\n{table}\n")
    assert said in str(caught.value)


def test_prices_know_the_groups(tmp_path: Path) -> None:
    """A price may be for one of the operator's groups."""
    read = load(tmp_path, '[ledger.prices]\ncurrency = "EUR"\nrules = [{ to = "dc", sent = "1" }]\n').ledger
    assert read is not None
    assert read.prices.find(WEB).name == "dc"


def test_a_reload_takes_new_prices(tmp_path: Path) -> None:
    """New prices are in force after a reload; a new place is warned about and waits for a start."""
    first = load(tmp_path, '[ledger]\nurl = "/a"\n[ledger.prices]\ncurrency = "EUR"\n')
    load(tmp_path, '[ledger]\nurl = "/a"\n[ledger.prices]\ncurrency = "USD"\n')
    second = config.reload(first)
    assert second.ledger is not None
    assert second.ledger.prices.currency == "USD"
    assert [each for each in second.warnings if each.place == "ledger"] == []
    load(tmp_path, '[ledger]\nurl = "/b"\n')
    third = config.reload(second)
    assert third.ledger == second.ledger
    assert [each.text for each in third.warnings if each.place == "ledger"] == [
        "changed, and takes effect only at the next start"
    ]


def test_check_shows_no_password(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``outgate check`` shows what was understood, without the database's password."""
    load(tmp_path, '[ledger]\nurl = "postgresql://u:secret@db/x"\n')
    assert main(["check", str(tmp_path / "outgate.toml")]) == 0
    shown = capsys.readouterr().out
    assert '"postgresql://u:***@db/x"' in shown
    assert "secret" not in shown
