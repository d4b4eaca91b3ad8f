"""What a program sees when signal handlers run while it waits: handlers that return, and handlers that raise."""

import contextlib
import os
import select
import signal
import socket
import tempfile
import threading
import warnings

from harness import PATIENCE, Echo, listener, main, pair, raises, talk

warnings.simplefilter("ignore", ResourceWarning)  # a handler that raises leaves files to the collector, natively too

ECHO = Echo(own_process=True)
#: Seconds between two signals, and how many a call has seen when what it waits for comes.
TICK, TICKS = 0.002, 5


class Interrupted(Exception):
    """Raised by the handler, as Ctrl-C raises KeyboardInterrupt."""


@contextlib.contextmanager
def ticking(then, fails=False):
    """Send signals over and over; at the fifth the handler calls ``then`` or, if it ``fails``, raises."""
    seen = []

    def handler(number, frame):
        seen.append(number)
        if len(seen) == TICKS:
            if fails:
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise Interrupted
            then()

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) >= TICKS, seen
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def connect_and_talk():
    with socket.create_connection(ECHO.address, timeout=PATIENCE) as sock:
        talk(sock)


def read_to_end(peer):
    """Return all that a peer hears."""
    heard = b""
    while more := peer.recv(1 << 20):
        heard += more
    return heard


# --- calls that receive -----------------------------------------------------------------------------------------------


def into(call, *rest):
    """Return what a call that fills a buffer has put there."""
    buffer = bytearray(100)
    count = call(buffer, *rest)
    return bytes(buffer[: count[0] if isinstance(count, tuple) else count])


def into_two(sock):
    """Return what recvmsg_into has put into its buffers."""
    one, other = bytearray(2), bytearray(100)
    count = sock.recvmsg_into([one, other])[0]
    return bytes((one + other)[:count])


RECEIVING = {
    "recv": lambda sock: sock.recv(100),
    "recv, to the last byte": lambda sock: sock.recv(6, socket.MSG_WAITALL),
    "recv, a look first": lambda sock: (sock.recv(100, socket.MSG_PEEK), sock.recv(100))[1],
    "recv_into": lambda sock: into(sock.recv_into),
    "recvfrom": lambda sock: sock.recvfrom(100)[0],
    "recvfrom_into": lambda sock: into(sock.recvfrom_into),
    "recvmsg": lambda sock: sock.recvmsg(100)[0],
    "recvmsg_into": into_two,
}
FILES = {
    "read1": lambda sock: sock.makefile("rb").read1(100),
    "readline": lambda sock: sock.makefile("rb").readline(),
    "read, unbuffered": lambda sock: sock.makefile("rb", buffering=0).read(100),
    "readline, text": lambda sock: sock.makefile("r").readline().encode(),
    "os.read": lambda sock: os.read(sock.fileno(), 100),
}


def for_each_wait(calls, timeouts=(None, PATIENCE)):
    """Yield (name, call, timeout) for each call in each mode that waits."""
    for name, call in calls.items():
        for timeout in timeouts:
            if not (timeout and (name == "os.read" or "last byte" in name)):  # neither knows of a time-out
                yield name, call, timeout


def check_receiving_goes_on():
    """Each call that receives goes on after handlers that return, and has all that came (PEP 475)."""
    for name, call, timeout in for_each_wait({**RECEIVING, **FILES}):
        with pair() as (client, peer):
            client.settimeout(timeout)
            with ticking(lambda: peer.sendall(b"hello\n")):
                assert call(client) == b"hello\n", (name, timeout)


def check_receiving_is_cut_off():
    """A handler that raises ends each call that receives; nothing that comes afterwards is lost to the next call."""
    for name, call, timeout in for_each_wait({**RECEIVING, **FILES}):
        with pair() as (client, peer):
            client.settimeout(timeout)
            with ticking(None, fails=True), raises(Interrupted):
                call(client)
            peer.sendall(b"hello\n")
            assert call(client) == b"hello\n", (name, timeout)
            client.settimeout(None)
            peer.sendall(b"again\n")
            assert client.recv(100) == b"again\n", (name, timeout)


def check_time_outs_are_kept():
    """Signals do not make a time-out longer for ever: a receive and a look at nothing end with it."""
    with pair() as (client, _):
        client.settimeout(TICK * 20)
        with ticking(lambda: None), raises(socket.timeout):
            client.recv(1)
        with ticking(lambda: None):
            assert select.select([client], [], [], TICK * 20) == ([], [], [])


# --- datagrams --------------------------------------------------------------------------------------------------------

DATAGRAMS = {name: call for name, call in RECEIVING.items() if "last byte" not in name}


