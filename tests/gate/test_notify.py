"""The service manager's protocols: what is sent, to whom, and what is taken over."""

import asyncio
import os
import socket
import uuid

import pytest

from outgate.errors import ConfigError
from outgate.gate.kernel import notify
from outgate.gate.kernel.notify import (
    Notifier,
    destination,
    feed_watchdog,
    inherited_listener,
    listen_fds,
    message,
    watchdog_interval,
)


@pytest.fixture
def manager(tmp_path):
    """A service manager's socket, and the environment it would give."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock, {"NOTIFY_SOCKET": str(tmp_path / "notify")}


@pytest.mark.parametrize(
    ("name", "address"),
    [("/run/notify", "/run/notify"), ("@abstract", b"\0abstract"), ("", None), ("relative", None), ("vsock:2:1", None)],
)
def test_the_destination_is_a_path_or_an_abstract_name(name, address):
    """Only what sd_notify(3) sends to over a Unix socket is an address."""
    assert destination({"NOTIFY_SOCKET": name}) == address
    assert destination({}) is None


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_its_time(environ, interval):
    """Signs of life are due at half of WATCHDOG_USEC, where this process is meant."""
    assert watchdog_interval(environ, 7) == interval


@pytest.mark.parametrize(
    ("environ", "fds"),
    [
        ({}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, [3, 4]),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, []),
        ({"LISTEN_FDS": "2"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, []),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, []),
        ({"LISTEN_PID": "7"}, []),
    ],
)
def test_passed_sockets_are_counted_for_this_process_alone(environ, fds):
    """Sockets were passed only where LISTEN_PID is this process."""
    assert list(listen_fds(environ, 7)) == fds


def test_a_message_cannot_be_split_by_a_value():
    """A line end in a value does not begin a variable."""
    assert message(READY=1, STATUS="a\nWATCHDOG=1\r\nb") == b"READY=1\nSTATUS=a WATCHDOG=1 b"
    assert message(STATUS="\udc80") == b"STATUS=?"


def test_every_state_is_told(manager):
    """Ready, reloading with its stamp, status, sign of life and stopping reach the manager as sd_notify(3) has them."""
    sock, environ = manager
    notifier = Notifier.from_environ({**environ, "WATCHDOG_USEC": "3000000"}, os.getpid())
    assert notifier.interval == 1.5
    assert notifier.ready("2 apps")
    assert notifier.ready()
    assert notifier.reloading()
    assert notifier.status("x" * 1000)
    assert notifier.watchdog()
    assert notifier.stopping("signal 15")
    assert notifier.stopping()
    told = [sock.recv(4096) for _ in range(7)]
    assert told[:2] == [b"READY=1\nSTATUS=2 apps", b"READY=1"]
    name, stamp = told[2].split(b"\nMONOTONIC_USEC=")
    assert name == b"RELOADING=1"
    assert int(stamp) > 0
    assert told[3] == b"STATUS=" + b"x" * notify.STATUS_LIMIT
    assert told[4:] == [b"WATCHDOG=1", b"STOPPING=1\nSTATUS=signal 15", b"STOPPING=1"]
    notifier.close()
    notifier.close()
    assert not notifier.ready()


def test_an_abstract_socket_is_reached():
    """A NOTIFY_SOCKET that begins with @ is in the abstract namespace."""
    name = f"outgate-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(b"\0" + name.encode())
        notifier = Notifier.from_environ({"NOTIFY_SOCKET": "@" + name}, 1)
        assert notifier.ready()
        assert sock.recv(100) == b"READY=1"
        notifier.close()


def test_a_manager_that_is_not_there_or_full_is_no_error(manager):
    """No manager, a vanished one and one that does not read are all answered with False, at once."""
    sock, environ = manager
    assert not Notifier().ready()
    assert not Notifier.from_environ({}, 1).watchdog()
    gone = Notifier("/nowhere/notify")
    assert not gone.ready()
    gone.close()
    notifier = Notifier.from_environ(environ, 1)
    while notifier.watchdog():
        pass
    assert sock.recv(100) == b"WATCHDOG=1"
    notifier.close()


def test_the_loop_itself_feeds_the_watchdog(manager):
    """A sign of life is sent before each wait, as long as the loop turns and no longer."""
    sock, environ = manager
    waits = []

    async def sleep(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            raise asyncio.CancelledError

    notifier = Notifier.from_environ({**environ, "WATCHDOG_USEC": "8000000"}, 1)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(feed_watchdog(notifier, sleep))
    assert waits == [4.0] * 3
    assert [sock.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    notifier.close()
    asyncio.run(feed_watchdog(Notifier(), sleep))
    assert len(waits) == 3, "without a watchdog nothing is fed"


def pass_socket(monkeypatch, fd, count=1):
    """Make ``fd`` the first that the service manager passed, and return the environment that says so."""
    monkeypatch.setattr(notify, "FIRST_FD", fd)
    return {"LISTEN_PID": "7", "LISTEN_FDS": str(count)}


def test_a_listening_socket_is_taken_over(monkeypatch, tmp_path):
    """The passed socket accepts channels, does not block, and is not handed on to children."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.bind(str(tmp_path / "gate.sock"))
    ours.listen()
    ours.set_inheritable(True)
    environ = pass_socket(monkeypatch, ours.detach())
    with (
        inherited_listener(environ, 7) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        assert not listener.get_inheritable()
        assert not listener.getblocking()
        client.connect(str(tmp_path / "gate.sock"))
        channel, _address = listener.accept()
        channel.close()


def test_no_socket_is_taken_over_without_activation():
    """Where nothing was passed to this process there is no listener."""
    assert inherited_listener({}, 7) is None
    assert inherited_listener({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, 7) is None


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_socket_of_another_kind_is_refused(monkeypatch, tmp_path, kind):
    """A stream socket, or one that does not listen, is refused with the line of the unit, and left open."""
    with socket.socket(socket.AF_UNIX, kind) as sock:
        if kind == socket.SOCK_STREAM:
            sock.bind(str(tmp_path / "stream.sock"))
            sock.listen()
        with pytest.raises(ConfigError, match="ListenSequentialPacket="):
            inherited_listener(pass_socket(monkeypatch, sock.fileno()), 7)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == kind


def test_an_fd_that_is_no_socket_is_refused(monkeypatch):
    """A pipe, a closed fd, or several sockets are refused."""
    reader, writer = os.pipe()
    with pytest.raises(ConfigError, match="is not a socket"):
        inherited_listener(pass_socket(monkeypatch, reader), 7)
    os.close(reader)
    os.close(writer)
    with pytest.raises(ConfigError, match="2 sockets were passed"):
        inherited_listener(pass_socket(monkeypatch, 3, count=2), 7)
