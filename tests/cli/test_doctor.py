"""``outgate doctor``: what it finds is true, what leaks is called a leak, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import outgate as outgate_package
from outgate.cli import doctor, proving
from outgate.cli.proving import Gate, Proof
from outgate.core import paths
from outgate.gate.seal import seal
from outgate.guard import features, fence, proof
from outgate.guard.features import Check
from outgate.guard.proof import Outcome
from outgate.guard.ways import table
from support.commands import OUTGATE, PATIENCE, environment, outgate, serving

SOURCE = Path(outgate_package.__file__).parent.parent
SCRIPT = Path(__file__).with_name("elsewhere.py")
ORDINARY = 4711

CONFIG = """\
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
mode = "{mode}"
except = {permitted}
"""


def examine(*options: str, wrapper: Sequence[str] = (), env: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Run ``outgate doctor --json`` to its end and return its exit status and what it printed."""
    done = subprocess.run(
        [*(wrapper or OUTGATE), "doctor", "--json", *options],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE * 3,
        env=environment() if env is None else env,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def by_result(found: Any) -> dict[str, set[str]]:
    """Return result → names of the ways that came to it, once it is sure that they were tried."""
    assert found["proof"]["faults"] == []
    results: dict[str, set[str]] = {}
    for each in found["proof"]["ways"]:
        results.setdefault(each["result"], set()).add(each["way"])
    return results


def stopped_by(*levels: str) -> set[str]:
    """Return the names of the ways that these levels stop."""
    return {way.name for way in table.WAYS if way.stopped_by in levels}


@pytest.fixture
def can_fence() -> None:
    """Skip where this host lets this user make no fence."""
    verdict = fence.probe()
    if isinstance(verdict, fence.FenceUnavailable):
        pytest.skip(str(verdict))


# Whole runs.


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_a_host_with_a_fence() -> None:
    """Where there is a fence nothing leaks, unsealed sockets of the gate's can be turned, and the exit status is 0."""
    status, found = examine()
    results = by_result(found)
    assert (found["proof"]["faults"], found["change"], found["ok"], found["status"], status) == ([], [], True, 0, 0)
    assert set(results) <= {"refused", "failed", "not-tried", "not-stopped"}
    sealed = {each["name"]: each["host"] for each in found["levels"]}["seal"]
    assert sealed == (seal.trial() == "")
    known = (set() if sealed else stopped_by("seal")) | (stopped_by("user") if os.geteuid() == 0 else set())
    assert results.get("not-stopped", set()) == known
    assert not sealed or stopped_by("seal") <= results["failed"]
    assert stopped_by("client") - {"name"} <= results["refused"]
    assert stopped_by("fence") <= results["failed"] | results["not-tried"]
    assert (found["proof"]["fenced"], found["proof"]["permitted"]) == (True, True)
    assert [each["name"] for each in found["levels"]] == ["client", "fence", "seal", "guard"]


@pytest.mark.slow
def test_without_the_fence_it_leaks() -> None:
    """Unconfined, the client stops what goes by Python's sockets and nothing else, and the rest is called a leak."""
    status, found = examine("--unconfined")
    results = by_result(found)
    assert status == 1
    assert found["proof"]["fenced"] is False
    assert {"ctypes", "isolated", "c-class", "fileno", "ctypes-udp"} <= results["leaked"]
    assert not stopped_by("client") & results["leaked"]
    assert results["leaked"] <= stopped_by("fence", "user")
    assert any("leaked by ctypes" in each and "the fence does" in each for each in found["change"])


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_on_the_relay_there_is_nothing_to_turn() -> None:
    """With ``--relay`` the ways that turn a socket of the gate's come to nothing as well."""
    status, found = examine("--relay")
    results = by_result(found)
    assert (status, found["relay"]) == (0, True)
    assert not results.get("leaked")
    assert stopped_by("seal") <= results["refused"] | results["failed"]


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder with room below it for the path of a Unix socket, which ``tmp_path`` may leave too little of."""
    with tempfile.TemporaryDirectory(prefix="outgate-") as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_a_user_who_may_make_no_namespace(short_folder: str) -> None:
    """Where namespaces are switched off the setting is named, every way round the client leaks, and the status is 1."""
    wrapper = [sys.executable, str(SCRIPT), "--without", "max_user_namespaces"]
    status, found = examine(wrapper=wrapper, env=environment(PYTHONPATH=str(SOURCE), XDG_RUNTIME_DIR=short_folder))
    assert status == 1
    assert found["change"][0] == "fence: sysctl -w user.max_user_namespaces=15000"
    levels = {each["name"]: each for each in found["levels"]}
    assert (levels["client"]["host"], levels["fence"]["host"], levels["guard"]["host"]) == (True, False, False)
    assert {"ctypes", "isolated"} <= by_result(found)["leaked"]


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_an_ordinary_user(short_folder: str) -> None:
    """An ordinary user can neither enter another network from inside the fence nor take sockets of the outside."""
    wrapper = [sys.executable, str(SCRIPT)]
    status, found = examine(wrapper=wrapper, env=environment(PYTHONPATH=str(SOURCE), XDG_RUNTIME_DIR=short_folder))
    assert (found["proof"]["faults"], found["change"], status) == ([], [], 0)
    results = by_result(found)
    assert results["not-stopped"] == stopped_by("seal")
    assert "setns" in results["failed"]
    checks = {each["name"]: each for each in found["checks"]}
    assert checks["user"]["found"].startswith(f"uid {ORDINARY}")
    assert "user namespace" in checks["fence"]["found"]


#: Run the command line with this folder list behind the interpreter's own.
ELSEWHERE = "import sys; sys.path += sys.argv.pop(1).split(':'); from outgate.cli.main import main; sys.exit(main())"

#: Fails for a user who lacks the gate's dependencies, or may not start this interpreter (setpriv starts it as root).
CAN_BE_USED = """\
import sys
sys.path += sys.argv.pop(1).split(":")
import msgspec, subprocess
subprocess.run([sys.executable, "-c", ""], check=True)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_another_user() -> None:
    """A real ordinary user, with an interpreter and a folder that everybody may read, gets the same proof."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    become = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
    folders = ":".join([str(SOURCE), *(each for each in sys.path if each.endswith("site-packages"))])
    with tempfile.TemporaryDirectory(prefix="outgate-") as home:
        os.chown(home, ORDINARY, ORDINARY)
        env = {"PATH": "/usr/bin:/bin", "HOME": home, "XDG_RUNTIME_DIR": home}
        for python in (sys.executable, "/usr/bin/python3"):
            wrapper = [*become, python, "-I", "-B", "-c", ELSEWHERE, folders]
            can = [*wrapper[:-2], CAN_BE_USED, folders]
            if subprocess.run(can, capture_output=True, env=env, cwd="/").returncode == 0:
                break
        else:
            pytest.skip("no interpreter here that an ordinary user may run, with outgate's dependencies")
        status, found = examine(wrapper=wrapper, env=env)
    assert (found["proof"]["faults"], found["change"], status) == ([], [], 0)
    results = by_result(found)
    assert results["not-stopped"] == stopped_by("seal")
    assert stopped_by("user") <= results["failed"] | results["not-tried"]


def serving_app(folder: Path, mode: str = "enforce", permitted: str = "[]", uid: int | None = None) -> Any:
    """Have a gate with one app, by default this user's."""
    config = folder / "outgate.toml"
    uid = os.getuid() if uid is None else uid
    config.write_text(CONFIG.format(uid=uid, mode=mode, permitted=permitted), encoding="utf-8")
    return serving(folder, "--config", str(config))


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_the_running_gate_is_proved(tmp_path: Path) -> None:
    """A running gate is the one that judges, and its log has what was dialled, under a name that tells who it was."""
    with serving_app(tmp_path) as gate:
        status, found = examine("--socket", gate.socket)
    assert (found["proof"]["faults"], status) == ([], 0)
    assert found["proof"]["gate"] == f"the running gate at {gate.socket}"
    denied = [line for line in gate.log() if line["event"] == "decision"]
    assert {(line["verdict"], line["program"], line["app"]) for line in denied} == {("deny", "outgate-doctor", "blog")}


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_a_gate_that_permits_loopback_is_not_used(tmp_path: Path) -> None:
    """A gate whose policy permits the address cannot prove a refusal, and one of its own is started and named."""
    with serving_app(tmp_path, permitted='["loopback"]') as gate:
        status, found = examine("--socket", gate.socket)
    assert (found["proof"]["faults"], status) == ([], 0)
    assert "does not deny 127.0.0.1 (it says: allow)" in found["proof"]["gate"]
    assert not [line for line in gate.log() if line["event"] == "decision"]


@pytest.mark.slow
@pytest.mark.usefixtures("can_fence")
def test_without_a_terminal_and_in_plain_words() -> None:
    """For people every way has its line, what the first was told is shown whole, and standard error has no fault."""
    done = outgate("doctor", start_new_session=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(way.title in done.stdout for way in table.WAYS)
    assert 'rule "non-public"; to permit: except = ["127.0.0.1:' in done.stdout
    assert done.stdout.endswith("the default of outgate run holds here\n")
    assert all(line.startswith("outgate doctor: ") for line in done.stderr.splitlines())


@pytest.mark.slow
def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    """Ctrl-C in the middle of the proof ends the command with status 130 and whatever it had started."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\nexec 9>{fifo}\necho here >&9\nexec sleep 600\n", encoding="utf-8")
    curl.chmod(0o755)
    env = environment(PATH=f"{tmp_path}:{os.environ['PATH']}")
    with (
        subprocess.Popen(
            [*OUTGATE, "doctor"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
        ) as process,
        open(fifo, "rb") as reader,
    ):
        assert reader.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert reader.read() == b"", "what was in progress has ended as well"


# What is found out of the way.


def test_under_a_gate_already(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside ``outgate run`` nothing can be proved, and the exit status and the words say so."""
    monkeypatch.setenv(paths.SOCKET_VARIABLE, "/nonexistent/gate.sock")
    monkeypatch.setenv("PYTHONPATH", "/x/outgate/client/autoload")
    monkeypatch.setattr(doctor.probes, "checks", lambda *_: GOOD)
    monkeypatch.setattr(doctor.proving, "look_for_gate", lambda _: Gate(Check("gate", features.OK, "here")))
    assert doctor.main([]) == 2
    assert "run outgate doctor outside of it" in capsys.readouterr().out


def test_no_gate_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a gate is told that outgate run starts one; a gate that was named must answer."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(paths, "search_paths", lambda *_: (str(tmp_path / "gate.sock"),))
    assert proving.look_for_gate("").check.state == features.OK
    named = proving.look_for_gate(str(tmp_path / "gate.sock")).check
    assert (named.state, "take --socket away" in named.change) == (features.FAIL, True)
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "gate.sock"))
    assert paths.SOCKET_VARIABLE in proving.look_for_gate("").check.change


