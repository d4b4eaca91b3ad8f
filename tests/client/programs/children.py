"""What a program and its children see of their sockets, however the children are started and however they end."""

import errno
import faulthandler
import multiprocessing
import multiprocessing.managers
import multiprocessing.reduction
import multiprocessing.resource_sharer
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import traceback
import warnings

if __name__ == "__main__":
    # Before the socket module's own users: what the client registers at a fork comes after this.
    AT_FORK = []
    os.register_at_fork(
        before=lambda: [call() for where, call in AT_FORK if where == "before"],
        after_in_parent=lambda: [call() for where, call in AT_FORK if where == "parent"],
        after_in_child=lambda: [call() for where, call in AT_FORK if where == "child"],
    )

from harness import PATIENCE, Echo, in_child, is_readable, listener, main, open_fds, pair, talk

warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)  # 3.12: fork and threads

ECHO = Echo(own_process=True) if __name__ == "__main__" else None


def connect_and_talk(address=None, text=b"hello"):
    """Open a connection and use it."""
    with socket.create_connection(address or ECHO.address, timeout=PATIENCE) as sock:
        talk(sock, text)


def status(pid):
    """Wait for a child and return its exit status, negative for a signal."""
    code = os.waitpid(pid, 0)[1]
    return -os.WTERMSIG(code) if os.WIFSIGNALED(code) else os.WEXITSTATUS(code)


def read(peer, count):
    """Return that many bytes that a peer hears."""
    heard = b""
    while len(heard) < count:
        more = peer.recv(count - len(heard))
        assert more, heard
        heard += more
    return heard


def read_to_end(peer):
    """Return all that a peer hears."""
    heard = b""
    while more := peer.recv(65536):
        heard += more
    return heard


# --- ways to start ----------------------------------------------------------------------------------------------------

CHILD = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(b"hello")
    assert sock.recv(5) == b"hello"
