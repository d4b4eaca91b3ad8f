"""Notice command lines whose Python will not load the client.

``-I`` and ``-E`` have Python ignore PYTHONPATH, ``-S`` has it run no ``sitecustomize``. Such a program reaches nothing
inside the fence; it is named beforehand, since what it sees (ENETUNREACH) does not say why.
"""

from __future__ import annotations

import os

__all__ = ["isolating_option"]

_ISOLATING = frozenset("IES")
#: Options of Python that take a value: the rest of their word, or the next one. After -c and -m come the program's own.
_WITH_VALUE = frozenset("WX")
_LAST = frozenset("cm")
#: Bytes of a script's first line that the kernel reads (BINPRM_BUF_SIZE).
_FIRST_LINE = 256


def isolating_option(command: list[str]) -> str:
    """Return the option that keeps the client out of this command's Python, as in ``python3 -I``; ``""`` for none.

    The command's own options count, and those in its first line where it is a script that names Python there.
    """
    words = _after_env(command)
    if not _is_python(words):  # first: a python3 that is a shim, a script that hands its arguments on, is Python too
        words = _after_env(_first_line(words[0])) if words else []
    if not _is_python(words):
        return ""
    option = _first_isolating(words[1:])
    return f"{os.path.basename(words[0])} {option}" if option else ""


def _is_python(words: list[str]) -> bool:
    return bool(words) and os.path.basename(words[0]).startswith(("python", "pypy"))


def _first_isolating(words: list[str]) -> str:
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                skip = True
            continue
        if not word.startswith("-") or word == "-":
            return ""
        for place, letter in enumerate(word[1:], 2):
            if letter in _ISOLATING:
                return word
            if letter in _LAST:
                return ""
            if letter in _WITH_VALUE:
                skip = place == len(word)
                break
    return ""


def _first_line(program: str) -> list[str]:
    """Return the interpreter and its options that a script names in its first line; nothing for what is no script."""
    folders = [""] if "/" in program else os.get_exec_path()
    for folder in folders:
        try:
            with open(os.path.join(folder, program), "rb") as file:
                line = file.readline(_FIRST_LINE)
        except (OSError, ValueError):
            continue
        return os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []
    return []


def _after_env(words: list[str]) -> list[str]:
    """Return the command in ``env [-S] [-i] [NAME=VALUE ...] COMMAND``, or the words where it is not env's."""
    if not words or os.path.basename(words[0]) != "env":
        return words
    for place, word in enumerate(words[1:], 1):
        if not word.startswith("-") and "=" not in word:
            return words[place:]
    return []
