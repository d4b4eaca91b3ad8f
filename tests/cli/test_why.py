"""``outgate why``: which rule decides, asked of a gate and of a file, in the same words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from outgate.cli import why
from outgate.cli.main import main
from support.commands import Served
from support.raw import RawChannel

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("db.corp:5432", ("tcp", "db.corp", 5432)),
        ("10.0.0.1:80", ("tcp", "10.0.0.1", 80)),
        ("[2001:db8::7]:443", ("tcp", "2001:db8::7", 443)),
        ("[fe80::1%eth0]:443", ("tcp", "fe80::1%eth0", 443)),
        ("tcp://x:1", ("tcp", "x", 1)),
        ("udp://[::1]:53", ("udp", "::1", 53)),
        (":80", ("tcp", "", 80)),
        ("x:0", ("tcp", "x", 0)),
        ("x:65535", ("tcp", "x", 65535)),
    ],
)
def test_destinations(text: str, expected: tuple[str, str, int]) -> None:
    """Host and port are what stands on either side of the last colon, an IPv6 address in brackets."""
    assert why.destination(text) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("db.corp", "a port is required"),
        ("[::1]", "a port is required"),
        ("", "a port is required"),
        ("::1:443", r"write \[::1:443\]:PORT or \[::1\]:443"),
        ("[10.0.0.1]:80", "write 10.0.0.1:80"),
        ("x:", "'' is not a port"),
        ("x:http", "'http' is not a port"),
        ("x:65536", "'65536' is not a port"),
        ("x:-1", "'-1' is not a port"),
        ("x:٣", "is not a port"),
        ("https://user@example.com/path?q#f", "write example.com:443$"),
        ("http://example.com:8080/", "write example.com:8080$"),
        ("gopher://example.com", "write example.com:PORT$"),
    ],
)
def test_no_destinations(text: str, sentence: str) -> None:
    """What is no destination is answered with what to write."""
    with pytest.raises(ValueError, match=sentence):
        why.destination(text)


def test_a_wrong_call(capsys: Capture) -> None:
    """A destination without a port is a wrong call, and says so."""
    with pytest.raises(SystemExit) as end:
        main(["why", "db.corp"])
    assert end.value.code == 2
    assert "a port is required" in capsys.readouterr().err


@pytest.fixture(params=["gate", "file"])
def source(request: pytest.FixtureRequest, config: Path) -> list[str]:
    """Who decides: a running gate with the configuration, or the file alone."""
    if request.param == "file":
        return ["--config", str(config), "--app", "blog"]
    served: Served = request.getfixturevalue("gate")
    return ["--socket", served.socket]


def test_allowed(source: list[str], capsys: Capture) -> None:
    """An allowed destination has exit status 0, and the rule and its place are named."""
    assert main(["why", "10.2.3.4:5432", *source]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "allowed  blog → 10.2.3.4:5432 (tcp)"
    assert "  rule     10.2.0.0/16:5432  (apps.blog.except[0])" in lines
    assert "  address  10.2.3.4 (private)" in lines


def test_denied(source: list[str], capsys: Capture) -> None:
    """A denied destination has exit status 1, with reason and cure."""
    assert main(["why", "169.254.169.254:80", *source]) == 1
    text = capsys.readouterr().out
    assert text.startswith("denied  blog → 169.254.169.254:80 (tcp)\n")
    assert "  address  169.254.169.254 (metadata)\n" in text
    assert "  rule     non-public  (built-in)\n" in text
    assert '  cure     to permit: except = ["169.254.169.254:80"]\n' in text


def test_ipv6_and_udp(source: list[str], capsys: Capture) -> None:
    """IPv6 addresses are shown in brackets; ``--udp`` and ``udp://`` are the same."""
    assert main(["why", "[::1]:53", "--udp", *source]) == 1
    by_option = capsys.readouterr().out
    assert "blog → [::1]:53 (udp)" in by_option
    assert main(["why", "udp://[::1]:53", *source]) == 1
    assert capsys.readouterr().out == by_option


def test_names_are_resolved(source: list[str], capsys: Capture) -> None:
    """A name is judged by the address it has, which is said."""
    assert main(["why", "localhost:80", *source]) == 1
    assert "localhost is 127.0.0.1 (loopback)" in capsys.readouterr().out


