"""``make demo`` and ``make tour`` tell the truth: status 0 where all of it happened, and another where it did not."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.slow


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Run a demo as where there is no display."""
    environ = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=55, env=environ)


def test_the_demo() -> None:
    """It shows groups, articles as they arrive, two processes of one connection, its lines in the log, a refusal."""
    done = run(EXAMPLES / "demo.py")
    assert (done.returncode, done.stderr) == (0, "")
    opener = re.search(r"front end +process (\d+) +opened the connection", done.stdout)[1]
    worker = re.search(r"back end +process (\d+) +read on", done.stdout)[1]
    assert opener != worker
    assert len(re.findall(r"^ {4,}\S.*\(.* 2026-11-0\d \d\d:\d\d\)$", done.stdout, re.MULTILINE)) == 6
    assert re.search(
        rf'"event": "decision", "lease": "(\S+)", "pid": {opener}.*\n.*"event": "end", "lease": "\1"', done.stdout
    )
    assert "connection 2: CAPABILITIES GROUP OVER" in done.stdout
    assert 'except = ["169.254.169.254:80"]' in done.stdout


def test_the_demo_of_what_does_not_work(tmp_path: Path) -> None:
    """Where the back end cannot take the session up, the demo says what did not happen, and its status is 1."""
    folder = tmp_path / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__", "news.db*"))
    with (folder / "newsreader" / "back.py").open("a") as file:
        file.write("\ndel sessions.read_on\n")
    done = run(folder / "demo.py")
    assert done.returncode == 1
    assert "demo: this did not happen: all articles have arrived" in done.stderr


def test_the_demo_where_somebody_looks(tmp_path: Path) -> None:
    """With a browser and a display the page is opened, stays after all was shown, and Ctrl-C ends it all well."""
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" >{opened}\n')
    browser.chmod(0o755)
    ours, theirs = os.openpty()
    environ = {**os.environ, "DISPLAY": ":none", "BROWSER": str(browser), "NO_COLOR": "1"}
    words = [sys.executable, str(EXAMPLES / "demo.py")]
    # Its terminal is this one, so that Ctrl-C in it goes to all that belongs to it.
    process = subprocess.Popen(words, env=environ, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    while b"Ctrl-C ends it all." not in shown:
        shown += os.read(ours, 4096)
    page = re.search(rb"The page is open: (\S+)", shown)[1].decode()
    assert opened.read_text() == page
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=10) as answer:
        assert b"was told QUIT" in answer.read()
    os.killpg(process.pid, signal.SIGINT)
    with contextlib.suppress(OSError):  # its terminal is gone
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert process.wait(30) == 0
    assert b"Next:" in shown


def test_the_tour() -> None:
    """Three unmodified programs do their work, and a fourth is refused."""
    done = run(EXAMPLES / "tour.py")
    assert done.returncode == 0, done.stderr
    for each in ("1 message", "demo.sockets, 1 article", "200 Hello over TLS", "169.254.169.254 (metadata)"):
        assert each in done.stdout
