"""Sockets that are opened, shared, redeemed, closed and killed in any order are what a small model says they are."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gate.test_sharing import code_of, connect, rows, talk
from outgate.core.formats import frames
from outgate.testing.running import RunningGate
from support import peers
from support.raw import RawChannel

#: What is drawn to choose one of however many there are just now.
_which = st.integers(0, 1 << 16)


@dataclass(eq=False)
class Lease:
    """What the model knows of one socket.

    :ivar name: what the operator calls it, of a connection.
    :ivar owed: descriptors of it that nobody has taken yet.
    :ivar texts: all of them.
    :ivar socks: who has it, and by which fds.
    """

    id: int
    kind: str
    name: str = ""
    owed: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)
    socks: dict[RawChannel, list[socket.socket]] = field(default_factory=dict)
    connection: peers.Connection | None = None
    is_reset: bool = False

    @property
    def lives(self) -> bool:
        """Whether the gate has it: somebody does, or may still come by it."""
        return bool(self.socks or self.owed)

    @property
    def tenure(self) -> str:
        """Who has it."""
        if not self.socks:
            return "parked"
        return "lent" if self.owed else "held"


def until_reset(connection: peers.Connection) -> None:
    """Be an echo that ends with a reset when the other end has said so."""
    while (data := connection.receive()) and not data.endswith(b"RESET"):
        connection.send(data)
    if data:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Machine(RuleBasedStateMachine):
    """Clients of one gate, each a process of its own to it, and the sockets that go round between them."""

    gate: RunningGate
    path: str
    #: The configuration, and the same without time for what nobody has; "" for a gate that cannot be told so.
    patient = idle = ""

    def __init__(self) -> None:
        super().__init__()
        self.peer = peers.Peer(until_reset)
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.bind(("127.0.0.1", 0))
        self.far.settimeout(20)
        self.clients = [RawChannel(self.gate.socket) for _ in range(2)]
        for client in self.clients:
            client.ask("stat")
        self.leases: list[Lease] = []
        self.gone: list[Lease] = []

    # --- what clients do ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.clients) < 5)
    @rule()
    def join(self) -> None:
        """A process begins."""
        self.clients.append(RawChannel(self.gate.socket))
        self.clients[-1].ask("stat")

    @precondition(lambda self: self.clients and len(self.leases) < 6)
    @rule(who=_which, kind=st.sampled_from(["tcp", "tcp", "born", "udp"]))
    def open(self, who: int, kind: str) -> None:
        """A process makes a socket: connected, or not yet, or for UDP."""
        client = self.clients[who % len(self.clients)]
        reply = client.ask("new", family=4, count=1, kind="udp" if kind == "udp" else "tcp")
        sock = client.fds.pop()
        lease = Lease(reply["ids"][0], kind, socks={client: [sock]})
        self.leases.append(lease)
        if kind == "tcp":
            lease.name = client.connect(lease.id, self.peer.address)["lease"]
            connect(sock, self.peer.address)
            lease.connection = self.peer.accepted()
        self.use(lease, sock)

    @precondition(lambda self: self.held())
    @rule(which=_which)
    def share(self, which: int) -> None:
        """A process that has a socket makes a descriptor of it."""
        lease, client, sock = self.held()[which % len(self.held())]
        text = client.share(lease.id, sock)["descriptor"]
        lease.owed.add(text)
        lease.texts.append(text)

    @precondition(lambda self: self.clients and self.leases)
    @rule(who=_which, which=_which)
    def share_what_it_has_not(self, who: int, which: int) -> None:
        """A process asks for a descriptor of what it never had, and gets none."""
        lease, client = self.leases[which % len(self.leases)], self.clients[who % len(self.clients)]
        stranger = RawChannel(self.gate.socket)
        with stranger:
            assert code_of(stranger.ask("share", sock=lease.id)) == "unknown-descriptor"
        assert "answer" in client.ask("stat")

    @precondition(lambda self: self.clients and self.texts())
    @rule(who=_which, which=_which)
    def redeem(self, who: int, which: int) -> None:
        """A process redeems a descriptor, used before or not, and uses what it gets."""
        lease, text = self.texts()[which % len(self.texts())]
        client = self.clients[who % len(self.clients)]
        reply = client.ask("redeem", descriptor=text)
        assert "error" not in reply
        sock = client.fds.pop()
        client.ask("have", descriptor=text)
        lease.owed.discard(text)
        lease.socks.setdefault(client, []).append(sock)
        self.use(lease, sock)

    @precondition(lambda self: self.texts())
    @rule(which=_which, reads=st.booleans())
    def redeem_and_lose(self, which: int, reads: bool) -> None:
        """A process redeems a descriptor, and ends before it has read the answer, or with the socket."""
        lease, text = self.texts()[which % len(self.texts())]
        with RawChannel(self.gate.socket) as lost:
            lost.ask("stat")
            lost.post("redeem", descriptor=text)
            if reads:
                lost.receive()
                lease.owed.discard(text)

    @precondition(lambda self: self.clients and any(lease.texts for lease in self.gone))
    @rule(who=_which, which=_which)
    def redeem_what_has_ended(self, who: int, which: int) -> None:
        """A descriptor of what has ended is an unknown one."""
        texts = [text for lease in self.gone for text in lease.texts]
        client = self.clients[who % len(self.clients)]
        assert code_of(client.ask("redeem", descriptor=texts[which % len(texts)])) == "unknown-descriptor"

    @precondition(lambda self: self.held())
    @rule(which=_which)
    def close(self, which: int) -> None:
        """A process closes one fd of a socket, and tells the gate with its last."""
        lease, client, sock = self.held()[which % len(self.held())]
        sock.close()
        lease.socks[client].remove(sock)
        if not lease.socks[client]:
            del lease.socks[client]
            client.ask("close", sock=lease.id, shared=True)

    @precondition(lambda self: self.clients)
    @rule(who=_which)
    def kill(self, who: int) -> None:
        """A process ends without a word: its sockets and its channel go at once."""
        self.end_process(self.clients[who % len(self.clients)])

    @precondition(lambda self: self.connections())
    @rule(which=_which)
    def end_by_name(self, which: int) -> None:
        """The operator ends a connection, whoever has it."""
        lease = self.connections()[which % len(self.connections())]
        self.cut(lease)
        self.is_cut(lease)

    @precondition(lambda self: self.idle)
    @rule()
    def reclaim(self) -> None:
        """What nobody has, and nobody has redeemed in time, is taken back."""
        with self.reclaiming():
            pass

    @precondition(lambda self: len(self.clients) > 1 and self.texts())
    @rule(
        who=_which,
        which=_which,
        what=st.sampled_from(["close", "kill", "end by name", "reclaim"]),
        is_first=st.booleans(),
    )
    def redeem_meanwhile(self, who: int, which: int, what: str, is_first: bool) -> None:
        """A process redeems while the others close it, end, the operator ends it or it is taken back."""
        lease, text = self.texts()[which % len(self.texts())]
        client = self.clients[who % len(self.clients)]
        others = [other for other in lease.socks if other is not client]
        answered: list[RawChannel] = []
        with contextlib.ExitStack() as until_read:
            if is_first:
                client.post("redeem", descriptor=text)
            if what == "close":
                answered += others
                for other in others:
                    for sock in lease.socks.pop(other):
                        sock.close()
                    other.post("close", sock=lease.id, shared=True)
            elif what == "kill":
                for other in others:
                    self.end_process(other)
            elif what == "end by name" and lease in self.connections():
                answered.append(until_read.enter_context(RawChannel(self.gate.socket)))
                answered[0].post("kill", lease=lease.name)
            elif what == "reclaim" and self.idle:
                until_read.enter_context(self.reclaiming(lease))
            if not is_first:
                client.post("redeem", descriptor=text)
            for other in answered:
                assert "error" not in (other.receive() or {})
            reply = client.receive()
        assert reply is not None
        if "error" in reply:
            assert code_of(reply) == "unknown-descriptor"
            is_surely_there = lease.lives and what in ("close", "kill")
            assert not is_surely_there, "nothing has ended it"
            self.forget(lease)
            return
        sock = client.fds.pop()
        client.ask("have", descriptor=text)
        lease.owed.discard(text)
        was_parked = not lease.socks
        lease.socks.setdefault(client, []).append(sock)
        if what == "end by name" and lease in self.connections():
            self.is_cut(lease)
        elif what == "reclaim" and self.idle and was_parked and not self.is_held(lease):
            self.forget(lease)  # on its way: it came to nobody any more
        else:
            self.use(lease, sock)

    @precondition(lambda self: any(kind_of(each) for each in self.held()))
    @rule(which=_which)
    def reset(self, which: int) -> None:
        """The peer of a connection resets it."""
        mine = [each for each in self.held() if kind_of(each)]
        lease, _, sock = mine[which % len(mine)]
        sock.sendall(b"RESET")
        assert lease.connection is not None
        lease.connection.wait()
        lease.is_reset = True
        if self.path == "relay":  # where the gate hears of it, it has ended for all of them
            self.forget(lease)

    # --- what holds after each of these -------------------------------------------------------------------------------

    @invariant()
    def counts_are_the_models(self) -> None:
        """The gate holds what lives, and no more; it says who has it as the model does; it has had no fault."""
        for lease in [lease for lease in self.leases if not lease.lives]:
            self.forget(lease)
        self.gate.wait_for_counts(held=len(self.leases))
        wanted = sorted(lease.tenure for lease in self.leases if lease.kind == "tcp" and not lease.is_reset)
        if not any(lease.is_reset for lease in self.leases):
            self.wait_for_tenures(wanted)
        assert self.gate.faults == []

    @invariant()
    def who_has_one_can_use_it(self) -> None:
        """Each socket of each process works."""
        for lease, _, sock in self.held():
            self.use(lease, sock)

    # --- helpers ------------------------------------------------------------------------------------------------------

    def held(self) -> list[tuple[Lease, RawChannel, socket.socket]]:
        """Return who has which socket by which fd."""
        return [
            (lease, client, sock)
            for lease in self.leases
            for client, socks in lease.socks.items()
            for sock in socks
        ]  # fmt: skip

    def connections(self) -> list[Lease]:
        """Return what the operator can end."""
        return [lease for lease in self.leases if lease.kind == "tcp" and not lease.is_reset]

    def end_process(self, client: RawChannel) -> None:
        """Close all that a process has, its channel last."""
        self.clients.remove(client)
        for lease in self.leases:
            for sock in lease.socks.pop(client, ()):
                sock.close()
        client.close()

    def cut(self, lease: Lease) -> None:
        """Say to the gate what ``outgate kill`` does."""
        with RawChannel(self.gate.socket) as operator:
            assert operator.ask("kill", lease=lease.name)["answer"]["ok"]

    def is_cut(self, lease: Lease) -> None:
        """Note that a connection was reset both ways: a direct socket is one without a connection then."""
        assert lease.connection is not None
        assert isinstance(lease.connection.wait().error, ConnectionResetError)
        if self.path == "relay":
            self.forget(lease)
        else:
            lease.kind = "born"

    def is_held(self, lease: Lease) -> bool:
        """Tell whether the gate still has a connection, by what its listing says."""
        return lease.kind != "tcp" or lease.is_reset or lease.name in {row["lease"] for row in rows(self.gate)}

    @contextlib.contextmanager
    def reclaiming(self, but: Lease | None = None) -> Iterator[None]:
        """Leave what nobody has no time at all, until it is gone.

        :param but: of which the model does not know whether it goes.
        """
        assert self.gate.reload(self.idle)["ok"]
        for lease in [lease for lease in self.leases if not lease.socks and lease is not but]:
            self.forget(lease)
        for _ in range(4_000):
            if self.gate.app()["held"] <= len(self.leases):
                break
            threading.Event().wait(0.005)  # nobody tells of it
        else:
            raise TimeoutError(f"{self.gate.app()} for {self.leases}")
        yield
        assert self.gate.reload(self.patient)["ok"]

    def texts(self) -> list[tuple[Lease, str]]:
        """Return the descriptors of what lives."""
        return [(lease, text) for lease in self.leases for text in lease.texts]

    def forget(self, lease: Lease) -> None:
        """Note that a lease has ended."""
        for socks in lease.socks.values():
            for sock in socks:
                sock.close()
        self.leases.remove(lease)
        self.gone.append(lease)

    def use(self, lease: Lease, sock: socket.socket) -> None:
        """Move some bytes over a socket that has somewhere to move them to."""
        if lease.kind == "tcp" and not lease.is_reset:
            talk(sock, b"word")
        elif lease.kind == "udp":
            host, port = self.far.getsockname()
            sock.send(frames.pack(frames.DATA, socket.inet_aton(host), port) + b"word")
            assert self.far.recv(100) == b"word"

    def wait_for_tenures(self, wanted: list[str]) -> None:
        """Ask until the gate says of its connections what the model does."""
        for _ in range(2_000):
            seen = sorted(row["tenure"] for row in rows(self.gate) if row["transport"] == "tcp")
            if seen == wanted:
                return
        raise AssertionError(f"{seen}, not {wanted}")

    def teardown(self) -> None:
        """Close everything, and see that nothing is left but what is owed."""
        for lease in self.leases:
            for socks in lease.socks.values():
                for sock in socks:
                    sock.close()
        with RawChannel(self.gate.socket) as last:
            for lease in self.leases:
                for text in lease.owed:
                    with contextlib.suppress(IndexError):  # reset, and ended by now
                        last.ask("redeem", descriptor=text)
                        last.fds.pop().close()
                        last.ask("have", descriptor=text)
        for client in self.clients:
            client.close()
        self.peer.stop()
        self.far.close()
        self.gate.wait_for_counts(held=0, open=0, processes=0)


def kind_of(each: tuple[Lease, RawChannel, socket.socket]) -> bool:
    """Tell whether a socket is a connection that can be reset."""
    return each[0].kind == "tcp" and not each[0].is_reset


#: Loaded into the gate before all else: it looks for what nobody has twenty times a second, and a second is no time.
HURRIED = """
from dataclasses import replace
from types import MappingProxyType
from outgate.gate.configuration import config
from outgate.gate.travel import sharing
sharing.INTERVAL = 0.05
as_written = config.reload
def reload(previous):
    settings = as_written(previous)
    app = settings.apps["default"]
    hurried = replace(app, idle_timeout=app.idle_timeout - 1)
    return replace(settings, apps=MappingProxyType({"default": hurried}))
config.reload = reload
"""
CONFIG = """
version = 1
[apps.default]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1"]
idle_timeout = {seconds}
"""


@pytest.fixture(scope="module", params=["direct", "relay"])
def modelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Machine]]:
    """The machine for a gate of one path, which ends with nothing held."""
    folder = tmp_path_factory.mktemp("hurried")
    (folder / "sitecustomize.py").write_text(HURRIED)
    patient, idle = (CONFIG.format(uid=os.getuid(), path=request.param, seconds=seconds) for seconds in (1000, 1))
    gate = RunningGate(config=patient)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]))
        gate.start()
    with contextlib.ExitStack() as stack:
        stack.push(gate.__exit__)
        yield type("Modelled", (Machine,), {"gate": gate, "path": request.param, "patient": patient, "idle": idle})
        assert gate.faults == []
        assert gate.stop() == 0, gate.stderr()


@pytest.mark.slow
def test_the_gate_is_as_the_model(modelled: type[Machine]) -> None:
    """Whatever clients do, in whatever order, the gate counts, keeps, gives and refuses what the model says."""
    deep = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
    run_state_machine_as_test(
        modelled,
        settings=settings(max_examples=1_000 if deep else 30, stateful_step_count=50 if deep else 30),
    )
