"""A gate that dies and comes again: what is open goes on and is counted to the byte, what ended is counted once."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.core.formats import messages
from outgate.gate.decisionlog import lines
from outgate.gate.restart import records
from outgate.lookout import ask
from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel
from support.talking import Program

pytestmark = pytest.mark.slow

#: A user whose gate may not take duplicates from another user's programs: those give their sockets back themselves.
NOBODY = 65534
OTHERS = pytest.param(NOBODY, marks=pytest.mark.integration)
#: Two apps, each a user's.
APPS = """
version = 1
[apps.one]
uid = [{one}]
billing = true
trusted = true
except = ["127.0.0.1/32"]
[apps.other]
uid = [{other}]
billing = true
trusted = true
except = ["127.0.0.1/32"]
"""


@contextlib.contextmanager
def mortal(uid: int | None = None, **options: Any) -> Iterator[RunningGate]:
    """A gate that the test may kill, and that has no faults in the end."""
    with RunningGate(uid=uid, **options) as gate:
        yield gate
        assert gate.faults == []


@pytest.fixture
def gate() -> Iterator[RunningGate]:
    """A gate that may take duplicates from the programs."""
    with mortal() as made:
        yield made


def state_file(gate: RunningGate) -> Path:
    """Return the file in which a gate says what it has open."""
    (path,) = (path for path in Path(gate.folder, "state").glob("leases-*") if "." not in path.name)
    return path


def unfolded(record: records.Record | None) -> list[Any]:
    """Return a record, or the readings that stand in one as records of their own."""
    return [records.Read(*each) for each in record.readings] if isinstance(record, records.Reads) else [record]


def written(gate: RunningGate, kind: type[Any], count: int = 1, **fields: Any) -> Any:
    """Return the n-th record of a kind with these fields, waiting until it is in the file."""
    path = state_file(gate)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        parsed = [each for text in path.read_bytes().split(b"\n") for each in unfolded(records.parse(text))]
        found = [
            record
            for record in parsed
            if isinstance(record, kind) and all(getattr(record, name) == value for name, value in fields.items())
        ]
        if len(found) >= count:
            return found[count - 1]
        time.sleep(0.005)  # a file tells of no change of its own
    raise TimeoutError(f"{kind.__name__} with {fields}: {len(found)} of {count} in {parsed}")


# --- what is open -----------------------------------------------------------------------------------------------------

SENDS = """
    sock = socket.create_connection(peer)
    sock.sendall(bytes(1000))
    say()
    while told() != "end":
        sock.sendall(bytes(500))
        say()
"""


@pytest.mark.parametrize("uid", [None, OTHERS], ids=["fetched", "given"])
@pytest.mark.parametrize(
    "ends", ["sock.close()", "os.close(sock.detach())", "del sock", "os.closerange(sock.fileno(), 99)"]
)
def test_bytes_of_before_while_and_after(uid: int | None, ends: str) -> None:
    """A connection's line has what was sent before the gate died, while none ran, and since: once, by the kernel."""
    with mortal(uid) as gate, peers.sink() as peer, Program(gate, SENDS + f"    {ends}", peer.port) as program:
        program.said()
        began = gate.wait_for(event="decision", port=peer.port)
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        program.tell()
        program.said()
        gate.start()
        program.tell()
        program.said()
        program.tell("end")
        program.end()
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end["lease"], end.get("incomplete")) == (2000, began["lease"], None)
        assert peer.accepted().wait().received == 2000
        gate.wait_for_counts(open=0, held=0, ended=1)
        assert lines.problems(end) == []


def test_killed_three_times(gate: RunningGate) -> None:
    """A connection that outlives three gates has one line, of the fourth, with all of its bytes."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        for _ in range(3):
            gate.kill()
            program.tell()
            program.said()
            gate.start()
        program.tell("end")
        program.end()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 2500
        assert written(gate, records.Header).generation == 3


def test_a_program_that_is_killed(gate: RunningGate) -> None:
    """Of a program that ends without a word the gate has all that it sent, though it never came back to the gate."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        program.tell()
        program.said()
        gate.start()
        program.tell()
        program.said()
        program.process.kill()
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end["how"], end.get("incomplete")) == (2000, "process-ended", None)


