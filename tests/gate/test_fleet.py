"""A socket goes to a program at another gate of a fleet, and back: bytes, ends, options, refusals, dying gates."""

from __future__ import annotations

import errno
import hashlib
import signal
import socket
from collections.abc import Iterator

import pytest

from outgate.core.fleet.names import Place
from outgate.errors import ConfigError
from outgate.gate.fleet.fleet import _listen
from outgate.lookout import ask
from outgate.testing.running import RunningGate
from support import peers
from support.driven import Driven, Refused
from support.fleets import fleet

Gates = dict[str, RunningGate]


@pytest.fixture(scope="module", params=("direct", "relay"))
def running(request: pytest.FixtureRequest) -> Iterator[Gates]:
    """Two gates of a fleet; the owner's sockets travel by either path."""
    with fleet(path=request.param) as gates:
        yield gates
        for gate in gates.values():
            assert gate.faults == []
            gate.wait_for_counts("worker", 8, held=0, open=0, processes=0)


@pytest.fixture
def gates(running: Gates) -> Iterator[Gates]:
    """The module's gates, which this test leaves without a fault and with nothing held."""
    yield running
    for gate in running.values():
        assert gate.faults == []
        gate.wait_for_counts("worker", 8, held=0, open=0)


def connect(program: Driven, address: tuple[str, int]) -> None:
    """Have a program open a socket, with a time-out, so that nothing hangs a test."""
    program.do(f"sock = socket.create_connection({address!r}, 15); import outgate, pickle, errno")


def share(program: Driven) -> str:
    """Have a program pass its socket on and close it; return the pickle, in hexadecimal."""
    text = program.do("text = pickle.dumps(sock).hex()") or program.do("text")
    program.do("sock.close()")
    return text


def redeem(program: Driven, pickled: str) -> None:
    """Have a program take a socket."""
    program.do(f"import pickle, outgate, errno; sock = pickle.loads(bytes.fromhex({pickled!r}))")


def test_a_session_goes_to_another_gate_and_back(gates: Gates) -> None:
    """A → B → A → B: each goes on where the last one stood, with the addresses of the connection."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        names = front.do("[sock.getsockname(), sock.getpeername()]")
        holder, other = front, worker
        for step in range(4):
            word = f"step {step} " * 1000
            holder.do(f"sock.sendall({word.encode()!r})")
            assert holder.do(f"sock.recv({len(word)}, socket.MSG_WAITALL).decode()") == word
            assert holder.do("[sock.getsockname(), sock.getpeername()]") == names
            pickled = share(holder)
            redeem(other, pickled)
            holder, other = other, holder
        holder.do("sock.close()")
        (connection,) = peer.connections
        connection.wait()
        assert connection.error is None


def test_bytes_are_counted_once_at_the_owner(gates: Gates) -> None:
    """What goes over a link is on the owner's bill, and on no other."""
    before = {name: gate.app("worker") for name, gate in gates.items()}
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(bytes(300_000)); got = 0")
        worker.do("while got < 300_000: got += len(sock.recv(65536))")
        worker.do("sock.close()")
        peer.connections[0].wait()
    line = gates["a"].wait_for(event="end", port=peer.address[1])
    assert (line["sent"], line["received"]) == (300_000, 300_000)
    after = gates["a"].wait_for_counts("worker", sent=before["a"]["sent"] + 300_000)
    assert after["received"] == before["a"]["received"] + 300_000
    assert gates["b"].app("worker")["sent"] == before["b"]["sent"]
    assert gates["b"].app("worker")["received"] == before["b"]["received"]


def test_megabytes_arrive_whole_both_ways(gates: Gates) -> None:
    """What is many times the window of a link arrives in order, with both ends of file."""
    data = bytes(range(256)) * 40_000
    code = "import hashlib; digest = hashlib.sha256(); count = 0"
    loop = "while piece := sock.recv(1 << 18): digest.update(piece); count += len(piece)"
    with peers.source(data) as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do(code)
        worker.do(loop)
        assert worker.do("[count, digest.hexdigest()]") == [len(data), hashlib.sha256(data).hexdigest()]
        worker.do("for _ in range(40): sock.sendall(bytes(range(256)) * 1000)")
        worker.do("sock.shutdown(socket.SHUT_WR)")
        peer.connections[0].wait()
        assert peer.connections[0].received == len(data)
        worker.do("sock.close()")


