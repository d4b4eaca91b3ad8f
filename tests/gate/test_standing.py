"""What a gate announces of its policy: a digest that changes with what an app may do, and a number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outgate.core.fleet import directory
from outgate.core.fleet.directory import Entry
from outgate.gate.configuration import config
from outgate.gate.configuration.settings import Settings
from outgate.gate.shared.standing import Standings, Taken

TEXT = f"""\
version = 1
[fleet]
name = "a"
state = "redis://192.0.2.5"
[groups]
partners = ["198.51.100.0/24"]
[apps.blog]
uid = [{os.getuid()}]
billing = true
allow = ["partners", "*.example.org"]
quotas = {{ connect = {{ day = 100 }} }}
[apps.shop]
uid = [{os.getuid() + 1}]
billing = true
"""


def load(folder: Path, text: str) -> Settings:
    """Return the settings of a file."""
    path = folder / "outgate.toml"
    path.write_text(text)
    path.chmod(0o600)
    return config.load(str(path))


def entry(settings: Settings) -> Entry:
    """Return what a gate with these says, as another one reads it."""
    made = Standings().entry(Taken(settings, "boot", 1.0, 2.0, {"blog": (3, 2, 1)}))
    found = directory.read(directory.write(made))
    assert found == made
    return found


@pytest.mark.parametrize(
    ("before", "after", "differs"),
    [
        ('"*.example.org"', '"*.example.net"', {"blog"}),
        ("billing = true\nallow", 'billing = true\ndeny = ["*:23"]\nallow', {"blog"}),
        ("billing = true\nallow", 'billing = true\nmode = "report"\nallow', {"blog"}),
        ("day = 100", "day = 101", {"blog"}),
        ("198.51.100.0/24", "198.51.100.0/25", {"blog", "shop"}),  # any app may name a group
        (f"uid = [{os.getuid()}]", f"uid = [{os.getuid() + 2}]", set()),
        ("billing = true\nallow", "billing = true\ntrusted = true\nallow", set()),
        ('name = "a"', 'name = "b"', set()),
    ],
)
def test_which_differences_count(before: str, after: str, differs: set[str], tmp_path: Path) -> None:
    """What an app may do, its groups and its quotas count; whose programs it is and which gate it is do not."""
    assert before in TEXT
    one, other = entry(load(tmp_path, TEXT)), entry(load(tmp_path, TEXT.replace(before, after)))
    other = other._replace(name="b")
    assert directory.differences([one, other]).keys() == differs
    assert (one.policy != other.policy) is bool(differs)


def test_the_number_of_the_policy_and_what_is_open_are_announced(tmp_path: Path) -> None:
    """How often the policy was read since the start goes up with each reload, with the digest that is in force then."""
    settings = load(tmp_path, TEXT)
    standings, first = Standings(), entry(settings)
    assert (first.name, first.number, first.ends) == ("a", 1, 2)
    assert first.apps["blog"][1:] == (3, 2, 1)
    assert first.apps["shop"][1:] == (0, 0, 0)
    standings.entry(Taken(settings, "boot", 1.0, 2.0, {}))
    (tmp_path / "outgate.toml").write_text(TEXT.replace("day = 100", "day = 99"))
    again = standings.entry(Taken(config.reload(settings), "boot", 1.0, 2.0, {}))
    assert again.number == 2
    assert again.policy != first.policy
    assert again.apps["shop"].policy == first.apps["shop"].policy


@pytest.mark.parametrize(
    ("keys", "at"),
    [
        ('listen = "192.0.2.1:7400"', "192.0.2.1:7400"),
        ('listen = "0.0.0.0:7400"\n[fleet.gates]\na = "gate-a.corp:7400"', "gate-a.corp:7400"),
        ('listen = "0.0.0.0:7400"\n[fleet.gates]\nb = "192.0.2.2:7400"', ""),
        ('listen = "[::]:7400"', ""),
        ('[fleet.gates]\na = "192.0.2.1:7400"', "192.0.2.1:7400"),
        ("", ""),
    ],
)
def test_where_a_gate_is_reached_is_announced(keys: str, at: str, tmp_path: Path) -> None:
    """What fleet.gates has for it, or where it listens; nothing where that is every address of a host."""
    made = entry(load(tmp_path, TEXT.replace("[groups]", f"{keys}\n[groups]")))
    assert made.at == at
