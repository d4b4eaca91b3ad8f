"""``outgate run``: the program notices nothing but its network, and the gate beside it leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outgate.guard import fence
from support.commands import OUTGATE, PATIENCE, Run, Served, environment, outgate, python, serving

#: A program that tells who and where it is, and then waits for the end of its standard input.
TELLS = """
tell({
    "pid": os.getpid(), "sid": os.getsid(0), "group": os.getpgrp(), "gate": gate_pid(),
    "socket": os.environ["OUTGATE_SOCKET"], "network": os.readlink("/proc/self/ns/net"),
})
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def can_fence() -> bool:
    """Whether this host lets this user make a fence."""
    return isinstance(fence.probe(), fence.Fence)


@pytest.mark.parametrize("status", [0, 1, 3, 255])
def test_exit_status_passes_through(status: int) -> None:
    """The program's exit status is the command's."""
    with Run(["sh", "-c", f"exit {status}"]) as run:
        assert run.end()[0] == status


def test_death_by_a_signal_passes_through() -> None:
    """A program that a signal ends ends the command by the same signal, not by a status that stands for it."""
    with Run(["sh", "-c", "kill -TERM $$"]) as run:
        assert run.end()[0] == -signal.SIGTERM


def test_standard_streams_are_the_programs_own() -> None:
    """What is written to the command's standard input reaches the program, and what it prints comes out, unmixed."""
    with Run(["sh", "-c", "cat; echo oops >&2"], ["-q"], stdin=subprocess.PIPE) as run:
        output, errors = run.process.communicate("through\n", timeout=PATIENCE)
    assert (output, errors) == ("through\n", "oops\n")


def test_the_gate_holds_nothing_of_the_programs() -> None:
    """The embedded gate holds none of the program's pipes, an inherited one included, nor its working directory."""
    receiver, extra = os.pipe()
    with Run(python(TELLS), pass_fds=[extra]) as run:
        os.close(extra)
        told = run.told()
        links = _fds_of(told["gate"])
        ours = {os.readlink(f"/proc/{told['pid']}/fd/{fd}") for fd in (0, 1, 2, extra)}
        assert len(ours) == 4
        assert not ours & set(links.values())
        assert os.readlink(f"/proc/{told['gate']}/cwd") == "/"
        assert run.end()[0] == 0
    assert os.read(receiver, 1) == b"", "end of file: nobody else had it"
    os.close(receiver)


def _fds_of(pid: int) -> dict[int, str]:
    folder = Path(f"/proc/{pid}/fd")
    found = {}
    for entry in folder.iterdir():
        try:
            found[int(entry.name)] = os.readlink(entry)
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def test_the_program_has_no_fds_of_ours() -> None:
    """The program has the fds that it has without us, and no other."""
    listing = ["sh", "-c", "ls /proc/self/fd"]
    native = subprocess.run(listing, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=True)
    with Run(listing, stdin=subprocess.DEVNULL) as run:
        output = run.end()[1]
    seen, expected = set(output.split()), set(native.stdout.split())
    assert len(seen - expected) == 1, "the log, which this test hands to everybody"
    assert expected <= seen


def test_the_program_takes_over_the_process() -> None:
    """The program has the command's pid, session and process group, and neither its group nor its session a gate."""
    with Run(python(TELLS)) as run:
        told = run.told()
        assert told["pid"] == run.process.pid
        assert (told["sid"], told["group"]) == (os.getsid(0), os.getpgrp())
        assert os.getsid(told["gate"]) != told["sid"]
        assert os.getpgid(told["gate"]) != told["group"]


def test_the_gate_is_no_child_of_the_program() -> None:
    """The program has no child to wait for."""
    code = "try: os.waitpid(-1, os.WNOHANG); tell('a child')\nexcept ChildProcessError: tell('none')"
    with Run(python(code)) as run:
        assert run.told() == "none"


def test_folder_and_environment_pass_through(tmp_path: Path) -> None:
    """The program has the working directory and environment of the command, and names of outgate's own."""
    env = environment(MARK="ä b\n=c", PYTHONPATH="one:two", LC_ALL=None, LC_CTYPE=None, LANG=None)
    code = "tell({'cwd': os.getcwd(), 'env': dict(os.environ)})"
    with Run(["env", "-0"], env=env, cwd=tmp_path) as run:
        seen = dict(entry.split("=", 1) for entry in run.end()[1].split("\0") if entry)
    assert seen.pop("OUTGATE_SOCKET")
    autoload, *rest = seen.pop("PYTHONPATH").split(":")
    assert Path(autoload, "sitecustomize.py").is_file()
    assert rest == env.pop("PYTHONPATH").split(":")
    seen.pop("OUTGATE_PYCACHE", None)
    assert seen.pop("OUTGATE_FOREIGN", "") == ""  # where the program is fenced
    assert seen == env, "not even the LC_CTYPE that Python sets for itself in the C locale"
    with Run(python(code), cwd=tmp_path) as run:
        assert run.told()["cwd"] == str(tmp_path)


