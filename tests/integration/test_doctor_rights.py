"""``outgate doctor`` is right on a host with each right taken away in turn, and from inside a guard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from typing import Any

import pytest

from support import guarded
from support.world import World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def _without(*rights: str) -> tuple[str, ...]:
    """Return the command that takes these rights from what it runs for good (capabilities(7))."""
    taken = ",".join(f"-{each}" for each in rights)
    return ("setpriv", f"--bounding-set={taken}", f"--inh-caps={taken}")


#: In a user namespace with a limit of its own: nobody in there may make another (namespaces(7)).
_CLOSED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
_CLOSE = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'

#: Who asks → the levels of seal, fence and guard that the host has for them.
ROOT = {
    "all rights": ((), (True, True, False)),
    "no CAP_BPF, which CAP_SYS_ADMIN has in it": (_without("bpf"), (True, True, False)),
    "no CAP_NET_ADMIN, but for the seal": (_without("net_admin"), (True, True, False)),
    "no CAP_SYS_ADMIN": (_without("sys_admin"), (True, True, False)),
    "neither CAP_SYS_ADMIN nor CAP_BPF": (_without("sys_admin", "bpf"), (False, True, False)),
    "neither CAP_SYS_ADMIN nor CAP_NET_ADMIN": (_without("sys_admin", "net_admin"), (False, True, False)),
    "no rights": (_without("all"), (False, False, False)),
    "no user namespaces either": ((*_CLOSED, _CLOSE, "sh", *_without("all")), (False, False, False)),
}


#: What the command does first; the proof behind it starts dozens of programs, and is tried elsewhere.
_LOOK = """
import json
from outgate.cli import doctor
print(json.dumps({"levels": [each._asdict() for each in doctor.levels(doctor.look()[0])]}))
"""


def _look(world: World, *before: str, python: str = sys.executable) -> dict[str, dict[str, Any]]:
    """Return the levels of this host by name, as they are for who asks."""
    return _ask(world, *before, python, "-c", _LOOK)[1]


def _ask(world: World, *words: str) -> tuple[int, dict[str, dict[str, Any]], str]:
    """Return the exit status, the levels by name, and what was not proved."""
    python = guarded.python() if guarded.python() in words else sys.executable
    environ = {**world.environ(), **(guarded.environ() if python != sys.executable else {})}
    with tempfile.TemporaryDirectory(dir="/tmp") as home:
        shutil.chown(home, guarded.GUEST, guarded.GUEST)
        done = subprocess.run(
            world.near.command(*words),
            capture_output=True,
            text=True,
            timeout=100,
            env={**environ, "HOME": home},
        )
    world.near.wait_empty()
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    levels = {each["name"]: each for each in found["levels"]}
    assert levels["client"]["host"] is True
    return done.returncode, levels, " ".join(found.get("proof", {}).get("faults", ()))


def _here(levels: dict[str, dict[str, Any]]) -> tuple[object, ...]:
    return tuple(levels[name]["host"] for name in ("seal", "fence", "guard"))


@pytest.mark.parametrize("rights", ROOT)
def test_each_right_taken_away(world: World, rights: str) -> None:
    """The levels are those that the kernel gives with what is left."""
    before, expected = ROOT[rights]
    levels = _look(world, *before)
    assert _here(levels) == expected, levels
    if not expected[1]:
        why = "CAP_SETFCAP" if rights == "no rights" else "user.max_user_namespaces is 0"
        assert why in levels["fence"]["found"]
    if not expected[0]:
        missing = {"neither CAP_SYS_ADMIN nor CAP_BPF": "no CAP_BPF here"}.get(rights, "no CAP_NET_ADMIN")
        assert missing in levels["seal"]["found"]


def test_an_ordinary_user(world: World) -> None:
    """Has the fence and the guard, and no seal."""
    levels = _look(world, *guarded.AS_GUEST, python=guarded.python())
    assert _here(levels) == (False, True, True), levels


def test_from_inside_a_guard(world: World) -> None:
    """It says that it cannot prove anything there, and that there is no guard in a guard, and ends as it should."""
    with guarded.log_of(world) as log:
        words = guarded.command(log, guarded.python(), "-m", "outgate", "doctor", "--json")
        status, levels, faults = _ask(world, *words)
    assert status == 1, (levels, faults)
    assert "run outgate doctor outside of it" in faults
    assert levels["guard"]["host"] is False
    assert levels["seal"]["host"] is False
