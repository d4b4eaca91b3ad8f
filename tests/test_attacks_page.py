"""The table of attacks has every attack that is tested, with what was to come of it, and nothing else."""

from __future__ import annotations

import ast
import re

import pytest

from support import attacks

_INTEGRATION = attacks.ROOT / "tests/integration"
_PROGRAM = _INTEGRATION / "programs/guard_attacks.py"
#: Files in which every test is an attack.
_WHOLE = ("test_guard_races.py",)


def _functions(file: str) -> set[str]:
    body = ast.parse((_INTEGRATION / file).read_text(encoding="utf-8")).body
    return {each.name for each in body if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")}


def test_every_attack_is_in_the_table() -> None:
    """What the program can try was tried at both levels, and what came of it is what is stated."""
    tried = re.findall(r"^@attack\ndef (\w+)", _PROGRAM.read_text(encoding="utf-8"), re.MULTILINE)
    found = {each.pop("name"): each for each in attacks.load()["attack"]}
    assert set(found) == {name.replace("_", " ") for name in tried} == set(attacks.ATTACKS)
    for name, attack in attacks.ATTACKS.items():
        came = {level: attack.expected(level) for level in attacks.LEVELS}
        assert found[name] == {"what": attack.what, "by": attack.by, **came}, "run: make attacks"


@pytest.mark.parametrize("file", attacks.TESTS)
def test_every_test_that_is_an_attack_is_in_the_table(file: str) -> None:
    """Each is there, and where it was run nothing was reached."""
    if not (_INTEGRATION / file).exists():
        pytest.skip(f"no {file} here")
    stated = attacks.TESTS[file]
    assert set(stated) <= _functions(file)
    if file in _WHOLE:
        assert set(stated) == _functions(file)
    found = {each["name"]: each for each in attacks.load()["test"]}
    for name, (what, by) in stated.items():
        came = found[name].pop("came")
        assert found[name] == {"name": name, "file": file, "what": what, "by": by}, "run: make attacks"
        assert came in (attacks.HELD, ""), "run: make attacks"


def test_what_is_recorded_is_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """A run writes what came of its level and leaves the other; a test that failed once in a run stays failed."""
    monkeypatch.setattr(attacks, "PATH", tmp_path / "attacks.toml")  # type: ignore[operator]
    attacks.record(attacks.WITH, {"io uring": "done"})
    assert not attacks.PATH.exists()
    monkeypatch.setenv(attacks.RECORD, "1")
    attacks.record(attacks.WITH, {"io uring": "done"})
    attacks.record(attacks.WITHOUT, {"io uring": "ENOSYS"})
    for held in (True, False, True):
        attacks.record_test("test_guard.py", "test_only_listed_unix_sockets", held)
    attacks.record_test("test_guard.py", "test_that_is_no_attack", held=True)
    found = attacks.load()
    (first, *_) = found["attack"]
    assert (first[attacks.WITH], first[attacks.WITHOUT]) == ("done", "ENOSYS")
    came = [(each["name"], each["came"]) for each in found["test"] if each["came"]]
    assert came == [("test_only_listed_unix_sockets", attacks.FAILED)]