@pytest.mark.parametrize("line", ["SigIgn", "SigBlk", "Umask"])
def test_signals_and_umask_pass_through(line: str) -> None:
    """The program ignores and blocks the signals that it would without us, SIGPIPE among them, and has its umask."""
    command = ["grep", line, "/proc/self/status"]
    native = subprocess.run(command, capture_output=True, text=True, check=True)
    with Run(command) as run:
        assert run.end()[1] == native.stdout


def test_a_command_that_does_not_exist() -> None:
    """A command that is not found has the exit status 127 of a shell, and no gate stays behind."""
    with Run(["no-such-command"]) as run:
        status, _, errors = run.end()
        assert status == 127
        assert "no-such-command: command not found" in errors
        assert run.log()[-1]["event"] == "stop"


def test_a_command_that_cannot_be_executed(tmp_path: Path) -> None:
    """A file that is not executable has the exit status 126 of a shell, and no gate stays behind."""
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    with Run([str(path)]) as run:
        status, _, errors = run.end()
        assert status == 126
        assert "Permission denied" in errors
        assert run.log()[-1]["event"] == "stop"


def test_the_gate_ends_after_the_program() -> None:
    """When the program has ended the gate ends, cleanly, and its folder is gone."""
    with Run(python(TELLS)) as run:
        told = run.told()
        gate = os.pidfd_open(told["gate"])
        assert not select.select([gate], [], [], 0)[0], "it runs as long as the program does"
        assert run.end()[0] == 0
        assert run.log()[-1]["event"] == "stop"
        assert select.select([gate], [], [], PATIENCE)[0]
        os.close(gate)
        assert not Path(told["socket"]).parent.exists()


def test_the_gate_outlives_the_program_for_its_children() -> None:
    """A child that makes its first socket only after the program has ended still has the gate, which ends after it."""
    code = """
import socket
if os.fork():
    os._exit(0)
os.read(0, 1)
try:
    socket.create_connection(("169.254.169.254", 80))
except PermissionError as error:
    tell(type(error).__name__)
os.dup2(os.open(os.devnull, os.O_RDWR), 1)
"""
    with Run(python(code)) as run:
        run.process.wait(PATIENCE)
        assert run.process.stdin is not None
        run.process.stdin.write("x")
        run.process.stdin.flush()
        assert run.told() == "PolicyDenied"
        assert run.log()[-1]["event"] == "stop"


def test_interrupt_ends_program_and_gate() -> None:
    """Ctrl-C ends the program by SIGINT, and the gate, which is not in its group, cleanly."""
    code = "tell(gate_pid()); import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); tell(0); sys.stdin.read()"
    with Run(python(code), start_new_session=True) as run:
        assert run.told()
        assert run.told() == 0
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.end()[0] == -signal.SIGINT
        assert run.log()[-1]["event"] == "stop"


def test_killed_program_ends_the_gate() -> None:
    """SIGKILL for the program ends the gate as well, cleanly, and its folder is gone."""
    with Run(python(TELLS)) as run:
        told = run.told()
        os.kill(told["pid"], signal.SIGKILL)
        assert run.end()[0] == -signal.SIGKILL
        assert run.log()[-1]["event"] == "stop"
        assert not Path(told["socket"]).parent.exists()


def test_closed_standard_fds() -> None:
    """A command that is started without 0, 1 and 2 runs its program and a gate all the same."""
    code = "os.write(int(sys.argv[1]), str(gate_pid()).encode())"
    receiver, sender = os.pipe()
    wrapper = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with Run(python(code, str(sender)), wrapper=wrapper, pass_fds=[sender]) as run:
        os.close(sender)
        assert run.end()[0] == 0
        assert os.read(receiver, 20).isdigit()
        assert [line["event"] for line in run.log()] == ["start", "stop"]
    os.close(receiver)


