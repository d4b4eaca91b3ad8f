"""Who a program is: by the socket it came by, its token, its user or its group, in that order; and wrong tokens."""

from __future__ import annotations

import os
import secrets
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.cli.main import main
from outgate.errors import ConfigError
from outgate.gate.configuration import config, tokens
from outgate.gate.configuration.places import Place
from outgate.testing.running import RunningGate
from support.raw import RawChannel

BLOG, WIKI, UNKNOWN = (secrets.token_urlsafe(32) for _ in range(3))

CONFIG = """
version = 1
[apps.boxed]
socket = "boxed.sock"
billing = true
trusted = true
[apps.blog]
token_file = "blog.token"
billing = true
trusted = true
[apps.wiki]
token_file = "wiki.token"
uid = [{user}]
billing = true
trusted = true
[apps.group]
gid = [{group}]
billing = true
trusted = true
"""


def write_token(folder: Path | str, name: str, token: str, mode: int = 0o600) -> None:
    """Write a token file as an administrator would."""
    path = Path(folder) / name
    path.write_text(token + "\n", encoding="utf-8")
    path.chmod(mode)


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate with an app for each way to be one; by its user this process is the wiki."""
    gate = RunningGate(config=CONFIG.format(user=os.getuid(), group=os.getgid()))
    write_token(gate.folder, "blog.token", BLOG)
    write_token(gate.folder, "wiki.token", WIKI, 0o640)
    with gate:
        yield gate
        assert gate.faults == []


def hello(path: str, token: str | None = None, op: str = "new", process: str | None = None) -> dict[str, Any]:
    """Say hello, with a token or without, and return the reply to a request that only apps may make."""
    with RawChannel(path, token=process) as channel:
        assert channel.hello is not None
        if token is not None:
            channel.hello["identity"] = token
        fields = {"family": 4, "count": 1} if op == "new" else {}
        return channel.ask(op, **fields)


def app_of(reply: dict[str, Any]) -> str:
    """Return the app of a reply with a greeting in it."""
    assert "error" not in reply, reply
    return str(reply["hello"]["app"])


def test_a_token_says_which_app(gate: RunningGate) -> None:
    """Two programs of one user are two apps by their tokens; without one it is the user that counts."""
    assert app_of(hello(gate.socket, BLOG)) == "blog"
    assert app_of(hello(gate.socket, WIKI)) == "wiki"
    assert app_of(hello(gate.socket)) == "wiki"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be a second user")
def test_the_primary_group_comes_last(gate: RunningGate) -> None:
    """A program whose user no app lists is the app of its group, unless it shows a token."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setresgid(os.getgid(), os.getgid(), os.getgid())
            os.setresuid(65534, 65534, 65534)
            said = f"{app_of(hello(gate.socket))} {app_of(hello(gate.socket, BLOG))}"
            os.write(write, said.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with open(read) as pipe:
        assert pipe.read() == "group blog"


def test_a_socket_of_its_own_comes_first(gate: RunningGate) -> None:
    """Who comes by an app's own socket is that app, whatever token it shows: the administrator has put it there."""
    path = os.path.join(gate.folder, "boxed.sock")
    for token in (None, BLOG, UNKNOWN):
        assert app_of(hello(path, token)) == "boxed"


WRONG = {
    "of no app": UNKNOWN,
    "cut": BLOG[:-1],
    "longer": BLOG + "A",
    "another letter": BLOG[:-1] + ("A" if BLOG[-1] != "A" else "B"),
    "of two": (BLOG + WIKI)[:256],
    "not ASCII": "ä" * 40,
    "a surrogate": "\\udc80" * 40,
    "spaces": " " * 40,
}


@pytest.mark.parametrize("token", WRONG.values(), ids=WRONG)
def test_every_wrong_token_gets_the_same_refusal(gate: RunningGate, token: str) -> None:
    """A token of no app is refused, in the same words for each, and its user does not become another app by it."""
    since = len(gate.log)
    reply = hello(gate.socket, token)
    assert reply == {"error": {"code": "no-app-token", "facts": {}}, "end": True}
    line = gate.wait_for(event="wrong-token", since=since)
    assert (line["uid"], line["pid"]) == (os.getuid(), os.getpid())
    assert token not in str(gate.log.all())


def test_a_token_that_is_too_long_ends_the_channel(gate: RunningGate) -> None:
    """What is longer than any token is no hello; the text is not repeated anywhere."""
    with RawChannel(gate.socket) as channel:
        assert channel.hello is not None
        channel.hello["identity"] = "y" * 257
        channel.post("stat")
        assert "identity" in channel.refusal()
    assert "yyyy" not in str(gate.log.all())


def test_a_process_stays_the_app_it_was(gate: RunningGate) -> None:
    """A process that shows the token of another app on a further channel is refused there and goes on as it was."""
    with RawChannel(gate.socket) as first:
        assert first.hello is not None
        first.hello["identity"] = BLOG
        assert app_of(first.ask("new", family=4, count=1)) == "blog"
        assert hello(gate.socket, WIKI, process=first.token)["error"]["code"] == "no-app-token"
        assert app_of(hello(gate.socket, BLOG, process=first.token)) == "blog"
        assert "error" not in first.ask("new", family=4, count=1)


def test_the_operator_may_ask_whatever_token_it_shows(gate: RunningGate) -> None:
    """``outgate status`` of the gate's own user works in an environment with a token that has become wrong."""
    assert "answer" in hello(gate.socket, UNKNOWN, op="stat")


def test_a_reload_reads_the_files_again(gate: RunningGate) -> None:
    """A token that was changed counts from the reload on; who is there already goes on; a bad file changes nothing."""
    with RawChannel(gate.socket) as there:
        assert there.hello is not None
        there.hello["identity"] = BLOG
        there.ask("new", family=4, count=1)
        write_token(gate.folder, "blog.token", UNKNOWN)
        assert app_of(hello(gate.socket, BLOG)) == "blog"
        assert gate.reload()["ok"]
        assert app_of(hello(gate.socket, UNKNOWN)) == "blog"
        assert hello(gate.socket, BLOG)["error"]["code"] == "no-app-token"
        assert app_of(hello(gate.socket, BLOG, process=there.token)) == "blog"  # it has proven itself
        assert "error" not in there.ask("new", family=4, count=1)
        write_token(gate.folder, "blog.token", UNKNOWN, 0o644)
        answer = gate.reload()
        assert not answer["ok"]
        assert "may be read by everybody" in answer["error"]
        assert app_of(hello(gate.socket, UNKNOWN)) == "blog"
        write_token(gate.folder, "blog.token", BLOG)
        assert gate.reload()["ok"]


PROGRAM = """
import socket, sys
try:
    socket.create_connection(("127.0.0.1", 1))
except OSError as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("blog.token", "blog → 127.0.0.1:1"),
        ("wiki.token", "wiki → 127.0.0.1:1"),
        ("none.token", "the token file {folder}/none.token (OUTGATE_TOKEN_FILE) cannot be used: No such file"),
        ("short.token", "cannot be used: it holds no token"),
        ("empty.token", "cannot be used: it is empty"),
        ("wrong.token", "no app is configured for the token that this program shows"),
    ],
)
def test_a_program_shows_the_token_of_its_file(gate: RunningGate, file: str, said: str) -> None:
    """By OUTGATE_TOKEN_FILE a program is the app of that token; what is wrong with the file is said by name."""
    for name, text in (("short.token", "abc"), ("empty.token", ""), ("wrong.token", UNKNOWN)):
        write_token(gate.folder, name, text)
    environ = {**gate.environ(), "OUTGATE_TOKEN_FILE": os.path.join(gate.folder, file)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True)
    assert said.format(folder=gate.folder) in done.stdout
    assert "PolicyDenied" in done.stdout


# --- the files themselves ---------------------------------------------------------------------------------------------

TABLE = """
version = 1
[apps.blog]
token_file = "{one}"
billing = true
[apps.wiki]
token_file = "{other}"
billing = true
"""


def load(folder: Path, one: str = "one", other: str = "two", **options: Any) -> config.Settings:
    """Read a configuration with these token files in a folder."""
    path = folder / "outgate.toml"
    path.write_text(TABLE.format(one=one, other=other), encoding="utf-8")
    return config.load(str(path), **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two good token files."""
    write_token(tmp_path, "one", BLOG)
    write_token(tmp_path, "two", WIKI)
    return tmp_path


def test_settings_keep_no_token(folder: Path) -> None:
    """What is kept of a token is a digest, and even that is in no text of the settings."""
    settings = load(folder)
    assert settings.apps["blog"].token_file == str(folder / "one")
    found = settings.of_token(BLOG)
    assert found is settings.apps["blog"]
    assert settings.of_token(UNKNOWN) is None
    assert settings.of_token("") is None
    shown = repr(settings) + "".join(map(str, settings.explain()))
    assert BLOG not in shown
    assert repr(settings.apps["blog"].token) not in shown


def test_who_serves_no_apps_reads_no_tokens(folder: Path) -> None:
    """An embedded gate has one app, and needs no file that only the host's gate may read."""
    (folder / "one").unlink()
    settings = load(folder, reads_tokens=False)
    assert settings.apps["blog"].token == b""
    assert settings.of_token("") is None


FILES = {
    "not there": (None, 0o600, "cannot be read: No such file or directory"),
    "everybody reads it": (BLOG, 0o604, "may be read by everybody"),
    "its group writes it": (BLOG, 0o660, "may be changed by others than its owner"),
    "everybody writes it": (BLOG, 0o602, "may be changed by others than its owner"),
    "empty": ("", 0o600, "is empty"),
    "only a line end": ("\n\n", 0o600, "is empty"),
    "short": ("x" * 31, 0o600, "holds a token of 31 characters; from 32 to 256 it may have"),
    "long": ("x" * 257, 0o600, "holds a token of 257 characters"),
    "endless": ("x" * 100_000, 0o600, "holds a token of 258 characters"),
    "two lines": (f"{BLOG}\n{BLOG}", 0o600, "holds no token"),
    "with a space": ("a " * 20, 0o600, "holds no token"),
    "not ASCII": ("ä" * 40, 0o600, "holds no token"),
    "another's": (WIKI, 0o600, "has the token of app 'blog'"),
}


@pytest.mark.parametrize(("text", "mode", "complaint"), FILES.values(), ids=FILES)
def test_a_bad_file_is_refused(folder: Path, text: str | None, mode: int, complaint: str) -> None:
    """The gate refuses a file that is no secret or holds no token, with its path and how to make one, not its text."""
    write_token(folder, "blog.token" if complaint.startswith("has the token") else "two", WIKI)
    bad = folder / "bad"
    if text is not None:
        write_token(folder, "bad", text, mode)
    one = "two" if complaint.startswith("has the token") else "one"
    with pytest.raises(ConfigError) as caught:
        load(folder, one=one, other="bad")
    assert "apps.wiki.token_file: " in str(caught.value)
    assert str(bad) in str(caught.value)
    assert complaint in str(caught.value)
    assert "outgate token new" in str(caught.value) or "chmod 600" in str(caught.value)
    assert BLOG not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", "fifo", "socket"])
def test_what_is_no_file_holds_nobody_up(folder: Path, kind: str) -> None:
    """A folder, a FIFO that nobody writes to and a socket are refused at once."""
    path = folder / "odd"
    listener = socket.socket(socket.AF_UNIX)
    with listener:
        if kind == "folder":
            path.mkdir(0o700)
        elif kind == "fifo":
            os.mkfifo(path, 0o600)
        else:
            listener.bind(str(path))
        with pytest.raises(ConfigError, match=r"is not a file|cannot be read"):
            tokens.read(Place("outgate.toml", "apps.blog.token_file"), str(path))


def test_a_group_may_read_it(folder: Path) -> None:
    """root:blog with 0640 is how a file is given to a program that may not change it."""
    write_token(folder, "one", BLOG, 0o640)
    assert load(folder).of_token(BLOG) is not None


# --- outgate token ----------------------------------------------------------------------------------------------------


def test_a_new_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``outgate token new`` writes 32 random bytes for its owner alone, prints nothing, and replaces no file."""
    one, other = tmp_path / "one", tmp_path / "two"
    before = os.umask(0)
    try:
        assert main(["token", "new", str(one)]) == main(["token", "new", str(other)]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(one.stat().st_mode) == 0o600
    text = one.read_text().strip()
    assert len(text) == 43
    assert text != other.read_text().strip()
    assert tokens.read(Place(""), str(one)) == tokens.digest(text)
    assert capsys.readouterr().out == ""
    assert main(["token", "new", str(one)]) == 1
    assert one.read_text().strip() == text
    assert "is there already" in capsys.readouterr().err


def test_a_token_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path and the reason are said, with exit status 1."""
    assert main(["token", "new", str(tmp_path / "no" / "file")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