@contextlib.contextmanager
def datagrams():
    """Yield a UDP client that has spoken to a server, the server, and the client's address there."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        server.settimeout(PATIENCE)
        client.sendto(b"?", server.getsockname())
        yield client, server, server.recvfrom(10)[1]


def check_datagrams_go_on():
    """Each call that receives datagrams goes on after handlers that return, connected or not."""
    for name, call, timeout in for_each_wait(DATAGRAMS):
        for connected in (False, True):
            with datagrams() as (client, server, source):
                if connected:
                    client.connect(server.getsockname())
                client.settimeout(timeout)
                with ticking(lambda: server.sendto(b"hello\n", source)):
                    assert call(client) == b"hello\n", (name, timeout, connected)


def check_datagrams_are_cut_off():
    """A handler that raises ends each call that receives datagrams; the next datagram is whole."""
    for name, call, timeout in for_each_wait(DATAGRAMS):
        with datagrams() as (client, server, source):
            client.settimeout(timeout)
            with ticking(None, fails=True), raises(Interrupted):
                call(client)
            server.sendto(b"hello\n", source)
            assert call(client) == b"hello\n", (name, timeout)
            client.sendto(b"back", server.getsockname())
            assert server.recvfrom(10) == (b"back", source)


# --- calls that send --------------------------------------------------------------------------------------------------

#: More than any buffer takes, and no two parts of it alike.
LARGE = b"".join(b"%07d\n" % number for number in range(2_000_000))


def send_file(sock):
    """Send all of it from a file."""
    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        file.seek(0)
        return sock.sendfile(file)


def send_until_it_waits(call):
    """Return a function that sends piece after piece, the last of which has to wait."""

    def send(sock):
        sent = 0
        while sent < len(LARGE):
            sent += call(sock, LARGE[sent : sent + (1 << 20)])

    return send


SENDING = {
    "sendall": lambda sock: sock.sendall(LARGE),
    "send": send_until_it_waits(lambda sock, piece: sock.send(piece)),
    "sendmsg": send_until_it_waits(lambda sock, piece: sock.sendmsg([piece[:1000], piece[1000:]])),
    "sendfile": send_file,
    "write": lambda sock: sock.makefile("wb", buffering=0).write(LARGE[: 1 << 16]) and sock.sendall(LARGE[1 << 16 :]),
}


def check_sending_goes_on():
    """Each call that sends goes on after handlers that return, and every byte arrives, in order."""
    for name, call in SENDING.items():
        for timeout in (None, PATIENCE):
            with pair() as (client, peer):
                client.settimeout(timeout)
                heard = []
                reader = threading.Thread(target=lambda peer=peer, heard=heard: heard.append(read_to_end(peer)))
                with ticking(reader.start):
                    call(client)
                    client.close()
                    reader.join()
                assert heard == [LARGE], (name, timeout)


def check_sending_is_cut_off():
    """A handler that raises ends each call that sends; what had been sent arrives, and then what is sent next."""
    for name, call in SENDING.items():
        with pair() as (client, peer):
            with ticking(None, fails=True), raises(Interrupted):
                call(client)
            heard = []
            reader = threading.Thread(target=lambda peer=peer, heard=heard: heard.append(read_to_end(peer)))
            reader.start()
            client.sendall(b"and on")
            client.close()
            reader.join()
            assert heard[0].endswith(b"and on"), name
            assert LARGE.startswith(heard[0][: -len(b"and on")]), name
            assert len(heard[0]) > 10_000, name


# --- accept, connect, look-ups ----------------------------------------------------------------------------------------


def check_accept():
    """accept() goes on after handlers that return, one of which connects; one that raises ends it, and it is none."""
    for timeout in (None, PATIENCE):
        with listener() as server:
            server.settimeout(timeout)
            held = []
            with ticking(lambda server=server, held=held: held.append(socket.create_connection(server.getsockname()))):
                peer, address = server.accept()
            assert address == held[0].getsockname()
            with ticking(None, fails=True), raises(Interrupted):
                server.accept()
            held.append(socket.create_connection(server.getsockname()))
            other, address = server.accept()
            assert address == held[1].getsockname()
            for sock in (peer, other, *held):
                sock.close()


def check_connect_goes_on():
    """A connect that nobody answers goes on after handlers that return, and succeeds when somebody does."""
    for timeout in (None, PATIENCE):
        with listener(0) as server, contextlib.ExitStack() as stack:
            waiting = 1
            while True:  # until its queue is full
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(server.getsockname())
                waiting += 1
                if not select.select([], [filler], [], 0.1)[1]:
                    break

            def make_room(server=server, stack=stack, waiting=waiting):
                for _ in range(waiting):
                    stack.enter_context(server.accept()[0])

            thread = threading.Thread(target=make_room)
            with socket.socket() as sock:
                sock.settimeout(timeout)
                with ticking(thread.start):
                    sock.connect(server.getsockname())
                assert sock.getpeername() == server.getsockname()
                thread.join()


def check_look_ups_go_on():
    """Look-ups and whole connections, over and over while handlers run, have their own answers."""
    done = []
    with ticking(lambda: done.append(True)):
        turn = 0
        while not done or turn < 50:
            answer = socket.getaddrinfo("localhost", 1000 + turn, socket.AF_INET, socket.SOCK_STREAM)
            assert answer[0][4] == ("127.0.0.1", 1000 + turn), answer
            connect_and_talk()
            turn += 1


if __name__ == "__main__":
    main(globals())
