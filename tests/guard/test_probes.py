"""What is read from this very host, and from hosts made up of a few files."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

import outgate
from outgate.guard import features, fence, landlock, probes

AUTOLOAD = str(Path(outgate.__file__).parent / "client" / "autoload")


def program(path: Path, text: str) -> str:
    """Write an executable script and return its path."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_every_question_is_asked_once() -> None:
    """This host answers every question, each under a name of its own, and nothing that failed lacks what to change."""
    found = list(probes.checks(fence.probe(), "", AUTOLOAD, os.environ))
    names = [each.name for each in found]
    assert len(set(names)) == len(names)
    assert {"python", "kernel", "autoload", "fence", "seal", "guard"} <= set(names)
    assert all(each.found for each in found)
    assert all(each.change for each in found if each.state == features.FAIL)


def test_this_kernel_tells_of_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that was closed is heard of; where nothing tells nothing is waited for."""
    assert probes.tells_of_closes()
    monkeypatch.setattr("outgate.guard.cable.closes", list)
    assert not probes.tells_of_closes()


def test_this_python_loads_the_client() -> None:
    """The Python of this test, started as outgate run starts programs, has the client in place of _socket."""
    found = probes.loaded_by(sys.executable, AUTOLOAD, os.environ)
    assert found == (sys.executable, sys.version_info[:2], True, "")


def test_a_python_that_ignores_the_injection(tmp_path: Path) -> None:
    """A wrapper that starts Python isolated is seen not to load the client."""
    wrapper = program(tmp_path / "python3", f'#!/bin/sh\nexec {sys.executable} -I "$@"\n')
    found = probes.loaded_by(wrapper, AUTOLOAD, os.environ)
    assert (found.version, found.client) == (sys.version_info[:2], False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho no such version >&2\nexit 127\n", "no such version"),
        ("#!/bin/sh\nexit 3\n", "exit status 3"),
        ("#!/nonexistent/interpreter\n", "No such file or directory"),
    ],
)
def test_a_python_that_does_not_run(tmp_path: Path, text: str, said: str) -> None:
    """An interpreter that does not run has no version, and what it said is kept."""
    found = probes.loaded_by(program(tmp_path / "python3", text), AUTOLOAD, os.environ)
    assert (found.version, found.client, found.said) == (None, False, said)


def test_a_python_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that never answers is given up."""
    monkeypatch.setattr(probes, "_LIMIT", 0.05)
    found = probes.loaded_by(program(tmp_path / "python3", "#!/bin/sh\nexec sleep 60\n"), AUTOLOAD, os.environ)
    assert found.said == "no answer within 0.05 s"


def test_pythons_on_the_path(tmp_path: Path) -> None:
    """The first python3 and the first python count, links to one program once, and what cannot be executed never."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "python").write_text("not executable", encoding="utf-8")
    real = program(second / "python3", "#!/bin/sh\n")
    (second / "python").symlink_to(real)
    path = f"{first}:{second}"
    assert probes.pythons({"PATH": path}) == [real]
    (second / "python").unlink()
    other = program(second / "python", "#!/bin/sh\n# another\n")
    assert probes.pythons({"PATH": path}) == [real, other]
    assert probes.pythons({"PATH": str(first)}) == []


def test_reachable_daemons(tmp_path: Path) -> None:
    """An agent's socket that this user may write to is listed, one that is not there is not."""
    path = str(tmp_path / "agent")
    uid = 987654
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        assert path in probes.reachable_daemons({"SSH_AUTH_SOCK": path}, uid)
    assert path not in probes.reachable_daemons({"SSH_AUTH_SOCK": path + "-not"}, uid)
    assert path not in probes.reachable_daemons({}, uid)


def test_kernel_features_can_be_asked() -> None:
    """The kernel answers for Landlock and SO_PASSRIGHTS, whatever it answers."""
    assert landlock.version() >= 0
    assert probes.takes_pass_rights() in (True, False)
