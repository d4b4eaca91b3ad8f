"""The guard's own parts, on filters and processes of the test's: no root, no gate."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from outgate.core.guard import filter as rules
from outgate.core.guard import syscalls
from outgate.core.guard.assembler import EQUAL, Program
from outgate.guard import process
from outgate.guard.supervision import tasks
from outgate.guard.supervision.notify import Gone, Listener

#: What the programs here have notified: harmless, and made by nothing else.
_GETPPID = {"x86_64": 110, "aarch64": 173}


def _filter() -> bytes:
    program = Program()
    program.load(0)  # struct seccomp_data: the number comes first
    program.test(EQUAL, _GETPPID[os.uname().machine], "asks", "else")
    program.label("asks")
    program.give(rules.NOTIFY)
    program.label("else")
    program.give(rules.ALLOW)
    return program.assemble()


@contextlib.contextmanager
def _supervised() -> Iterator[tuple[Listener, int, int, int]]:
    """Give the listener of a child, its pid, where what it got is read, and what ends it when closed."""
    if os.uname().machine not in syscalls.ARCHS:
        pytest.skip("the guard knows no system calls of this machine")
    receiver, sender = os.pipe()
    waits, ends = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receiver)
            os.close(ends)
            process.renounce_privileges()
            listener = process.install(_filter())
            os.write(sender, listener.to_bytes(4, "little"))
            os.read(waits, 1)
            os.write(sender, os.getppid().to_bytes(4, "little"))
            os.read(waits, 1)
        finally:
            os._exit(0)
    os.close(sender)
    os.close(waits)
    pidfd = os.pidfd_open(child)
    try:
        number = int.from_bytes(os.read(receiver, 4), "little")
        fd = tasks.take_fd(pidfd, number)
        yield Listener(fd), child, receiver, ends
        os.close(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(ends)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(pidfd)
        os.close(receiver)


def test_a_call_is_answered() -> None:
    """It has the thread and the number, waits until it is answered, and then no more."""
    with _supervised() as (listener, child, receiver, ends):
        os.write(ends, b"\n")
        call = listener.receive()
        assert (call.thread, call.number) == (child, _GETPPID[os.uname().machine])
        assert listener.is_valid(call.id)
        listener.answer(call.id, 4242)
        assert not listener.is_valid(call.id)
        assert int.from_bytes(os.read(receiver, 4), "little") == 4242


def test_the_end_of_a_filter_is_told() -> None:
    """When nobody has it any more it says so, however the kernel lets go of who waits for calls: nobody spins."""
    with _supervised() as (listener, child, _, _):
        assert not listener.has_ended()
        said: list[object] = []

        def wait() -> None:
            try:
                listener.receive()
            except Gone:
                said.append(listener.has_ended())
            except OSError as e:
                said.append(e.errno)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        pidfd = os.pidfd_open(child)
        os.kill(child, signal.SIGKILL)
        select.select([pidfd], [], [])
        os.close(pidfd)
        waiting = select.poll()
        waiting.register(listener.fd, 0)
        assert waiting.poll(10_000)
        assert listener.has_ended()
        thread.join(10)  # before Linux 6.11 it waits on
        assert said in ([], [True], [errno.ENOENT], [errno.EINTR])


def test_a_thread_is_known_until_it_ends() -> None:
    """Its process is found, and when it has ended its number is nobody's."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(sender)
        os.read(receiver, 1)
        os._exit(0)
    os.close(receiver)
    try:
        threads = tasks.Threads()
        assert threads.process(child) == child
        known = tasks.Pidfd(child)
        assert not known.has_ended()
    finally:
        os.close(sender)
        os.waitpid(child, 0)
    assert known.has_ended()
    with pytest.raises(ProcessLookupError):
        threads.process(child)


def test_a_signal_that_waits_is_seen() -> None:
    """One with a handler counts, once it is not blocked; one without does not."""
    assert not tasks.has_signal(os.getpid())
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        os.kill(os.getpid(), signal.SIGUSR1)
        assert not tasks.has_signal(os.getpid())
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR1, before)
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.write(sender, b"x")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.read(receiver, 1)
        os.waitpid(child, os.WUNTRACED)
        assert not tasks.has_signal(child)
        os.kill(child, signal.SIGUSR1)
        assert tasks.has_signal(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(receiver)
        os.close(sender)
