"""``outgate policy test``: expectations of a file held against a configuration, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outgate.cli.main import main
from support.commands import outgate
from support.examples import words

Capture = pytest.CaptureFixture[str]

CONFIG = """\
version = 1

[apps.blog]
uid = ["a-user-that-no-host-has"]
billing = true
trusted = true
except = ["db.corp:5432"]
deny = ["evil.example"]
"""
EXPECT = """\
version = 1
policy = "outgate.toml"

[resolve]
"db.corp" = ["10.0.0.5"]

[[expect]]
app = "blog"
allow = ["93.184.215.14:443", "db.corp:5432", "udp://8.8.8.8:53"]
deny = ["10.0.0.5:22", "169.254.169.254:80", "evil.example:443"]
resolves = ["db.corp"]
no_lookup = ["evil.example"]
"""


@pytest.fixture
def write(tmp_path: Path):
    """A function that writes the configuration and a file of expectations, and gives the latter's path."""

    def write(expect: str = EXPECT, config: str = CONFIG, name: str = "policy.test.toml") -> str:
        (tmp_path / "outgate.toml").write_text(config, encoding="utf-8")
        path = tmp_path / name
        path.write_text(expect, encoding="utf-8")
        return str(path)

    return write


def test_all_hold(write, capsys: Capture) -> None:
    """Where all hold that is one line, and exit status 0; the users of the apps need not be on this host."""
    path = write()
    assert main(["policy", "test", path]) == 0
    assert capsys.readouterr().out == f"{path}: 8 expectations hold\n"


def test_verbose(write, capsys: Capture) -> None:
    """``-v`` lists what holds, with the rule that decides and its place."""
    assert main(["policy", "test", "-v", write()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    expected = 'holds blog db.corp:5432 expected allow got allow by "db.corp:5432" (apps.blog.except[0])'
    assert lines[1].split() == words(expected)


def test_some_do_not(write, capsys: Capture) -> None:
    """A line that fails tells what was expected and what came, by which rule and where that stands, and the cure."""
    path = write(
        EXPECT.replace('deny = ["10.0.0.5:22"', 'deny = ["8.8.8.8:443"').replace("93.184.215.14:443", "10.0.0.9:22")
    )
    assert main(["policy", "test", path]) == 1
    text = capsys.readouterr().out
    assert 'expected allow  got deny by "non-public" (built-in)' in text
    assert f"{path}: expect[0].allow[0]" in text
    assert 'to permit: except = ["10.0.0.9:22"]' in text
    assert 'expected deny   got allow by "public" (apps.blog.allow[0])' in text
    assert 'to deny: deny = ["tcp://8.8.8.8:443"]' in text
    assert text.splitlines()[-1] == f"{path}: 2 of 8 expectations do not hold"


def test_json(write, capsys: Capture) -> None:
    """``--json`` has every outcome, and the verdict on the whole."""
    assert main(["policy", "test", "--json", write(), write(EXPECT.replace("8.8.8.8:53", "8.8.8.8:25"), name="b")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is False
    assert [len(file["outcomes"]) for file in answer["files"]] == [8, 8]
    (wrong,) = [outcome for file in answer["files"] for outcome in file["outcomes"] if not outcome["holds"]]
    assert (wrong["place"], wrong["got"], wrong["rule"], wrong["rule_place"]) == (
        "expect[0].allow[2]", "deny", "*:25", "built-in",
    )  # fmt: skip


def test_a_policy_in_the_file(write, capsys: Capture) -> None:
    """The configuration may stand in the file of expectations."""
    apps = CONFIG.replace("version = 1\n", "")
    assert main(["policy", "test", write(EXPECT.replace('policy = "outgate.toml"\n', "") + apps)]) == 0
    capsys.readouterr()


def test_own_addresses(write, capsys: Capture) -> None:
    """The host's own addresses are those that the file says, and not those of the host that runs the test."""
    head = EXPECT.replace("policy =", 'own = ["93.184.215.14"]\npolicy =')
    assert main(["policy", "test", write(head)]) == 1
    assert 'got deny by "own"' in capsys.readouterr().out


def test_an_app_without_billing(write, capsys: Capture) -> None:
    """Whatever its rules say an app without billing is refused every socket, and the reason says so."""
    assert main(["policy", "test", write(config=CONFIG.replace("billing = true", "billing = false"))]) == 1
    assert "billing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("expect", "config", "sentences"),
    [
        (EXPECT.replace('"db.corp" =', '"db2.corp" ='), CONFIG, ["what is db.corp?", "expect[0].resolves[0]"]),
        (EXPECT.replace("allow =", "alow ="), CONFIG, ['expect[0].alow: unknown key; did you mean "allow"?']),
        (EXPECT, CONFIG.replace("deny =", "dney ="), ["outgate.toml: apps.blog.dney: unknown key"]),
        (EXPECT.replace("outgate.toml", "other.toml"), CONFIG, ["other.toml: there is no such file"]),
        (EXPECT + "[", CONFIG, ["policy.test.toml: end of document: "]),
        ("", CONFIG, ["policy.test.toml: version: missing"]),
        (EXPECT.replace('app = "blog"', 'app = "shop"'), CONFIG, ['there is no app "shop"; there are: blog']),
    ],
)
def test_a_wrong_file(write, capsys: Capture, expect: str, config: str, sentences: list[str]) -> None:
    """A file that is wrong has exit status 2, and each fault is a line on standard error with its place."""
    assert main(["policy", "test", write(expect, config)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert all(line.startswith("outgate policy: ") for line in output.err.splitlines())
    assert all(sentence in output.err for sentence in sentences)


def test_a_wrong_file_among_others(write, capsys: Capture) -> None:
    """One wrong file makes the exit status 2, and the others are judged all the same."""
    good, bad = write(), write("version = 2", name="bad.toml")
    assert main(["policy", "test", bad, good, "/nonexistent"]) == 2
    output = capsys.readouterr()
    assert "8 expectations hold" in output.out
    assert output.err.count("\n") == 2
    assert "there is no such file" in output.err


def test_wrong_calls() -> None:
    """Another word than test, and no file, are wrong calls."""
    for arguments in (["different", "x"], ["test"], []):
        done = outgate("policy", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: outgate policy test" in done.stderr


def test_the_example_of_the_page_holds(tmp_path: Path, capsys: Capture) -> None:
    """The file that docs/policy-test.md shows holds, and the failure that it shows is what comes of its change."""
    page = (Path(__file__).parents[2] / "docs" / "policy-test.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    path = tmp_path / "policy.test.toml"
    path.write_text(example, encoding="utf-8")
    assert main(["policy", "test", str(path)]) == 0
    assert capsys.readouterr().out.endswith(": 10 expectations hold\n")
    path.write_text(example.replace('"db.corp:5432", "10.2.0.0/16:5432"', '"10.2.0.0/16", "db.corp:5432"'), "utf-8")
    assert main(["policy", "test", str(path)]) == 1
    shown = page.partition("```console\n")[2].partition("```")[0].splitlines()
    assert capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines() == shown[1:]