@pytest.mark.parametrize(
    ("mode", "mine", "state", "word"),
    [
        ("enforce", True, features.OK, "in which you are app blog"),
        ("report", True, features.WARN, "report mode"),
        ("enforce", False, features.FAIL, "in which you are no app"),
    ],
)
def test_the_gate_that_answers(tmp_path: Path, mode: str, mine: bool, state: str, word: str) -> None:
    """A gate is described with its version, policy and who we are to it; what makes it useless is to be changed."""
    with serving_app(tmp_path, mode=mode, uid=os.getuid() + (not mine)) as gate:
        found = proving.look_for_gate(gate.socket)
    assert found.check.state == state
    assert word in found.check.found
    assert str(tmp_path / "outgate.toml") in found.check.found
    assert bool(found.check.change) == (state != features.OK)
    assert found.path == (gate.socket if mine else "")


# What follows from what was found.

GOOD = [
    Check("fence", features.OK, "made"),
    Check("seal", features.ABSENT, "no CAP_BPF"),
    Check("guard", features.OK, "could be made"),
]
BAD = [Check("fence", features.FAIL, "cannot be made: it rains", "take an umbrella"), *GOOD[1:]]
WAY = table.ALL["ctypes"]


def proved(*results: str, faults: Sequence[str] = ()) -> Proof:
    """Return a proof with these results."""
    return Proof("a gate", "127.0.0.1:1", True, [Outcome(WAY, each, "why") for each in results], True, faults)


