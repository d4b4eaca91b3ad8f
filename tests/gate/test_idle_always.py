"""Where idle sockets are always taken: what counts as use, on both paths, and what a program is told afterwards."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import pytest
import trustme

from gate.test_meter_close import Program
from outgate import errors
from outgate.gate.configuration import config
from outgate.testing.running import ThreadGate
from support import peers
from support.raw import RawChannel

PATHS = ("direct", "relay")
#: Seconds: a program must be able to say within them that it uses a socket, on a machine that does much else.
LIMIT = 3


def gate_with(path: str, limit: float = LIMIT, how: str = "always") -> ThreadGate:
    """Return a gate whose app keeps no socket that is idle for longer than a limit in seconds."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    app = replace(settings.apps["default"], idle_reclaim=how, idle_timeout=limit)  # type: ignore[arg-type]
    return ThreadGate(replace(settings, apps=MappingProxyType({"default": app})))


USES = """
import asyncio, select, time, uvloop
address = s.getpeername()
done = {}
stop = threading.Event()

def used(name):
    def begin(function):
        sock = socket.socket(type=socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM)
        sock.connect(udp_address if name == "udp" else address)
        ports[name] = sock.getsockname()[1]
        def run():
            try:
                done[name] = function(sock)
            except Exception as e:
                done[name] = repr(e)
            sock.close()
        thread = threading.Thread(target=run)
        thread.start()
        threads.append(thread)
    return begin

threads, ports = [], {}
udp_address = ("127.0.0.1", int(sys.argv[2]))

@used("recv")
def _(sock):
    return len(sock.recv(10))

@used("recv with a time-out")
def _(sock):
    sock.settimeout(60)
    return len(sock.recv(10))

@used("recv_into")
def _(sock):
    return sock.recv_into(bytearray(10))

@used("recvmsg")
def _(sock):
    return len(sock.recvmsg(10)[0])

@used("recv, waiting for all")
def _(sock):
    return len(sock.recv(10, socket.MSG_WAITALL))

@used("makefile")
def _(sock):
    with sock.makefile("rb") as file:
        return len(file.read(10))

@used("select")
def _(sock):
    return 10 * len(select.select([sock], [], [])[0])

@used("select with a time-out")
def _(sock):
    return 10 * len(select.select([sock.fileno()], (), {sock}, 60)[0])

@used("poll")
def _(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return 10 * len(poll.poll())

@used("epoll")
def _(sock):
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLIN)
    return 10 * len(epoll.poll())

async def read(sock):
    reader, writer = await asyncio.open_connection(sock=sock)
    got = await reader.readexactly(10)
    writer.close()
    return len(got)

@used("asyncio")
def _(sock):
    return asyncio.run(read(sock))

@used("uvloop")
def _(sock):
    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(read(sock))
    finally:
        loop.close()

def often(call):
    def use(sock):
        while not stop.wait(0.1):
            call(sock)
        return len(sock.recv(10))
    return use

def misses(sock):
    try:
        sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
    except BlockingIOError:
        pass

used("getpeername")(often(lambda sock: sock.getpeername()))
used("getsockname")(often(lambda sock: sock.getsockname()))
used("getsockopt")(often(lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
used("setsockopt")(often(lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)))
used("what would block")(often(misses))
used("select, now and then")(often(lambda sock: select.select([sock], [], [], 0)))

@used("udp")
def _(sock):
    return len(sock.recv(10))

@used("a send that waits")
def _(sock):
    sock.sendall(bytes(30_000_000))
    return 10

s.close()
idle = socket.create_connection(address)
say(**ports)
told()
stop.set()
for thread in threads:
    thread.join()
say(idle=len(idle.recv(1)), **done)
idle.close()
"""


@pytest.mark.slow  # the limit has to pass
@pytest.mark.parametrize("path", PATHS)
def test_what_is_in_use_stays(path: str) -> None:
    """Waits in progress, misses and questions keep a socket; one that nobody touches goes, though opened last."""
    with (
        gate_with(path) as gate,
        peers.silent() as peer,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        _program(gate, peer, USES, udp) as program,
    ):
        ports = program.said()
        gate.log.wait_for(event="end", how="idle")
        connections = {connection.client[1]: connection for connection in _accepted(peer, len(ports) + 1)}
        for name, port in ports.items():
            if name == "udp":
                udp.sendto(b"0123456789", ("127.0.0.1", port))
            elif name == "a send that waits":
                while connections[port].received < 30_000_000:
                    connections[port].receive()
            else:
                connections[port].send(b"0123456789")
        program.tell()
        said = program.said()
        assert said.pop("idle") == 0
        assert said == dict.fromkeys(ports, 10)


