"""The recipes in ``examples/travel`` do what they say, with a real INN server, and a real Redis where they use one."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from outgate.testing.running import PATIENCE
from support.corp import CORP, Corp
from support.fenced import events
from support.servers import inn, redis
from support.serving import Serving
from support.world import DOMAIN, World

RECIPES = Path(__file__).parents[2] / "examples/travel"
NEWS, GROUP = f"news4.{DOMAIN}", inn.GROUPS[0]
CACHE = f"cache.{CORP}"
URL = f"redis://:{quote(redis.PASSWORD)}@{CACHE}:6379"

pytestmark = [
    pytest.mark.skipif(sys.version_info >= (3, 13), reason="nntplib has left Python 3.13"),
    pytest.mark.parametrize("path", ["direct", "relay"]),
]


@pytest.fixture
def gate(world: World, tmp_path: Path, path: str) -> Iterator[Serving]:
    """A gate for all programs of a recipe, which may reach the company's Redis besides public servers."""
    with Serving(world, tmp_path, path, (f"{CACHE}:6379",)) as serving:
        yield serving


def _check(gate: Serving, front: str, workers: list[str]) -> None:
    """Assert that three processes had one session: the front end's line, then one for each worker."""
    _, pid, greeting, count, _ = front.split(maxsplit=4)
    assert (greeting, count) == ("200", "5")
    found = [line.split(maxsplit=2) for line in workers if line.startswith("worker ")]
    assert [subject for _, _, subject in found] == list(inn.SUBJECTS[1:3])
    assert len({pid, *(each for _, each, _ in found)}) == 3
    made = [line for line in events(gate.log, "decision") if line["port"] == 119]
    assert len(made) == 1


def test_process_pool(gate: Serving) -> None:
    """Two workers of two pools read on, and the front end after them."""
    done = gate.python(RECIPES / "pool.py", NEWS, GROUP)
    assert done.returncode == 0, done.stderr
    front, *workers, last = done.stdout.splitlines()
    _check(gate, front, workers)
    assert last.split()[-1] == "4"


def test_text(gate: Serving) -> None:
    """Two programs that get a text, in a variable and in JSON, read on after the front end has closed its socket."""
    done = gate.python(RECIPES / "text_front.py", NEWS, GROUP)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    assert [(who, code) for who, _, code, *_ in lines] == [
        ("front", "200"), ("front", "211"), ("worker", "223"), ("worker", "223")
    ]  # fmt: skip
    assert [rest[0].split()[0] for *_, rest in [(line[:3], line[3:]) for line in lines[2:]]] == ["2", "3"]
    assert len({pid for _, pid, *_ in lines}) == 3


def test_huey(gate: Serving, tmp_path: Path) -> None:
    """The front end ends with its task in SQLite; a worker does it and leaves the next to another worker."""
    variables = {"HUEY_FILE": str(tmp_path / "huey.db")}
    front = gate.python(RECIPES / "huey_front.py", NEWS, GROUP, **variables)
    assert front.returncode == 0, front.stderr
    workers = [gate.python(RECIPES / "huey_worker.py", **variables) for _ in range(2)]
    assert [done.returncode for done in workers] == [0, 0], [done.stderr for done in workers]
    _check(gate, front.stdout, [line for done in workers for line in done.stdout.splitlines()])
    assert gate.python(RECIPES / "huey_worker.py", **variables).stderr == "nothing to do\n"


def test_rq(gate: Serving, corp: Corp) -> None:
    """The front end ends with its job in Redis; the worker forks once for each of two jobs."""
    assert corp.redis
    variables = {"REDIS_URL": URL, "PYTHONPATH": str(RECIPES)}
    front = gate.python(RECIPES / "rq_front.py", NEWS, GROUP, **variables)
    assert front.returncode == 0, front.stderr
    words = ("--url", URL, "--burst", "--max-jobs", "2", "news")
    done = gate.run("rq", "worker", *words, **variables)
    assert done.returncode == 0, done.stderr
    _check(gate, front.stdout, done.stdout.splitlines())


@pytest.mark.parametrize("form", [(), ("--pickle",)], ids=["text", "pickle"])
def test_celery(gate: Serving, corp: Corp, tmp_path: Path, form: tuple[str, ...]) -> None:
    """Two children of a worker, each for one task, read on after the front end has ended: as text, and pickled."""
    assert corp.redis
    # Celery's word against pickles as root; everything in this world is.
    variables = {"REDIS_URL": URL, "PYTHONPATH": str(RECIPES), "C_FORCE_ROOT": "1"}
    output = tmp_path / "celery.out"
    words = ("worker", "--concurrency", "1", "--without-gossip", "--without-mingle", "--loglevel", "WARNING")
    with output.open("wb") as file:
        worker = gate.start("celery", "--app", "celery_tasks", *words, stdout=file, **variables)
    try:
        front = gate.python(RECIPES / "celery_front.py", NEWS, GROUP, *form, **variables)
        assert front.returncode == 0, front.stderr
        _wait_for(output, inn.SUBJECTS[2])
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    _check(gate, front.stdout, _said(output))


def _wait_for(output: Path, text: str) -> None:
    """Wait until a text stands in a file."""
    deadline = time.monotonic() + PATIENCE
    while text not in output.read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not said: {text}\n{output.read_text()}")
        time.sleep(0.05)  # nobody tells of a line in a file


def _said(output: Path) -> list[str]:
    """Return what tasks printed, without what Celery writes before it."""
    return re.findall(r"worker \d+ .*", output.read_text())
