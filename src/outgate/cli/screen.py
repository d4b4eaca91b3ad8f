"""Have the terminal to oneself, and give it back as it was, whatever happens.

A few sequences that every terminal of the last forty years obeys (ECMA-48, and the private modes of the VT220 and
xterm), and the standard library's termios: what a table that is drawn once a second needs, and no library more.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import termios
import tty
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Screen"]

# The other screen, no cursor, and no line that goes on in the next one, which a name of wide characters would make.
_ENTER = b"\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = b"\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _TO_END_OF_LINE, _TO_END = b"\x1b[H", b"\x1b[K", b"\x1b[J"
_KEYS = {
    **{b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"},
    **{b"\x1b": "escape", b"\r": "enter", b"\n": "enter"},
}
#: A control sequence, one of a keypad, or a byte; several keys may be read at once.
_KEY = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]|\x1bO.|.", re.DOTALL)


class Screen:
    """The terminal, within a ``with`` block.

    :param keys: the fd that keys come from, a terminal; -1 for none.
    :param out: the fd of the terminal that is drawn on.
    """

    def __init__(self, keys: int, out: int) -> None:
        self._keys = keys
        self._out = out
        self._before: list[Any] | None = None
        self._signals: dict[int, Any] = {}
        self._woken, self._wake = -1, -1
        self._wakeup_before = -1

    def __enter__(self) -> Screen:
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        handlers = {signal.SIGWINCH: _nothing, signal.SIGTERM: _end, signal.SIGHUP: _end, signal.SIGTSTP: self._stop}
        for number, handler in handlers.items():
            self._signals[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._signals.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._woken)
        os.close(self._wake)
        self._give_back()

    def _take(self) -> None:
        if self._keys >= 0:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys)  # keys at once and unseen; Ctrl-C and Ctrl-Z stay signals
        self._write(_ENTER)

    def _give_back(self) -> None:
        with contextlib.suppress(OSError):  # it has gone
            self._write(_LEAVE)
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _stop(self, number: int, _: FrameType | None) -> None:
        """Stop as Ctrl-Z has it, with the terminal as it was, and take it again when we go on."""
        self._give_back()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._stop)  # here it goes on
        self._take()

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            size = os.get_terminal_size(self._out)
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def draw(self, lines: Sequence[bytes]) -> None:
        """Draw these lines from the top, and nothing below; to be no more than there are."""
        text = b"\r\n".join(line + _TO_END_OF_LINE for line in lines)
        self._write(_HOME + text + _TO_END)  # at once, so that nobody sees half of it

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys, a new size or that time, and return the keys: their characters, or ``up``, ``escape`` …"""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._keys >= 0:
            poll.register(self._keys, select.POLLIN)
        ready = dict(poll.poll(max(0.0, seconds) * 1000))
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
        if self._keys not in ready:
            return []
        read = os.read(self._keys, 1024)
        if not read:
            raise EOFError("the terminal has gone")
        return list(_keys(read))

    def _write(self, text: bytes) -> None:
        while text:
            text = text[os.write(self._out, text) :]


def _keys(read: bytes) -> Iterator[str]:
    """Give the keys in what was read at once; those that mean nothing here are left out."""
    for key in _KEY.findall(read):
        if key in _KEYS:
            yield _KEYS[key]
        elif len(key) == 1 and key < b"\x7f":
            yield key.decode()


def _nothing(number: int, _: FrameType | None) -> None:
    """Have the signal wake the wait, and no more."""


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
