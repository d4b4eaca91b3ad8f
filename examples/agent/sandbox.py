"""Run code that a machine has written under a narrow policy, and tell what it did and what it was refused."""

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Seconds that a program has, bytes that it may write to a file, and characters of its output that are read.
LIMIT, LARGEST, READ = 20, 10_000_000, 2_000
#: Seconds that its gate may take to end after it.
ENDING = 5


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    :ivar status: of its exit, ``None`` where it did not end in time.
    :ivar output: what it printed, errors too; the end of it where it is long.
    :ivar refusals: what it was refused: why, and what would permit it.
    """

    status: "int | None"
    output: str
    refusals: Sequence[str]

    @property
    def feedback(self) -> str:
        """What whoever wrote the program should know."""
        lines = [f"It ended with status {self.status}." if self.status is not None else f"It ran over {LIMIT} s."]
        lines += [f"The network policy refused: {each}" for each in self.refusals]
        if self.refusals:
            lines.append("The policy stays as it is. Do the task without this, or say that it cannot be done.")
        return "\n".join([*lines, "It printed:", self.output])


def run(code: str, permitted: Sequence[str]) -> Outcome:
    """Run a Python program in a folder of its own, with an environment that holds nothing of ours.

    Its connections are carried by a gate (``--path relay``), so that it holds no socket that it could turn elsewhere;
    what goes round the client meets an empty network. Files are not what outgate is about: run it as another user.

    :param permitted: options of ``outgate run`` that say what it may reach: ``["--allow", "api.example.com:443"]``.
    """
    with tempfile.TemporaryDirectory(prefix="agent-") as name:
        folder = Path(name)
        (folder / "work").mkdir()
        program, log, output = folder / "work" / "program.py", folder / "decisions.jsonl", folder / "output"
        program.write_text(code, encoding="utf-8")
        command = [sys.executable, "-m", "outgate", "run", "-q", "--path", "relay", "--log", str(log), *permitted]
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--", sys.executable, str(program)],
                cwd=program.parent,
                env={"PATH": os.environ["PATH"], "HOME": str(program.parent), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST)),
            )
            try:
                status = process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end(process)
        return Outcome(status, output.read_text(encoding="utf-8", errors="replace")[-READ:], _refusals(log))


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a program and what it has started in its session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _refusals(log: Path) -> "list[str]":
    """Return what the decision log tells of refusals, each once."""
    denied = [line for line in _whole(log) if line["event"] == "decision" and line["verdict"] == "deny"]
    return list(dict.fromkeys(f"{line['reason']}; {line.get('cure', '')}".rstrip("; ") for line in denied))


def _whole(log: Path) -> "list[dict[str, str]]":
    """Return the lines of a decision log when its gate has ended, which it does after the program."""
    deadline = time.monotonic() + ENDING
    while True:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
        if not lines or lines[-1]["event"] == "stop" or time.monotonic() > deadline:
            return lines  # none: nothing was started, and the output says why
        time.sleep(0.02)  # nobody tells of a line in a file
