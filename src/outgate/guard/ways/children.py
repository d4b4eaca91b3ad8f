"""Have a way carried out by a child process, and hear what became of it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

from outgate.guard.ways.target import LIMIT, Target, Untried, command

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["Told", "describe", "in_fork", "in_program", "in_python"]

#: What did not happen in a child, by the words of :func:`describe`.
UNTRIED, DIALLED = "untried", "dialled"


class Told(Exception):
    """What stopped a child, in the words of :func:`describe`, to be told on as they are."""

    def __init__(self, words: Mapping[str, Any]) -> None:
        super().__init__(words["text"])
        self.words = dict(words)


def describe(stopped: BaseException | None, text: str | None = None) -> dict[str, Any]:
    """Return in words for JSON what became of a way.

    :param stopped: what it raised; ``None`` where it believes that it delivered.
    :param text: what there is to tell of a delivery.
    """
    if isinstance(stopped, Told):
        return stopped.words
    if stopped is None:
        return {"did": DIALLED, "error": "", "errno": "", "code": "", "text": text or ""}
    if isinstance(stopped, Untried):
        return {"did": UNTRIED, "error": "", "errno": "", "code": "", "text": str(stopped)}
    cause = stopped
    while not getattr(cause, "code", "") and isinstance(getattr(cause, "reason", None), BaseException):
        cause = cause.reason  # type: ignore[attr-defined]  # urllib.error.URLError
    code = getattr(cause, "code", "") if isinstance(getattr(cause, "code", ""), str) else ""
    return {
        "did": "refused" if code else "failed",
        "error": type(cause).__name__,
        "errno": errno.errorcode.get(getattr(cause, "errno", None) or 0, ""),
        "code": code,
        "text": str(cause) or type(cause).__name__,
    }


def in_fork(dial: Callable[[Target, bytes], str | None], target: Target, mark: bytes) -> str | None:
    """Have a forked child dial. Raises :class:`Told` with what stopped it."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                words = describe(None, dial(target, mark))
            except BaseException as e:
                words = describe(e)
            os.write(sender, json.dumps(words).encode())
        finally:
            os._exit(0)
    os.close(sender)
    try:
        with open(receiver, encoding="utf-8") as pipe:
            return _told(pipe.read())
    finally:
        os.waitpid(pid, 0)


def in_python(
    target: Target,
    mark: bytes,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    handed: Sequence[int] = (),
) -> str | None:
    """Have another Python dial, by the one way in ``target.only`` and with this mark. Raises :class:`Told`.

    :param options: the interpreter's.
    :param handed: fds that it gets.
    """
    own = target._replace(mark=mark.decode().strip().partition(":")[2])
    done = subprocess.run(
        command(own, options), env=environ, pass_fds=handed, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=LIMIT,
    )  # fmt: skip
    lines = done.stdout.decode().splitlines()
    return _told(lines[-1] if lines else "", done.stderr.decode("utf-8", "replace"))


def in_program(words: Sequence[str], given: bytes = b"") -> str:
    """Have another program dial, and return what it said. Raises ``OSError`` with that where it failed.

    :param words: its command.
    :param given: its standard input.
    """
    try:
        done = subprocess.run(words, input=given, capture_output=True, timeout=LIMIT)
    except FileNotFoundError:
        raise Untried(f"there is no {words[0]} on the PATH") from None
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    text = said[-1].strip() if said else ""
    if done.returncode:
        raise OSError(text or f"exit status {done.returncode}")
    return text


def _told(line: str, said: str = "") -> str | None:
    try:
        words = json.loads(line)
        did, text = words["did"], words["text"]
    except (ValueError, KeyError, TypeError):
        last = said.strip().splitlines()
        raise OSError(last[-1] if last else "the child said nothing") from None
    if did == DIALLED:
        return str(text)
    raise Told(words)
