"""Find the other Python versions of this machine: those that are named, on the PATH, and where pyenv keeps them.

OUTGATE_TEST_PYTHONS may name interpreters, separated as in PATH; they come before what is found.

As a script, ``pythons.py [VERSION …]`` prints the interpreters, one a line, for the Makefile.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

#: What the client is made for; the gate needs one of the last three.
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
#: What the client is not made for, and may come by all the same.
TOO_OLD = ("2.7", "3.6", "3.7", "3.8")


@functools.cache
def interpreters() -> dict[str, str]:
    """Return version → path of an interpreter that runs and has that version, in the order of :data:`VERSIONS`."""
    return {version: path for version in VERSIONS if (path := interpreter(version)) is not None}


@functools.cache
def interpreter(version: str) -> str | None:
    """Return the path of an interpreter that runs and has that version, or ``None``."""
    return next((each for each in _candidates(version) if _version_of(each) == version), None)


def _candidates(version: str) -> list[str]:
    """Return paths that may be that version: an interpreter on the PATH may be a shim that refuses to start."""
    name = f"python{version}"
    paths = [Path(each) for each in os.environ.get("OUTGATE_TEST_PYTHONS", "").split(os.pathsep) if each]
    paths += [Path(folder, name) for folder in os.get_exec_path()]
    root = os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser()
    paths += sorted(Path(root, "versions").glob(f"{version}.*/bin/{name}"), reverse=True)
    return [str(path) for path in paths if os.access(path, os.X_OK)]


def _version_of(path: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-ES", "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    wanted = sys.argv[1:] or VERSIONS
    print("\n".join(path for version, path in interpreters().items() if version in wanted))
