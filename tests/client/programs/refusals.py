"""What a program may not do under the default policy: refused at the call, with the errno and the reason in the text.

Prints, like the others; the test that runs it demands besides that the gate heard of none of it.
"""

import array
import errno
import os
import socket
import subprocess
import sys

from harness import main, raises

INET = (socket.AF_INET, socket.AF_INET6)


def low_fds():
    """Return the fds where programs have theirs."""
    return [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd < 1000]


def refused(call, number, kind, word, code):
    """Demand a refusal of this class and errno, with this word in its text, and nothing left open."""
    before = low_fds()
    with raises(kind, number) as caught:
        call()
    error = caught.error
    assert word in str(error), error
    assert type(error).__module__ == "outgate.errors", type(error)
    assert error.code == code, error.code
    del caught, error
    assert low_fds() == before


def check_listen():
    """listen() is a PermissionError, before and after a bind, with and without a backlog."""
    for family in INET:
        with socket.socket(family) as sock:
            refused(sock.listen, errno.EACCES, PermissionError, "outbound only", "listen")
            refused(lambda sock=sock: sock.listen(5), errno.EACCES, PermissionError, "listen()", "listen")
            sock.bind(("", 0))
            refused(sock.listen, errno.EACCES, PermissionError, "outbound only", "listen")


def check_accept():
    """accept() is a PermissionError too, where natively it would be EINVAL."""
    with socket.socket() as sock:
        refused(sock.accept, errno.EACCES, PermissionError, "accept()", "listen")


def check_create_server():
    """create_server() is refused for wildcard, loopback and port, and leaves no socket open."""
    for address in (("", 0), ("127.0.0.1", 0)):
        refused(
            lambda a=address: socket.create_server(a), errno.EACCES, PermissionError, "outbound only", code="listen"
        )
    before = low_fds()
    with raises(PermissionError, errno.EACCES) as caught:
        socket.create_server(("0.0.0.0", 8080))  # which makes an exception of its own from the text of ours
    assert "outbound only: bind to 0.0.0.0:8080" in str(caught.error)
    assert low_fds() == before


def check_bind():
    """bind() to an address or a port is a PermissionError; to the wildcard or loopback with port 0 it goes through."""
    for address in (("192.0.2.1", 0), ("127.0.0.1", 8080), ("", 25), ("0.0.0.0", 1), ("8.8.8.8", 53), ("host.test", 0)):
        with socket.socket() as sock:
            refused(lambda s=sock, a=address: s.bind(a), errno.EACCES, PermissionError, address[0] or ":25", "bind")
    for address in (("2001:db8::1", 0), ("::1", 8080), ("::ffff:8.8.8.8", 0), ("fe80::1%lo", 0)):
        with socket.socket(socket.AF_INET6) as sock:
            refused(lambda s=sock, a=address: s.bind(a), errno.EACCES, PermissionError, "bind", "bind")
    for family, hosts in (
        (socket.AF_INET, ("", "0.0.0.0", "127.0.0.1", "127.9.9.9")),
        (socket.AF_INET6, ("", "::", "::1")),
    ):
        for host in hosts:
            with socket.socket(family) as sock:
                sock.bind((host, 0))
                assert sock.getsockname()[1]


def check_families():
    """Every family but AF_INET, AF_INET6 and AF_UNIX is EAFNOSUPPORT, whatever its type."""
    numbers = [getattr(socket, name) for name in dir(socket) if name.startswith("AF_")]
    allowed = (*INET, socket.AF_UNIX)
    assert len(numbers) > 20
    for family in {*map(int, numbers), 0, 99, 4096, -5} - set(allowed):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            refused(lambda f=family, k=kind: socket.socket(f, k), errno.EAFNOSUPPORT, OSError, "family", "family")
    for name in ("AF_PACKET", "AF_NETLINK", "AF_VSOCK", "AF_ALG", "AF_BLUETOOTH", "AF_CAN"):
        if hasattr(socket, name):
            refused(
                lambda name=name: socket.socket(getattr(socket, name), socket.SOCK_RAW),
                errno.EAFNOSUPPORT,
                OSError,
                "AF_UNIX stays native",
                "family",
            )


def check_raw():
    """SOCK_RAW and SOCK_PACKET are a PermissionError, as they are natively for most users."""
    for family in INET:
        for kind in (socket.SOCK_RAW, 10):
            for proto in (0, socket.IPPROTO_ICMP, socket.IPPROTO_TCP, 255):
                refused(
                    lambda f=family, k=kind, p=proto: socket.socket(f, k, p),
                    errno.EACCES,
                    PermissionError,
                    "raw sockets",
                    "raw",
                )


def check_types_and_protocols():
    """Other types, and SCTP, MPTCP, UDP-Lite, ICMP and DCCP, are EPROTONOSUPPORT."""
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    kinds = [(socket.SOCK_SEQPACKET, 0), (socket.SOCK_RDM, 0), (6, 0), (9, 0), (0, 0)]
    kinds += [
        (socket.SOCK_SEQPACKET, 132),
        (stream, 132),
        (stream, 262),
        (datagram, 136),
        (datagram, 1),
        (datagram, 58),
    ]
    kinds += [(stream, 17), (datagram, 6), (stream, 255), (stream, 1 << 20), (stream, -7)]
    for family in INET:
        for kind, proto in kinds:
            refused(
                lambda f=family, k=kind, p=proto: socket.socket(f, k, p),
                errno.EPROTONOSUPPORT,
                OSError,
                "only TCP and UDP",
                "protocol",
            )


def check_fast_open():
    """MSG_FASTOPEN is refused in sendto and sendmsg, alone and with other flags, and nothing is dialled."""
    address = ("127.0.0.1", 9)
    with socket.socket() as sock:
        for flags in (socket.MSG_FASTOPEN, socket.MSG_FASTOPEN | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL):
            refused(
                lambda f=flags: sock.sendto(b"x", f, address), errno.EOPNOTSUPP, OSError, "MSG_FASTOPEN", "fast-open"
            )
            refused(
                lambda f=flags: sock.sendmsg([b"x"], [], f, address),
                errno.EOPNOTSUPP,
                OSError,
                "connect() first",
                "fast-open",
            )
        with raises(OSError):
            sock.send(b"x", socket.MSG_FASTOPEN)
        with raises(OSError, errno.ENOTCONN):
            sock.getpeername()


def check_native_families():
    """AF_UNIX sockets of every type, socket pairs, and listening on a path are native and untouched."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        left, right = socket.socketpair(socket.AF_UNIX, kind)
        with left, right:
            left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
            assert right.recv(1) == b"x"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(f"\0refusals-{os.getpid()}")
        server.listen()
        client.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            client.sendall(b"x")
            assert peer.recv(1) == b"x"
    left, right = socket.socketpair()
    left.close()
    right.close()


def check_inherited_listener():
    """A listening socket that came from outside is native: it listens again, accepts, and its peers talk."""
    with socket.socket(fileno=os.dup(int(os.environ["TEST_LISTENER"]))) as server:
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        server.listen(7)
        server.settimeout(10)
        peer, address = server.accept()
        with peer:
            assert address[0] == "127.0.0.1"
            assert peer.recv(5) == b"hello"
            peer.sendall(b"world")
        code = "import socket; s = socket.socket(fileno=0); s.accept()[0].sendall(b'child')"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=server)
        assert child.wait() == 0


if __name__ == "__main__":
    main(globals())