"""


def python(code, *arguments):
    """Return the command that runs this code."""
    return [sys.executable, "-c", code, *map(str, arguments)]


def check_every_way_to_start():
    """Children started by posix_spawn, spawnv, popen, system, subprocess with and without vfork open connections."""
    command = python(CHILD, *ECHO.address)
    with socket.create_connection(ECHO.address) as mine:
        assert status(os.posix_spawn(sys.executable, command, os.environ)) == 0
        assert status(os.posix_spawnp(sys.executable, command, os.environ, setsigmask=[])) == 0
        assert os.spawnv(os.P_WAIT, sys.executable, command) == 0
        assert status(os.spawnve(os.P_NOWAIT, sys.executable, command, os.environ)) == 0
        line = subprocess.list2cmdline(command[:1]) + " - " + " ".join(command[3:])
        with os.popen(line, "w") as pipe:
            pipe.write(CHILD)
        name = f"/tmp/children-{os.getpid()}.py"
        with open(name, "w") as file:
            file.write(CHILD)
        try:
            assert os.system(f"exec {sys.executable} {name} {ECHO.address[0]} {ECHO.address[1]}") == 0
        finally:
            os.unlink(name)
        for switch in ("_USE_VFORK", "_USE_POSIX_SPAWN"):
            before = getattr(subprocess, switch, None)
            try:
                for on in (True, False):
                    setattr(subprocess, switch, on)
                    assert subprocess.call(command) == 0
                    assert subprocess.call(command, close_fds=False) == 0
                    assert subprocess.call(command, restore_signals=False, close_fds=False) == 0
            finally:
                if before is None:
                    delattr(subprocess, switch)
                else:
                    setattr(subprocess, switch, before)
        talk(mine)


def check_spawned_with_a_connection_for_its_streams():
    """A command that posix_spawn gives a connection for its streams ends it with itself, whoever closes first."""
    for parent_first in (True, False):
        with pair() as (client, peer):
            fd = client.fileno()
            actions = [(os.POSIX_SPAWN_DUP2, fd, 0), (os.POSIX_SPAWN_DUP2, fd, 1)]
            pid = os.posix_spawnp("cat", ["cat"], os.environ, file_actions=actions)
            if parent_first:
                client.close()
            talk(peer, b"through cat")
            assert not is_readable(peer, 0.05)
            peer.shutdown(socket.SHUT_WR)
            assert status(pid) == 0
            client.close()
            assert peer.recv(1) == b""


def check_command_with_a_connection_for_its_output():
    """What a command writes to a connection that is its standard output arrives whole, and then its end."""
    for options in ({}, {"close_fds": False}, {"preexec_fn": lambda: None}):
        with pair() as (client, peer):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of preexec_fn
                child = subprocess.Popen(["seq", "1", "20000"], stdout=client, **options)
            client.close()
            heard = read_to_end(peer)
            assert child.wait() == 0
            assert heard == b"".join(b"%d\n" % number for number in range(1, 20001))


def check_command_with_a_connection_for_its_input():
    """A command reads a connection that is its standard input to the end."""
    with pair() as (client, peer):
        child = subprocess.Popen(["wc", "-c"], stdin=client, stdout=subprocess.PIPE)
        client.close()
        peer.sendall(bytes(300_000))
        peer.shutdown(socket.SHUT_WR)
        assert child.communicate()[0].strip() == b"300000"
        assert peer.recv(1) == b""


def check_python_with_a_connection_for_its_streams():
    """A Python child, as inetd would start it, finds a TCP socket at its standard streams, by number and by print()."""
    code = (
        "import socket, sys\nsock = socket.socket(fileno=0)\n"
        "assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM), sock\n"
        "assert sock.getpeername() == ('127.0.0.1', int(sys.argv[1])), sock\n"
        "assert sock.getsockname() == ('127.0.0.1', int(sys.argv[2])), sock\n"
        "sock.sendall(b'sock;')\nassert sock.recv(5) == b'hello'\n"
        "print('print', end=';', flush=True)\nassert sys.stdin.readline() == 'line\\n'\n"
        "sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n"
        "assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)\n"
        "twin = socket.fromfd(1, socket.AF_INET, socket.SOCK_STREAM)\n"
        "assert twin.getpeername() == sock.getpeername()\ntwin.sendall(b'twin;')\n"
        "sock.close()\ntwin.sendall(b'end')\ntwin.close()\n"
    )
    with pair() as (client, peer):
        numbers = client.getpeername()[1], client.getsockname()[1]
        child = subprocess.Popen(python(code, *numbers), stdin=client, stdout=client)
        client.close()
        assert read(peer, 5) == b"sock;"
        peer.sendall(b"hello")
        assert read(peer, 6) == b"print;"
        peer.sendall(b"line\n")
        assert read_to_end(peer) == b"twin;end"
        assert child.wait() == 0


def check_python_connects_what_it_inherited():
    """A child that inherits a fresh socket over exec connects it; it is connected for its parent too."""
    code = (
        "import socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as sock:\n"
        "    assert sock.family == socket.AF_INET, sock\n"
        "    sock.connect((sys.argv[2], int(sys.argv[3])))\n    sock.sendall(b'child')\n"
        "    assert sock.recv(5) == b'child'\n    assert sock.getpeername() == (sys.argv[2], int(sys.argv[3]))\n"
    )
    for passed in (False, True):
        with socket.socket() as sock:
            fd = sock.fileno()
            if passed:
                options = {"pass_fds": [fd]}
            else:
                sock.set_inheritable(True)
                options = {"close_fds": False}
            assert subprocess.call(python(code, fd, *ECHO.address), **options) == 0
            assert sock.getpeername() == ECHO.address
            talk(sock, b"parent")


def check_python_is_refused_what_it_inherited():
    """A child whose connect of an inherited socket is refused hears so, and connects it elsewhere."""
    code = (
        "import socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as sock:\n"
        "    try:\n        sock.connect(('127.0.0.1', int(sys.argv[4])))\n"
        "    except ConnectionRefusedError:\n        pass\n    else:\n        raise AssertionError('connected')\n"
        "    sock.connect((sys.argv[2], int(sys.argv[3])))\n    sock.sendall(b'child')\n"
        "    assert sock.recv(5) == b'child'\n"
    )
    with listener() as server:
        nobody = server.getsockname()[1]
    with socket.socket() as sock:
        fd = sock.fileno()
        assert subprocess.call(python(code, fd, *ECHO.address, nobody), pass_fds=[fd]) == 0


def check_datagrams_over_exec():
    """A UDP socket passed over exec sends and receives there, and goes on here."""
    code = (
        "import socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as sock:\n"
        "    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM), sock\n"
        "    sock.sendto(b'child', ('127.0.0.1', int(sys.argv[2])))\n    assert sock.recv(20) == b'hello child'\n"
    )
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        sock.settimeout(PATIENCE)
        address = server.getsockname()
        sock.sendto(b"parent", address)
        text, source = server.recvfrom(10)
        assert text == b"parent"
        sock.settimeout(None)
        child = subprocess.Popen(python(code, sock.fileno(), address[1]), pass_fds=[sock.fileno()])
        assert server.recvfrom(10) == (b"child", source)
        server.sendto(b"hello child", source)
        assert child.wait() == 0
        sock.sendto(b"again", address)
        assert server.recvfrom(10) == (b"again", source)


def check_child_without_our_environment():
    """A command with an empty environment and closed fds runs, and the parent's connection goes on."""
    with socket.create_connection(ECHO.address) as mine:
        assert subprocess.call(["true"], env={}, close_fds=True) == 0
        assert subprocess.run(["env"], env={}, capture_output=True, check=True).stdout == b""
        talk(mine)