def _accepted(peer: peers.Peer, count: int) -> Iterator[peers.Connection]:
    for _ in range(count):
        yield peer.accepted()


@contextlib.contextmanager
def _program(gate: ThreadGate, peer: peers.Peer, code: str, udp: socket.socket) -> Iterator[Program]:
    """Give a program that knows of a UDP peer too."""
    udp.bind(("127.0.0.1", 0))
    udp.settimeout(peers.PATIENCE)
    with Program(gate, peer, code.replace("sys.argv[2]", str(udp.getsockname()[1]))) as program:  # type: ignore[arg-type]
        yield program


CALLS = """
import pickle, time
address = s.getpeername()
def fails(number, one):
    assert number == 32, number
    one.connect(address)

calls = {
    "getpeername": lambda one: one.getpeername(),
    "getsockname": lambda one: one.getsockname(),
    "setsockopt": lambda one: one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    "getsockopt": lambda one: one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
    "shutdown": lambda one: one.shutdown(socket.SHUT_WR),
    "pickle": pickle.dumps,
    "sendmsg": lambda one: one.sendmsg([b"x"]),
    "connect": lambda one: one.connect(address),
    "connect_ex": lambda one: fails(one.connect_ex(address), one),
}
if sends:
    calls.update(send=lambda one: one.send(b"x"), sendall=lambda one: one.sendall(b"x"))
opened = {name: socket.create_connection(address) for name in calls}
say(opened=len(opened))
told()
ends, told_why = {}, {}
for name, one in opened.items():
    one.settimeout(10)
    ends[name] = (one.recv(10), one.recv(10)) == (b"last", b"")
    try:
        calls[name](one)
    except OSError as e:
        told_why[name] = [type(e).__name__, e.errno, str(e).startswith("[Errno 32] reclaimed after ")]
    one.close()
say(ends=ends, why=told_why)
s.close()
"""


@pytest.mark.parametrize("how", ["always", "pressure"])
@pytest.mark.parametrize("path", PATHS)
def test_what_a_program_is_told(path: str, how: str) -> None:
    """What has come is read first, then an end of file; the next call that is ours says why, and how long it was."""
    sends = how == "always" or path == "relay"
    with gate_with(path, 0.3, how) as gate, peers.silent() as peer:
        with Program(gate, peer, f"sends = {sends}\n" + CALLS) as program:  # type: ignore[arg-type]
            opened = program.said()["opened"]
            for connection in _accepted(peer, opened + 1):
                connection.send(b"last")
            if how == "always":
                gate.log.wait_for(event="end", how="idle", count=opened + 1)
            else:
                gate.call(lambda: _reclaim_all(gate))
            gate.stats()
            program.tell()
            said = program.said()
        assert said["ends"] == dict.fromkeys(said["ends"], True)
        assert said["why"] == {call: ["LeaseReclaimed", 32, True] for call in said["ends"]}


def _reclaim_all(gate: ThreadGate) -> None:
    for lease in list(gate.gate.registry.leases.values()):
        if lease.decision is not None:
            gate.gate.ending.reclaim(lease, 125.0)


DATAGRAMS = """
udp = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(6)]
for one in udp:
    one.settimeout(10)
    one.connect(("127.0.0.1", int(sys.argv[2])))
    one.send(b"x")
    one.recv(1)
calls = (
    lambda one: one.recv(1), lambda one: one.send(b"x"), lambda one: one.recvfrom(1), lambda one: one.getpeername(),
    lambda one: one.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST), lambda one: one.sendto(b"x", one.peer),
)
say(opened=len(udp))
told()
why = []
for one, call in zip(udp, calls):
    try:
        call(one)
    except (OSError, AttributeError) as e:
        why.append([type(e).__name__, getattr(e, "errno", None)])
    one.close()
say(why=why)
s.close()
"""


