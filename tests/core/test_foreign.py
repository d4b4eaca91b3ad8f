"""What is said of libraries and programs that make their sockets themselves."""

from __future__ import annotations

import pytest

from outgate.core import foreign

CURL = ("curl", "use urllib.request, requests or httpx")


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "http://a.example"],
        ["/usr/bin/curl"],
        ["env", "-i", "LANG=C", "curl"],
        ["HOME=/tmp/x", "sudo", "curl"],
        ["sh", "-c", "curl http://a.example"],
        ["/bin/bash", "-ec", "cd /tmp && LANG=C curl http://a.example"],
        ["sh", "-e", "-c", "true; (curl a.example)"],
        ["sh", "-c", "echo | exec curl --data @- a.example\n", "name"],
        ["sh", "-c", "sh -c curl"],
    ],
    ids=lambda command: " ".join(command),
)
def test_a_program_is_found_in_a_command(command: list[str]) -> None:
    """However curl is started, its name and what to use in its place are found."""
    found = foreign.of_command(command)
    assert found is not None
    name, sentence = found
    assert name == CURL[0]
    assert sentence.startswith("curl connects by itself and not through the gate: ")
    assert sentence.endswith(CURL[1])


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["python", "curl"],
        ["echo", "curl"],
        ["curlew"],
        ["sh", "curl"],  # a script of that name
        ["sh", "-c"],
        ["sh"],
        ["sh", "-c", "echo curl"],
        ["env"],
        ["A=1"],
        ["git", "describe", "--tags"],
        ["git", "-C", "folder", "status"],
        ["ssh", "-o", "ProxyCommand=python pipe.py %h %p", "host"],
        [""],
    ],
    ids=lambda command: " ".join(command) or "nothing",
)
def test_nothing_is_found_in_other_commands(command: list[str]) -> None:
    """What is not in the table, does not connect or has somebody else connect is not named."""
    assert foreign.of_command(command) is None


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["git", "-C", "folder", "fetch", "--all"], "git"),
        (["sh", "-c", "git clone https://a.example/x && cd x"], "git"),
        (["uv", "pip", "install", "x"], "uv"),
        (["wget", "-q", "a.example"], "wget"),
        (["ssh", "host"], "ssh"),
        (["sh", "-c", "echo curl; wget a.example"], "wget"),
    ],
    ids=lambda words: words if isinstance(words, str) else " ".join(words),
)
def test_the_first_that_connects_is_named(command: list[str], name: str) -> None:
    """A program with words of which one must be there is named where it is; of several the first is."""
    found = foreign.of_command(command)
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize("text", ["curl a.example", "true && curl a.example", "`curl a.example`", "$(curl a.example)"])
def test_a_shells_text_is_read(text: str) -> None:
    """A text for ``system()`` is looked through, substitutions included."""
    found = foreign.of_shell_text(text)
    assert found is not None
    assert found[0] == CURL[0]


@pytest.mark.parametrize("name", foreign.MODULES)
def test_the_sentence_on_a_module_names_it_and_what_to_do(name: str) -> None:
    """It begins with the module's name, says what connects for it, and ends with the way out."""
    by, instead = foreign.MODULES[name]
    assert foreign.of_module(name) == (
        f"{name} connects by {by} and not through the gate: in the fence it reaches no network; {instead}"
    )


def test_the_tables_are_sorted_and_do_not_send_people_in_circles() -> None:
    """Each table is in order, and no module that connects in C is what to use in place of another."""
    assert sorted(foreign.MODULES) == list(foreign.MODULES)
    assert sorted(foreign.EXECUTABLES) == list(foreign.EXECUTABLES)
    advice = [each[1] for each in foreign.MODULES.values()] + [each[0] for each in foreign.EXECUTABLES.values()]
    assert not {word.strip(",;") for word in " ".join(advice).split()} & foreign.MODULES.keys()
