"""``outgate env``: the variables by which programs find a door, in every way that they can be asked for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.cli.main import main
from outgate.core.doors.variables import url, variables
from support import doors
from support.doors import Doors

Capture = pytest.CaptureFixture[str]

CONFIG = """
version = 1
[gate]
socks = ["0.0.0.0:1080"]
http_connect = ["[::1]:3128"]
doors_exposed = true
[apps.blog]
token_file = "{token}"
billing = true
[apps.bare]
uid = [{uid}]
billing = true
"""


@pytest.fixture(autouse=True)
def _no_token_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command find no token but the one it is given, and leave none behind."""
    monkeypatch.setenv("OUTGATE_TOKEN_FILE", "")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A gate with doors."""
    with doors.running(tmp_path_factory.mktemp("doors")) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration that no gate serves, and the token ``x…x`` of its app."""
    token = tmp_path / "blog.token"
    token.write_text("x" * 32 + "\n")
    path = tmp_path / "outgate.toml"
    path.write_text(CONFIG.format(token=token, uid=os.getuid()))
    return path


def test_a_shell_reads_it(door: Doors, capsys: Capture) -> None:
    """What is printed can be evaluated by a shell, whatever is in it, and has both spellings of each variable."""
    assert main(["env", "--app", "blog", "--socket", door.gate.socket]) == 0
    said = capsys.readouterr().out
    shell = subprocess.run(
        ["sh", "-c", 'eval "$1"; env', "sh", said], env={"PATH": os.defpath}, capture_output=True, text=True, check=True
    ).stdout
    seen = dict(line.split("=", 1) for line in shell.splitlines())
    for name, value in {
        "ALL_PROXY": door.url("socks5"),
        "HTTPS_PROXY": door.url("http"),
        "HTTP_PROXY": door.url("socks5"),
        "NO_PROXY": "localhost,127.0.0.1,::1",
    }.items():
        assert seen[name] == seen[name.lower()] == value


def test_a_token_says_which_app(door: Doors, tmp_path: Path, capsys: Capture) -> None:
    """With a token alone the gate says whose it is, and another app's name beside it is refused."""
    path = tmp_path / "token"
    path.write_text(door.tokens["shop"])
    options = ["env", "--token-file", str(path), "--socket", door.gate.socket, "--json"]
    assert main([*options, "--only", "http"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["app"] == "shop"
    assert set(said["variables"].values()) == {door.url("http", "shop"), "localhost,127.0.0.1,::1"}
    assert main([*options, "--app", "blog"]) == 1
    assert "is that of app shop, not of blog" in json.loads(capsys.readouterr().out)["error"]


def test_of_a_configuration(file: Path, capsys: Capture) -> None:
    """Without a gate the doors are those of a file; an address that stands for all becomes one, or the one named."""
    assert main(["env", "--app", "blog", "--config", str(file), "--plain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"ALL_PROXY=socks5h://blog:{'x' * 32}@127.0.0.1:1080",
        f"HTTPS_PROXY=http://blog:{'x' * 32}@[::1]:3128",
    ]
    assert main(["env", "--app", "blog", "--config", str(file), "--plain", "--host", "2001:db8::7"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("@[2001:db8::7]:3128")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--app", "bare"], "app bare has no token, so it can use no door; write token_file = FILE"),
        (["--app", "missing"], "no app 'missing'; there are blog, bare"),
        ([], "which app? say --app NAME, or --token-file FILE"),
        (["--app", "blog", "--token-file", "/missing"], "who runs this must be allowed to read it"),
    ],
)
def test_what_cannot_be_printed(file: Path, options: list[str], said: str, capsys: Capture) -> None:
    """What is missing is named, with what to do about it."""
    assert main(["env", "--config", str(file), *options]) == 1
    assert said in capsys.readouterr().err


def test_a_gate_without_doors(file: Path, capsys: Capture) -> None:
    """Where there is no such door, the key that makes one is named."""
    file.write_text("".join(line for line in file.read_text().splitlines(True) if not line.startswith("http")))
    assert main(["env", "--config", str(file), "--app", "blog", "--only", "http"]) == 1
    assert 'gate.http_connect = ["127.0.0.1:1080"]' in capsys.readouterr().err


def test_credentials_are_escaped() -> None:
    """Characters that have a meaning in URLs stand in them escaped, and what there is one door for goes by that."""
    made = url("socks5h", "a.b-c_d", "p@ss/w:rd?#%", "[::1]:1080")
    assert made == "socks5h://a.b-c_d:p%40ss%2Fw%3Ard%3F%23%25@[::1]:1080"
    assert {value for name, value in variables(made, "").items() if name.lower() != "no_proxy"} == {made}
    assert {value for name, value in variables("", made).items() if name.lower() != "no_proxy"} == {made}