# --- multiprocessing --------------------------------------------------------------------------------------------------


def work_of_a_pool(address, number):
    """Open a connection in a worker."""
    connect_and_talk(address, b"worker %d" % number)
    return number


def use_what_came(pipe):
    """Take sockets out of a pipe, use each, and say so."""
    with pipe:
        while True:
            sock = pipe.recv()
            if sock is None:
                return
            with sock:
                assert sock.family == socket.AF_INET, sock
                talk(sock, b"in the worker")
                pipe.send(sock.getpeername())


def use_argument(sock, address):
    """Use a connection that came as an argument of a process."""
    with sock:
        assert sock.getpeername() == address, (sock, address)
        talk(sock, b"argument")


def connect_argument(sock, address):
    """Connect a socket that came as an argument of a process."""
    with sock:
        sock.connect(address)
        talk(sock, b"argument")


def contexts():
    """Return every start method's context."""
    return [multiprocessing.get_context(method) for method in multiprocessing.get_all_start_methods()]


def check_pools_by_every_start_method():
    """Workers by every start method open connections, with few tasks a worker, and by chunks."""
    for context in contexts():
        with context.Pool(3, maxtasksperchild=2) as pool:
            jobs = [(ECHO.address, number) for number in range(18)]
            assert pool.starmap(work_of_a_pool, jobs, chunksize=3) == list(range(18))
        connect_and_talk()


def check_sockets_as_arguments():
    """A connection, and a fresh socket, given to a process as an argument work there by every start method."""
    for context in contexts():
        for use in (use_argument, connect_argument):
            with socket.socket() as sock:
                if use is use_argument:
                    sock.connect(ECHO.address)
                process = context.Process(target=use, args=(sock, ECHO.address))
                process.start()
                process.join()
                assert process.exitcode == 0, (context, use)
                talk(sock, b"still mine")


def check_sockets_through_pipes():
    """Connections sent through a multiprocessing pipe (DupFd) live in the worker when they are closed here."""
    for context in contexts():
        here, there = context.Pipe()
        process = context.Process(target=use_what_came, args=(there,))
        process.start()
        there.close()
        with here:
            for _ in range(5):
                with socket.create_connection(ECHO.address) as sock:
                    here.send(sock)
                assert here.poll(PATIENCE)
                assert here.recv() == ECHO.address
            here.send(None)
            process.join()
        assert process.exitcode == 0, context
    multiprocessing.resource_sharer.stop(timeout=PATIENCE)


