"""Keep what processes have narrowed themselves to, and have it hold for what they start.

A process names its narrowings with every hello, so they come back after a restart of the gate; a child has them by the
memory it was forked with, or by its environment. What a child might leave out the gate knows by itself: who is narrowed
stands here by pid and start, and what descends from it by the kernel's word, or is the same process after an exec, is
narrowed as well. Of a child whose parents have ended before it first came, and that has shed their environment, nothing
is known: it could as well have been somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from outgate.core.formats import messages
from outgate.core.policy import narrow
from outgate.core.policy.narrow import CLOSED, Narrowed, Narrowing
from outgate.errors import ConfigError
from outgate.gate import wire
from outgate.gate.kernel import lineage
from outgate.gate.kernel.lineage import Being
from outgate.gate.replies import Reply

if TYPE_CHECKING:
    from outgate.core.policy.decide import Policy
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: Narrowings that are kept compiled; workers of one kind have the same.
COMPILED = 256
#: Processes that are remembered before the first look for those that have ended.
FEW = 256
#: Narrowings of one process, its parents' among them; a client that says more of itself gets nothing any more.
_MOST = 4 * messages.MAX_NARROWINGS
_HINT = "name ranges and suffixes instead of each destination"


class Narrowings:
    """The narrowings of a gate's processes."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._compiled: dict[tuple[int, str, Narrowing], Policy] = {}
        #: Process → (when, what) of each time it narrowed itself.
        self.by_being: dict[Being, list[tuple[int, Narrowing]]] = {}
        self._look_at = FEW

    def narrow(self, process: Process, narrowing: Narrowing) -> None:
        """Narrow a process from now on, and what it starts from now on.

        :raises ConfigError: a rule is none, or there are too many; nothing has changed then.
        """
        check(tuple({**process.narrowed.policies, narrowing: None}))
        self._add(process, Narrowed({narrowing: self._compile(process.app, narrowing)}))
        being = lineage.being(process.pid)
        if being is not None:
            self._remember(being, lineage.now(), narrowing)

    def greeted(self, process: Process, said: Sequence[wire.NarrowTable], is_new: bool, speaker: int = 0) -> None:
        """Narrow a process by what it says in a hello, and at its first by what those have that it descends from.

        :param speaker: the process that says hello for it, if that is another.
        """
        told = [narrowing(each.allow, each.deny, each.names) for each in said]
        if is_new and self.by_being:
            for pid in {process.pid, speaker or process.pid}:
                told += self._inherited(pid)
        self.hold(process, told)

    def hold(self, process: Process, narrowings: Iterable[Narrowing]) -> None:
        """Hold a process, and what it starts, to narrowings that were made before: by its parents, at another gate."""
        fresh = [narrowing for narrowing in narrowings if narrowing not in process.narrowed.policies]
        if not fresh:
            return
        if len(process.narrowed.policies) + len(fresh) > _MOST:
            fresh = [CLOSED]
        self._add(process, Narrowed({each: self._compile_or_close(process.app, each) for each in fresh}))
        being = lineage.being(process.pid)
        if being is not None:
            for narrowing in fresh:
                self._remember(being, being.start, narrowing)

    def _add(self, process: Process, narrowed: Narrowed) -> None:
        both = process.narrowed.also(narrowed)
        if both is not process.narrowed:
            process.narrowed = both
            self._gate.udp.narrow(process)

    def _compile(self, app: App, narrowing: Narrowing) -> Policy:
        settings = self._gate.settings
        key = settings.number, app.name, narrowing
        known = self._compiled.get(key)
        if known is None:
            own = (*settings.host, *settings.groups.get("own", ()))
            known = self._compiled[key] = narrow.build(app.name, narrowing, own, settings.groups)
            if len(self._compiled) > COMPILED:
                del self._compiled[next(iter(self._compiled))]
        return known

    def _compile_or_close(self, app: App, narrowing: Narrowing) -> Policy:
        """Compile what has been granted before; where it is no list of rules, leave nothing."""
        try:
            check((narrowing,))
            return self._compile(app, narrowing)
        except ConfigError as e:
            self._gate.log.event("narrowing-unreadable", app=app.name, reason=f"{e}; it leaves nothing now")
            return self._compile(app, CLOSED)

    def _inherited(self, pid: int) -> list[Narrowing]:
        """Return what the process, before an exec, or those had that it descends from when they started its line."""
        found: list[Narrowing] = []
        since: int | None = None  # when the one below was started
        for being in lineage.ancestry(pid):
            for when, narrowing in self.by_being.get(being, ()):
                if since is None or since >= when:
                    found.append(narrowing)
            since = being.start
        return found

    def _remember(self, being: Being, when: int, narrowing: Narrowing) -> None:
        known = self.by_being.setdefault(being, [])
        if all(narrowing != other for _, other in known):
            known.append((when, narrowing))
        if len(self.by_being) > self._look_at:
            self.by_being = {each: said for each, said in self.by_being.items() if lineage.being(each.pid) == each}
            self._look_at = max(FEW, 2 * len(self.by_being))


def check(narrowings: Sequence[Narrowing]) -> None:
    """Refuse narrowings that are too many or too long to travel with every hello. Pure. Raises ``ConfigError``."""
    size = 0
    for allow, deny, names in narrowings:
        rules = (*(allow or ()), *deny, *(names or ()))
        if len(rules) > messages.MAX_NARROW_RULES:
            raise ConfigError(f"narrow: {len(rules)} rules; at most {messages.MAX_NARROW_RULES} at one time; {_HINT}")
        size += sum(len(rule) + 4 for rule in rules) + 32
    if len(narrowings) > messages.MAX_NARROWINGS:
        raise ConfigError(
            f"narrow: this process is narrowed {messages.MAX_NARROWINGS} times already; do it at one time"
        )
    if size > messages.MAX_NARROW_TEXT:
        raise ConfigError(f"narrow: more than {messages.MAX_NARROW_TEXT} characters of rules altogether; {_HINT}")


async def narrow_process(gate: Gate, channel: Channel, process: Process, request: wire.Narrow) -> Reply:
    """Narrow the process that asks, and what it starts from now on; nothing takes that back."""
    try:
        gate.narrowings.narrow(process, narrowing(request.allow, request.deny, request.names))
    except ConfigError as e:
        return {"invalid": str(e)}
    gate.log.event(
        "narrowed", app=process.app.name, pid=process.pid, uid=process.uid, program=process.program,
        reason=", ".join(
            f"{name} = {_toml(rules)}"
            for name, rules in (("allow", request.allow), ("deny", request.deny or None), ("names", request.names))
            if rules is not None
        ),
    )  # fmt: skip
    return {}


def _toml(rules: list[str]) -> str:
    return msgspec.json.encode(rules).decode().replace('","', '", "')


def narrowing(allow: Iterable[str] | None, deny: Iterable[str], names: Iterable[str] | None) -> Narrowing:
    """Return the lists of a message as what they are kept as."""
    return Narrowing(None if allow is None else tuple(allow), tuple(deny), None if names is None else tuple(names))
