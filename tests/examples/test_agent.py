"""The agent's sandbox: what machine-written code is refused reaches the model in words, and so does all else of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sandbox

AGENT = Path(__file__).parents[2] / "examples" / "agent"

pytestmark = pytest.mark.slow


class Quiet(SimpleHTTPRequestHandler):
    """A web server that says nothing of its own."""

    def log_message(self, *_: object) -> None:
        """Keep it."""


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a web server on loopback, which has the example's list."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(AGENT))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def agent(port: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the agent on the task of the documentation."""
    rules = ("--allow", "tcp://public:443", "--except", f"tcp://127.0.0.1:{port}")
    task = f"How many entries has the list in http://127.0.0.1:{port}/people.json ?"
    return subprocess.run(
        [sys.executable, "agent.py", *rules, *words, task], cwd=AGENT, capture_output=True, text=True, timeout=55
    )


def test_the_model_learns_from_a_refusal(port: int) -> None:
    """The first program reaches for credentials and is refused, the model is told why, and its second does the task."""
    done = agent(port)
    assert (done.returncode, done.stderr) == (0, "")
    first, told, second = (done.stdout.index(each) for each in ("attempt 1", "the model is told", "attempt 2"))
    assert first < told < second
    assert "The network policy refused: default → 169.254.169.254:80 (tcp) denied" in done.stdout[told:second]
    assert 'except = ["169.254.169.254:80"]' in done.stdout[told:second]
    assert done.stdout.endswith("-- it works\n3\n")


def test_a_model_that_does_not_learn(port: int, tmp_path: Path) -> None:
    """A model that tries the same again is told again, and after three attempts the agent gives up."""
    stubborn = tmp_path / "stubborn.py"
    stubborn.write_text("print('import socket; socket.create_connection((\"10.0.0.1\", 80), 5)')")
    done = agent(port, "--model", f"{sys.executable} {stubborn}")
    assert done.returncode == 1
    assert done.stdout.count("10.0.0.1:80 (tcp) denied: 10.0.0.1 (private)") >= 3
    assert "it was not done" in done.stdout


def test_what_swallows_its_refusal_is_refused_all_the_same() -> None:
    """A program that hides its refusal and ends with status 0 is known by the log."""
    outcome = sandbox.run(
        "import socket\ntry: socket.create_connection(('10.0.0.1', 80), 5)\nexcept OSError: pass\n", []
    )
    assert outcome.status == 0
    assert "10.0.0.1 (private)" in outcome.feedback


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('x' * 100_000)", "x" * 100),
        ("this is no program", "SyntaxError"),
        ("import os; print(sorted(os.environ))", "LC_ALL"),
        ("open('large', 'wb').write(b'x' * 20_000_000)", "File too large"),
    ],
)
def test_whatever_a_program_does_is_told_briefly(code: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that is long is cut, errors are told, and nothing of the agent's environment is there to be printed."""
    monkeypatch.setenv("SECRET_KEY", "do not tell")
    outcome = sandbox.run(code, [])
    assert says in outcome.feedback
    assert "SECRET_KEY" not in outcome.feedback
    assert len(outcome.feedback) < sandbox.READ + 500


def test_a_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not end is ended, and what it has started with it."""
    monkeypatch.setattr(sandbox, "LIMIT", 2)
    outcome = sandbox.run("import subprocess; subprocess.run(['sleep', '1000'])", [])
    assert outcome.status is None
    assert "It ran over 2 s." in outcome.feedback
