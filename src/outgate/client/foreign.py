"""Say once what the program imports or starts that makes its sockets itself, where it is fenced.

``outgate run`` asks for it by a variable of the environment, in which everything that was named is noted, so that no
child says it again. The line says what to use instead; nothing is refused here.
"""

from __future__ import annotations

import os
import sys

from outgate.client import imports
from outgate.core import foreign
from outgate.core.paths import FOREIGN_VARIABLE

TYPE_CHECKING = False  # importing typing would cost more than this room together
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

_watching = False


def watch() -> None:
    """Begin to watch imports, and the calls that start programs. Does nothing without the variable, and once only."""
    global _watching
    if _watching or FOREIGN_VARIABLE not in os.environ:
        return
    _watching = True
    for name in foreign.MODULES:
        imports.after(name, _imported)
    for name in ("execv", "execve", "posix_spawn", "posix_spawnp"):
        setattr(os, name, _telling(getattr(os, name), _started))
    os.system = _telling(os.system, _shell)
    imports.after("_posixsubprocess", _watch_subprocess)


def say(name: str, sentence: str) -> None:
    """Write a sentence to standard error and note the name, unless it is noted."""
    noted = os.environ.get(FOREIGN_VARIABLE)
    if noted is None or name in noted.split():
        return
    os.environ[FOREIGN_VARIABLE] = f"{noted} {name}".lstrip()
    try:
        if sys.stderr is not None:
            sys.stderr.write(f"outgate: {sentence}\n")
    except (OSError, ValueError):  # it is closed: nobody reads it
        pass


def _imported(module: ModuleType) -> None:
    say(module.__name__, foreign.of_module(module.__name__))


def _telling(native: Callable[..., Any], tell: Callable[..., None]) -> Callable[..., Any]:
    """Return a function that tells about its arguments, if it can read them, and then does what the native one does."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            tell(*args, **kwargs)
        except (
            AttributeError,
            IndexError,
            TypeError,
            ValueError,
        ):  # what is wrong with them is the native one's to say
            pass
        return native(*args, **kwargs)

    call.__name__ = native.__name__
    call.__doc__ = native.__doc__
    if native in os.supports_fd:  # programs ask there what a function takes
        os.supports_fd.add(call)
    return call


def _started(path: Any, argv: Any = (), *_: Any, **__: Any) -> None:
    """Tell about ``execv(path, argv)`` and what is called like it."""
    if isinstance(argv, (list, tuple)):  # an iterator would be empty afterwards
        _tell(foreign.of_command([_text(path), *map(_text, argv[1:])]))


def _forked(argv: Any, paths: Any, *_: Any) -> None:
    """Tell about ``_posixsubprocess.fork_exec(argv, paths, …)``, which tries one path after the other."""
    _started(paths[0], argv)


def _shell(command: Any) -> None:
    """Tell about ``system(command)``."""
    _tell(foreign.of_shell_text(_text(command)))


def _tell(found: Any) -> None:
    if found is not None:
        say(*found)


def _text(word: Any) -> str:
    return os.fsdecode(word)


def _watch_subprocess(module: Any) -> None:
    """Put ours where subprocess and multiprocessing look for the function that forks and execs."""
    native = module.fork_exec
    telling = _telling(native, _forked)
    module.fork_exec = telling
    subprocess = sys.modules.get("subprocess")
    if subprocess is not None and getattr(subprocess, "_fork_exec", None) is native:
        subprocess._fork_exec = telling  # type: ignore[attr-defined]
