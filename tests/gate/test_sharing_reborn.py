"""The model of shared sockets (:mod:`gate.test_sharing_model`) holds over gates that are killed and taken over, too."""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from gate.test_sharing_model import Lease, Machine
from outgate.client.constants import SO_COOKIE
from outgate.gate.restart.records import Left, replay
from outgate.lookout import ask
from support.raw import RawChannel
from support.supervisor import PATIENCE, Supervisor

CONFIG = """
version = 1
[apps.default]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["127.0.0.1/32"]
"""

#: A gate takes most of a second to start.
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


class Service(Supervisor):
    """A gate that a service manager keeps the fds of, with what the model asks of one."""

    def __init__(self, folder: Path, path: str) -> None:
        config = folder / "outgate.toml"
        config.write_text(CONFIG.format(uid=os.getuid(), path=path))
        super().__init__(folder, "--config", str(config))
        self._state = folder / "state"

    def wait_for_counts(self, **counts: int) -> None:
        """Ask until the app has these counts. Raises ``TimeoutError`` with the last answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = ask.request(self.socket, {"op": "stat"})["answer"]["apps"]["default"]
            if all(seen[name] == count for name, count in counts.items()):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen}, not {counts}")

    @property
    def faults(self) -> list[str]:
        """The lines of its faults, of all its lives."""
        return [line for line in self.log_path.read_text().splitlines() if '"event":"fault"' in line]

    def written(self) -> dict[int, Left]:
        """Return what the next gate would find, were this one killed now."""
        (file,) = self._state.glob("leases-" + "?" * 8)
        return replay(file.read_bytes()).left

    def wait_until_written(self, wanted: dict[int, tuple[str, int] | None]) -> None:
        """Wait until these leases are written down: who has each and how many descriptors are out, or ``None``."""
        deadline = time.monotonic() + PATIENCE
        while (seen := {id: wanted.get(id, ()) and _lent(left) for id, left in self.written().items()}) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen}, not {wanted}")


def _lent(left: Left) -> tuple[str, int]:
    return ("held", 0) if left.lent is None else (left.lent.tenure, left.lent.owed.bit_count())


class Reborn(Machine):
    """The same, with a gate that may die or be taken over at any moment that is not in the middle of a request."""

    service: Service

    def __init__(self) -> None:
        super().__init__()
        #: Those whose end stands in the log, though a process has the socket still: a reset that a new gate has seen.
        self.logged: list[Lease] = []

    @precondition(lambda self: self.leases)
    @rule(asks=st.booleans(), who=st.integers(0, 1 << 16), which=st.integers(0, 1 << 16))
    def restart(self, asks: bool, who: int, which: int) -> None:
        """The gate is killed, perhaps with a redeem that it has not read, and a new one goes on with what it left.

        Connections that processes hold go on; so do parked ones, which the service manager keeps. What the gate alone
        carried has ended: relayed connections, UDP, and sockets that were never connected.
        """
        direct = [
            lease for lease in self.leases if lease.kind == "tcp" and self.path == "direct" and lease not in self.logged
        ]
        # Of those that end with the gate nobody will read who has them.
        written: dict[int, tuple[str, int] | None] = {lease.id: (lease.tenure, len(lease.owed)) for lease in direct}
        written |= {lease.id: None for lease in self.leases if self.ends_with_its_gate(lease)}
        self.service.wait_until_written(written)
        self.service.wait_for(sum(lease.tenure == "parked" for lease in direct))
        assert self.service.process is not None
        os.kill(self.service.process.pid, signal.SIGSTOP)
        if asks and self.clients and self.texts():
            _, text = self.texts()[which % len(self.texts())]
            self.clients[who % len(self.clients)].post("redeem", descriptor=text)
        self.service.stop(signal.SIGKILL)
        self.service.start()
        for lease in [lease for lease in self.leases if lease not in direct]:
            self.forget(lease)
        for lease in direct:
            if lease.is_reset:  # it is nobody's to pass on any more
                lease.owed.clear()
                lease.texts.clear()
                self.logged.append(lease)
        for client in self.clients:
            self.rejoin(client)

    @rule()
    def take_over(self) -> None:
        """Another gate takes the place of the one that runs, and nobody notices."""
        self.service.take_over()

    def ends_with_its_gate(self, lease: Lease) -> bool:
        """Tell whether a lease is written down only so that its end comes into the log."""
        return lease.kind == "udp" or (lease.kind == "tcp" and self.path == "relay" and not lease.is_reset)

    def rejoin(self, client: RawChannel) -> None:
        """Have a process join the new gate as a client does: it says what it has, and gives what is wanted."""
        client.sock.close()
        RawChannel.__init__(client, self.gate.socket, token=client.token)
        mine: dict[int, int] = {}
        for lease, holder, sock in self.held():
            if holder is client and lease.kind == "tcp":
                cookie = sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8)
                mine[int.from_bytes(cookie, sys.byteorder)] = sock.fileno()
        wanted = client.ask("offer", cookies=list(mine))["wanted"]
        if wanted:
            client.send({"op": "give"}, fds=[mine[cookie] for cookie in wanted])
            assert client.receive() == {"taken": wanted}


@pytest.fixture(params=["direct", "relay"])
def modelled(request: pytest.FixtureRequest) -> Iterator[type[Reborn]]:
    """The machine for a service of one path, which ends with nothing held."""
    with (
        tempfile.TemporaryDirectory(prefix="outgate-test-") as folder,
        Service(Path(folder), request.param) as service,
    ):
        yield type("Modelled", (Reborn,), {"gate": service, "service": service, "path": request.param})
        assert service.faults == []


@pytest.mark.slow
@pytest.mark.timeout(1800 if DEEP else 300)
def test_gates_that_come_after_it_are_as_the_model(modelled: type[Reborn]) -> None:
    """Whatever clients do, with gates killed and taken over between, what was to live lives, and no more."""
    # Not shrunk: an example takes seconds, and what it did is printed step by step.
    few = settings(max_examples=40 if DEEP else 4, stateful_step_count=40 if DEEP else 15, phases=[Phase.generate])
    run_state_machine_as_test(modelled, settings=few)
