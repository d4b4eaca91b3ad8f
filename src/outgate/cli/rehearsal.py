"""Watch a program that ``outgate run --learn`` runs, and write the policy that it needs.

Two processes: one goes on to become the program, as without ``--learn``; the other reads the gate's log from a pipe
until the gate has ended, writes the policy, and ends as the program did.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from outgate.cli import learn
from outgate.core.learn.learning import learn_all
from outgate.core.learn.observations import Observations, TooMany
from outgate.errors import ConfigError

if TYPE_CHECKING:
    from outgate.cli.options import Options

#: Signals that people and supervisors send to whom they started: they are for the program.
_FORWARDED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_WAITED = (signal.SIGCHLD, *_FORWARDED)
#: Seconds after the program's end in which its gate usually ends too; then it is said what is waited for.
_PATIENCE = 2.0
#: A line that no gate writes: what stands before it in the pipe has been read.
_END = b"outgate: the end\n"
_MAX_LINE = 1 << 20


def begin(options: Options) -> None:
    """Return in the process that is to become the program; the other one learns, and ends with its exit status.

    Sets ``options.log``: the gate's log goes into a pipe that the program does not get.
    """
    try:
        kept = _kept_log(options.log)
    except OSError as e:
        print(f"outgate run: {options.log} cannot be written: {e.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    receiver, sender = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED)
    on_child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # where it is ignored there is no status to wait for
    child = os.fork()
    if child == 0:
        os.close(receiver)
        if kept is not None:
            os.close(kept)
        signal.signal(signal.SIGCHLD, on_child)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        options.log = f"/dev/fd/{sender}"
        return
    os.close(sender)
    try:
        _let_go(receiver, *([] if kept is None else [kept]))
        reader = _Reader(receiver, kept)
        status = _watch(child, reader, options.quiet)
        _conclude(options, reader)
    except BaseException as e:
        print(f"outgate run: learning failed: {type(e).__name__}: {e}", file=sys.stderr)
        _, status = os.waitpid(child, 0)
    _end_like(status)


def _kept_log(path: str | None) -> int | None:
    """Return an fd for the log that was asked for beside the learning, ``None`` for none."""
    if not path:
        return None
    if path == "-":
        return os.dup(2)
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o600)


def _let_go(*keep: int) -> None:
    """Give up every fd but standard error: whoever reads the program's output waits for its end, not for ours."""
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    for fd in map(int, os.listdir("/proc/self/fd")):
        if fd > 2 and fd not in keep:
            try:
                os.close(fd)
            except OSError:  # the listing's own
                pass


class _Reader:
    """A thread that takes in the log as it is written, so that it never grows anywhere.

    :ivar seen: what was gathered; whole once the thread has ended.
    :ivar failure: why gathering was given up, ``""`` if it was not.
    :ivar is_done: whether the log has come to its end.
    """

    def __init__(self, receiver: int, kept: int | None) -> None:
        self.seen = Observations()
        self.failure = ""
        self.is_done = False
        self._receiver = receiver
        self._kept = kept
        self._whom = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="outgate-learn")
        self._thread.start()

    def stop(self) -> None:
        """End after what has been written so far."""
        sender = os.open(f"/proc/self/fd/{self._receiver}", os.O_WRONLY)
        os.write(sender, _END)
        os.close(sender)
        self._thread.join()

    def _run(self) -> None:
        with open(self._receiver, "rb", closefd=False) as file:
            while line := file.readline(_MAX_LINE):
                if line.endswith(_END):
                    break
                self._keep(line)
                if not self.failure:
                    try:
                        self.seen.add(learn.decoded(line))
                    except TooMany as e:
                        self.failure = str(e)
        self.is_done = True
        signal.pthread_kill(self._whom, signal.SIGCHLD)  # wakes who waits for us as for the program

    def _keep(self, line: bytes) -> None:
        if self._kept is None:
            return
        try:
            while line:
                line = line[os.write(self._kept, line) :]
        except OSError as e:
            print(f"outgate run: the log cannot be kept: {e.strerror}", file=sys.stderr)
            self._kept = None


def _watch(child: int, reader: _Reader, quiet: bool) -> int:
    """Wait until program and gate have ended, hand on signals, and return the program's status (as waitpid has it).

    What the program leaves behind keeps its gate, and is learned from; a signal then ends the waiting.
    """
    status: int | None = None
    said = quiet
    while status is None or not reader.is_done:
        info = signal.sigwaitinfo(_WAITED) if status is None or said else signal.sigtimedwait(_WAITED, _PATIENCE)
        if info is None:
            said = True
            print(
                "outgate: the program left processes behind, which are learned from; Ctrl-C ends that", file=sys.stderr
            )
        elif info.si_signo == signal.SIGCHLD:
            if status is None:
                ended, found = os.waitpid(child, os.WNOHANG)
                status = found if ended else None
        elif status is not None:
            reader.stop()
        elif info.si_code <= 0:  # sent by a process; a key at the terminal has reached the program as it reached us
            os.kill(child, info.si_signo)
    return status


def _conclude(options: Options, reader: _Reader) -> None:
    """Write the policy and say in one line what it holds and what to do next."""
    path = options.learn
    assert path
    seen = reader.seen
    if reader.failure:
        _say(f"nothing is written: {reader.failure}")
        return
    if not seen.started:
        return  # there was no gate, and why has been said
    policies = learn_all(seen)
    if not policies:
        _say("the program reached nothing, so there is nothing to learn, and no file is written")
        return
    try:
        learn.write(path, learn.policy_text(policies, seen, "outgate run --learn"), options.force)
    except OSError as e:
        _say(learn.cannot_write(path, e))
    except ConfigError as e:
        _say(f"nothing is written: {e}")
    else:
        if not options.quiet:
            _say(
                f"learned {learn.summary(policies, seen)}; it is in {path}; "
                f"next: outgate check {path}, then outgate run --config {path} -- ..."
            )


def _say(text: str) -> None:
    if sys.stderr is None:
        return
    from outgate.cli import output

    output.say(f"outgate: {output.printable(text)}", sys.stderr)


def _end_like(status: int) -> NoReturn:
    """End as the program did: with its exit status, or by the signal that ended it."""
    if sys.stderr is not None:
        sys.stderr.flush()
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the program's core is there already
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
        os._exit(128 + number)  # not reached: the signal ends us
    os._exit(os.waitstatus_to_exitcode(status))
