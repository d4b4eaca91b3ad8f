"""Run the examples of a page on a stage, from top to bottom, as a reader would type them.

Where a page shows output, what comes is compared with it: numbers, times and leases may be others, `...` stands for any
lines and `…` for any text; addresses, ports, names and errors must be the same. So must what is printed where a comment
behind `print(…)` says what. A line `^C` is where the reader would press it. A command that ends in `&` goes on, and so
does the page when it has said something. All Python of a page is one program, run where its first block stands.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable

from support.pages import Block, commands
from support.stage import Stage

#: Seconds after which a command is taken for hanging. Nothing is asserted on it.
PATIENCE = 90.0

#: What only root is told; the pages show what everybody else sees.
_ROOT_ONLY = " (as root it can leave: use another user)"
_VARIES = re.compile(
    r"(?P<kept>\d+\.\d+\.\d+\.\d+(?:[:/]\d+)?|Errno \d+|(?<=[\w\]]:)\d+|(?<=\w)[\d.]+)|(?P<lease>\b[0-9a-f]{8}-\d+\b)"
    r"|\d{4}-\d\d-\d\d[T ][\d:.]+Z?|\d\d:\d\d:\d\d|\d[\d,.]*"
)
_GOES_ON = re.compile(r"(.*[^&])&\s*(?:#.*)?")


class NotAsShown(AssertionError):
    """An example did something else than its page says."""


def normal(line: str) -> str:
    """Return a line of output without what differs from run to run."""

    def put(match: re.Match[str]) -> str:
        return match["kept"] or ("LEASE" if match["lease"] else "0")

    return " ".join(_VARIES.sub(put, line.replace(_ROOT_ONLY, "")).split())


def agrees(shown: list[str], came: list[str]) -> bool:
    """Tell whether output is what a page shows."""
    parts = []
    for line in shown:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append(".*?".join(re.escape(part) for part in normal(line).split("…")) + r"\n")
    text = "".join(normal(line) + "\n" for line in came)
    return re.fullmatch("".join(parts), text) is not None


class Session:
    """The state of a page while it is run."""

    def __init__(self, stage: Stage, page: list[Block]) -> None:
        self.stage = stage
        self._page = page
        self._python_done = False
        self.count = 0

    def play(self) -> None:
        """Run everything. Raises :class:`NotAsShown`."""
        for block in self._page:
            if block.excuse is not None:
                continue
            for name, text in block.files.items():
                self._put(name, text)
            if "file" in block.notes:
                self._put(block.notes["file"], block.text)
            elif block.language == "console":
                self._console(block)
            elif block.language == "python" and not self._python_done:
                self._python_done = True
                self._python()

    def _put(self, name: str, text: str) -> None:
        path = self.stage.at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def _console(self, block: Block) -> None:
        self._commands(block, block.notes.get("before", ""), 0)
        self._commands(block, block.text, int(block.notes.get("exit status", "0")))
        self._commands(block, block.notes.get("after", ""), 0)

    def _commands(self, block: Block, text: str, last: int) -> None:
        found = commands(text)
        for number, (command, shown) in enumerate(found):
            self.count += 1
            self._run(block, command, shown, last if number == len(found) - 1 else 0)

    def _run(self, block: Block, command: str, shown: list[str], status: int) -> None:
        while shown and not shown[-1].strip():
            shown = shown[:-1]
        ends: int | str | None
        if goes_on := _GOES_ON.fullmatch(command):
            came, ends = self._begin(goes_on[1], shown)
        elif shown[-1:] == ["^C"]:
            shown = shown[:-1]
            came, ends = self._interrupt(command, shown)
        else:
            came, ends = self._finish(command)
        if ends not in (None, status):
            self._complain(block, command, f"ended with {ends} instead of {status}", came)
        if shown and not agrees(shown, came):
            self._complain(block, command, "said something else than\n  " + "\n  ".join(shown), came)

    def _begin(self, command: str, shown: list[str]) -> tuple[list[str], int | None]:
        """Start a command; return what it has said when that is what is shown, or else anything, and how it ended."""
        process = self.stage.start(command)
        came = _read(process, lambda lines: bool(lines) and (not shown or agrees(shown, lines)))
        return came, process.poll() if came else process.wait(PATIENCE)

    def _interrupt(self, command: str, shown: list[str]) -> tuple[list[str], None]:
        """Press Ctrl-C when a command has said what is shown."""
        process = self.stage.start(command)
        came = _read(process, lambda lines: agrees(shown, lines))
        os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
        return came, None

    def _finish(self, command: str) -> tuple[list[str], int | str]:
        """Run a command to its end, and return what it said and its exit status."""
        process = self.stage.start(command)
        try:
            return process.communicate(timeout=PATIENCE)[0].splitlines(), process.returncode
        except subprocess.TimeoutExpired as e:
            return (e.output or b"").decode(errors="replace").splitlines(), "no end"

    def _complain(self, block: Block, command: str, what: str, came: list[str]) -> None:
        raise NotAsShown(f"{block!r}: $ {command}\n{what}\nIt said:\n  " + "\n  ".join(came))

    def _python(self) -> None:
        """Run all Python of the page as one program, whose line numbers are the page's."""
        mine = [each for each in self._page if each.language == "python" and not {"not run", "file"} & set(each.notes)]
        program: list[str] = []
        for block in mine:
            for line, text in (
                (block.lines.get("before"), block.notes.get("before", "")),
                (block.line, block.text),
                (block.lines.get("after"), block.notes.get("after", "")),
            ):
                if text:
                    assert line is not None
                    program += [""] * (line - 1 - len(program))
                    program += text.splitlines()
        name = os.path.basename(mine[0].page)
        (self.stage.work / name).write_text("\n".join(program) + "\n", encoding="utf-8")
        wrapper = next((each.notes["with"] for each in mine if "with" in each.notes), "outgate run -q")
        self._run(mine[0], f"{wrapper} -- python {name}", _printed(mine), 0)
        self.count += len(mine)


def _printed(program: list[Block]) -> list[str]:
    """Return what a page says that its calls of print() print, in comments behind them; nothing if it says nothing."""
    calls = [line.partition("  # ") for block in program for line in block.text.splitlines() if "print(" in line]
    return [said or "..." for _, _, said in calls] if any(said for _, _, said in calls) else []


def _read(process: subprocess.Popen[str], is_enough: Callable[[list[str]], bool]) -> list[str]:
    """Return the lines that a process has printed when they are enough, it has ended, or patience has."""
    assert process.stdout is not None
    fd, data, end = process.stdout.fileno(), b"", time.monotonic() + PATIENCE
    while not is_enough(lines := data.decode(errors="replace").splitlines()):
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            break
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return lines
