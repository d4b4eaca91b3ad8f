"""What a program sees of its sockets in very many threads, in executors, and where threads and forks meet."""

import concurrent.futures
import multiprocessing
import os
import resource
import socket
import subprocess
import threading
import warnings

from harness import PATIENCE, Echo, black_hole, in_child, listener, main, open_fds, talk

COUNT = 1000

warnings.filterwarnings("ignore", message=".*multi-threaded.*", category=DeprecationWarning)  # 3.12: fork and threads

ECHO = None if __name__ == "__mp_main__" else Echo(own_process=True)  # whose fds do not count here


def connect_and_talk(text=b"hello", address=None):
    """Open a connection and use it."""
    with socket.create_connection(address or ECHO.address, timeout=PATIENCE) as sock:
        talk(sock, text)


def start(count, work):
    """Start that many threads with small stacks; return a function that joins them and raises what they raised."""
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as e:
            failures.append(e)

    before = threading.stack_size(256 * 1024)
    try:
        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
    finally:
        threading.stack_size(before)

    def join():
        for thread in threads:
            thread.join()
        if failures:
            raise AssertionError(f"{len(failures)} of {count}") from failures[0]

    return join


def allow(fds):
    """Let this process have that many fds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (fds if hard == resource.RLIM_INFINITY else min(fds, hard), hard))


# --- very many threads ------------------------------------------------------------------------------------------------


def check_a_thousand_threads():
    """A thousand threads hold a connection each at once, hear their own echo, and leave a few fds more at most."""
    allow(8192)
    connect_and_talk()
    before = open_fds()
    everybody = threading.Barrier(COUNT)

    def work(number):
        with socket.create_connection(ECHO.address, timeout=PATIENCE * 3) as sock:
            talk(sock, b"thread %d" % number)
            everybody.wait(PATIENCE * 3)
            talk(sock, b"again %d" % number)
        connect_and_talk(b"once more %d" % number)

    start(COUNT, work)()
    assert open_fds() - before <= 24, (before, open_fds())


def check_a_thousand_look_ups():
    """A thousand threads look a name up at once, and each has its own answer."""
    allow(8192)
    socket.getaddrinfo("localhost", 1)
    before = open_fds()

    def work(number):
        answer = socket.getaddrinfo("localhost", number + 1, socket.AF_INET, socket.SOCK_STREAM)
        assert [address for *_, address in answer] == [("127.0.0.1", number + 1)], answer

    start(COUNT, work)()
    assert open_fds() - before <= 24, (before, open_fds())


def check_threads_that_wait_for_their_peers():
    """Fifty threads wait for peers that say nothing until told; other threads open and close meanwhile."""
    with listener() as server:
        heard = []

        def wait(number):
            with socket.create_connection(server.getsockname()) as sock:
                heard.append(sock.recv(10))

        join = start(50, wait)
        peers = [server.accept()[0] for _ in range(50)]
        start(8, lambda number: [connect_and_talk() for _ in range(10)])()
        assert heard == []
        for peer in peers:
            peer.sendall(b"go")
            peer.close()
        join()
        assert heard == [b"go"] * 50


def check_a_dial_that_hangs_holds_nobody_up():
    """While nobody answers a thread's connect, other threads open and look up; it fails when its listener has gone."""
    outcome = []
    with socket.socket() as stuck:
        with black_hole() as nowhere:
            join = start(1, lambda number: outcome.append(stuck.connect_ex(nowhere)))
            start(8, lambda number: [connect_and_talk() for _ in range(5)])()
            socket.getaddrinfo("localhost", 80)
            assert outcome == []
        join()  # at the next SYN, which is now refused
        assert outcome[0] != 0


# --- threads and forks ------------------------------------------------------------------------------------------------


def check_fork_among_busy_threads():
    """Children forked while thirty threads open, look up and close do the same at once: no lock is left held."""
    stop = threading.Event()

    def work(number):
        while not stop.is_set():
            connect_and_talk()
            socket.getaddrinfo("localhost", 80)

    join = start(30, work)
    try:
        for _ in range(20):
            said = in_child(lambda: [connect_and_talk(), socket.getaddrinfo("localhost", 80), socket.socket().close()])
            assert said == "ok", said
    finally:
        stop.set()
        join()


def check_fork_in_a_thread():
    """A child forked in a thread opens connections and has threads of its own; its parent's threads go on."""

    def work(number):
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as mine:

            def in_the_child():
                talk(mine, b"inherited %d" % number)
                connect_and_talk()
                start(4, lambda _: connect_and_talk())()

            said = in_child(in_the_child)
            assert said == "ok", said
            talk(mine, b"and mine %d" % number)

    start(6, work)()


def check_subprocesses_in_threads():
    """Threads start commands that get a connection as their standard streams; each of them ends with its command."""

    def work(number):
        with listener() as server:
            sock = socket.create_connection(server.getsockname())
            peer, _ = server.accept()
            with peer:
                child = subprocess.Popen(["cat"], stdin=sock, stdout=sock)
                sock.close()
                peer.settimeout(PATIENCE)
                talk(peer, b"through cat %d" % number)
                peer.shutdown(socket.SHUT_WR)
                assert peer.recv(1) == b""
                assert child.wait() == 0

    start(8, work)()


# --- executors --------------------------------------------------------------------------------------------------------


def job(address, number):
    """Open a connection in a worker, by name and by address."""
    connect_and_talk(b"job %d" % number, address)
    connect_and_talk(b"by name %d" % number, ("localhost", address[1]))
    return number


def check_thread_pool():
    """A pool of sixteen threads does two hundred jobs."""
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(job, [ECHO.address] * 200, range(200))) == list(range(200))


def check_process_pools():
    """Pools of processes by every start method do jobs, and so does the parent meanwhile and after."""
    for method in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            futures = [pool.submit(job, ECHO.address, number) for number in range(10)]
            connect_and_talk()
            assert [future.result(PATIENCE * 3) for future in futures] == list(range(10)), method
        connect_and_talk()


def check_a_worker_that_dies():
    """A worker that ends without a word breaks its pool as natively, and the next pool does its jobs."""
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        future = pool.submit(os._exit, 1)
        try:
            future.result(PATIENCE)
        except concurrent.futures.process.BrokenProcessPool:
            pass
        else:
            raise AssertionError("the pool did not break")
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        assert pool.submit(job, ECHO.address, 1).result(PATIENCE) == 1


if __name__ == "__main__":
    main(globals())
