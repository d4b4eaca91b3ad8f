"""Keep a gate's doors: listen, let clients in, bound what they may cost, and know which app each is.

A client costs a place among those that are in the middle of their handshake. There are few of these at each door, and
with one more the oldest goes: who means well has long been through, and whoever only connects, or says a byte now and
then, keeps nobody out. What a client has been let in for counts against its app's own limits.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from outgate.core import idle
from outgate.core.doors.talk import Login
from outgate.gate.configuration import tokens
from outgate.gate.doors import listening
from outgate.gate.doors.association import Association
from outgate.gate.doors.handshake import Handshake
from outgate.gate.doors.listening import EVICTED, NO_REQUEST, WRONG_TOKEN, Door
from outgate.gate.registry import App, Process
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import GateSettings
    from outgate.gate.server import Gate

__all__ = ["Doors"]

#: Handshakes at one door at one time; fewer where descriptors are few.
MOST: Final = 512
#: Connections that are accepted in one turn of the loop.
BATCH: Final = 64
#: Seconds between looks for what is late, and between attempts to listen.
LOOK: Final = 0.5
RETRY: Final = 1.0
#: Processes that stand for clients, which are remembered so that their lines in the log are.
REMEMBERED: Final = 1024
#: Apps that are shown of a door: the answer has to find room in a packet.
SHOWN: Final = 20
#: Stands where an app has no token, or there is no such app: no token has this digest.
_NOBODY: Final = bytes(32)


class Doors:
    """The doors of a gate; one without any costs nothing."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.doors: list[Door] = []
        self.associations: dict[Association, None] = {}
        #: Dials and look-ups under way for clients, and how many of each app.
        self.opening: dict[Handshake, None] = {}
        self.opening_of: Counter[str] = Counter()
        self._most = min(MOST, max(8, gate.limits.descriptors // 16))
        self._timer: Any = None
        self._processes: dict[tuple[str, str, str], Process] = {}

    def prepare(self, settings: GateSettings, taken: Iterable[Door] = ()) -> None:
        """Make the sockets that will listen, before the gate enters its seal: nothing comes in on a sealed one.

        :param taken: what the gate before has listened at; what the configuration has no more is closed.
        """
        self.doors = listening.make(settings, taken)

    def start(self) -> None:
        """Listen at every door, as soon as nobody else does: a gate without a door is better than none."""
        if not self.doors:
            return
        for door in self.doors:
            self._listen(door)
        self._timer = self.gate.loop.call_later(LOOK, self._look)

    def _listen(self, door: Door) -> None:
        loop = self.gate.loop
        try:
            is_new = door.listen()
        except OSError as e:
            why = e.strerror or str(e)
            if why != door.why:
                door.why = why
                self.gate.log.event("door-failed", door=door.kind, address=door.wanted, reason=f"{why}; it is retried")
            loop.call_later(RETRY, self._listen, door)
            return
        door.why = ""
        if is_new:
            self.gate.log.event("door", door=door.kind, address=door.address)
        loop.add_reader(door.sock.fileno(), self._on_connection, door)

    # --- clients ------------------------------------------------------------------------------------------------------

    def _on_connection(self, door: Door) -> None:
        for _ in range(BATCH):
            try:
                client = door.accept()
            except BlockingIOError:
                return
            except OSError as e:  # EMFILE: what is open goes on
                if door.why != str(e):
                    door.why = str(e)
                    self.gate.log.event("door-failed", door=door.kind, address=door.address, reason=str(e))
                self.gate.loop.remove_reader(door.sock.fileno())
                self.gate.loop.call_later(0.1, self._accept_again, door)
                return
            door.why = ""
            door.accepted += 1
            if len(door.talking) >= self._most:
                door.evicted += 1
                door.refusals[EVICTED] += 1
                next(iter(door.talking)).close()
            handshake = Handshake(self, door, *client)
            door.talking[handshake] = None
            self.gate.relaying.relays.watch_client(handshake.sock, handshake)
            handshake.read()  # most say their first word at once

    def _accept_again(self, door: Door) -> None:
        with contextlib.suppress(OSError, ValueError):
            self.gate.loop.add_reader(door.sock.fileno(), self._on_connection, door)

    def _look(self) -> None:
        """End what is late."""
        self._timer = self.gate.loop.call_later(LOOK, self._look)
        now = time.monotonic()
        for door in self.doors:
            for handshake in [each for each in door.talking if now >= each.deadline]:
                handshake.is_late()
        for handshake in [each for each in self.opening if now >= each.deadline]:
            handshake.is_late()

    # --- who they are -------------------------------------------------------------------------------------------------

    def app_of(self, login: Login) -> App | None:
        """Return the app that somebody has shown the name and the token of; ``None`` for all else alike."""
        shown = tokens.digest(login.token)
        settings = self.gate.settings.apps.get(login.app)
        known = settings.token if settings is not None else b""
        if not tokens.same(known or _NOBODY, shown) or settings is None:
            return None
        return self.gate.registry.apps[settings.name]

    def process_of(self, door: Door, app: App, address: str) -> Process:
        """Return what stands for the clients of an app at a door that come from one address."""
        gate = self.gate
        key = (app.name, door.kind, address)
        process = self._processes.get(key)
        if process is None or process.app is not app:
            if len(self._processes) >= REMEMBERED:
                self._processes.clear()
            uid, gid = (app.settings.uid or (os.getuid(),))[0], (app.settings.gid or (os.getgid(),))[0]
            # Nobody else can join it: its token is its own, and never leaves the gate.
            process = self._processes[key] = Process(app, secrets.token_hex(16), 0, uid, gid)
            process.program = f"{door.kind} door from {address}"
            process.door = door.kind
            process.fenced = True  # it holds nothing but bytes
        process.told_idle = app.settings.idle_timeout if app.settings.idle_reclaim == idle.ALWAYS else 0
        if (process.uid, process.token) not in gate.registry.processes:
            gate.registry.join(process)
        return process

    def may_associate(self, app: App) -> Reply | None:
        """Return why an app may have no further way for datagrams, or ``None``: each takes three times the fds."""
        used, limit = sum(1 for each in self.associations if each.process.app is app), self.gate.limits.open(app) // 3
        return refusal("too-many-leases", app=app.name, used=used, limit=limit) if used >= limit else None

    def note_refused(self, handshake: Handshake, why: str) -> None:
        """Note that what a client has said is no request; "" for credentials that are nobody's."""
        door = handshake.door
        door.refused += 1
        door.refusals[NO_REQUEST if why else WRONG_TOKEN] += 1
        name = "door-refused" if why else "wrong-token"
        fields = {"reason": why} if why else {}
        self.gate.log.event(name, door=door.kind, address=door.address, peer=listening.shown(handshake.peer), **fields)

    # --- the gate as a whole ------------------------------------------------------------------------------------------

    def statistics(self) -> list[dict[str, Any]]:
        """Return what ``outgate status`` shows of each door.

        Its ``apps`` are those that have a token, the first :data:`SHOWN` of the ``app_count`` that there are.
        """
        apps = [name for name, app in self.gate.settings.apps.items() if app.token_file]
        return [
            {
                "kind": door.kind,
                "address": door.place,
                "loopback": door.is_loopback,
                "apps": apps[:SHOWN],
                "app_count": len(apps),
                "listening": bool(door.address),
                "why": door.why,
                "handshakes": len(door.talking),
                "accepted": door.accepted,
                "refused": door.refused,
                "evicted": door.evicted,
            }
            for door in self.doors
        ]

    @property
    def listening(self) -> list[Door]:
        """The doors at which the gate listens."""
        return [door for door in self.doors if door.address]

    def pause(self) -> None:
        """Let nobody in any more; :meth:`resume` undoes it."""
        for door in self.listening:
            self.gate.loop.remove_reader(door.sock.fileno())

    def resume(self) -> None:
        """Go on after all."""
        for door in self.listening:
            self._accept_again(door)

    def _handshakes(self) -> Iterator[Handshake]:
        for door in self.doors:
            yield from list(door.talking)
        yield from list(self.opening)

    def abandon(self) -> None:
        """End what is in the middle of a handshake: the gate goes."""
        for handshake in self._handshakes():
            handshake.close()

    def stop(self) -> None:
        """Close the doors, and what is in the middle of a handshake."""
        if self._timer is not None:
            self._timer.cancel()
        self.pause()
        for door in self.doors:
            door.sock.close()
        self.abandon()
        for association in list(self.associations):
            association.end()
