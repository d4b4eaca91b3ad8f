"""A program that a test drives line by line: what it does goes through the gate, what comes of it comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from outgate.core import paths
from outgate.testing.running import RunningGate, ThreadGate

#: What such a program is, on standard input and output.
CODE = """
import json, socket, sys
names = {"socket": socket}
for line in sys.stdin:
    code = json.loads(line)
    try:
        try:
            value = eval(compile(code, "<test>", "eval"), names)
        except SyntaxError:
            value = exec(compile(code, "<test>", "exec"), names)
        answer = {"value": value if isinstance(value, (bool, int, float, str, list, type(None))) else repr(value)}
    except Exception as e:
        facts = {name: getattr(e, name, None) for name in ("errno", "code", "quota", "retry_after")}
        answer = {"error": type(e).__name__, "text": str(e), "kinds": [c.__name__ for c in type(e).__mro__], **facts}
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """The program's line raised.

    :ivar name: of the exception's class; ``kinds`` has those it derives from, the other fields are the exception's.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer['error']}: {answer['text']}")
        self.name: str = answer["error"]
        self.kinds: list[str] = answer["kinds"]
        self.errno: int | None = answer["errno"]
        self.code: str | None = answer["code"]
        self.quota: str | None = answer["quota"]
        self.retry_after: float | None = answer["retry_after"]


class Driven:
    """One such program; ends with the ``with`` block.

    :param socket: of the gate that it finds, in place of the gate's own.
    """

    def __init__(self, gate: RunningGate | ThreadGate, socket: str = "") -> None:
        pipe = subprocess.PIPE
        environ = {**gate.environ(), **({paths.SOCKET_VARIABLE: socket} if socket else {})}
        self._process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", CODE], env=environ, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    @classmethod
    def of(cls, process: subprocess.Popen[str]) -> Driven:
        """Return one that was started elsewhere: :data:`CODE`, with its standard streams in pipes."""
        made = cls.__new__(cls)
        made._process = process
        return made

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def begin(self, code: str) -> None:
        """Have it run a line, without waiting for what comes of it (:meth:`end`)."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Return the value of the line that was begun. Raises :class:`Refused` where it raised."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the program has ended: {self._process.stderr.read()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer)
        return answer["value"]

    def do(self, code: str) -> Any:
        """Have it run a line, and return its value."""
        self.begin(code)
        return self.end()

    def kill(self) -> None:
        """End it at once, in the midst of a line."""
        self._process.kill()
