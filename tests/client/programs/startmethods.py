"""What workers see that no fork of the program made: forkserver, the default from Python 3.14 on, and spawn."""

import concurrent.futures
import errno
import multiprocessing
import socket

from harness import PATIENCE, Echo, is_readable, listener, main, pair, raises, talk

METHODS = ("forkserver", "spawn")


def connect_and_talk(address, number):
    """Open a connection of the worker's own."""
    with socket.create_connection(address, timeout=PATIENCE) as sock:
        talk(sock, b"%d" % number)
        assert socket.getaddrinfo("localhost", 80)
    return number


def use_connected(sock, name, done):
    """Say on a connection that came as an argument what it is, and let go of it when told."""
    assert (sock.family, sock.type, sock.gettimeout()) == (socket.AF_INET, socket.SOCK_STREAM, None)
    assert sock.getpeername() == name, (sock.getpeername(), name)
    with raises(OSError, errno.EISCONN):
        sock.connect(name)
    sock.sendall(b"worker")
    done.wait(PATIENCE)
    sock.close()


def connect_given(sock, address):
    """Connect a socket that came as an argument."""
    sock.connect(address)
    assert sock.getpeername() == address
    talk(sock)
    sock.close()


def send_given(sock, address):
    """Send on a UDP socket that came as an argument."""
    sock.sendto(b"datagram", address)
    sock.close()


def put(queue, address, done):
    """Open a connection, hand it to the program, and stay until it has arrived: a queue asks the worker for it."""
    sock = socket.create_connection(address)
    sock.sendall(b"made by the worker")
    queue.put(sock)
    done.wait(PATIENCE)
    sock.close()


def run(context, target, *arguments):
    """Run a worker to its end, which must be a good one."""
    worker = context.Process(target=target, args=arguments)
    worker.start()
    return worker


def end(worker):
    """Wait for a worker."""
    worker.join(PATIENCE)
    assert worker.exitcode == 0, worker.exitcode
    worker.close()


def check_as_the_default():
    """With forkserver as the start method pools, executors, managers and processes open connections."""
    echo = Echo()
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["socket", "ssl"])
    try:
        with multiprocessing.Pool(2) as pool:
            assert pool.starmap(connect_and_talk, [(echo.address, n) for n in range(4)]) == [0, 1, 2, 3]
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context()) as pool:
            assert [pool.submit(connect_and_talk, echo.address, n).result(PATIENCE) for n in range(4)] == [0, 1, 2, 3]
        with multiprocessing.Manager() as manager:
            shared = manager.list([1])
            end(run(multiprocessing, shared.append, 2))
            assert list(shared) == [1, 2]
        end(run(multiprocessing, connect_and_talk, echo.address, 1))
    finally:
        multiprocessing.set_start_method(None, force=True)
        multiprocessing.set_forkserver_preload(["__main__"])


def check_connection_as_argument():
    """A connection that is given to a worker is one there too, and lives until both have closed it."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with pair() as (client, peer):
            done = context.Event()
            worker = run(context, use_connected, client, client.getpeername(), done)
            assert peer.recv(100) == b"worker"
            client.sendall(b"program")
            assert peer.recv(100) == b"program"
            client.close()
            assert not is_readable(peer, 0.02)
            done.set()
            end(worker)
            assert is_readable(peer)
            assert peer.recv(1) == b""


def check_fresh_socket_as_argument():
    """A socket that is not connected connects in the worker that it is given to."""
    echo = Echo()
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with socket.socket() as sock:
            end(run(context, connect_given, sock, echo.address))
            assert sock.getpeername() == echo.address


def check_datagrams_as_argument():
    """A UDP socket sends in the worker that it is given to."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        ):
            peer.bind(("127.0.0.1", 0))
            peer.settimeout(PATIENCE)
            end(run(context, send_given, sock, peer.getsockname()))
            assert peer.recv(100) == b"datagram"


def check_connection_of_a_worker():
    """A connection that a worker has made and puts into a queue goes on in the program."""
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with listener() as server:
            queue = context.Queue()
            done = context.Event()
            worker = run(context, put, queue, server.getsockname(), done)
            sock = queue.get(timeout=PATIENCE)
            peer, _ = server.accept()
            with sock, peer:
                assert sock.getpeername() == server.getsockname()
                assert peer.recv(100) == b"made by the worker"
                done.set()
                end(worker)
                sock.sendall(b"and goes on")
                assert peer.recv(100) == b"and goes on"
            queue.close()


if __name__ == "__main__":
    main(dict(globals()))
