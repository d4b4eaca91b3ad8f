"""What a program sees of its sockets over fork, exec, daemonising and closed ranges of fds."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings

from harness import PATIENCE, Echo, in_child, is_readable, listener, main, open_fds, pair, talk

ECHO = Echo()


def connect_and_talk():
    """Open a connection of this process's own and use it."""
    with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
        talk(sock)


def check_fork_uses_inherited_and_new():
    """A forked child uses an inherited connection and opens its own, and so does the parent meanwhile and after."""
    with socket.create_connection(ECHO.address) as sock:

        def work():
            talk(sock, b"child")
            for _ in range(10):
                connect_and_talk()
            sock.close()

        assert in_child(work) == "ok"
        talk(sock, b"parent")
        connect_and_talk()


def check_fork_connects_an_inherited_socket():
    """A socket made before the fork is connected by the child; the parent finds it connected."""
    with socket.socket() as sock:
        assert in_child(lambda: (sock.connect(ECHO.address), talk(sock))) == "ok"
        talk(sock, b"by the parent")


def check_fork_under_a_default_timeout():
    """A fork while a default time-out is set leaves the sockets that are made afterwards blocking."""
    socket.socket().close()  # some more are ready now
    socket.setdefaulttimeout(PATIENCE)
    try:
        assert in_child(lambda: None) == "ok"
    finally:
        socket.setdefaulttimeout(None)
    made = [socket.socket() for _ in range(8)]
    try:
        assert all(os.get_blocking(sock.fileno()) for sock in made)
    finally:
        for sock in made:
            sock.close()


def check_fork_child_closes_last():
    """A connection that parent and child hold ends when the last of the two has closed it, whichever that is."""
    for first in ("parent", "child"):
        with pair() as (client, peer):
            go_read, go_write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(go_write)
                if first == "child":
                    client.close()
                os.read(go_read, 1)
                os._exit(0)
            os.close(go_read)
            if first == "parent":
                client.close()
                assert not is_readable(peer, 0.05)
                os.close(go_write)
                os.waitpid(pid, 0)
            else:
                assert not is_readable(peer, 0.05)
                client.sendall(b"x")
                assert peer.recv(1) == b"x"
                os.close(go_write)
                os.waitpid(pid, 0)
                client.close()
            assert is_readable(peer)
            assert peer.recv(1) == b""


def check_parent_and_child_have_sockets_of_their_own():
    """After a fork no socket is given out twice: parent and child open at the same time and hear their own echo."""
    socket.socket().close()
    problems = []
    for turn in range(5):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for n in range(20):
                    with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
                        talk(sock, b"child %d" % n)
                code = 0
            finally:
                os.write(write, b"ok" if code == 0 else b"no")
                os._exit(code)
        os.close(write)
        for n in range(20):
            with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
                talk(sock, b"parent %d" % n)
        if os.read(read, 2) != b"ok":
            problems.append(turn)
        os.close(read)
        os.waitpid(pid, 0)
    assert not problems


def check_fork_in_threads():
    """Children forked while other threads open connections open theirs."""
    stop, failures = threading.Event(), []

    def work():
        while not stop.is_set():
            try:
                connect_and_talk()
            except BaseException as e:
                failures.append(e)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            said = in_child(connect_and_talk)
            assert said == "ok", said
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:2]


def _work_of_a_pool(address, number):
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        talk(sock, b"%d" % number)
    return number


def check_multiprocessing():
    """Workers of multiprocessing, started by fork, spawn and forkserver, open connections."""
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            assert pool.starmap(_work_of_a_pool, [(ECHO.address, n) for n in range(6)]) == list(range(6))


def check_socket_sent_to_a_worker():
    """A connection passed to another process over a Unix socket lives there after it is closed here."""
    left, right = socket.socketpair()
    with left, right, pair() as (client, peer):
        pid = os.fork()
        if pid == 0:
            client.close()
            import array

            _, ancillary, _, _ = right.recvmsg(1, socket.CMSG_SPACE(4))
            fds = array.array("i")
            fds.frombytes(ancillary[0][2][:4])
            with socket.socket(fileno=fds[0]) as sock:
                right.sendall(b"got")
                assert right.recv(1) == b"!"
                sock.sendall(b"from the other process")
            os._exit(0)
        import array

        left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
        assert left.recv(3) == b"got"
        client.close()
        assert not is_readable(peer, 0.05)
        left.sendall(b"!")
        assert peer.recv(100) == b"from the other process"
        os.waitpid(pid, 0)
        assert is_readable(peer)
        assert peer.recv(1) == b""


