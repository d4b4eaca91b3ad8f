"""What a program sees when a signal handler raises at any step of its calls, as Ctrl-C does."""

import contextlib
import dis
import gc
import os
import signal
import socket
import sys
import warnings

from harness import PATIENCE, Echo, is_readable, listener, main, open_fds, talk

# A handler that raises leaves sockets to the collector, natively too, and what it raises in a finalizer goes nowhere.
warnings.simplefilter("ignore", ResourceWarning)
sys.unraisablehook = lambda unraisable: None

ECHO = Echo(own_process=True)


class Interrupted(Exception):
    """Raised by the handler, as Ctrl-C raises KeyboardInterrupt."""


class At:
    """Raise :class:`Interrupted` at the n-th of the moments of a call at which the interpreter runs signal handlers.

    Those are the entry of every Python function, and after every call and jump back (``CHECK_EVAL_BREAKER`` in ceval.c
    of CPython), unless the signal is blocked there; not if it was blocked by that very call: it runs what came before.
    """

    def __init__(self, moment):
        self.left = moment
        self.was_blocked = False

    def __enter__(self):
        sys.settrace(self.trace)
        return self

    def __exit__(self, kind, error, trace):
        sys.settrace(None)
        if kind is Interrupted:
            error.__traceback__ = None
            return True
        return False

    @property
    def is_over(self):
        """Whether the call had no such moment any more."""
        return self.left > 0

    def trace(self, frame, event, argument):
        """Be the trace function of ``sys.settrace``."""
        code = frame.f_code
        if code.co_filename == __file__ and code.co_name == "__exit__":
            return None
        if code.co_name != "finalize":  # a finalizer that never began is beyond help; natively it is in C
            self.pass_moment()
        if "/encodings/" in code.co_filename or "/json/" in code.co_filename:
            return None  # what has no fd in its hands
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        calls = _calls_of(code)
        last = -1

        def step(frame, event, argument):
            nonlocal last
            if event == "opcode":
                before, last = last, frame.f_lasti
                if before in calls or last < before:
                    self.pass_moment()
            elif event == "exception":
                last = -1  # a call that raises is not followed by a look for signals
            return step

        return step

    def pass_moment(self):
        """Count one moment, and raise if it is the one."""
        blocked = signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        can_run = not (blocked and self.was_blocked)
        self.was_blocked = blocked
        if can_run:
            self.left -= 1
            if self.left == 0:
                raise Interrupted


_known = {}


def _calls_of(code):
    """Return the offsets of the instructions of a function that call something."""
    calls = _known.get(code)
    if calls is None:
        raw = code.co_code
        calls = _known[code] = {at for at in range(0, len(raw), 2) if "CALL" in dis.opname[raw[at]]}
    return calls


def by_name(server):
    socket.create_connection(("localhost", server[1]), timeout=PATIENCE).close()


def without_waiting(server):
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(server)


def plainly(server):
    with socket.socket() as sock:
        sock.connect(server)
        sock.sendall(b"x")


def bound_and_lingering(server):
    sock = socket.socket()
    sock.bind(("", 0))
    sock.connect(server)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def dropped(server):
    sock = socket.create_connection(server)
    del sock


def look_up(server):
    assert socket.getaddrinfo("localhost", 7, socket.AF_INET, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 7)
    assert socket.gethostbyname("localhost") == "127.0.0.1"


def by_datagram(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", server)
        sock.getsockname()


def cut_at_every_moment(call, prepare=lambda server: (server,), tidy=lambda *arguments: None):
    """Interrupt a call at each of its moments in turn; demand that nothing is left of any.

    :param prepare: makes its arguments of an address, in peace.
    :param tidy: called with the same arguments if it was interrupted.
    """
    with listener(1024) as server:
        address = server.getsockname()
        for _ in range(20):  # whatever it loads is loaded, the pool has been filled more than once
            call(*prepare(address))
        _demand_ends(server, call)
        before = open_fds()
        moment = whole = 0
        while whole < 8:  # a pool is refilled now and then, which has more moments
            moment += 1
            arguments = prepare(address)
            with At(moment) as at:
                call(*arguments)
            if at.is_over:
                whole += 1
            else:
                whole = 0
                tidy(*arguments)
            del arguments
            if moment % 100 == 0:
                _demand_ends(server, call)
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
            talk(sock)
        call(*prepare(address))
        _demand_ends(server, call)
        assert open_fds() - before <= 12, (call.__name__, before, open_fds())


def _demand_ends(server, call):
    """Demand that every connection has ended."""
    gc.collect()
    while is_readable(server, 0):
        peer, _ = server.accept()
        with peer, contextlib.suppress(ConnectionResetError):
            more = b"x"
            while more:
                assert is_readable(peer), f"{call.__name__}: a connection that nobody has is open"
                more = peer.recv(100)


def check_cut_while_it_opens():
    """A connect and a close cut off at every step leave neither connection nor fd, and the next ones work."""
    cut_at_every_moment(plainly)


def check_cut_while_it_opens_without_waiting():
    """So does a connect that does not wait."""
    cut_at_every_moment(without_waiting)


def check_cut_while_it_opens_by_name():
    """So does a connect by name with a time-out."""
    cut_at_every_moment(by_name)


def check_cut_while_it_lingers():
    """So does the close of a socket that was bound and is to linger, which waits for the gate."""
    cut_at_every_moment(bound_and_lingering)


def check_cut_in_the_collector():
    """So does the collector, which closes what was dropped."""
    cut_at_every_moment(dropped)


def check_cut_while_it_closes_a_duplicate():
    """So do the closes of a socket and its duplicate, which may be repeated."""

    def prepare(server):
        sock = socket.create_connection(server)
        return sock, sock.dup()

    def close(sock, twin):
        sock.close()
        twin.close()

    cut_at_every_moment(close, prepare, close)


def check_cut_while_it_closes_by_number():
    """A close by number that was cut off may be repeated; then the connection has ended."""

    def prepare(server):
        return (socket.create_connection(server).detach(),)

    def tidy(fd):
        with contextlib.suppress(OSError):
            os.close(fd)

    for call in (socket.close, os.close):
        cut_at_every_moment(call, prepare, tidy)


def check_cut_while_it_looks_up():
    """Look-ups cut off at every step do not mix up the answers of the next ones."""
    cut_at_every_moment(look_up)


def check_cut_while_it_sends_a_datagram():
    """UDP sockets cut off at every step leave no fd."""
    cut_at_every_moment(by_datagram)


if __name__ == "__main__":
    main(globals())