def test_unread_bytes_come_along(gates: Gates) -> None:
    """A → B → A, where B has read one byte of all that had come to its gate: not one is lost or doubled."""
    data = bytes(range(256)) * 6000
    with peers.source(data) as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("got = sock.recv(1)")
        worker.do("import time, select; select.select([sock], [], [], 10)")
        pickled = share(worker)
        redeem(front, pickled)
        front.do("parts = []")
        front.do("while piece := sock.recv(1 << 18): parts.append(piece)")
        front.do("import hashlib; whole = b''.join(parts)")
        expected = [len(data) - 1, hashlib.sha256(data[1:]).hexdigest()]
        assert front.do("[len(whole), hashlib.sha256(whole).hexdigest()]") == expected
        front.do("sock.close()")


def test_options_are_those_of_the_connection(gates: Gates) -> None:
    """An option that is set at B is set on the kernel's socket, and what B reads is its own."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        front.do("sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)")
        redeem(worker, share(front))
        assert worker.do("sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)") == 1
        worker.do("sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)")
        with pytest.raises(Refused) as refused:
            worker.do("sock.setsockopt(socket.SOL_SOCKET, 36, 1)")  # SO_MARK
        assert refused.value.code
        assert worker.do("sock.connect_ex(sock.getpeername())") == errno.EISCONN
        redeem(front, share(worker))
        assert front.do("sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)") == 77
        front.do("sock.close()")


def test_a_reset_is_no_end_of_file(gates: Gates) -> None:
    """Where the far end resets the connection, the program at B gets ECONNRESET."""
    with peers.resetting(after=5) as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(b'reset')")
        with pytest.raises(Refused) as refused:
            worker.do("while sock.recv(1): pass\nelse: raise AssertionError('a clean end')")
        assert refused.value.errno == errno.ECONNRESET
        worker.do("sock.close()")


def test_a_kill_at_the_owner_resets_what_the_other_gate_has(gates: Gates) -> None:
    """``outgate kill`` at A resets what B's program has."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(b'x')")
        worker.do("sock.recv(1)")
        lease = gates["a"].wait_for(event="decision", port=peer.address[1])["lease"]
        assert ask.request(gates["a"].socket, {"op": "kill", "lease": lease})["answer"]["ok"]
        with pytest.raises(Refused) as refused:
            worker.do("while sock.recv(1): pass\nelse: raise AssertionError('a clean end')")
        assert refused.value.errno == errno.ECONNRESET
        worker.do("sock.close()")