def test_what_came_back_is_killed_and_listed(gate: RunningGate) -> None:
    """A connection that a new gate has taken up is shown, and reset by name, like any other."""
    code = """
        sock = socket.create_connection(peer)
        say()
        told()
        try:
            sock.recv(1)
        except ConnectionResetError:
            say(reset=True)
    """
    with peers.silent() as peer, Program(gate, code, peer.port) as program:
        program.said()
        name = gate.wait_for(event="decision", port=peer.port)["lease"]
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        gate.start()
        (row,) = ask.request(gate.socket, {"op": messages.LIST})["answer"]["sockets"]
        assert (row["lease"], row["state"], row["pid"], row["holders"]) == (
            name,
            "open",
            program.process.pid,
            [program.process.pid],
        )
        assert ask.request(gate.socket, {"op": messages.KILL, "lease": name})["answer"]["ok"]
        program.tell()
        assert program.said() == {"reset": True}
        assert gate.wait_for(event="end", lease=name)["how"] == "killed"


def test_new_connections_of_an_old_program(gate: RunningGate) -> None:
    """A program that closes what a dead gate made, before it says anything else, opens new connections at once."""
    code = """
        sock = socket.create_connection(peer)
        say()
        told()
        sock.close()
        with socket.create_connection(peer) as other:
            other.sendall(b"new")
        say()
    """
    with peers.sink() as peer, Program(gate, code, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        gate.start()
        program.tell()
        program.said()
        gate.wait_for(event="end", port=peer.port, count=2)
        first, second = gate.log.all(event="end", port=peer.port)
        assert (first["sent"], second["sent"]) == (0, 3)
        assert first["lease"] != second["lease"]


def test_a_socket_that_was_reset_meanwhile(gate: RunningGate) -> None:
    """A connection that the network ended while no gate ran has its exact counts, as long as its program holds it."""
    with peers.resetting(after=1500) as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        program.tell()
        program.said()
        assert peer.accepted().wait().error is None
        gate.start()
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end["how"], end.get("incomplete")) == (1500, "reset", None)


