"""What becomes of sockets when objects, threads, interpreters and processes end with them open."""

import errno
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import warnings
import weakref

from harness import PATIENCE, Echo, black_hole, is_readable, listener, main, open_fds, raises, talk

ECHO = Echo(own_process=True)

HEAD = """
import faulthandler, gc, os, signal, socket, sys, threading, time
faulthandler.dump_traceback_later(20, exit=True)
address = (sys.argv[1], int(sys.argv[2]))
nowhere = (sys.argv[1], int(sys.argv[3]))
def talk(sock):
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
def blocked(call, *args):
    # Start a daemon thread in a call that does not return, and go on when it sleeps there.
    thread = threading.Thread(target=call, args=args, daemon=True)
    thread.start()
    while open("/proc/self/task/%d/stat" % thread.native_id).read().rpartition(")")[2].split()[0] != "S":
        time.sleep(0)
    return thread
"""


def run(code, *options, address=None, nowhere=("127.0.0.1", 9), status=0):
    """Run a program; return (stdout, stderr), and demand its exit status."""
    host, port = address or ECHO.address
    command = [sys.executable, *options, "-c", HEAD + code, host, str(port), str(nowhere[1])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return done.stdout, done.stderr


# --- the collector ----------------------------------------------------------------------------------------------------


class Holder:
    """Holds a connection, and closes it when it is collected."""

    def __init__(self, address):
        self.sock = socket.create_connection(address)
        self.me = self

    def __del__(self):
        self.sock.close()  # perhaps again: the collector finalizes what is in one cycle in an order of its own


def check_cycles():
    """Connections in reference cycles, closed by finalizers, and behind weak references end when collected."""
    with listener() as server:
        for make in (Holder, lambda address: weakref.ref(Holder(address))):
            held = make(server.getsockname())
            peer, _ = server.accept()
            with peer:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)  # where the socket's finalizer is the first
                    del held
                    gc.collect()
                assert is_readable(peer)
                assert peer.recv(100) == b""


def check_warnings_of_unclosed_sockets():
    """A socket that is dropped warns in the very words of a native one, at the line that drops it."""
    for make in (
        lambda: socket.create_connection(ECHO.address),
        socket.socket,
        lambda: socket.socket(socket.AF_INET6),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    ):
        sock = make()
        expected = f"unclosed {sock!r}"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sock = None
            gc.collect()
        (warning,) = caught
        assert str(warning.message) == expected, (str(warning.message), expected)
        assert warning.category is ResourceWarning
        assert warning.filename == __file__, warning.filename


def check_warnings_as_errors():
    """Where warnings are errors a dropped connection is closed all the same, and the program is told of it."""
    out, said = run(
        "sock = socket.create_connection(address)\npeer = sock.getsockname()\ndel sock\ngc.collect()\n"
        "print(len(os.listdir('/proc/self/fd')) < 20)\n",
        "-Werror",
    )
    assert out == "True\n"
    assert said.count("ResourceWarning: unclosed <socket.socket fd=") == 1, said


# --- the end of an interpreter ----------------------------------------------------------------------------------------


def check_threads_blocked_at_the_end():
    """A program whose daemon threads wait in a receive, a send, a connect and an accept ends in silence."""
    with black_hole() as nowhere, listener() as silent:
        code = """
one = socket.create_connection(nowhere_that_listens)
blocked(one.recv, 1)
two = socket.create_connection(nowhere_that_listens)
blocked(two.sendall, bytes(50_000_000))
three = socket.socket()
blocked(three.connect, nowhere)
four = socket.socket()
four.settimeout(30)
blocked(four.connect, nowhere)
five = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
five.sendto(b"x", nowhere_that_listens)
blocked(five.recvfrom, 1)
six = socket.create_connection(nowhere_that_listens).makefile("rb")
blocked(six.readline)
print("end")
"""
        code = f"nowhere_that_listens = {silent.getsockname()!r}\n" + code
        assert run(code, nowhere=nowhere) == ("end\n", "")


def check_threads_that_open_at_the_end():
    """A program ends whose daemon threads open connections and look names up without end."""
    code = """
def work():
    while True:
        with socket.create_connection(address) as sock:
            talk(sock)
        socket.getaddrinfo("localhost", 80)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
for _ in range(20):
    with socket.create_connection(address) as sock:
        talk(sock)
"""
    for _ in range(3):
        run(code)