def check_send_handle():
    """multiprocessing.reduction passes the fd of a connection, which lives there when it is closed here."""
    with pair() as (client, peer):
        here, there = multiprocessing.Pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(30)
                client.close()
                with socket.socket(fileno=multiprocessing.reduction.recv_handle(there)) as sock:
                    there.send("got")
                    assert there.recv() == "go"
                    sock.sendall(b"from there")
                code = 0
            finally:
                os._exit(code)
        multiprocessing.reduction.send_handle(here, client.fileno(), pid)
        assert here.recv() == "got"
        client.close()
        assert not is_readable(peer, 0.05)
        here.send("go")
        assert read_to_end(peer) == b"from there"
        assert status(pid) == 0
        here.close()
        there.close()


class Dialler:
    """Opens connections in the process of a manager."""

    def dial(self, address):
        connect_and_talk(address)
        return os.getpid()


class Manager(multiprocessing.managers.BaseManager):
    """A manager with a dialler."""


Manager.register("Dialler", Dialler)


def check_managers():
    """The process of a manager opens connections for its clients, by every start method; dictionaries work too."""
    for context in contexts():
        with Manager(ctx=context) as manager:
            dialler = manager.Dialler()
            assert dialler.dial(ECHO.address) == dialler.dial(ECHO.address) != os.getpid()
        with context.Manager() as manager:
            shared = manager.dict(one=1)
            connect_and_talk()
            assert shared["one"] == 1


# --- how processes end ------------------------------------------------------------------------------------------------


def check_child_that_ends_without_a_word():
    """What a child alone holds ends with it: by os._exit, by a signal, and by an exec that closes."""
    endings = {
        "os._exit": lambda: os._exit(3),
        "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "abort": lambda: (faulthandler.disable(), os.abort()),
        "exec": lambda: os.execvp("sleep", ["sleep", "30"]),
    }
    for how, end in endings.items():
        with listener() as server:
            pid = os.fork()
            if pid == 0:
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                held = [socket.create_connection(server.getsockname()), socket.socket()]
                held[0].sendall(b"last words")
                end()
            peer, _ = server.accept()
            with peer:
                peer.settimeout(PATIENCE)
                assert read_to_end(peer) == b"last words", how
            if how == "exec":
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def check_parent_that_is_killed():
    """A child goes on with the connection that it inherited when its parent is killed, and with new ones."""
    with listener() as server:
        ready, say_ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            sock = socket.create_connection(server.getsockname())
            if os.fork():
                signal.pause()
            parent = os.getppid()
            os.write(say_ready, b"!")
            if sock.recv(2) == b"go":
                connect_and_talk()
                sock.sendall(b"orphan" if os.getppid() != parent else b"parent lives")
            os._exit(0)
        peer, _ = server.accept()
        with peer:
            peer.settimeout(PATIENCE)
            os.read(ready, 1)
            os.kill(pid, signal.SIGKILL)
            assert status(pid) == -signal.SIGKILL
            assert not is_readable(peer, 0.05)
            peer.sendall(b"go")
            assert read_to_end(peer) == b"orphan"
        os.close(ready)
        os.close(say_ready)


def check_forks_of_forks():
    """A grandchild whose parent ended at once opens connections and goes on with what its grandparent opened."""
    with pair() as (client, peer):
        pid = os.fork()
        if pid == 0:
            if os.fork() == 0:
                try:
                    os.setsid()
                    connect_and_talk()
                    client.sendall(b"grandchild")
                    peer.close()
                finally:
                    os._exit(0)
            os._exit(0)
        assert status(pid) == 0
        client.close()
        assert read_to_end(peer) == b"grandchild"


def check_atexit_in_a_child():
    """A forked child that ends by sys.exit runs the exit functions, which open connections there."""
    code = (
        "import atexit, os, socket, sys\naddress = sys.argv[1], int(sys.argv[2])\n"
        "def last():\n    with socket.create_connection(address) as sock:\n        sock.sendall(b'x')\n"
        "        assert sock.recv(1) == b'x'\n    os.write(1, b'%d' % (os.getpid() != parent))\n"
        "atexit.register(last)\nparent = os.getpid()\nheld = socket.create_connection(address)\n"
        "if os.fork() == 0:\n    sys.exit(0)\nassert os.wait()[1] == 0\n"
    )
    done = subprocess.run(python(code, *ECHO.address), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"10", b""), done


