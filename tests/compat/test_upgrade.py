"""An upgrade from a commit that was written down, for real: its own programs and gates beside those of this tree."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from compat.record import PRINTED, check_out, run_program
from support import peers
from support.commands import OUTGATE, PATIENCE, environment, outgate, serving
from support.upgrades import ONE, Echo, Program, config

HERE = Path(__file__).parent
COMMITS = {path.parent.name: path.read_text().strip() for path in sorted(HERE.glob("*/commit"))}
PATHS = ("direct", "relay")

pytestmark = [pytest.mark.full, pytest.mark.timeout(180)]


@pytest.fixture(scope="module", params=list(COMMITS))
def earlier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sources of an earlier commit; a tree without its history cannot have them."""
    try:
        yield check_out(COMMITS[request.param], tmp_path_factory.mktemp("earlier"))
    except LookupError as error:
        pytest.skip(f"the commit of {request.param} is not here: {error}")


def of(src: Path) -> dict[str, str]:
    """Return an environment in which ``outgate`` is that of these sources."""
    return environment(PYTHONPATH=str(src))


@pytest.mark.parametrize("path", PATHS)
def test_an_earlier_client(earlier: Path, path: str, tmp_path: Path) -> None:
    """A program with the client of then has of a gate of today all that it had, and so have the commands of then."""
    with peers.echo() as peer, serving(tmp_path, "--config", config(tmp_path, path)) as gate:
        assert run_program(gate.socket, peer.port, earlier) == PRINTED
        for words in (("status", "--json"), ("stats", "--json"), ("ps", "--json"), ("why", "127.0.0.1:80")):
            done = outgate(*words, "--socket", gate.socket, env=of(earlier))
            assert (done.returncode, done.stderr) == (0, ""), words


@pytest.mark.parametrize("path", PATHS)
def test_an_earlier_gate(earlier: Path, path: str, tmp_path: Path) -> None:
    """A program of today, and its commands, have of a gate of then all that one of then had."""
    with peers.echo() as peer, serving(tmp_path, "--config", config(tmp_path, path), env=of(earlier)) as gate:
        assert run_program(gate.socket, peer.port) == PRINTED
        for words in (("status", "--json"), ("stats", "--json"), ("ps", "--json"), ("why", "127.0.0.1:80")):
            done = outgate(*words, "--socket", gate.socket)
            assert (done.returncode, done.stderr) == (0, ""), words


@pytest.mark.parametrize("path", PATHS)
def test_a_takeover(earlier: Path, path: str, tmp_path: Path) -> None:
    """A gate of today takes the place of one of then: every byte arrives and is billed once. The reverse is refused."""
    options = ("--config", config(tmp_path, path))
    with peers.echo() as peer, Echo() as echo, serving(tmp_path, *options, env=of(earlier)) as first:
        program = Program(first, peer.port, echo.port)
        assert program.said() == "ready"
        assert program.ask() == ["idle", "two", "new"]
        with serving(tmp_path, *options, "--takeover") as second:
            assert first.process.wait(20) == 0
            assert program.ask() == ["idle", "two", "new"]
            back = subprocess.run(
                [*OUTGATE, "serve", *options, "--socket", second.socket, "--log", "/dev/null", "--takeover"],
                **{"env": of(earlier), "capture_output": True, "text": True, "timeout": PATIENCE},
            )
            assert back.returncode == 2
            assert "hands over as version" in back.stderr
            assert program.ask() == ["idle", "two", "new"]
            outcomes = program.finish()
            assert [same for same, _ in outcomes] == [True] * 4
            second.wait_for_counts("blog", open=0, held=0, connects=11)
            second.stop()
        ends = [line for line in second.log() if line["event"] == "end"]
        carried = sum(count for _, count in outcomes)
        total = carried + 3 * len("idle") + 3 * len("new") + 2 * len("late")
        tcp = [line for line in ends if line["transport"] == "tcp"]
        assert sum(line["sent"] for line in tcp) == sum(line["received"] for line in tcp) == total


def test_a_death(earlier: Path, tmp_path: Path) -> None:
    """A gate of then dies, and one of today goes on with its connections: they are metered to their last byte."""
    options = ("--config", config(tmp_path))
    with peers.echo() as peer, serving(tmp_path, *options, env=of(earlier)) as first:
        program = Program(first, peer.port, code=ONE)
        assert program.said() == "ready"
        assert program.ask() == ["x", "opened"]
        first.stop(signal.SIGKILL)
        with serving(tmp_path, *options) as second:
            assert program.ask() == ["x", "opened"]
            assert program.finish() == "end"
            second.wait_for_counts("blog", open=0, held=0)
            second.stop()
        ends = [line for line in second.log() if line["event"] == "end"]
        # Whether it was closed or its process has ended is what came to the gate first.
        assert [(line["sent"], line.get("incomplete")) for line in ends if line["sent"]] == [(2, None)]