def test_a_modules_name_in_the_folder_does_not_reach_the_gate(tmp_path: Path) -> None:
    """Files of the program's folder and of its PYTHONPATH are not loaded into the gate."""
    for name in ("msgspec", "asyncio", "json", "outgate"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('loaded into the gate')", encoding="utf-8")
    script = Path(sys.executable).with_name("outgate")
    env = environment(PYTHONPATH=None)
    command = [str(script), "run", "-q", "--dev", "--", "env", "-u", "PYTHONPATH", "true"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")


def test_fenced_by_default(can_fence: bool) -> None:
    """Where the host allows it the program has a network of its own; where it does not, stderr says so."""
    with Run(python(TELLS)) as run:
        network = run.told()["network"]
        errors = run.end()[2]
    assert (network != os.readlink("/proc/self/ns/net")) == can_fence
    assert (" fenced" in errors and "NOT fenced" not in errors) == can_fence


def test_insisting_on_the_fence(can_fence: bool) -> None:
    """``--fence`` runs the program fenced, or not at all."""
    with Run(python(TELLS), ["--fence"]) as run:
        if can_fence:
            assert run.told()["network"] != os.readlink("/proc/self/ns/net")
            assert run.end()[0] == 0
        else:
            status, output, errors = run.end()
            assert (status, output) == (2, "")
            assert "cannot fence" in errors


@pytest.mark.parametrize("option", ["--unconfined", "--dev"])
def test_not_fenced(option: str) -> None:
    """``--unconfined`` and ``--dev`` leave the program in the host's network, and say so."""
    with Run(python(TELLS), [option]) as run:
        assert run.told()["network"] == os.readlink("/proc/self/ns/net")
        assert f"not fenced ({option})" in run.end()[2]


def test_one_line_says_what_is_in_force() -> None:
    """One line on stderr has app, source of the policy, path and containment."""
    with Run(["true"], ["--unconfined"]) as run:
        errors = run.end()[2]
    assert errors.count("\n") == 1
    assert errors.startswith("outgate: app default, policy built-in default, direct path, not fenced")


def test_quiet() -> None:
    """``-q`` silences that line and warnings about the program."""
    with Run([sys.executable, "-I", "-c", "pass"], ["-q"]) as run:
        assert run.end()[2] == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--except", "10.0.0.0/99"], "10.0.0.0/99"),
        (["--allow", "pubic"], "pubic"),
        (["--config", "/nonexistent/outgate.toml"], "there is no such file"),
        (["--app", "blog"], "--app chooses an app of a configuration"),
        (["--dev", "--fence"], "leave out one of --dev and --fence"),
        (["--config", "x.toml", "--allow", "*"], "--allow cannot add to it"),
        (["--socket", "/nonexistent/gate.sock", "--dev"], "--dev is for a gate of the program's own"),
    ],
)
def test_what_cannot_be_is_said(options: list[str], sentence: str) -> None:
    """Wrong rules and contradicting options end in exit status 2 and a sentence, before the program is started."""
    done = outgate("run", *options, "--", "echo", "started")
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_of_a_configuration(tmp_path: Path) -> None:
    """``--config`` with several apps wants ``--app``, and the program is the one that was named."""
    config = tmp_path / "outgate.toml"
    app = '[apps.{name}]\nbilling = true\ntrusted = true\nuid = [{uid}]\nexcept = ["loopback"]\n'
    config.write_text("version = 1\n" + app.format(name="blog", uid=1) + app.format(name="shop", uid=2))
    done = outgate("run", "--config", config, "--", "true")
    assert done.returncode == 2
    assert "say which: --app" in done.stderr
    done = outgate("run", "--config", config, "--app", "bolg", "--", "true")
    assert done.returncode == 2
    assert "blog, shop" in done.stderr
    with Run(["true"], ["--config", str(config), "--app", "shop"]) as run:
        status, _, errors = run.end()
        assert status == 0
        assert f"app shop, policy {config}" in errors


@pytest.fixture
def gate(tmp_path: Path) -> Served:
    """A gate that runs, for whoever finds it by OUTGATE_SOCKET."""
    with serving(tmp_path) as served:
        yield served


def test_a_running_gate_is_used(gate: Served) -> None:
    """With OUTGATE_SOCKET the program goes out through that gate, and no other one is started."""
    code = "tell([os.environ['OUTGATE_SOCKET'], gate_pid()])"
    done = outgate("run", "--", *python(code), env=environment(OUTGATE_SOCKET=gate.socket))
    assert json.loads(done.stdout) == [gate.socket, gate.process.pid]
    assert "app default of the running gate, policy 1 (built-in default)" in done.stderr


def test_a_running_gate_is_named(gate: Served) -> None:
    """``--socket`` does the same, also with a path that is not absolute."""
    code = "tell([os.environ['OUTGATE_SOCKET'], gate_pid()])"
    folder, name = os.path.split(gate.socket)
    done = outgate("run", "--socket", name, "--", *python(code), cwd=folder)
    assert json.loads(done.stdout) == [gate.socket, gate.process.pid]