# --- daemons ----------------------------------------------------------------------------------------------------------


def check_daemon_that_closes_one_by_one():
    """A daemon that closes every fd but those it keeps, one by one, uses what it kept, and what it closed has ended."""
    with pair() as (kept, kept_peer), pair() as (closed, closed_peer):
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                if os.fork():
                    os._exit(0)
                os.chdir("/")
                os.umask(0)
                keep = {kept.fileno()}
                for fd in range(4200, -1, -1):  # as python-daemon does, from the highest down
                    if fd not in keep:
                        try:
                            os.close(fd)
                        except OSError:
                            pass
                assert os.open(os.devnull, os.O_RDWR) == 0
                os.dup2(0, 1)
                os.dup2(0, 2)
                connect_and_talk()
                socket.getaddrinfo("localhost", 80)
                kept.sendall(b"daemon")
            except BaseException:
                kept.sendall(traceback.format_exc().encode())
            finally:
                os._exit(0)
        assert status(pid) == 0
        kept.close()
        closed.close()
        assert read_to_end(kept_peer) == b"daemon"
        assert closed_peer.recv(1) == b""


# --- hooks at a fork --------------------------------------------------------------------------------------------------


def check_hooks_at_fork():
    """Functions registered at fork, before the socket module was imported, open connections at all three times."""
    seen = []
    connections = []

    def note(where):
        return lambda: (connect_and_talk(), seen.append((where, os.getpid())))

    AT_FORK[:] = [(where, note(where)) for where in ("before", "parent", "child")]
    AT_FORK.append(("child", lambda: connections.append(socket.create_connection(ECHO.address))))
    parent = os.getpid()
    try:

        def work():
            assert seen == [("before", parent), ("child", os.getpid())], seen
            talk(connections[0], b"opened by a hook")
            connect_and_talk()

        said = in_child(work)
        assert said == "ok", said
        assert seen == [("before", parent), ("parent", parent)], seen
    finally:
        AT_FORK.clear()


def check_hooks_at_fork_among_threads():
    """Such functions open connections in children of a process whose other threads are busy doing so."""
    stop = threading.Event()
    failures = []

    def work():
        while not stop.is_set():
            try:
                connect_and_talk()
                socket.socket().close()
            except BaseException as e:
                failures.append(e)
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    AT_FORK[:] = [("child", lambda: [connect_and_talk() for _ in range(5)])]
    try:
        for _ in range(20):
            said = in_child(connect_and_talk)
            assert said == "ok", said
    finally:
        AT_FORK.clear()
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]


# --- one socket in two processes --------------------------------------------------------------------------------------


def check_two_processes_connect_one_socket():
    """Parent and child connect one socket at the same time: there is one connection, and only what was said on it."""
    for turn in range(25):
        with listener() as server, socket.socket() as sock:
            go_read, go_write = os.pipe()
            said_read, said_write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.read(go_read, 1)
                number = sock.connect_ex(server.getsockname())
                os.write(said_write, b"%d " % number)
                os._exit(0)
            os.write(go_write, b"!")
            numbers = [sock.connect_ex(server.getsockname())]
            status(pid)
            numbers.append(int(os.read(said_read, 10)))
            for fd in (go_read, go_write, said_read, said_write):
                os.close(fd)
            assert 0 in numbers, numbers
            assert set(numbers) <= {0, errno.EISCONN, errno.EALREADY}, numbers
            peer, _ = server.accept()
            with peer:
                peer.settimeout(PATIENCE)
                sock.sendall(b"turn %d" % turn)
                sock.close()
                assert read_to_end(peer) == b"turn %d" % turn
            assert not is_readable(server, 0)


def check_nothing_is_left():
    """All of that has left this process a few fds more at most, and no child that it did not start."""
    multiprocessing.resource_sharer.stop(timeout=PATIENCE)
    connect_and_talk()
    assert open_fds() <= 40, os.listdir("/proc/self/fd")
    try:
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # the forkserver, the resource tracker and our own echo
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(globals())