def test_unknown_and_foreign_descriptors_are_answered_alike(gates: Gates) -> None:
    """A descriptor that was changed, made up, is of no gate, or is void is refused at B as at A."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        text = front.do("text = outgate.descriptor(sock)") or front.do("text")
        assert text.split(".")[1].startswith("a-")
        changed = text[:-1] + ("0" if text[-1] != "0" else "1")
        nobody = text.replace(".a-", ".z-")
        boot = text.split(".")[1].removeprefix("a-")
        wrong = [changed, nobody, text.replace(boot, "0" * 8), text.replace(".a-", ".b-"), "outgate1.a-.1", "a-b.c"]
        said = set()
        for each in wrong:
            with pytest.raises(Refused) as refused:
                worker.do(f"import outgate; outgate.adopt({each!r})")
            said.add((refused.value.code, str(refused.value)))
        assert len(said) == 1
        assert {code for code, _ in said} == {"unknown-descriptor"}
        front.do(f"outgate.adopt({text!r}).close()")  # so that it is kept for nobody
        front.do("sock.close()")


def test_what_cannot_go_says_so(gates: Gates) -> None:
    """A socket that is not connected, and one for UDP, stay where they are, with the reason."""
    with Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        front.do("import outgate; one = socket.socket(); two = socket.socket(type=socket.SOCK_DGRAM)")
        for name in ("one", "two"):
            text = front.do(f"text = outgate.descriptor({name})") or front.do("text")
            with pytest.raises(Refused) as refused:
                worker.do(f"import outgate; outgate.adopt({text!r})")
            assert (refused.value.code, refused.value.errno) == ("elsewhere", errno.EOPNOTSUPP)
            front.do(f"outgate.adopt({text!r}).close()")  # so that it is kept for nobody
        front.do("one.close(); two.close()")


def test_exclusively(gates: Gates) -> None:
    """Taken for itself alone at B, it is nobody else's: of a relayed socket the holder at A is told so."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        text = front.do("text = outgate.descriptor(sock)") or front.do("text")
        if gates["a"].wait_for(event="decision", port=peer.address[1])["path"] == "direct":
            front.do("sock.close()")
        worker.do(f"import outgate; sock = outgate.adopt({text!r}, exclusive=True); sock.settimeout(15)")
        worker.do("sock.sendall(b'mine')")
        assert worker.do("sock.recv(4).decode()") == "mine"
        with pytest.raises(Refused) as refused:
            front.do(f"outgate.adopt({text!r})")
        assert refused.value.code == "unknown-descriptor"
        worker.do("sock.close()")
        front.do("sock.close()")


def test_a_program_that_ends_at_the_other_gate_ends_the_connection(gates: Gates) -> None:
    """A program at B that is killed leaves nothing behind at either gate."""
    with peers.echo() as peer, Driven(gates["a"]) as front:
        connect(front, peer.address)
        pickled = share(front)
        worker = Driven(gates["b"])
        with worker:
            redeem(worker, pickled)
            worker.do("sock.sendall(b'last words')")
            worker.kill()
        connection = peer.connections[0]
        connection.wait()
        assert connection.received == len(b"last words")


def test_a_forked_child_shares_it(gates: Gates) -> None:
    """A child of the program at B may ask about the socket, and its close leaves the parent's."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("import os; pid = os.fork()\nif not pid: sock.getpeername(); sock.sendall(b'child'); os._exit(0)")
        assert worker.do("os.waitpid(pid, 0)[1]") == 0
        assert worker.do("sock.recv(5, socket.MSG_WAITALL).decode()") == "child"
        worker.do("sock.close()")


def test_two_holders_at_one_gate(gates: Gates) -> None:
    """One descriptor redeemed twice at B is two sockets of one connection, as at A."""
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as one, Driven(gates["b"]) as two:
        connect(front, peer.address)
        pickled = front.do("text = pickle.dumps(sock).hex()") or front.do("text")
        redeem(one, pickled)
        redeem(two, pickled)
        front.do("sock.close()")
        one.do("sock.close()")
        two.do("sock.sendall(b'still there')")
        assert two.do("sock.recv(11, socket.MSG_WAITALL).decode()") == "still there"
        two.do("sock.close()")
        peer.connections[0].wait()
        assert peer.connections[0].error is None


def test_a_dead_owner_is_an_error_at_once() -> None:
    """The owner killed: what B's program holds is reset, and a descriptor says who cannot be reached."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["b"]) as worker:
        front = Driven(gates["a"])
        with front:
            connect(front, peer.address)
            other = front.do("text = outgate.descriptor(sock)") or front.do("text")
            redeem(worker, front.do("text = pickle.dumps(sock).hex()") or front.do("text"))
            worker.do("sock.sendall(b'x')")
            worker.do("sock.recv(1)")
            gates["a"].kill()
            with pytest.raises(Refused) as refused:
                worker.do("sock.recv(1)")
            assert refused.value.errno == errno.ECONNRESET
            with pytest.raises(Refused) as refused:
                worker.do("sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)")
            assert refused.value.code == "cut"
            assert "gate a" in str(refused.value)
            with pytest.raises(Refused) as refused:
                worker.do(f"outgate.adopt({other!r})")
            assert refused.value.code == "fleet-unreachable"
            assert refused.value.errno == errno.ENETDOWN
        gates["a"].start()