def test_another_app_by_now() -> None:
    """A program that belongs to another app by now is that app, and its old connections are the old one's."""
    one, other = (APPS.format(one=uids[0], other=uids[1]) for uids in ((os.getuid(), 65533), (65533, os.getuid())))
    code = """
        sock = socket.create_connection(peer)
        say()
        told()
        with socket.create_connection(peer) as fresh:
            sock.close()
        say()
    """
    with mortal(config=one) as gate, peers.sink() as peer, Program(gate, code, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        gate.write_config(other)
        gate.start()
        program.tell()
        program.said()
        program.end()
        gate.wait_for(event="end", port=peer.port, count=2)
        assert sorted(end["app"] for end in gate.log.all(event="end")) == ["one", "other"]


# --- what ended while no gate ran -------------------------------------------------------------------------------------


def test_closed_while_no_gate_ran(gate: RunningGate) -> None:
    """A connection that was closed meanwhile is counted to its last reading, once, and its line says incomplete."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Read, sent=1000)
        gate.kill()
        program.tell()
        program.said()
        program.tell("end")
        program.end()
        gate.start()
        gate.wait_for(event="start")
        (end,) = gate.log.all(event="end", port=peer.port)
        assert (end["sent"], end["how"], end["incomplete"]) == (1000, "gate-died", True)
        assert lines.problems(end) == []
        assert gate.app()["open"] == 0
        gate.restart()
        assert gate.log.all(event="end") == []


def test_relayed_sockets_die_with_the_gate() -> None:
    """The line of a relayed socket says that the gate died, with what it had carried when it last looked."""
    with mortal(path="relay") as gate, peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Read, sent=1000)
        gate.kill()
        gate.start()
        (end,) = gate.log.all(event="end", port=peer.port)
        assert (end["sent"], end["how"], end["path"], end["incomplete"]) == (1000, "gate-died", "relay", True)


def test_datagrams_die_with_the_gate(gate: RunningGate) -> None:
    """So does that of a UDP socket."""
    code = """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.sendto(bytes(700), peer)
        say()
        told()
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        port = peer.getsockname()[1]
        with Program(gate, code, port) as program:
            program.said()
            written(gate, records.Read, sent=700)
            gate.kill()
            gate.start()
            (end,) = gate.log.all(event="end", port=port)
            assert (end["sent"], end["how"], end["transport"], end["incomplete"]) == (700, "gate-died", "udp", True)


def test_a_gate_that_is_told_to_end_says_all_there_is(gate: RunningGate) -> None:
    """A gate that ends in order leaves nothing behind where nothing is open, and its connections where some are."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        folder = Path(gate.folder, "state")
        assert gate.stop() == 0
        past = records.replay(next(folder.glob("leases-????????")).read_bytes())
        assert [(left.opened.port, left.sent) for left in past.left.values()] == [(peer.port, 1000)]
        gate.start()
        program.tell("end")
        program.end()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 1000
        assert gate.stop() == 0
        assert list(folder.glob("leases-*")) == []


# --- orphans ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.integration
def test_an_orphan() -> None:
    """What no program has given back yet is metered and listed as an orphan, and not killed by name."""
    with mortal(NOBODY, users=[0, NOBODY]) as gate, peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        name = gate.wait_for(event="decision", port=peer.port)["lease"]
        written(gate, records.Opened, port=peer.port)
        gate.kill()
        gate.start()
        gate.wait_for_counts(open=1, held=0)
        program.tell()
        program.said()
        gate.wait_for_counts(sent=1500)
        (row,) = ask.request(gate.socket, {"op": messages.LIST})["answer"]["sockets"]
        assert (row["lease"], row["state"], row["path"]) == (name, "orphan", "direct")
        answer = ask.request(gate.socket, {"op": messages.KILL, "lease": name})["answer"]
        assert answer == {
            "ok": False,
            "error": f"{name} was opened by a gate that has died; only its program {program.process.pid} can close it",
        }
        program.process.kill()
        end = gate.wait_for(event="end", lease=name)
        assert (end["sent"], end["how"]) == (1500, "closed")


#: Sends more when it is told to and ends at once, which no client sees.
SENDS_AND_ENDS = """
    import struct
    sock = socket.create_connection(peer)
    sock.sendall(bytes(1000))
    say()
    if told() == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(bytes(777))
    os._exit(0)
"""


@pytest.mark.integration
@pytest.mark.parametrize(("word", "sent", "incomplete"), [("end", 1777, None), ("reset", 1000, True)])
def test_the_last_bytes_of_an_orphan(word: str, sent: int, incomplete: bool | None) -> None:
    """The kernel tells of its end with its counters; where a reset has cleared them there is the last reading."""
    with (
        mortal(NOBODY, users=[0, NOBODY]) as gate,
        peers.sink() as peer,
        Program(gate, SENDS_AND_ENDS, peer.port) as program,
    ):
        program.said()
        name = gate.wait_for(event="decision", port=peer.port)["lease"]
        written(gate, records.Opened, port=peer.port)
        written(gate, records.Read, sent=1000)
        gate.kill()
        gate.start()
        gate.wait_for_counts(open=1, held=0)
        assert ask.request(gate.socket, {"op": messages.STAT})["answer"]["closes"] is True
        program.tell(word)
        program.end()
        end = gate.wait_for(event="end", lease=name)
        assert (end["sent"], end["how"], end.get("incomplete")) == (sent, "closed", incomplete)


@pytest.mark.integration
def test_what_is_given_back_is_looked_at() -> None:
    """Only the very socket that the gate asked for is taken up: another one, or any other file, is closed."""
    with (
        mortal(NOBODY, users=[0]) as gate,
        peers.sink() as peer,
        Program(gate, SENDS, peer.port) as program,
        socket.create_connection(peer.address) as other,
    ):
        program.said()
        cookie = written(gate, records.Opened, port=peer.port).cookie
        gate.kill()
        gate.start()
        read, write = os.pipe()
        with RawChannel(gate.socket) as channel:
            for fd in (other.fileno(), write):
                assert channel.ask("offer", cookies=[cookie, cookie + 1, 0, -1])["wanted"] == [cookie]
                channel.send({"op": "give"}, fds=[fd])
                assert channel.receive() == {"taken": []}
        os.close(write)
        assert os.read(read, 1) == b""  # the gate has closed its own
        os.close(read)
        assert gate.app()["held"] == 0
        program.tell("end")
        program.end()
        assert gate.wait_for(event="end", port=peer.port)["sent"] == 1000


@pytest.mark.integration
def test_another_apps_orphan_is_not_wanted() -> None:
    """Who asks for an orphan of another app is told as little as who asks for one that is none."""
    text = APPS.format(one=0, other=65533)
    with mortal(NOBODY, config=text) as gate, peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        cookie = written(gate, records.Opened, port=peer.port).cookie
        gate.kill()
        gate.start()
        assert as_user(65533, lambda: offered(gate, cookie)) == 0


def as_user(uid: int, function: Callable[[], int]) -> int:
    """Return the small number that a function returns in a child process of another user."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setresuid(uid, uid, uid)
            status = function()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def offered(gate: RunningGate, cookie: int) -> int:
    """Return how many sockets the gate wants of one that is offered."""
    with RawChannel(gate.socket) as channel:
        return len(channel.ask("offer", cookies=[cookie])["wanted"])


# --- a file that is not as it should be -------------------------------------------------------------------------------


@pytest.mark.parametrize("spoil", ["garbage", "version", "mode", "folder"])
def test_a_file_that_cannot_be_used(gate: RunningGate, spoil: str) -> None:
    """The gate starts, says what it could not read, and no connection breaks; those it knew nothing of end unlogged."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as program:
        program.said()
        written(gate, records.Opened, port=peer.port)
        path = state_file(gate)
        gate.kill()
        if spoil == "garbage":
            path.write_bytes(os.urandom(5000))
        elif spoil == "version":
            path.write_bytes(path.read_bytes()[9:])
        elif spoil == "mode":
            path.chmod(0o640)
        else:
            path.unlink()
            path.mkdir()
        gate.start()
        assert gate.wait_for(event="state-refused")["file"] == str(path)
        program.tell()
        program.said()
        program.tell("end")
        program.end()
        assert peer.accepted().wait().received == 1500
        assert gate.log.all(event="end", port=peer.port) == []
        if spoil != "folder":
            assert written(gate, records.Header).generation == 0


def test_a_spoilt_line(gate: RunningGate) -> None:
    """A line that the disk has spoiled costs its connection alone, and the log says how many there were."""
    with peers.sink() as peer, Program(gate, SENDS, peer.port) as one, Program(gate, SENDS, peer.port) as other:
        one.said()
        other.said()
        written(gate, records.Opened, count=2, port=peer.port)
        path = state_file(gate)
        gate.kill()
        data = path.read_bytes()
        place = data.index(b'["open"')
        path.write_bytes(data[:place] + b"X" + data[place + 1 :])
        gate.start()
        returned = gate.wait_for(event="returned")
        assert (returned["leases"], returned["reason"]) == (1, "1 lines of the state file are damaged")


def test_no_folder_for_the_file(gate: RunningGate) -> None:
    """A gate that can write its file nowhere says so, and serves."""
    gate.stop()
    folder = Path(gate.folder, "state")
    gate.start()
    path = state_file(gate)
    gate.stop()
    (folder / (path.name + ".new")).mkdir()
    gate.start()
    failed = gate.wait_for(event="state-failed")
    assert (failed["file"], failed["reason"]) == (str(path), "Is a directory")
    (folder / (path.name + ".new")).rmdir()
    gate.wait_for(event="state-kept")
    assert written(gate, records.Header).boot == gate.stats()["boot"]


# --- descriptors, and gates that take over ----------------------------------------------------------------------------

SHARES = """
    import outgate
    sock = socket.create_connection(peer)
    sock.sendall(bytes(1000))
    say(text=outgate.descriptor(sock))
    while told() != "end":
        sock.sendall(bytes(500))
        say()
"""
REDEEMS = """
    import outgate
    with outgate.adopt(sys.argv[2]) as sock:
        sock.sendall(bytes(50))
"""
SHARES_AND_ASKS = """
    import outgate
    sock = socket.create_connection(peer)
    sock.sendall(bytes(1000))
    say(text=outgate.descriptor(sock))
    while told() != "end":
        sock.sendall(bytes(500))
        socket.socket().close()
        say()
"""
FAILS = """
    import outgate
    try:
        outgate.adopt(sys.argv[2])
    except OSError as e:
        say(code=e.code)
"""


def test_a_descriptor_of_before(gate: RunningGate) -> None:
    """A descriptor that was out when the gate died is redeemed at the next one, of a socket that its program holds."""
    with peers.sink() as peer, Program(gate, SHARES, peer.port) as program:
        text = program.said()["text"]
        written(gate, records.Lent)
        gate.kill()
        gate.start()
        with Program(gate, REDEEMS, peer.port, text) as other:
            other.end()
        program.tell("end")
        program.end()
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end.get("incomplete")) == (1050, None)
        gate.wait_for_counts(open=0, ended=1)


@pytest.mark.integration
def test_a_descriptor_of_an_orphan() -> None:
    """A descriptor can be redeemed as soon as the program that holds the socket has come back to the gate."""
    with (
        mortal(NOBODY, users=[0]) as gate,
        peers.sink() as peer,
        Program(gate, SHARES_AND_ASKS, peer.port) as program,
    ):
        text = program.said()["text"]
        written(gate, records.Lent)
        gate.kill()
        gate.start()
        with Program(gate, FAILS, peer.port, text) as other:
            assert other.said() == {"code": "unknown-descriptor"}
        program.tell()  # it comes back with its next socket
        program.said()
        with Program(gate, REDEEMS, peer.port, text) as other:
            other.end()
        program.tell("end")
        program.end()
        end = gate.wait_for(event="end", port=peer.port)
        assert (end["sent"], end.get("incomplete")) == (1550, None)
