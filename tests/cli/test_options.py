"""Options of ``outgate run`` are read as argparse would read them, which speaks where there is something to say."""

from __future__ import annotations

import pytest

from outgate.cli import options

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "line",
    [
        "cmd",
        "-- cmd",
        "-- cmd -- more",
        "cmd --dev -q",
        "-q --dev cmd -q",
        "--quiet --unconfined -- cmd",
        "--config f --app a -- cmd",
        "--config=f --log - cmd",
        "--log=- --socket=/x=y cmd",
        "--allow a --allow=b --deny c --except d --except e -- cmd --allow z",
        "--dev --dev cmd",
        "--app a --app b cmd",
        "-- --weird",
        "-- -q cmd",
        "cmd --",
    ],
)
def test_reads_what_argparse_reads(line: str) -> None:
    """Both readers give the same options and the same command, whose own options are left alone."""
    argv = line.split()
    expected = vars(options.parser().parse_args(argv))
    if expected["command"][:1] == ["--"]:
        del expected["command"][0]
    assert vars(options.read(argv)) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("", "what to run?"),
        ("--", "what to run?"),
        ("--dev --", "what to run?"),
        ("-q", "what to run?"),
        ("--fnce cmd", "--fnce"),
        ("--conf f cmd", "--conf"),
        ("--dev=1 cmd", "--dev"),
        ("--config", "--config: expected one argument"),
        ("--config -- cmd", "--config: expected one argument"),
        ("--allow --deny x cmd", "--allow: expected one argument"),
        ("--fence --unconfined cmd", "not allowed with"),
        ("-x cmd", "-x"),
    ],
)
def test_wrong_calls(line: str, sentence: str, capsys: Capture) -> None:
    """A wrong call ends with exit status 2, the usage, and what is wrong."""
    with pytest.raises(SystemExit) as end:
        options.read(line.split())
    assert end.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("usage: outgate run [OPTIONS] -- COMMAND [ARG ...]")
    assert sentence in errors


def test_an_empty_value(capsys: Capture) -> None:
    """An option whose value is empty is a wrong call and not the option left out: it may be an unset variable."""
    for argv in (["--config", "", "cmd"], ["--config=", "cmd"], ["--allow", "", "cmd"]):
        with pytest.raises(SystemExit) as end:
            options.read(argv)
        assert end.value.code == 2
        assert "has none" in capsys.readouterr().err


def test_help(capsys: Capture) -> None:
    """``--help`` before the command is ours and lists every option; after it, it is the command's."""
    with pytest.raises(SystemExit) as end:
        options.read(["--help", "cmd"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {option}" in text or f", {option}" in text for option in options.OPTIONS)
    assert options.read(["cmd", "--help"]).command == ["cmd", "--help"]
