"""What a program sees when signals end its calls, when fds run out, and when it ends itself."""

import contextlib
import errno
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
import warnings

from harness import PATIENCE, Echo, black_hole, is_readable, main, open_fds, pair, raises, talk

# A handler that raises leaves sockets to the collector, natively too; and what it raises in a finalizer, which ours has
# in Python and the native class in C, goes nowhere.
warnings.simplefilter("ignore", ResourceWarning)
sys.unraisablehook = lambda unraisable: None

ECHO = Echo(own_process=True)  # what happens to this process does not happen to it


class Interrupted(Exception):
    """Raised by the handler, as Ctrl-C raises KeyboardInterrupt."""


@contextlib.contextmanager
def alarm(seconds):
    """Let a handler raise :class:`Interrupted` after that time; demand that no signal is blocked in the end."""

    def handler(number, frame):
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        while True:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0)
                break
            except Interrupted:
                pass
        signal.signal(signal.SIGALRM, before)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def connect_and_talk():
    with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
        talk(sock)


def check_interrupted_wait():
    """A handler that raises ends a connect that nobody answers, with and without a timeout; the next one works."""
    with black_hole() as nowhere:
        for timeout in (None, PATIENCE):
            with socket.socket() as sock:
                sock.settimeout(timeout)
                with alarm(0.03), raises(Interrupted):
                    sock.connect(nowhere)
                sock.settimeout(0)
                assert sock.connect_ex(nowhere) in (errno.EALREADY, errno.EINPROGRESS)
            connect_and_talk()


def check_keyboard_interrupt():
    """SIGINT in a connect raises KeyboardInterrupt."""
    with black_hole() as nowhere, socket.socket() as sock:
        threading.Timer(0.03, os.kill, (os.getpid(), signal.SIGINT)).start()
        with raises(KeyboardInterrupt):
            sock.connect(nowhere)


def check_interrupted_opens():
    """Opens cut off at 150 different moments leave no fd behind, and whole ones hear their own echo."""
    begun = time.perf_counter()
    for _ in range(50):
        connect_and_talk()
    usual = (time.perf_counter() - begun) / 50
    gc.collect()
    before = open_fds()
    done = cut = 0
    while cut < 150 and done < 20_000:
        # At the beginning, in, and after each step of an open.
        try:
            with alarm(2e-6 + (done + cut) % 49 / 49 * usual):
                sock = None
                try:
                    sock = socket.socket()
                    sock.connect(ECHO.address)
                    talk(sock, b"turn %d" % (done + cut))
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    if sock is not None:
                        sock.close()
            done += 1
        except Interrupted:
            cut += 1
    gc.collect()
    assert cut == 150, (done, cut)
    for turn in range(20):
        with socket.create_connection(ECHO.address) as sock:
            talk(sock, b"after %d" % turn)
    gc.collect()
    assert open_fds() - before <= 12, (open_fds(), before, done, cut)


def check_interrupted_closes():
    """A hundred closes that wait for the gate, cut off at different moments: the peer sees the end of each."""
    for turn in range(100):
        with pair() as (client, peer):
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\0" * 8)
            try:
                with alarm(10e-6 + turn % 25 * 8e-6):
                    client.close()
            except Interrupted:
                pass
            fd = client.fileno()
            if fd >= 0:
                client.close()
            assert is_readable(peer), turn
            with contextlib.suppress(ConnectionResetError):
                assert peer.recv(1) == b""
    connect_and_talk()


def check_interrupted_look_ups():
    """A hundred look-ups cut off at different moments; each whole one has its own answer."""
    for turn in range(100):
        try:
            with alarm(10e-6 + turn % 30 * 1e-5):
                port = 1000 + turn
                answer = socket.getaddrinfo("localhost", port, socket.AF_INET, socket.SOCK_STREAM)
                assert answer[0][4] == ("127.0.0.1", port), answer
        except Interrupted:
            pass
    assert socket.getaddrinfo("localhost", 5, socket.AF_INET, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 5)


def check_few_fds():
    """With a limit of 64 fds a program gets more than 40 sockets, then EMFILE, and all again after it closed them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        counts = []
        for _ in range(3):
            held = []
            with raises(OSError, errno.EMFILE):
                while True:
                    held.append(socket.socket())
            counts.append(len(held))
            for sock in held:
                sock.close()
        assert min(counts) >= 40, counts
        assert max(counts) - min(counts) <= 1, counts
        held = []
        with raises(OSError, errno.EMFILE):
            while True:
                held.append(socket.create_connection(ECHO.address))
        for sock in held:
            talk(sock)
            sock.close()
        connect_and_talk()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connect_and_talk()


def check_full_table():
    """A program that fills its fds with files first has EMFILE from socket(), and sockets once it has closed some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    files = []
    try:
        with raises(OSError, errno.EMFILE):
            while True:
                files.append(os.open("/dev/null", os.O_RDONLY))
        with raises(OSError, errno.EMFILE):
            while True:
                files += [socket.socket().detach()]
        for file in files[:12]:
            os.close(file)
        del files[:12]
        with socket.create_connection(("127.0.0.1", ECHO.address[1])) as sock:
            talk(sock)
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    connect_and_talk()


def check_a_thousand_opens_leave_nothing():
    """A thousand connections, one after another, leave as many fds as there were."""
    connect_and_talk()
    gc.collect()
    before = open_fds()
    for _ in range(1000):
        socket.create_connection(ECHO.address).close()
    for _ in range(30):
        connect_and_talk()
    assert open_fds() - before <= 8, (before, open_fds())


if __name__ == "__main__":
    main(globals())
