"""Judge every open connection again when the policy has changed, in slices of the loop; cut or report what it denies.

A reload is in force at once for whatever is opened from then on. What was open before is gone through here: judged as
the same connect would be now (:mod:`outgate.core.policy.again`), and where it would be refused, reset, which a program
cannot take for a good end; or with ``on_reload = "report"`` only written down.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Optional, Union

from outgate.core import lease as life
from outgate.core.policy.again import Again, Question, is_overruled
from outgate.core.policy.decision import DENY, REPORT, Decision
from outgate.gate.datagram.datagrams import Datagrams
from outgate.gate.decisionlog import record
from outgate.gate.judging import may_have_sockets
from outgate.gate.registry import Lease
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.datagram.destination import Destination
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

    Item = Union[Lease, tuple[Datagrams, Destination]]
    Answers = dict[Question, Optional[Decision]]

#: Seconds of the loop that one slice takes. A connection is judged in 1 to 20 µs, and cut in some 60.
BUDGET: Final = 0.001
#: Connections from one look at the clock to the next, which costs a third of what most connections do.
BETWEEN: Final = 4
#: Open connections with which Python looks for no circles during a round: it would look through all of them in one turn
#: of the loop, 20 ms with 10,000 to as many destinations. They leave none, and what they are made of is set aside then,
#: as what the gate is made of is at its start.
MANY: Final = 1000
#: Answers given back from one look at the clock to the next.
RETURNED: Final = 100
#: Seconds that it waits where the log does not come after.
PATIENCE: Final = 0.01
_OPEN: Final = (life.DIALLED, life.OPEN)


class Counts(NamedTuple):
    """What came of a round.

    :ivar judged: connections, and destinations of UDP sockets.
    :ivar cut: of these, how many were ended.
    :ivar reported: how many would be refused now and were let be.
    :ivar seconds: how long it took.
    :ivar finished: whether it came to its end; another reload, or the end of the gate, stops it.
    """

    judged: int
    cut: int
    reported: int
    seconds: float
    finished: bool

    def fields(self) -> dict[str, Any]:
        """Return them as the log and ``outgate reload --json`` have them."""
        found: dict[str, Any] = {"judged": self.judged, "cut": self.cut, "reported": self.reported}
        found["ms"] = round(self.seconds * 1000, 3)
        return found if self.finished else {**found, "superseded": True}


class Rejudging:
    """Goes round the open connections of a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._items: Iterator[Item] | None = None
        self._handle: asyncio.Handle | None = None
        self._done: list[Callable[[Counts], object]] = []
        self._judged = self._cut = self._reported = 0
        self._began = 0.0
        #: What this round has found out so far, by process and by app.
        self._answers: dict[Process, Answers] = {}
        self._answers_of_apps: dict[App, Answers] = {}
        #: Apps that have something open which this round has not found let through.
        self._doubted: set[App] = set()
        self._is_uncollected = False

    def begin(self, done: Callable[[Counts], object]) -> None:
        """Judge all that is open, from the next turn of the loop on. A round that is under way ends where it is.

        :param done: called once, on the loop, with what came of it.
        """
        self.stop()
        gate = self._gate
        self._judged = self._cut = self._reported = 0
        self._began = time.perf_counter()
        self._done = [done]
        self._doubted.clear()
        leases = tuple(gate.registry.leases.values())
        self._is_uncollected = len(leases) >= MANY and gc.isenabled()
        if self._is_uncollected:
            gc.disable()
        self._items = _all(leases, tuple(gate.udp.sockets.values()))
        self._handle = gate.loop.call_soon(self._go_on)

    async def finished(self) -> Counts | None:
        """Wait for the round that is under way, and return what came of it; ``None`` where there is none."""
        if self._items is None:
            return None
        found: asyncio.Future[Counts] = self._gate.loop.create_future()
        self._done.append(lambda counts: None if found.done() else found.set_result(counts))
        return await found

    def _judge_one(self, item: Item) -> None:
        try:
            if isinstance(item, Lease):
                self._judge(item)
            else:
                self._judge_destination(*item)
        except Exception as e:  # a fault with one of them is no reason to leave the others as they are
            self.doubt((item if isinstance(item, Lease) else item[0]).process.app)
            self._gate.fault(e, item)

    def doubt(self, app: App) -> None:
        """Have all that an app has open judged at the next reload, though its policy may be the same then."""
        app.vetted = b""
        self._doubted.add(app)

    def stop(self) -> None:
        """End a round that is under way, where it is."""
        if self._items is not None:
            self._end(finished=False)

    def _go_on(self) -> None:
        gate, items = self._gate, self._items
        assert items is not None
        if gate.log.is_crowded:  # each that is cut has two lines, and none of them may be lost
            self._handle = gate.loop.call_later(PATIENCE, self._go_on)
            return
        until = time.perf_counter() + BUDGET
        for count, item in enumerate(items, 1):
            self._judge_one(item)
            if not count % BETWEEN and time.perf_counter() >= until:
                self._handle = gate.loop.call_soon(self._go_on)
                return
        self._dismiss()
        self._end(finished=True)

    def _end(self, finished: bool) -> None:
        assert self._handle is not None
        self._handle.cancel()
        self._items = self._handle = None
        self._answers.clear()
        given_back, self._answers_of_apps = list(self._answers_of_apps.values()), {}
        _empty(self._gate.loop, given_back)
        if self._is_uncollected:
            gc.freeze()  # else what the round has left behind is looked through at once
            gc.enable()
        if finished:
            for app in self._gate.registry.apps.values():
                app.vetted = b"" if app in self._doubted else app.settings.policy.digest
        seconds = time.perf_counter() - self._began
        counts = Counts(self._judged, self._cut, self._reported, seconds, finished)
        done, self._done = self._done, []
        for tell in done:
            tell(counts)

    def _judge(self, lease: Lease) -> None:
        """Judge one TCP connection, and cut or report it where it would be refused now."""
        opened = lease.decision
        if lease.state not in _OPEN or opened is None:
            return  # ended meanwhile, or never dialled
        self._judged += 1
        process = lease.process
        answers = self._answers.get(process)
        if answers is None:
            answers = self._answers[process] = self._answers_for(process)
        decision = answers[lease.asked, lease.address, opened.name]
        if decision is not None and lease in self._gate.answering:
            decision = self._gate.udp.or_name_server(decision, lease.address, lease.asked[1])
        if decision is not None and is_overruled(opened.verdict, decision.verdict):
            self._overrule(lease, decision)

    def _answers_for(self, process: Process) -> Answers:
        """Return what the connections of a process are judged by: its app's policy, or that the app gets none."""
        app, refused = process.app, self.of_app(process)
        if refused is not None:
            return defaultdict(lambda: refused)
        found = self._answers_of_apps.get(app)
        if found is None:
            names_for, policy = app.bindings.names_for, app.settings.policy
            if app.vetted == policy.digest:
                found = _ALLOWED
            else:
                found = Again(policy, lambda address: names_for(address, time.monotonic()))
            self._answers_of_apps[app] = found
        return found

    def _overrule(self, lease: Lease, decision: Decision) -> None:
        """Cut or report one TCP connection that would be refused now."""
        process = lease.process
        cuts = decision.denied and self._cuts
        gate = self._gate
        how = _CUT if cuts else _REPORT
        name = gate.lease_name(lease)
        record.overruled(gate.log, process, name, "tcp", *lease.asked, lease.address, decision, lease.way, how)
        if not cuts:
            self._reported += 1
            self._doubted.add(process.app)
            return
        self._cut += 1
        gate.ending.cut(lease, "policy", _reason(process, decision))
        is_nobodys = gate.sharing.is_parked(lease) or not process.app.is_configured
        if is_nobodys and lease.state != life.ENDED:  # a relayed one has ended by that
            gate.ending.end(lease, "policy")

    def _judge_destination(self, made: Datagrams, destination: Destination) -> None:
        """Judge one destination of a UDP socket: from now on it is refused, or let be and written down."""
        if not made.is_ended and destination.policy is not made.process.app.settings.policy:
            made.judge(destination.header, destination)  # else a datagram was quicker

    def destination_judged(self, made: Datagrams, known: Destination, decision: Decision) -> Decision:
        """Take the decision on a UDP destination that was let in before, and return the one that holds.

        Whichever comes first asks for it, the round or the next datagram.
        """
        self._judged += 1
        if not is_overruled(known.decision.verdict, decision.verdict):
            return decision
        cuts = decision.denied and self._cuts
        if cuts:
            self._cut += 1
        else:
            self._reported += 1
            decision = decision._replace(verdict=REPORT)
        address, port = known.target[:2]
        how = _CUT if cuts else _REPORT
        log = self._gate.log
        record.overruled(log, made.process, made.name, "udp", known.host, port, address, decision, "relay", how)
        return decision

    @property
    def _cuts(self) -> bool:
        return self._gate.settings.gate.on_reload == "cut"

    def of_app(self, process: Process) -> Decision | None:
        """Return the refusal of an app that gets no sockets at all any more, or ``None``."""
        refused = may_have_sockets(process)
        if refused is None:
            return None
        code, facts = refused["error"]["code"], refused["error"]["facts"]
        rule = _RULES.get(code, code)
        place = f"apps.{process.app.name}.{rule}" if code in _RULES else ""
        return Decision(DENY, rule, place, "", "", self._gate.settings.number, code, facts)

    def _dismiss(self) -> None:
        """End the channels of apps that are gone: their programs come again, and may be another app's by now."""
        gate = self._gate
        if not self._cuts:
            return
        for made in tuple(gate.udp.sockets.values()):
            if not made.process.app.is_configured:
                made.end("policy")
        for holder in tuple(gate.registry.processes.values()):
            if not holder.app.is_configured:
                for lease in tuple(holder.leases.values()):
                    gate.ending.end(lease, "policy")
        for channel in tuple(gate.reception.channels):
            process = channel.process
            if process is not None and not process.app.is_configured:
                channel.close_after_reply("app-removed")


