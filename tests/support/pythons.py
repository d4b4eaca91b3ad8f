"""Find the other Python versions of this machine: on the PATH, and where pyenv keeps them.

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


@functools.cache
def interpreters() -> dict[str, str]:
    """Return version → path of an interpreter that runs and has that version, in the order of :data:`VERSIONS`."""
    found = {}
    for version in VERSIONS:
        path = next((each for each in _candidates(version) if _version_of(each) == version), None)
        if path is not None:
            found[version] = path
    return found


def _candidates(version: str) -> list[str]:
    """Return paths that may be that version: an interpreter on the PATH may be a shim that refuses to start."""
    name = f"python{version}"
    paths = [Path(folder, name) for folder in os.get_exec_path()]
    root = os.environ.get("PYENV_ROOT") or Path("~/.pyenv").expanduser()
    paths += sorted(Path(root, "versions").glob(f"{version}.*/bin/{name}"), reverse=True)
    return [str(path) for path in paths if os.access(path, os.X_OK)]


def _version_of(path: str) -> str:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([path, "-IS", "-c", code], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    wanted = sys.argv[1:] or VERSIONS
    print("\n".join(path for version, path in interpreters().items() if version in wanted))
