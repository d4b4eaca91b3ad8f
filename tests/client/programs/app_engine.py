"""What a program sees under ``profile = "app-engine"``: the original's rules, to the letter. Python 3.9+.

Natively none of it would hold; the test beside runs it through gates with that profile.
"""

import errno
import os
import pickle
import select
import smtplib
import socket
import ssl
import struct

from harness import PATIENCE, main, raises

#: Sends back what comes; and where nobody listens.
PEER = ("127.0.0.1", int(os.environ["TEST_PEER_PORT"]))
NOBODY = ("127.0.0.1", int(os.environ["TEST_FREE_PORT"]))

#: Level, option, and the number that a get always gave (the development server's specification).
EIGHT = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0),
    (socket.SOL_SOCKET, socket.SO_DEBUG, 128),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 0),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE, 0),
    (socket.SOL_SOCKET, socket.SO_SNDBUF, 2097152),
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 2097152),
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
)
LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)


def both():
    """Give a socket that is fresh, and one that is connected, with a name each."""
    with socket.socket() as sock:
        yield "fresh", sock
    with socket.create_connection(PEER) as sock:
        yield "connected", sock


def check_eight_options_are_there_for_show():
    """S4: a get returns a mock value, a set is ignored."""
    for state, sock in both():
        for level, number, shown in EIGHT:
            assert sock.getsockopt(level, number) == shown, (state, number)
            sock.setsockopt(level, number, 1 - (shown & 1))
            assert sock.getsockopt(level, number) == shown, (state, number)
            assert sock.getsockopt(level, number, 4) == struct.pack("<I", shown)
        sock.setsockopt(*LINGER, struct.pack("ii", 1, 0))
        assert sock.getsockopt(*LINGER, 8) == bytes(8)


def check_what_is_ignored_is_validated():
    """S4: what is no value of an option's is refused as by C."""
    for _, sock in both():
        with raises(TypeError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, "on")
        with raises(TypeError):
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, "4")


def check_a_set_changes_nothing():
    """S4: a linger of zero is ignored too, so that the end is no reset, which the peer would tell."""
    with socket.create_connection(PEER) as sock:
        sock.sendall(b"all of it")
        sock.setsockopt(*LINGER, struct.pack("ii", 1, 0))
        assert sock.recv(9, socket.MSG_WAITALL) == b"all of it"


def check_every_other_option_is_an_error():
    """S4: errors for unsupported options, also for what outgate's own table permits."""
    for _, sock in both():
        for level, number in (
            (socket.SOL_SOCKET, socket.SO_TYPE),
            (socket.SOL_SOCKET, socket.SO_BROADCAST),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            (socket.IPPROTO_IP, socket.IP_TOS),
            (socket.SOL_SOCKET, socket.SO_RCVTIMEO),
            (socket.SOL_SOCKET, 5000),
        ):
            with raises(PermissionError, errno.EACCES) as caught:
                sock.setsockopt(level, number, 1)
            assert caught.error.code == "option-blocked"
            with raises(PermissionError, errno.EACCES) as caught:
                sock.getsockopt(level, number)
            assert "attempt to get blocked socket option" in str(caught.error)


def check_so_error_is_true():
    """S4: SO_ERROR is read only, and the kernel's."""
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(NOBODY) in (errno.EINPROGRESS, errno.ECONNREFUSED)
        with raises(PermissionError, errno.EACCES):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_ERROR, 1)
        assert select.select([], [sock], [], PATIENCE)[1]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def check_bind_is_the_wildcards_alone():
    """S10: no specific address, loopback among them, and no port."""
    for family, wildcard, loopback in ((socket.AF_INET, "0.0.0.0", "127.0.0.1"), (socket.AF_INET6, "::", "::1")):
        for host in ("", wildcard):
            with socket.socket(family) as sock:
                sock.bind((host, 0))
        for host, port in ((loopback, 0), ("localhost", 0), ("", 8080), (wildcard, 8080)):
            with socket.socket(family) as sock, raises(PermissionError, errno.EACCES) as caught:
                sock.bind((host, port))
            assert caught.error.code == "bind-wildcard", caught.error


def check_gethostbyaddr_is_not_implemented():
    """S13: by name, by address, and of the host itself."""
    for host in ("127.0.0.1", "localhost", socket.gethostname()):
        with raises(NotImplementedError) as caught:
            socket.gethostbyaddr(host)
        assert not isinstance(caught.error, OSError)
        assert caught.error.code == "not-implemented"
        again = pickle.loads(pickle.dumps(caught.error))
        assert (type(again), str(again)) == (type(caught.error), str(caught.error))


def check_smtplib_needs_a_local_hostname():
    """S13: smtplib.SMTP raises NotImplementedError unless it is told its name."""
    with raises(NotImplementedError) as caught:
        smtplib.SMTP()
    assert "local_hostname" in str(caught.error)
    assert smtplib.SMTP(local_hostname="mymailhostname").local_hostname == "mymailhostname"


def check_tls_works_all_the_same():
    """S18: the ssl module is the platform's own: it may ask what a socket is, where the program may not."""
    certificate = os.environ["TEST_CERTIFICATE"]
    host, port = "127.0.0.1", int(os.environ["TEST_TLS_PORT"])
    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False
    with socket.create_connection((host, port)) as raw, context.wrap_socket(raw) as sock:
        sock.sendall(b"hello")
        assert sock.recv(5) == b"hello"


if __name__ == "__main__":
    main(globals())