def check_finalizers_at_the_end():
    """Sockets that are used and made by finalizers when modules are being taken down do no harm."""
    code = """
class Late:
    def __init__(self):
        self.sock = socket.create_connection(address)
        self.use = talk, socket.create_connection, address
    def __del__(self):
        use, connect, address = self.use
        use(self.sock)
        with connect(address) as other:
            use(other)
        self.sock.close()
        os.write(1, b"late")
import builtins, os
builtins.late = Late()
kept = Late()
kept.me = kept
"""
    out, said = run(code)
    assert out.count("late") >= 1, (out, said)
    assert said == "", said


def check_ends_without_the_interpreters_knowledge():
    """os._exit, SIGKILL and an abort end every connection of a program at once."""
    for end, status in (
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("faulthandler.disable(); import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()", -6),
    ):
        with listener() as server:
            code = "held = [socket.create_connection(address), socket.socket()]\nheld[0].sendall(b'x')\n" + end
            run(code, address=server.getsockname(), status=status)
            peer, _ = server.accept()
            with peer:
                assert is_readable(peer)
                assert peer.recv(10) == b"x"
                assert is_readable(peer), end
                assert peer.recv(10) == b"", end


def check_faulthandler():
    """faulthandler shows the stack of a thread that waits for a connection, and a fault of it ends the program."""
    with black_hole() as nowhere:
        code = """
blocked(socket.socket().connect, nowhere)
faulthandler.dump_traceback(all_threads=True)
import resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
faulthandler.enable()
os.kill(os.getpid(), signal.SIGSEGV)
"""
        _, said = run(code, nowhere=nowhere, status=-signal.SIGSEGV)
        assert said.count("Current thread 0x") >= 2, said
        assert "Segmentation fault" in said, said


# --- subinterpreters --------------------------------------------------------------------------------------------------

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
CODE = '''
import socket
with socket.create_connection({address!r}, timeout=10) as sock:
    sock.sendall(b"sub")
    assert sock.recv(3) == b"sub"
    assert sock.getpeername() == {address!r}
assert socket.getaddrinfo("localhost", 7)[0][4][1] == 7
try:
    socket.create_connection({nobody!r}, timeout=10)
except ConnectionRefusedError:
    pass
else:
    raise AssertionError
held = socket.create_connection({address!r})
'''.format(address=address, nobody=nowhere)
def run(id):
    failed = interpreters.run_string(id, CODE)  # 3.13 returns what was raised
    assert failed is None, failed.formatted
def fresh(**kinds):
    try:
        return interpreters.create(**kinds)
    except TypeError:
        return interpreters.create(*kinds.values()) if sys.version_info >= (3, 13) else interpreters.create()
"""


def check_subinterpreters():
    """Interpreters within the process open connections, one after another and at once, and so does the main one."""
    with listener() as server:
        nobody = server.getsockname()
    code = (
        INTERPRETERS
        + """
with socket.create_connection(address) as mine:
    for _ in range(3):
        id = fresh()
        run(id)
        interpreters.destroy(id)
        talk(mine)
    ids = [fresh() for _ in range(3)]
    failures = []
    def work(id):
        try:
            run(id)
        except BaseException as e:
            failures.append(e)
    threads = [threading.Thread(target=work, args=(id,)) for id in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    for id in ids:
        interpreters.destroy(id)
    talk(mine)
with socket.create_connection(address) as after:
    talk(after)
print("ok")
"""
    )
    out, _ = run(code, "-Wignore", nowhere=nobody)
    assert out == "ok\n", out


# --- limits -----------------------------------------------------------------------------------------------------------


def check_no_fd_for_what_is_accepted():
    """With no fd left accept() and dup() are EMFILE, a connect of an open socket works, and all is well afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listener() as server, socket.create_connection(ECHO.address) as other, socket.socket() as sock:
        talk(other)
        files = []
        client = socket.create_connection(server.getsockname())
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
        try:
            with raises(OSError, errno.EMFILE):
                while True:
                    files.append(os.open(os.devnull, os.O_RDONLY))
            with raises(OSError, errno.EMFILE):
                server.accept()
            with raises(OSError, errno.EMFILE):
                other.dup()
            sock.connect(ECHO.address)
            talk(sock)
            talk(other)
        finally:
            for file in files:
                os.close(file)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        server.accept()[0].close()
        client.close()
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as after:
            talk(after)


def check_nothing_is_left():
    """All of that has left this process a few fds more at most."""
    gc.collect()
    assert open_fds() <= 40, os.listdir("/proc/self/fd")


if __name__ == "__main__":
    main(globals())