def test_a_new_policy_at_the_owner_cuts_and_says_why() -> None:
    """What a reload at A denies is reset at B, whose program's next call says what has ended it."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(b'x')")
        worker.do("sock.recv(1)")
        assert gates["a"].config is not None
        with open(gates["a"].config, encoding="utf-8") as file:
            written = file.read()
        assert gates["a"].reload(written.replace('except = ["127.0.0.1"]', ""))["cut"] == 1
        with pytest.raises(Refused) as refused:
            worker.do("while sock.recv(1): pass\nelse: raise AssertionError('a clean end')")
        assert refused.value.errno == errno.ECONNRESET
        with pytest.raises(Refused) as refused:
            worker.do("sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)")
        assert refused.value.code == "cut"
        worker.do("sock.close()")


def _without(gate: RunningGate, name: str) -> str:
    """Return the configuration of a gate with another taken off its list."""
    assert gate.config is not None
    with open(gate.config, encoding="utf-8") as file:
        written = file.read()
    line = next(line for line in written.splitlines() if line.startswith("gates = "))
    kept = [each for each in line[len("gates = { ") : -2].split(", ") if not each.startswith(f"{name} = ")]
    return written.replace(line, f"gates = {{ {', '.join(kept)} }}")


def test_a_gate_that_left_gets_nothing() -> None:
    """Taken off the list, a gate with a good certificate redeems nothing, and what it had is taken from it."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        text = front.do("text = outgate.descriptor(sock)") or front.do("text")
        worker.do(f"import outgate; sock = outgate.adopt({text!r}); sock.settimeout(15); sock.sendall(b'x')")
        assert worker.do("sock.recv(1).decode()") == "x"
        more = front.do("text = outgate.descriptor(sock)") or front.do("text")
        assert gates["a"].reload(_without(gates["a"], "b"))["ok"]
        with pytest.raises(Refused) as refused:
            worker.do("sock.recv(1)")
        assert refused.value.errno == errno.ECONNRESET
        with pytest.raises(Refused, match=r"fleet\.gates does not list it any more") as refused:
            worker.do("sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)")
        assert refused.value.code == "fleet-refused"
        assert gates["a"].wait_for(event="fleet-lost")["gate"] == "b"
        with pytest.raises(Refused) as refused:
            worker.do(f"outgate.adopt({more!r})")
        assert refused.value.code == "fleet-refused"
        assert gates["a"].wait_for(event="fleet-refused")["gate"] == "b"
        front.do("sock.sendall(b'and on')")
        assert front.do("sock.recv(6, socket.MSG_WAITALL).decode()") == "and on"
        front.do("sock.close()")
        worker.do("sock.close()")


def test_the_sockets_of_a_gate_that_left_end_and_its_descriptors_are_nothing() -> None:
    """Taken off B's list, gate A is asked nothing any more: what B's program has of it ends, A's goes on."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        text = front.do("text = outgate.descriptor(sock)") or front.do("text")
        worker.do(f"import outgate; sock = outgate.adopt({text!r}); sock.settimeout(15); sock.sendall(b'x')")
        assert worker.do("sock.recv(1).decode()") == "x"
        assert gates["b"].reload(_without(gates["b"], "a"))["ok"]
        assert gates["b"].wait_for(event="fleet-lost")["gate"] == "a"
        with pytest.raises(Refused) as refused:
            worker.do("sock.recv(1)")
        assert refused.value.errno == errno.ECONNRESET
        more = front.do("text = outgate.descriptor(sock)") or front.do("text")
        with pytest.raises(Refused) as refused:
            worker.do(f"outgate.adopt({more!r})")
        assert refused.value.code == "unknown-descriptor"
        front.do("sock.sendall(b'and on')")
        assert front.do("sock.recv(6, socket.MSG_WAITALL).decode()") == "and on"
        front.do("sock.close()")
        worker.do("sock.close()")


def test_the_other_gate_dies_and_nothing_is_lost() -> None:
    """B passed it on with nothing unread and was killed: A goes on where it stood."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front:
        connect(front, peer.address)
        with Driven(gates["b"]) as worker:
            redeem(worker, share(front))
            worker.do("sock.sendall(b'one')")
            assert worker.do("sock.recv(3, socket.MSG_WAITALL).decode()") == "one"
            pickled = share(worker)
            gates["b"].kill()
        gates["b"].start()
        redeem(front, pickled)
        front.do("sock.sendall(b'two')")
        assert front.do("sock.recv(3, socket.MSG_WAITALL).decode()") == "two"
        front.do("sock.close()")


