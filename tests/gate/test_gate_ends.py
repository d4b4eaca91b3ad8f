"""A gate that ends, by SIGKILL or in order: connections live on, new ones fail at once, and a new gate serves again."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from outgate.errors import ConfigError
from outgate.gate.kernel.listening import listen
from outgate.testing.running import RunningGate
from support import peers, talking
from support.raw import RawChannel

pytestmark = pytest.mark.slow


class Program(talking.Program):
    """One whose peer is an echo."""

    preamble = f"""{talking.Program.preamble}
import errno, threading
def echoed(sock, data):
    sock.sendall(data)
    return sock.recv(len(data), socket.MSG_WAITALL) == data
def opened():
    try:
        with socket.create_connection(peer) as sock:
            return "opened" if echoed(sock, b"new") else "broken"
    except OSError as e:
        return type(e).__name__ + " " + errno.errorcode[e.errno]
"""


@pytest.fixture
def mortal() -> Iterator[RunningGate]:
    """A gate that the test may end."""
    with RunningGate() as gate:
        yield gate
        assert gate.faults == []


LOADED = """
    def pump(sock):
        while not stop.is_set():
            whole.append(echoed(sock, bytes(100_000)))
    stop, whole = threading.Event(), []
    held = [socket.create_connection(peer) for _ in range(20)]
    threads = [threading.Thread(target=pump, args=(sock,)) for sock in held[:4]]
    for thread in threads:
        thread.start()
    say(ready=True)
    told()
    before = len(whole)
    say(opened=[opened() for _ in range(3)])
    while len(whole) < before + 8:
        pass
    stop.set()
    for thread in threads:
        thread.join()
    say(alive=[echoed(sock, b"still") for sock in held], whole=all(whole))
    told()
    say(opened=[opened() for _ in range(10)], held=[echoed(sock, b"and on") for sock in held])
    for sock in held:
        sock.close()
    say(opened=opened())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_under_load(mortal: RunningGate, number: signal.Signals) -> None:
    """Twenty connections outlive their gate and move every byte, opens fail by name, and a new gate serves the same
    process again.
    """
    with peers.echo() as peer, Program(mortal, LOADED, peer.port) as program:
        assert program.said() == {"ready": True}
        assert mortal.stop(number) == (-9 if number == signal.SIGKILL else 0)
        program.tell()
        assert program.said() == {"opened": ["GateUnavailable ENETDOWN"] * 3}
        assert program.said() == {"alive": [True] * 20, "whole": True}
        mortal.start()
        program.tell()
        assert program.said() == {"opened": ["opened"] * 10, "held": [True] * 20}
        assert program.said() == {"opened": "opened"}


def test_killed_while_idle_with_a_stale_pool(mortal: RunningGate) -> None:
    """A program that notices nothing of its gate's end is served by the next one: a socket of the old one is not."""
    code = """
        early = socket.socket()
        say(ready=True)
        told()
        try:
            early.connect(peer)
            say(early="connected")
        except OSError as e:
            say(early=errno.errorcode[e.errno])
        say(opened=[opened() for _ in range(10)])
    """
    with peers.echo() as peer, Program(mortal, code, peer.port) as program:
        program.said()
        mortal.kill()
        mortal.start()
        program.tell()
        assert program.said()["early"] == "ENETDOWN"
        assert program.said() == {"opened": ["opened"] * 10}


def test_clean_end_leaves_what_is_open_to_the_next_gate(mortal: RunningGate) -> None:
    """A connection that is open when a gate is told to end has its line when it ends itself, with all of its bytes."""
    code = """
        sock = socket.create_connection(peer)
        say(ok=echoed(sock, bytes(777)))
        told()
        say(ok=echoed(sock, bytes(777)))
    """
    with peers.echo() as peer, Program(mortal, code, peer.port) as program:
        assert program.said() == {"ok": True}
        assert mortal.stop() == 0
        assert mortal.log.all(event="stop")
        assert mortal.log.all(event="end", port=peer.port) == []
        mortal.start()
        program.tell()
        assert program.said() == {"ok": True}
        line = mortal.wait_for(event="end", port=peer.port)
        assert (line["sent"], line["received"], line.get("incomplete")) == (1554, 1554, None)


def test_request_in_flight(mortal: RunningGate) -> None:
    """A client whose gate is killed learns it by the end of its channel, not by waiting."""
    with RawChannel(mortal.socket) as channel:
        channel.ask("stat")
        mortal.kill()
        assert channel.receive() is None


def test_path_of_a_hung_gate(mortal: RunningGate) -> None:
    """The path of a gate that is only stopped is not taken for that of a dead one."""
    mortal.signal(signal.SIGSTOP)
    try:
        with pytest.raises(ConfigError, match="already listening"):
            listen(mortal.socket, 0o600)
    finally:
        mortal.signal(signal.SIGCONT)
    assert mortal.stats()["pid"] == mortal.pid


def test_reload_under_a_client(mortal: RunningGate) -> None:
    """SIGHUP on a gate without a file gives the policy its next number and keeps clients."""
    with RawChannel(mortal.socket) as channel:
        first = channel.ask("stat")["answer"]["policy"]
        mortal.signal(signal.SIGHUP)
        mortal.wait_for(event="reload", policy=first + 1)
        assert channel.ask("stat")["answer"]["policy"] == first + 1


def test_ends_right_after_its_program(mortal: RunningGate) -> None:
    """What a program held that ended just before the gate is no connection for the next one: its end is in the log."""
    with peers.sink() as peer:
        code = "sock = socket.create_connection(peer); sock.sendall(bytes(700)); os._exit(0)"
        with Program(mortal, code, peer.port) as program:
            assert program.process.wait(20) == 0
            assert mortal.stop() == 0
        assert mortal.wait_for(event="end", port=peer.port)["sent"] == 700
        assert len(mortal.log.all(event="end", port=peer.port)) == 1


def test_who_has_redeemed_a_socket_passes_it_on_after_the_gate_has_died(mortal: RunningGate) -> None:
    """A socket that came by its descriptor has another one of the next gate, and a third process goes on with it."""
    opens = """
        import outgate
        sock = socket.create_connection(peer)
        say(text=outgate.descriptor(sock))
        told()
    """
    passes_on = """
        import outgate
        sock = outgate.adopt(sys.argv[2])
        say(alive=echoed(sock, b"second"))
        told()
        say(text=outgate.descriptor(sock))
        told()
    """
    goes_on = """
        import outgate
        say(alive=echoed(outgate.adopt(sys.argv[2]), b"third"))
    """
    with (
        peers.echo() as peer,
        Program(mortal, opens, peer.port) as first,
        Program(mortal, passes_on, peer.port, first.said()["text"]) as second,
    ):
        assert second.said() == {"alive": True}
        mortal.kill()
        mortal.start()
        second.tell()
        with Program(mortal, goes_on, peer.port, second.said()["text"]) as third:
            assert third.said() == {"alive": True}