CHILD = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
sock.sendall(b"hello")
assert sock.recv(5) == b"hello"
print("ok")
"""


def check_subprocess():
    """A Python child opens its own connections, with close_fds and without, with and without a preexec function."""
    for options in ({}, {"close_fds": False}, {"start_new_session": True}, {"preexec_fn": lambda: None}):
        with socket.create_connection(ECHO.address) as mine:
            command = [sys.executable, "-c", CHILD, ECHO.address[0], str(ECHO.address[1])]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = subprocess.run(command, capture_output=True, text=True, **options)
            assert (done.stdout, done.stderr) == ("ok\n", ""), done
            talk(mine)


def check_child_inherits_by_number():
    """A connection passed by number over exec works there, and lives until the last of the two has closed it."""
    with pair() as (client, peer):
        code = (
            "import socket, sys\nwith socket.socket(fileno=int(sys.argv[1])) as sock:\n    sock.sendall(b'from exec')\n"
            "    sys.stdin.read()\n"
        )
        fd = client.fileno()
        command = [sys.executable, "-c", code, str(fd)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd])
        client.close()
        assert peer.recv(100) == b"from exec"
        assert not is_readable(peer, 0.05)
        child.communicate(b"")
        assert child.returncode == 0
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_inherited_listening_socket():
    """A listening socket passed over exec is native there: the child accepts on it."""
    code = (
        "import socket, sys\nserver = socket.socket(fileno=int(sys.argv[1]))\npeer, address = server.accept()\n"
        "assert address[0] == '127.0.0.1'\npeer.sendall(b'accepted')\npeer.close()\n"
    )
    with listener() as server:
        fd = server.fileno()
        child = subprocess.Popen([sys.executable, "-c", code, str(fd)], pass_fds=[fd])
        with socket.create_connection(server.getsockname(), timeout=PATIENCE) as client:
            assert client.recv(100) == b"accepted"
        assert child.wait() == 0


def check_exec_without_closing():
    """A program that replaces itself by exec goes on opening connections."""
    command = "import os, sys, socket\nsocket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
    command += f"os.execv(sys.executable, [sys.executable, '-c', {CHILD!r}, *sys.argv[1:]])"
    done = subprocess.run(
        [sys.executable, "-c", command, ECHO.address[0], str(ECHO.address[1])],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("ok\n", ""), done


def check_daemon():
    """A process that forks twice, leaves its session, closes every fd and opens files over them opens connections."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        said = b"ok"
        try:
            socket.socket().close()
            keep = 3
            os.dup2(write, keep)
            os.closerange(4, 8192)
            files = [os.open("/dev/null", os.O_RDWR) for _ in range(4)]
            for _ in range(10):
                connect_and_talk()
            for file in files:
                os.write(file, b"still a file")
            write = keep
        except BaseException as e:
            import traceback

            said = traceback.format_exc().encode() + repr(e).encode()
        os.write(3, said)
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert said == "ok", said


def check_closerange():
    """After closerange over everything a process opens connections; files that took the numbers stay whole."""

    def work():
        held = [socket.create_connection(ECHO.address) for _ in range(3)]
        for sock in held:
            sock.detach()
        kept = os.dup2(1, 2500)
        os.closerange(3, 2400)
        os.closerange(2501, 70000)
        assert kept == 2500
        path = f"/tmp/closerange-{os.getpid()}"
        files = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(5)]
        # One takes the number of every channel and parked socket there may be.
        for number in range(3900, 4096):
            os.dup2(files[0], number)
        try:
            for _ in range(20):
                connect_and_talk()
            assert os.fstat(files[0]).st_size == 0
        finally:
            os.unlink(path)

    read, write = os.pipe()
    os.close(read)
    os.close(write)
    # The child's own pipe would be closed too: its exit status says it.
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def check_no_children_are_left():
    """The program finds no child that it did not start."""
    try:
        pid, _ = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    # The forkserver and the resource tracker of multiprocessing are the program's own.
    assert pid == 0, pid


def check_killed_holder():
    """When a child that holds the only end of a connection is killed, the peer sees the end."""
    with pair() as (client, peer):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b"!")
            signal.pause()
        os.read(read, 1)
        os.close(read)
        os.close(write)
        client.close()
        assert not is_readable(peer, 0.05)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert is_readable(peer)
        assert peer.recv(1) == b""


def check_fds_of_children_do_not_grow():
    """Forking a chain of ten processes, each with a connection, leaves each with the same number of fds."""
    counts = []

    def descend(depth):
        connect_and_talk()
        count = open_fds()
        if depth == 0:
            return [count]
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            try:
                below = descend(depth - 1)
                os.write(write, ",".join(map(str, below)).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            below = pipe.read()
        os.waitpid(pid, 0)
        return [count, *map(int, below.split(","))]

    counts = descend(9)
    # Each child holds the pipe of its parents; a fixed number more.
    assert all(count - counts[1] <= 2 * depth for depth, count in enumerate(counts[1:])), counts


if __name__ == "__main__":
    main(globals())
