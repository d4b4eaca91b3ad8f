"""One app's excess is that app's: sockets never closed, sockets never read, processes without number."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel
from support.victims import victim

pytestmark = pytest.mark.slow

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be a second user")

TWO_APPS = f"""
version = 1
[apps.greedy]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["127.0.0.1"]
open_sockets = OPEN_SOCKETS
[apps.other]
uid = [{NOBODY}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""


def other_opens(gate: RunningGate, peer: peers.Peer) -> None:
    """Have the other app open a connection and send through it; raise if it cannot."""
    seen = len(gate.log)
    with victim(gate.socket, "open", peer.address, uid=NOBODY) as client:
        client.kill()
        line = gate.wait_for(event="end", app="other", since=seen)
        assert (line["uid"], line["sent"]) == (NOBODY, 1_234)


class Hoard:
    """A peer that keeps every connection, without a thread for each."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._kept: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                self._kept.append(self._listener.accept()[0])
            except OSError:
                return

    def __enter__(self) -> Hoard:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for sock in self._kept:
            sock.close()


#: Opens as many as asked for and closes none; then one is closed, and one more opened.
HOARDER = """if True:
    import collections, resource, socket, sys
    from outgate.errors import TooManyLeases
    port, tries = int(sys.argv[1]), int(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept, refused = [], 0
    for _ in range(tries):
        try:
            kept.append(socket.create_connection(("127.0.0.1", port)))
        except TooManyLeases as e:
            refused += 1
            reason = e.reason
    print(len(kept), refused, reason, flush=True)
    sys.stdin.readline()
    kept.pop().close()
    kept.append(socket.create_connection(("127.0.0.1", port)))
    print(len(kept), flush=True)
    sys.stdin.readline()
"""


def hoard(gate: RunningGate, tries: int, limit: int) -> None:
    """Let a program open ``tries`` connections and close none: it gets ``limit``, and the other app all it wants."""
    with Hoard() as peer, peers.sink() as sink:
        with gate.program("-c", HOARDER, str(peer.port), str(tries)) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            said = program.stdout.readline()
            assert said.split()[:2] == [str(limit), str(tries - limit)], said + (program.communicate()[1])
            assert f"its limit is {limit}" in said
            if os.getuid() == 0:
                other_opens(gate, sink)
            print(file=program.stdin, flush=True)
            assert program.stdout.readline() == f"{limit}\n"
            program.kill()
            program.communicate()
        gate.wait_for_counts("greedy", held=0, open=0)
    assert gate.faults == []


def test_sockets_never_closed() -> None:
    """At its limit an app is refused by name and with the limit, may go on after a close, and others open as before."""
    with RunningGate(config=TWO_APPS.replace("OPEN_SOCKETS", "50")) as gate:
        hoard(gate, tries=200, limit=50)


#: Opens as many as it can and makes a descriptor of each, which it tells nobody.
SHARER = """if True:
    import outgate, socket, sys
    from outgate.errors import TooManyLeases
    port, tries, closes = map(int, sys.argv[1:])
    kept, refused = [], 0
    for _ in range(tries):
        try:
            sock = socket.create_connection(("127.0.0.1", port))
        except TooManyLeases:
            refused += 1
            continue
        for _ in range(5):
            outgate.descriptor(sock)
        kept.append(sock)
        if closes:
            sock.close()
    print(len(kept), refused, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("closes", [0, 1])
def test_sockets_shared_and_never_redeemed(closes: int) -> None:
    """What an app shares and nobody takes counts for it, held or parked, and is all taken back in time."""
    config = TWO_APPS.replace("OPEN_SOCKETS", "20\nidle_timeout = 1")
    with RunningGate(config=config) as gate, Hoard() as peer, peers.sink() as sink:
        # Where they are closed, what is parked for a second is taken back already: the first round is over before that.
        with gate.program("-c", SHARER, str(peer.port), "60", str(closes)) as program:
            assert program.stdout is not None
            kept, refused = map(int, program.stdout.readline().split())
            assert kept + refused == 60
            assert kept >= 20 if closes else kept == 20
            assert gate.app("greedy")["held"] <= 20 + 6  # and what its client keeps in store
            if os.getuid() == 0:
                other_opens(gate, sink)
            program.kill()
            program.communicate()
        gate.wait_for_counts("greedy", held=0, open=0, processes=0)
        assert {line["how"] for line in gate.log.all(event="end", app="greedy")} <= {"idle", "process-ended"}
        assert gate.faults == []


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_20000_sockets_never_closed() -> None:
    """The same with 20,000 sockets against the limit that is the default."""
    with RunningGate(config=TWO_APPS.replace("OPEN_SOCKETS", "4000")) as gate:
        if gate.stats()["descriptors"] < 12_000:
            pytest.skip("the gate may not have 12,000 descriptors here")
        hoard(gate, tries=20_000, limit=4_000)


@pytest.fixture
def small() -> Iterator[RunningGate]:
    """A gate of an ordinary user with few descriptors, for which the kernel counts fds in flight."""
    uid = NOBODY if os.getuid() == 0 else None
    config = TWO_APPS.replace("OPEN_SOCKETS", "4000")
    with RunningGate(config=config, uid=uid, descriptors=800) as gate:
        yield gate
        assert gate.faults == []
        assert gate.stop() == 0


@needs_root
def test_sockets_never_read(small: RunningGate) -> None:
    """A client that asks for sockets on channel after channel and takes none leaves the other app its share."""
    with peers.sink() as sink, victim(small.socket, "flood") as client:
        greedy = small.wait_for_counts("greedy", processes=80)
        assert 0 < greedy["held"] <= 300  # half of what is not kept for channels
        other_opens(small, sink)
        client.kill()
        small.wait_for_counts("greedy", held=0)


@needs_root
def test_channels_without_number(small: RunningGate) -> None:
    """One user's channels end at a limit of that user's; another still gets one."""
    channels = []
    with peers.sink() as sink:
        try:
            while True:
                channels.append(RawChannel(small.socket))
                channels[-1].ask("stat")
        except ConnectionError:
            pass
        assert len(channels) == 101  # the last one was turned away
        other_opens(small, sink)
        for channel in channels:
            channel.close()
        small.wait_for_counts("greedy", processes=0)


@needs_root
def test_another_users_token(small: RunningGate) -> None:
    """A token belongs to its user: another one who knows it is another process, and has none of its sockets."""
    with RawChannel(small.socket) as owner, peers.sink() as sink:
        ((id, sock),) = owner.new()
        with sock:
            with victim(small.socket, "steal", sink.address, NOBODY, owner.token, id) as thief:
                assert thief.said["reply"]["error"] == {"code": "unknown-descriptor", "facts": {}}
                assert thief.said["reply"]["hello"]["app"] == "other"
                assert thief.said["closed"] == {}
            assert "lease" in owner.connect(id, sink.address)
            sock.connect(sink.address)