class _Allowed(dict[Question, Optional[Decision]]):
    """Answers of an app whose policy is what all that it has open was let through by.

    It still is: names that an address has meanwhile got, or has not any more, can only let through what was not
    (:class:`~outgate.core.policy.decide.Ask`), and the one that opened a connection goes on to count.
    """

    def __missing__(self, question: Question) -> None:
        return None


_ALLOWED: Final = _Allowed()

#: How a connection that a new policy denies was dealt with, in its line.
_CUT: Final = "cut"
_REPORT: Final = "report"
#: Code of a refusal of the app as a whole → the key of the configuration that it goes by.
_RULES: Final = {"billing-disabled": "billing", "untrusted": "trusted"}


def _all(leases: tuple[Lease, ...], sockets: tuple[Datagrams, ...]) -> Iterator[Item]:
    """Give every connection, and every destination of each UDP socket. What has ended meanwhile is passed over."""
    yield from leases
    for made in sockets:
        for destination in made.destinations:
            yield made, destination


def _empty(loop: asyncio.AbstractEventLoop, tables: list[Answers]) -> None:
    """Give back what tables hold, a slice in each turn of the loop: 10,000 refusals at once would take some 5 ms."""
    until = time.perf_counter() + BUDGET
    while tables:
        table = tables[-1]
        for _ in range(min(len(table), RETURNED)):
            table.popitem()
        if not table:
            tables.pop()
        if time.perf_counter() >= until:
            loop.call_soon(_empty, loop, tables)
            return


def _reason(process: Process, decision: Decision) -> Reply:
    """Return what the program's next call of ours is told: with ``reasons = "brief"`` no more than that it was so."""
    is_brief = process.app.settings.reasons == "brief"
    why = "it denies this destination" if is_brief else decision.reason
    return refusal("cut", by=f"policy {decision.policy}", why=why)