def test_datagrams_that_were_reclaimed() -> None:
    """A UDP socket has no end of file: the next call says why."""
    code = DATAGRAMS.replace("one.peer", 'one.getsockname() and ("127.0.0.1", int(sys.argv[2]))')
    with (
        gate_with("direct", 0.3) as gate,
        peers.silent() as peer,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        _program(gate, peer, code, udp) as program,
    ):
        for _ in range(6):
            udp.sendto(b"y", udp.recvfrom(1)[1])
        opened = program.said()["opened"]
        gate.log.wait_for(event="end", how="idle", transport="udp", count=opened)
        program.tell()
        assert program.said()["why"] == [["LeaseReclaimed", 32]] * opened


CHILD = """
child = os.fork()
if not child:
    os._exit(len(s.recv(10)))
idle = socket.create_connection(s.getpeername())
say(waiting=True)
told()
say(child=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), idle=len(idle.recv(1)))
s.close()
idle.close()
"""


@pytest.mark.slow  # the limit has to pass
@pytest.mark.parametrize("path", PATHS)
def test_a_child_that_waits(path: str) -> None:
    """A process that was forked keeps what its parent opened, and does nothing with, as long as it waits for it."""
    with gate_with(path) as gate, peers.silent() as peer, Program(gate, peer, CHILD) as program:  # type: ignore[arg-type]
        assert program.said() == {"waiting": True}
        shared = peer.accepted()
        gate.log.wait_for(event="end", how="idle")
        shared.send(b"0123456789")
        program.tell()
        assert program.said() == {"child": 10, "idle": 0}


TLS = """
import ssl
context = ssl.create_default_context(cafile=sys.argv[2])
tls = context.wrap_socket(s, server_hostname="news.example")
ends = []
def wait():
    ends.append(tls.recv(10).decode())
thread = threading.Thread(target=wait)
thread.start()
idle = socket.create_connection(tls.getpeername())
say(waiting=True)
told()
thread.join()
say(ends=ends, idle=len(idle.recv(1)))
tls.close()
idle.close()
"""


@pytest.mark.slow  # the limit has to pass
@pytest.mark.parametrize("path", PATHS)
def test_a_read_of_tls_that_waits(path: str, tmp_path: object) -> None:
    """A read of TLS keeps its socket as long as it waits, behind the tickets of the session too."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("news.example").configure_cert(context)
    answer = threading.Event()

    def habit(connection: peers.Connection) -> None:
        if connection is not first.setdefault("connection", connection):
            connection.take_credit()
        with context.wrap_socket(connection.socket, server_side=True) as tls:
            assert answer.wait(peers.PATIENCE)
            tls.sendall(b"0123456789")
            tls.recv(1)

    first: dict[str, peers.Connection] = {}
    with (
        gate_with(path) as gate,
        peers.Peer(habit) as peer,
        authority.cert_pem.tempfile() as file,
        Program(gate, peer, TLS.replace("sys.argv[2]", repr(file))) as program,  # type: ignore[arg-type]
    ):
        assert program.said() == {"waiting": True}
        gate.log.wait_for(event="end", how="idle")
        answer.set()
        program.tell()
        assert program.said() == {"ends": ["0123456789"], "idle": 0}


@contextlib.contextmanager
def _opened(gate: ThreadGate, peer: peers.Peer, count: int = 2) -> Iterator[tuple[RawChannel, list[int]]]:
    """Give a channel that has so many connected sockets, and their ids."""
    with RawChannel(gate.socket) as channel, contextlib.ExitStack() as kept:
        ids = []
        for id, sock in channel.new(count):
            kept.enter_context(sock)
            assert "lease" in channel.connect(id, peer.address)
            ids.append(id)
        for id in ids:
            gate.call(lambda id=id: gate.gate.settle(gate.gate.registry.leases[id]))  # type: ignore[misc]
        yield channel, ids


@pytest.mark.parametrize("path", PATHS)
def test_a_wait_counts_until_it_ends(path: str) -> None:
    """A socket of which a process says that it waits stays; when it has said the end of every wait it goes."""
    with gate_with(path, 0.3) as gate, peers.silent() as peer, _opened(gate, peer) as (channel, (waiting, _)):
        for _ in range(2):  # two threads
            assert channel.ask("touch", socks=[waiting], wait=1) == {}
        first = gate.log.wait_for(event="end")
        assert channel.ask("touch", socks=[waiting], wait=-1) == {}
        assert len(gate.log.all(event="end")) == 1
        assert channel.ask("touch", socks=[waiting], wait=-1) == {}
        second = gate.log.wait_for(event="end", count=2)
        assert (first["how"], second["how"]) == ("idle", "idle")
        assert first["lease"] != second["lease"]
        assert list(gate.gate.waits.all()) == []


def test_a_process_that_is_gone_waits_no_more() -> None:
    """A wait whose end nobody says ends with the channels of its process; who has the socket still, loses it."""
    with gate_with("direct", 0.3) as gate, peers.silent() as peer:
        with RawChannel(gate.socket) as channel:
            ((id, sock),) = channel.new()
            assert "lease" in channel.connect(id, peer.address)
            assert channel.ask("touch", socks=[id], wait=1) == {}
            with sock:
                holder = subprocess.Popen(["cat"], stdin=sock)
        line = gate.log.wait_for(event="end")
        assert line["how"] == "idle"
        assert holder.wait(peers.PATIENCE) == 0


def test_a_word_renews_only_the_sockets_of_its_own_process() -> None:
    """A process cannot keep another's socket, and is told of its own that it was reclaimed, with for how long."""
    with gate_with("direct", 0.3) as gate, peers.silent() as peer, _opened(gate, peer, 1) as (channel, (id,)):
        with RawChannel(gate.socket) as stranger:
            assert stranger.ask("touch", socks=[id])["error"]["code"] == "unknown-descriptor"
            assert gate.call(lambda: gate.gate.registry.leases[id].renewed) == 0.0
        gate.log.wait_for(event="end", how="idle")
        refused = channel.ask("touch", socks=[id])["error"]
        assert refused["code"] == "lease-idle"
        assert refused["facts"]["idle"] >= 0.3
        assert channel.ask("touch", socks=[id + 1])["error"]["code"] == "unknown-descriptor"