def test_json(source: list[str], capsys: Capture) -> None:
    """``--json`` prints one object with the decision and every address."""
    assert main(["why", "10.2.3.4:22", "--json", *source]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "deny"
    assert answer["class"] == "private"
    assert answer["addresses"] == [{"address": "10.2.3.4", "class": "private", "verdict": "deny"}]
    assert answer["cure"] == 'to permit: except = ["10.2.3.4:22"]'


def test_gate_and_file_agree(gate: Served, config: Path, capsys: Capture) -> None:
    """A gate and the file it has read give the same object, whatever the spelling of the host."""
    for host in ("10.2.3.4", "0x0a.2.772", "8.8.8.8", "[::ffff:10.2.3.4]", "localhost", "", "<broadcast>", "[::1]"):
        for port in ("25", "443", "5432"):
            answers = []
            for source in (["--socket", gate.socket], ["--config", str(config), "--app", "blog"]):
                main(["why", f"{host}:{port}", "--json", *source])
                answers.append(json.loads(capsys.readouterr().out))
            assert answers[0] == answers[1]


def test_for_another_app(source: list[str], capsys: Capture) -> None:
    """``--app`` decides for that app: the gate's own user may ask for any."""
    source = [*source[:2], "--app", "shop"]
    assert main(["why", "9.9.9.9:443", *source]) == 0
    assert "allowed  shop → 9.9.9.9:443 (tcp)" in capsys.readouterr().out
    assert main(["why", "8.8.8.8:443", *source]) == 1
    assert "no rule of app 'shop' allows it" in capsys.readouterr().out


def test_an_app_without_billing(source: list[str], capsys: Capture) -> None:
    """What would refuse every socket of the app is said, whatever its rules allow."""
    assert main(["why", "8.8.8.8:443", *source[:2], "--app", "unpaid"]) == 1
    text = capsys.readouterr().out
    assert "app 'unpaid' has no billing" in text
    assert "billing = true under [apps.unpaid]" in text


def test_an_app_that_is_not_there(source: list[str], capsys: Capture) -> None:
    """An unknown app cannot be decided for; the ones there are are named."""
    assert main(["why", "8.8.8.8:443", *source[:2], "--app", "bolg"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "'bolg'" in output.err
    assert "blog, shop, unpaid" in output.err


def test_a_name_that_cannot_be_resolved(source: list[str], capsys: Capture) -> None:
    """A name without an address cannot be decided on: exit status 2, in JSON the verdict ``unknown``."""
    name = "a" * 64  # longer than a label may be: refused before any name server is asked
    assert main(["why", f"{name}:80", *source]) == 2
    assert name in capsys.readouterr().err
    assert main(["why", f"{name}:80", "--json", *source]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "unknown"


def test_a_name_that_is_not_looked_up(source: list[str], capsys: Capture) -> None:
    """A name that no rule could allow is answered without a look-up: reason and cure, no address, exit status 1."""
    source = [*source[:2], "--app", "shop"]
    assert main(["why", "Data.in.Labels.invalid.:22", *source]) == 1
    text = capsys.readouterr().out
    assert text.startswith("denied  shop → Data.in.Labels.invalid.:22 (tcp)\n")
    assert "is not looked up" in text
    assert 'to permit: allow = ["data.in.labels.invalid:22"]' in text
    assert "  address" not in text
    assert main(["why", "data.in.labels.invalid:22", "--json", *source]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["addresses"], answer["kind"], answer["name"]) == ([], "none", "data.in.labels.invalid")


def test_what_is_no_name(source: list[str], capsys: Capture) -> None:
    """Of what can be no name nothing can be told, in words that say what is wrong with it."""
    assert main(["why", "a b.test:80", *source]) == 2
    assert "has a space in it, which no name has" in capsys.readouterr().err


def test_report_mode(tmp_path: Path, capsys: Capture) -> None:
    """What is only reported is let through, so its exit status is 0, and both are said."""
    path = tmp_path / "outgate.toml"
    path.write_text('version = 1\n[apps.a]\nuid = [1]\nbilling = true\ntrusted = true\nmode = "report"\n')
    assert main(["why", "10.0.0.1:80", "--config", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("allowed, and reported: enforced it would be denied  a → 10.0.0.1:80")
    assert "  cure" in text


def test_who_you_are_in_a_file(config: Path, capsys: Capture) -> None:
    """Without ``--app`` a file with several apps decides for the one whose user asks."""
    assert main(["why", "10.2.3.4:5432", "--config", str(config)]) == 0
    assert "blog →" in capsys.readouterr().out


def test_nobody_in_a_file(tmp_path: Path, capsys: Capture) -> None:
    """Where a file has several apps and none is the asker's, it wants ``--app``."""
    app = "[apps.{}]\nuid = [{}]\nbilling = true\n"
    path = tmp_path / "outgate.toml"
    path.write_text("version = 1\n" + app.format("a", os.getuid() + 1) + app.format("b", os.getuid() + 2))
    assert main(["why", "10.2.3.4:5432", "--config", str(path)]) == 2
    assert "--app (there are: a, b)" in capsys.readouterr().err


def test_without_a_gate(tmp_path: Path, capsys: Capture) -> None:
    """Where no gate answers nothing can be told: exit status 2, and how to start one."""
    assert main(["why", "8.8.8.8:443", "--socket", str(tmp_path / "gate.sock")]) == 2
    assert "start one with: outgate serve" in capsys.readouterr().err


def test_a_bad_file(tmp_path: Path, capsys: Capture) -> None:
    """A file that cannot be used is exit status 2 with its error."""
    assert main(["why", "8.8.8.8:443", "--config", str(tmp_path / "none.toml")]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_contradictions(capsys: Capture) -> None:
    """``--config`` with ``--socket``, and ``--udp`` with ``tcp://``, are wrong calls."""
    for arguments in (["--config", "x", "--socket", "y"], ["--udp"]):
        with pytest.raises(SystemExit) as end:
            main(["why", "tcp://8.8.8.8:443", *arguments])
        assert end.value.code == 2
        capsys.readouterr()


def test_nothing_is_dialled(gate: Served, capsys: Capture) -> None:
    """Asking makes no socket and no connect: the gate's counts stay as they are."""
    counts = []
    for _ in range(2):
        main(["stats", "--json", "--socket", gate.socket])
        blog = json.loads(capsys.readouterr().out)["apps"]["blog"]
        counts.append({name: value for name, value in blog.items() if name != "processes"})
        main(["why", "8.8.8.8:443", "--socket", gate.socket])
        capsys.readouterr()
    assert counts[0] == counts[1]


def test_the_last_refusal(gate: Served, capsys: Capture) -> None:
    """``--last`` says who was refused what, and exits as for what is denied; where there is nothing it cannot tell."""
    source = ["--socket", gate.socket]
    assert main(["why", "--last", *source]) == 2
    assert "nothing was refused" in capsys.readouterr().err
    with RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            channel.connect(id, ("169.254.169.254", 80))
    for words in ([], ["--pid", str(os.getpid())]):
        assert main(["why", "--last", *words, *source]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "denied  blog → 169.254.169.254:80 (tcp)"
        assert f"  process  {os.getpid()} raw" in lines
        assert any(line.startswith("  call     connect, EACCES, ") for line in lines)
        assert '  cure     to permit: except = ["169.254.169.254:80"]' in lines
    assert main(["why", "--last", "--json", "--pid", str(os.getpid()), *source]) == 1
    assert json.loads(capsys.readouterr().out)["class"] == "metadata"
    assert main(["why", "--last", "--pid", "1", "--json", *source]) == 2
    assert json.loads(capsys.readouterr().out)["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--last", "x:1"], "leave out the destination"),
        (["--last", "--udp"], "leave out the destination"),
        (["--pid", "7", "x:1"], "--pid goes with --last"),
        (["--last", "--pid", "x"], "'x' is no number of a process"),
        (["--last", "--pid", "0"], "'0' is no number of a process"),
        ([], "say HOST:PORT, or --last"),
    ],
)
def test_wrong_calls_about_the_last(words: list[str], sentence: str, capsys: Capture) -> None:
    """What does not go together is said."""
    with pytest.raises(SystemExit) as end:
        main(["why", *words])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