@pytest.mark.parametrize("how", ["--socket", "OUTGATE_SOCKET"])
def test_a_named_gate_that_is_not_there(tmp_path: Path, how: str) -> None:
    """A gate that was named and does not answer is an error: no other policy takes its place."""
    path = str(tmp_path / "gate.sock")
    options, env = (["--socket", path], None) if how == "--socket" else ([], environment(OUTGATE_SOCKET=path))
    done = outgate("run", *options, "--", "echo", "started", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no gate answers at {path}" in done.stderr
    assert how in done.stderr


def test_run_in_run() -> None:
    """A program that starts ``outgate run`` itself stays with the gate it has, and PYTHONPATH does not grow."""
    code = "tell([os.environ['OUTGATE_SOCKET'], gate_pid(), os.environ['PYTHONPATH'].split(os.pathsep)])"
    outer = [*OUTGATE, "run", "-q", "--", *python(code)]
    begin = "tell([os.environ['OUTGATE_SOCKET'], gate_pid(), os.environ['PYTHONPATH'].split(os.pathsep)]);"
    with Run(python(begin + "os.execv(sys.argv[1], sys.argv[1:])", *outer)) as run:
        first, second = run.told(), run.told()
        assert first == second
        assert run.end()[0] == 0
        starts = [line for line in run.log() if line["event"] == "start"]
    assert len(starts) == 1


@pytest.mark.parametrize("command", [["run", "--dev", "--", "true"], ["serve"]])
def test_no_other_policy_inside(command: list[str]) -> None:
    """A program under a gate cannot give itself another policy, by ``run`` or by ``serve``, and is told so."""
    with Run([*OUTGATE, *command]) as run:
        status, _, errors = run.end()
    assert status == 2
    assert "runs under a gate already" in errors


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_python_without_the_client_fails_closed(option: str, can_fence: bool) -> None:
    """``python -I``, ``-E`` and ``-S`` are named on stderr, and in the fence such a program reaches nothing."""
    code = "import errno, socket\ntry: socket.create_connection(('192.0.2.1', 80))\nexcept OSError as e: print(e.errno)"
    if not can_fence:
        pytest.skip("this host lets this user make no fence")
    with Run([sys.executable, option, "-c", code]) as run:
        status, output, errors = run.end()
        assert (status, output) == (0, "101\n"), "ENETUNREACH"
        assert f"{option} does not load the client; in the fence it reaches nothing" in errors
        assert {line["event"] for line in run.log()} == {"start", "stop"}


SHELL = Path(__file__).with_name("shell.py")


class Terminal:
    """A job under a small job-controlling shell on a terminal of its own."""

    def __init__(self, *command: str) -> None:
        self.master, slave = os.openpty()
        self._reports, reports = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, str(SHELL), str(reports), *command],
            stdin=slave, stdout=slave, stderr=slave, pass_fds=[reports], start_new_session=True, env=environment(),
        )  # fmt: skip
        os.close(slave)
        os.close(reports)
        self._screen = b""

    def shows(self, text: str) -> str:
        """Wait until the terminal shows the text, and return all it has shown since the last call."""
        wanted = text.encode()
        while wanted not in self._screen:
            assert select.select([self.master], [], [], PATIENCE)[0], self._screen
            self._screen += os.read(self.master, 4096)
        end = self._screen.index(wanted) + len(wanted)
        shown, self._screen = self._screen[:end], self._screen[end:]
        return shown.decode()

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self.master, keys.encode())

    def report(self) -> object:
        """Wait for the next thing that the shell notices of its job."""
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([self._reports], [], [], PATIENCE)[0], self._screen
            character = os.read(self._reports, 1)
            assert character, self._screen
            line += character
        return json.loads(line)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)  # hangs up, which ends the job and the shell
        self.process.wait(PATIENCE)
        os.close(self._reports)


def test_job_control(tmp_path: Path) -> None:
    """On a terminal the program is the foreground job: Ctrl-Z stops it, SIGCONT continues it, Ctrl-C interrupts it."""
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler may come just before a read that then waits
print("foreground", os.tcgetpgrp(0) == os.getpgrp() == os.getpid(), os.environ["OUTGATE_SOCKET"], "end", flush=True)
while True:
    print("got", input(), flush=True)
"""
    command = [*OUTGATE, "run", "--log", str(tmp_path / "log"), "--", *python(code)]
    with Terminal(*command) as terminal:
        shown = terminal.shows("end")
        assert "foreground True" in shown
        path = shown.split()[-2]
        pid = terminal.report()["job"]  # type: ignore[index]
        terminal.press("\x1a")
        assert terminal.report() == {"stopped": signal.SIGTSTP}
        assert outgate("status", "--socket", path).returncode == 0, "the gate is not stopped with its program"
        os.kill(pid, signal.SIGCONT)
        assert terminal.report() == {"continued": True}
        terminal.press("hello\n")
        terminal.shows("got hello")
        terminal.press("\x03")
        assert terminal.report() == {"signalled": signal.SIGINT}