def test_only_who_was_told_loses_sockets() -> None:
    """A program that was greeted before the configuration said so keeps what it has, for it does not know."""
    with gate_with("direct", 0.1, "pressure") as gate, peers.silent() as peer, _opened(gate, peer, 1) as (_, (early,)):
        app = gate.gate.settings.apps["default"]
        changed = replace(gate.gate.settings, apps=MappingProxyType({"default": replace(app, idle_reclaim="always")}))
        gate.call(lambda: gate.gate.adopt(changed))
        with _opened(gate, peer, 1):
            line = gate.log.wait_for(event="end", how="idle")
            assert line["lease"] != gate.call(lambda: gate.gate.lease_name(gate.gate.registry.leases[early]))
            assert len(gate.log.all(event="end")) == 1


def test_shared_ones_are_taken_too() -> None:
    """A socket that several processes have goes when none of them does anything with it, and its descriptor with it."""
    with gate_with("direct", 0.3) as gate, peers.silent() as peer, _opened(gate, peer, 1) as (channel, (id,)):
        text = channel.ask("share", sock=id)["descriptor"]
        with RawChannel(gate.socket) as other, other.redeem(text) as taken:
            gate.log.wait_for(event="end", how="idle")
            taken.settimeout(peers.PATIENCE)
            assert taken.recv(1) == b""
            assert other.ask("redeem", descriptor=text)["error"]["code"] == "unknown-descriptor"


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_put_before_the_methods_under_pressure(path: str) -> None:
    """Where idle sockets are taken only under pressure, ``select`` is C's, and on the direct path so is ``recv``."""
    code = """
    import select
    kinds = [type(each).__name__ for each in (select.select, select.poll, socket.socket.recv)]
    say(loaded="outgate.client.renewing" in sys.modules, kinds=kinds)
    s.close()
    """
    with (
        gate_with(path, how="pressure") as gate,
        peers.silent() as peer,
        Program(gate, peer, code) as program,  # type: ignore[arg-type]
    ):
        said = program.said()
    native = ["builtin_function_or_method", "builtin_function_or_method"]
    assert said == {"loaded": False, "kinds": [*native, "method_descriptor" if path == "direct" else "function"]}


def test_the_error_travels() -> None:
    """What a program is told can be pickled, and is a broken pipe."""
    told = errors.build("lease-idle", {"idle": 121.4})
    again = pickle.loads(pickle.dumps(told))
    assert isinstance(again, BrokenPipeError)
    assert (str(again), again.facts) == (str(told), {"idle": 121.4})
