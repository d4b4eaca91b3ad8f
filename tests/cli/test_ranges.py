"""``outgate ranges``: what it prints is a group that a configuration takes, and what it cannot use it names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outgate.cli.main import main
from outgate.core.policy.decide import Ask, decide
from outgate.gate.configuration import config

Capture = pytest.CaptureFixture[str]

ANNOUNCED = {
    "syncToken": "1676563455387",
    "creationTime": "2023-02-16T08:04:15.387826",
    "prefixes": [{"ipv4Prefix": "8.8.8.0/24"}, {"ipv4Prefix": "34.64.0.0/10"}, {"ipv6Prefix": "2001:4860::/32"}],
}
CUSTOMERS = {"prefixes": [{"ipv4Prefix": "8.8.8.128/25", "service": "Google Cloud", "scope": "europe-west1"}]}


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Both lists as files."""
    for name, content in (("goog.json", ANNOUNCED), ("cloud.json", CUSTOMERS)):
        (tmp_path / name).write_text(json.dumps(content))
    return str(tmp_path / "goog.json"), str(tmp_path / "cloud.json")


def test_what_it_prints_is_a_part_of_a_configuration(files: tuple[str, str], tmp_path: Path, capsys: Capture) -> None:
    """The group takes the place of the one that came along."""
    assert main(["ranges", files[0], "--customers", files[1]]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# Google's own ranges as of 2023-02-16, for the profile app-engine.\n[groups]\n")
    path = tmp_path / "outgate.toml"
    path.write_text(f'version = 1\n{printed}\n[apps.blog]\nuid = [0]\nbilling = true\nprofile = "app-engine"\n')
    policy = config.load(str(path)).apps["blog"].policy
    for address, rule in (("8.8.8.9", "google"), ("8.8.8.200", "public"), ("142.250.74.36", "public")):
        assert decide(policy, Ask("blog", "tcp", address, address, 443)).rule == rule


def test_without_a_list_of_customers_their_large_blocks_are_taken_out(files: tuple[str, str], capsys: Capture) -> None:
    """As in what came along."""
    assert main(["ranges", files[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ranges"] == ["8.8.8.0/24", "2001:4860::/32"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"prefixes": []}', "is it goog.json or cloud.json?"),
        ('{"prefixes": [{"ipv4Prefix": "8.8.8.8/99"}]}', "prefixes[0]: '8.8.8.8/99' does not appear"),
        (None, "No such file or directory"),
    ],
)
def test_what_cannot_be_used_is_named(content: str | None, complaint: str, tmp_path: Path, capsys: Capture) -> None:
    """Status 1, the file and what is wrong, and nothing on standard output."""
    path = tmp_path / "list.json"
    if content is not None:
        path.write_text(content)
    assert main(["ranges", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"outgate ranges: {path}: ")
    assert complaint in said.err
