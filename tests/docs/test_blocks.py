"""Every block of code on every page is run, read by what it is for, or says why not."""

from __future__ import annotations

import ast
import grp
import importlib
import json
import pwd
import re
import shlex
import textwrap
import tomllib
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from outgate.cli import main
from outgate.core.policy import expect
from outgate.core.quota.quotas import RESOURCES
from outgate.dev import appyaml, yamlfile
from outgate.gate.configuration import config, keys
from outgate.gate.decisionlog.lines import FIELDS
from support import pages
from support.pages import Block

BLOCKS = [block for path in pages.paths() for block in pages.blocks(path)]
MADE = {page: pages.is_generated(page) for page in {block.page for block in BLOCKS}}
#: Between the commands of a line of shell.
_BETWEEN = re.compile(r"\s(?:\|\|?|&&?|>)|;")


def of(*languages: str) -> Any:
    """Return a parametrization over the blocks in these languages."""
    return pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in languages], ids=repr)


def test_every_block_is_run_or_excused() -> None:
    """A block has a language that the tests know what to do with; text that nobody reads says why it is there."""
    for block in BLOCKS:
        assert block.language in pages.KINDS, f"{block!r}: a fence with one of {', '.join(pages.KINDS)} behind it"
        if block.language == "text" and "file" not in block.notes and not MADE[block.page]:
            assert block.excuse, (
                f"{block!r}: nothing holds this text; show it in a console block, or say why it is here"
            )


def test_excuses_are_a_closed_set() -> None:
    """A block that is not run has one of the known excuses, and each of those is needed by a block."""
    used = Counter(block.excuse for block in BLOCKS if block.excuse is not None)
    assert set(used) == set(pages.EXCUSES)


def test_most_blocks_are_run() -> None:
    """What nothing runs is the exception: less than a quarter of the examples that somebody wrote."""
    written = [block for block in BLOCKS if block.page != "docs/commands.md"]
    examples = [block for block in written if block.language not in ("text", "mermaid", "{toctree}")]
    assert len(examples) > 60
    idle = [block for block in examples if block.excuse not in (None, "a test of its own runs it")]
    assert len(idle) * 4 < len(examples)


def _completed(raw: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a configuration with what must be there, where it leaves that out."""
    apps = {
        name: {"billing": True, "uid": [number], **app}
        for number, (name, app) in enumerate(raw.get("apps", {}).items(), 4000)
    }
    return {"version": 1, **raw, **({"apps": apps} if apps else {})}


def _placed(key: str, value: object) -> dict[str, Any]:
    """Return a configuration in which a key stands in its table."""
    if key in RESOURCES:
        key, value = "quotas", {key: value}
    if f"apps.NAME.{key}" in keys.KEYS:
        return {"apps": {"web": {key: value}}}
    (table,) = (name for name in ("gate", "ledger") if f"{name}.{key}" in keys.KEYS)
    return {table: {key: value}}


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every user and group that a page names be there."""
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.struct_passwd((name, "x", 5000, 5000, "", "/", "/bin/sh")))
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", 5000, [])))


@of("toml")
def test_a_configuration_is_one(block: Block, users: None) -> None:
    """A block of TOML is a configuration, or a part of one, read without a warning; or a table of expectations."""
    raw = tomllib.loads(block.text)
    if "expect" in raw:
        assert expect.read(raw).expectations
        return
    table = raw if "version" in raw else _completed(raw)
    settings = config.from_table(table, repr(block), reads_tokens=False)
    told = [warning for warning in settings.warnings if "there is no app" not in str(warning) or "apps" in raw]
    assert told == []


@of("yaml")
def test_an_app_yaml_is_one(block: Block) -> None:
    """A block of YAML is an app.yaml, and nothing in it is ignored."""
    read = appyaml.of_table(yamlfile.parse(block.text.encode(), "app.yaml"), "app.yaml")
    assert read.ignored == ()


