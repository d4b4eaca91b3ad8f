"""Sockets that go to other processes: multiprocessing's, started in each way, futures, and programs of their own."""

import concurrent.futures
import multiprocessing
import os
import pickle
import socket
import subprocess
import sys
import tempfile

from harness import PATIENCE, Echo, is_readable, main, pair, talk

ECHO = Echo(own_process=True)
METHODS = ("fork", "spawn", "forkserver")


def use(sock, text):
    """Talk over a socket and say that it went well, from which address."""
    talk(sock, text)
    return os.getpid(), sock.gettimeout(), sock.getsockname()


def use_and_close(sock, text):
    """Do the same, and close."""
    with sock:
        return use(sock, text)


def read_line(file):
    """Read a line from a file, and close it and what is below it."""
    with file[1], file[0]:
        return file[0].readline()


def from_queue(queue, answers):
    """Use what comes through a queue, and send it back."""
    with queue.get() as sock:
        answers.put((use(sock, b"queue"), sock))
        answers.close()
        answers.join_thread()  # it is pickled by a thread


def check_arguments_of_a_process():
    """A socket is an argument of a process, whichever way that is started; its time-out is there."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
            talk(sock)
            child = context.Process(target=use_and_close, args=(sock, b"argument"))
            child.start()
            child.join()
            assert child.exitcode == 0, method
            talk(sock, b"still")


def check_pool():
    """Workers of a pool use one connection in turn, and the parent goes on with it."""
    for method in METHODS:
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
            with multiprocessing.get_context(method).Pool(2) as pool:
                for n in range(4):
                    pid, timeout, own = pool.apply(use_and_close, (sock, b"pool %d" % n))
                    assert pid != os.getpid()
                    assert (timeout, own) == (PATIENCE, sock.getsockname())
            talk(sock, b"parent")


def check_queue():
    """A socket goes through a queue to a child and comes back through another; all three are one connection."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        queue, answers = context.Queue(), context.Queue()
        child = context.Process(target=from_queue, args=(queue, answers))
        child.start()
        with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
            queue.put(sock)
            said, back = answers.get(timeout=30)
            with back:
                assert said[1:] == (PATIENCE, sock.getsockname())
                assert back.getsockname() == sock.getsockname()
                talk(back)
                talk(sock)
        child.join()
        for each in (queue, answers):
            each.close()
            each.join_thread()


def check_futures():
    """A socket and a file with what it has read ahead go to a process pool of concurrent.futures."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool, pair() as (sock, peer):
            file = sock.makefile("rb")
            peer.sendall(b"one\ntwo\nthree\n")
            while b"three\n" not in file.peek(99):
                assert is_readable(sock)
            assert file.readline() == b"one\n"
            assert pool.submit(read_line, (file, sock)).result(30) == b"two\n"
            assert file.readline() == b"two\n"
            file.close()


def check_parent_exits_first():
    """A child goes on with a socket after the parent that made it has ended, before the child opened the pickle."""
    code = (
        "import os, pickle, socket, sys\n"
        "sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "sock.sendall(b'from the parent')\n"
        "with open(sys.argv[3], 'wb') as file: pickle.dump((sock, os.getpid()), file)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pickle")
        words = [sys.executable, "-W", "ignore", "-c", code, *map(str, ECHO.address), path]
        subprocess.run(words, check=True, timeout=30)
        with open(path, "rb") as file:
            sock, pid = pickle.load(file)
        assert not os.path.exists(f"/proc/{pid}")
        with sock:
            sock.settimeout(PATIENCE)
            assert sock.recv(99) == b"from the parent"
            talk(sock)


def check_from_process_to_process():
    """A chain of five processes, each of which opens, uses, pickles anew and ends, is one connection to the peer."""
    code = (
        "import pickle, sys\n"
        "path = sys.argv[1]\n"
        "with open(path, 'rb') as pickled: sock, file = pickle.load(pickled)\n"
        "line = file.readline()\n"
        "sock.sendall(line.upper().encode())\n"
        "with open(path, 'wb') as pickled: pickle.dump((sock, file), pickled)\n"
        "file.close(); sock.close()\n"
    )
    with pair() as (sock, peer), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pickle")
        file = sock.makefile("r", encoding="utf-8")
        peer.sendall("".join(f"line {n} grüße\n" for n in range(5)).encode())
        with open(path, "wb") as pickled:
            pickle.dump((sock, file), pickled)
        file.close()
        sock.close()
        for n in range(5):
            subprocess.run([sys.executable, "-W", "error", "-c", code, path], check=True, timeout=30)
            assert peer.recv(99).decode() == f"LINE {n} GRÜSSE\n"


if __name__ == "__main__":
    main(globals())