def test_the_other_gate_hangs_and_is_not_waited_for() -> None:
    """B passed it on with nothing unread, and hangs or is behind a cable that was pulled: A goes on all the same."""
    with peers.echo() as peer, fleet() as gates, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(b'one')")
        assert worker.do("sock.recv(3, socket.MSG_WAITALL).decode()") == "one"
        text = worker.do("text = outgate.descriptor(sock)") or worker.do("text")
        gates["b"].signal(signal.SIGSTOP)
        try:
            front.do(f"sock = outgate.adopt({text!r}); sock.settimeout(15); sock.sendall(b'two')")
            assert front.do("sock.recv(3, socket.MSG_WAITALL).decode()") == "two"
        finally:
            gates["b"].signal(signal.SIGCONT)
        with pytest.raises(Refused) as refused:
            worker.do("sock.recv(1)")
        assert refused.value.errno == errno.ECONNRESET
        worker.do("sock.close()")
        front.do("sock.close()")


def test_the_other_gate_dies_with_bytes_that_nobody_has_read() -> None:
    """B passed it on with bytes unread and was killed: nobody goes on behind a hole."""
    with peers.source(b"x" * 100_000) as peer, fleet() as gates, Driven(gates["a"]) as front:
        connect(front, peer.address)
        with Driven(gates["b"]) as worker:
            redeem(worker, share(front))
            worker.do("sock.recv(1)")
            pickled = share(worker)
            gates["b"].kill()
        gates["b"].start()
        with pytest.raises(Refused) as refused:
            redeem(front, pickled)
        assert refused.value.code == "unknown-descriptor"
        assert gates["a"].wait_for(event="end", port=peer.address[1])["how"] == "fleet"


def test_what_a_stranger_says_harms_nobody(gates: Gates) -> None:
    """Bytes that are no TLS, and connections that say nothing, leave the gate serving."""
    assert gates["a"].config is not None
    with open(gates["a"].config, encoding="utf-8") as file:
        at = file.read().split('a = "')[1].split('"')[0]
    host, port = at.split(":")
    strangers = [socket.create_connection((host, int(port)), 5) for _ in range(5)]
    strangers[0].sendall(b"CONNECT x HTTP/1.1\r\n\r\n")
    strangers[0].settimeout(10)
    while strangers[0].recv(100):  # an alert of TLS, and the end
        pass
    with peers.echo() as peer, Driven(gates["a"]) as front, Driven(gates["b"]) as worker:
        connect(front, peer.address)
        redeem(worker, share(front))
        worker.do("sock.sendall(b'x')")
        assert worker.do("sock.recv(1).decode()") == "x"
        worker.do("sock.close()")
    for each in strangers:
        each.close()


def test_a_place_that_cannot_be_listened_at_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bind() fails, the error names the place, and the socket is closed there and then."""
    made = []

    class Kept(socket.socket):
        def __init__(self, *words: int) -> None:
            super().__init__(*words)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Kept)
    with pytest.raises(ConfigError, match=r"cannot listen at 192\.0\.2\.1:7400"):
        _listen(Place("192.0.2.1", 7400))
    assert [each.fileno() for each in made] == [-1]