@of("json")
def test_a_line_of_the_log_has_its_fields(block: Block) -> None:
    """A block of JSON is lines of the decision log, with fields that are in its table."""
    for line in block.text.splitlines():
        assert set(json.loads(line)) <= set(FIELDS), line


@of("python")
def test_python_is_python(block: Block) -> None:
    """A block of Python can be parsed, also where it cannot be run."""
    ast.parse(textwrap.dedent(block.text))


class _Read(Exception):
    """The command line was read; nothing is to be done."""


def _calls(line: str) -> list[list[str]]:
    """Return the words of each ``outgate`` command in a line of shell."""
    parts = [part.strip() for part in _BETWEEN.split(line)]
    return [shlex.split(part, comments=True)[1:] for part in parts if part.startswith("outgate ")]


@of("console")
def test_commands_are_commands(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every ``outgate`` command line can be read by its command, also where the block cannot be run."""

    def read(self: ArgumentParser, args: list[str], namespace: None = None) -> None:
        unknown = self.parse_known_args(args)[1]
        assert unknown == [], unknown
        raise _Read

    monkeypatch.setattr(ArgumentParser, "parse_args", read)
    found = pages.commands(block.text)
    assert found, "there is no command"
    for name, *rest in [call for command, _ in found for call in _calls(command)]:
        if name == "run":
            importlib.import_module("outgate.cli.options").read(rest)
        else:
            assert name in main.COMMANDS, name
            with pytest.raises(_Read):
                importlib.import_module(f"outgate.cli.{name}").main(rest)


@pytest.mark.parametrize("path", pages.paths(), ids=lambda path: path.name)
def test_commands_in_a_sentence_are_commands(path: Path) -> None:
    """What a sentence calls a command is one, and has the options that it is said to have."""
    reference = (pages.ROOT / "docs/commands.md").read_text(encoding="utf-8")
    for text in pages.spans(path):
        if not text.startswith("outgate ") or (name := text.split()[1]).isupper() or name.startswith("-"):
            continue
        assert name in main.COMMANDS, text
        sections = [part for part in reference.split("\n## outgate ") if part.startswith(name)]
        for option in re.findall(r"(?<= )--?[a-z][a-z-]*", text.partition(" -- ")[0]):
            assert option == "--help" or any(f"`{option}" in section for section in sections), text


@pytest.mark.parametrize("path", pages.paths(), ids=lambda path: path.name)
def test_keys_in_a_sentence_are_keys(path: Path, users: None) -> None:
    """What a sentence says of the configuration, as in ``mode = "report"``, could stand there."""
    for text in pages.spans(path):
        if re.match(r"[a-z_]+ = ", text) and "…" not in text and "..." not in text:
            ((key, value),) = tomllib.loads(text).items()
            later = keys.CHOICES.get(key, {})
            if not (isinstance(value, str) and later.get(value)):
                config.from_table(_completed(_placed(key, value)), text, reads_tokens=False)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!-- file: a -->\n\nWords.\n\n```toml\n```\n", "not just before one"),
        ("<!-- after\nx\n-->\n", "no block before"),
    ],
)
def test_a_comment_belongs_to_a_block(text: str, says: str) -> None:
    """A comment about a block that has none is a mistake, and told."""
    with pytest.raises(ValueError, match=says):
        list(pages._read("page", text))


def test_comments_are_read() -> None:
    """What the comments around a block say, and where its lines are."""
    text = "<!-- not run: x -->\n<!-- before\none\n-->\n```python\ntwo\n```\n<!-- after\nthree\n-->\n\n    four\n"
    first, second = pages._read("page", text)
    assert (first.excuse, first.notes["before"], first.text, first.notes["after"]) == ("x", "one\n", "two\n", "three\n")
    assert (first.lines["before"], first.line, first.lines["after"]) == (3, 6, 9)
    assert (second.language, second.text, second.notes) == ("", "four\n", {})