@pytest.mark.parametrize(
    ("checks", "it", "status"),
    [
        (GOOD, proved(proof.REFUSED, proof.FAILED), 0),
        (GOOD, proved(proof.NOT_STOPPED, proof.UNTRIED), 0),
        (GOOD, proved(proof.LEAKED), 1),
        (GOOD, proved(proof.REFUSED, faults=["deaf"]), 2),
        (GOOD, proved(proof.LEAKED, faults=["deaf"]), 1),
        (BAD, proved(proof.REFUSED), 1),
        (BAD, proved(faults=["broken"]), 1),
        ([*GOOD, Check("user", features.WARN, "root", "another user")], proved(proof.REFUSED), 0),
    ],
)
def test_exit_status(
    checks: list[Check],
    it: Proof,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """0 where all holds, 1 where something is to change, 2 where only doubt is left; warnings and known gaps are 0."""
    monkeypatch.setattr(doctor.probes, "checks", lambda *_: checks)
    monkeypatch.setattr(doctor.proving, "look_for_gate", lambda _: Gate(Check("gate", features.OK, "here")))
    monkeypatch.setattr(doctor.proving, "prove", lambda *_: it)
    assert doctor.main([]) == status
    text = capsys.readouterr().out
    assert ("to change" in text) == (status == 1)
    assert all(fault in text for fault in it.faults)
    assert doctor.main(["--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert (found["v"], found["status"], found["ok"]) == (1, status, status == 0)
    assert bool(found["change"]) == (status == 1)
    assert set(found) == {
        "v", "ok", "status", "version", "unconfined", "relay", "checks", "levels", "proof", "change",
    }  # fmt: skip
    assert set(found["proof"]) == {"ok", "gate", "address", "fenced", "permitted", "faults", "ways"}
    assert all(set(each) == {"way", "title", "stopped_by", "result", "why", "said"} for each in found["proof"]["ways"])
    assert all(set(each) == {"name", "state", "found", "change"} for each in found["checks"])
    assert all(set(each) == {"name", "host", "stops", "found", "change"} for each in found["levels"])


def test_leaks_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ways that leak for one reason make one thing to change."""
    findings = doctor.Findings(GOOD, [], proved(proof.LEAKED, proof.LEAKED), unconfined=False, relayed=False)
    assert findings.change == ["leaked by ctypes, ctypes: why"]


def test_somebody_who_waits_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What goes on is told on standard error once a second has passed, and not before."""
    now = [100.0]
    monkeypatch.setattr(doctor.time, "monotonic", lambda: now[0])
    progress = doctor._Progress()
    progress("early")
    now[0] += 1.5
    progress("late")
    assert capsys.readouterr().err == "outgate doctor: late ...\n"
