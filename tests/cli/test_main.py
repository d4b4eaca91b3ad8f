"""The command line as a whole: finding commands, help for each, and ends that are nobody's fault."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import outgate as outgate_package
from outgate import __version__
from outgate.cli.main import COMMANDS, main
from support.commands import OUTGATE, environment, outgate


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` names each command and shows examples."""
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name}" in text for name in COMMANDS)
    assert "examples:" in text


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A call without a command prints the help on standard error and is a wrong call."""
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "usage: outgate COMMAND" in output.err


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help_with_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``COMMAND --help`` and ``help COMMAND`` print the same: what it does, its exit statuses, and examples of it."""
    texts = []
    for arguments in ([name, "--help"], ["help", name]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert f"examples:\n  outgate {name}" in texts[0].replace("outgate check /etc/outgate.toml && ", "")
    assert "exit status:" in texts[0]
    assert max(map(len, texts[0].splitlines())) <= 120


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints name and version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"outgate {__version__}\n"


def test_a_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    """A word that is near a command's name is answered with that name, another one with where to look."""
    assert main(["chekc"]) == 2
    assert "did you mean check?" in capsys.readouterr().err
    assert main(["frobnicate"]) == 2
    assert "outgate --help lists them" in capsys.readouterr().err


def test_a_dependency_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the extra is not installed, the answer is how to install it and no traceback."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    for name in [name for name in sys.modules if name.startswith("outgate.gate")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("outgate.gate", raising=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("outgate.cli.main.import_module", _raise_missing)
        assert main(["check", "x"]) == 2
    assert "msgspec is not installed here; pip install 'outgate[gate]'" in capsys.readouterr().err


def _raise_missing(name: str) -> None:
    raise ModuleNotFoundError("No module named 'msgspec'", name="msgspec")


def test_a_reader_that_has_seen_enough() -> None:
    """A command whose output nobody reads any more (``outgate … | head``) ends quietly with 141, as by SIGPIPE."""
    receiver, sender = os.pipe()
    os.close(receiver)
    with os.fdopen(sender, "wb") as closed:
        done = subprocess.run(
            [*OUTGATE, "check", "etc/outgate.sample.toml"], stdout=closed, stderr=subprocess.PIPE, env=environment()
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_options_are_not_abbreviated() -> None:
    """An option that is cut short is a wrong call: a later version may have two that begin so."""
    done = outgate("status", "--js")
    assert done.returncode == 2
    assert "--js" in done.stderr


def test_run_starts_without_what_it_does_not_need() -> None:
    """What ``outgate run`` imports before it starts a program has no library of the gate's, no argparse and no json."""
    source = str(Path(outgate_package.__file__).parents[1])
    names = "outgate.cli.main, outgate.cli.run, outgate.cli.embedded, outgate.lookout.ask, outgate.cli.isolated"
    code = f"import sys; sys.path.append({source!r}); import {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "msgspec", "rich", "socket", "tempfile", "uvloop", "outgate.gate"}
