"""Give programs lines to URL Fetch, and see to what is fetched: how many at one time, and how long each may take."""

from __future__ import annotations

import asyncio
import importlib
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from _socket import socket as native
from types import ModuleType
from typing import TYPE_CHECKING, Final

from outgate.core.fetch import limits
from outgate.gate.fetching.line import Gone, Line
from outgate.gate.fetching.trust import Trust
from outgate.gate.judging import may_open
from outgate.gate.replies import Reply, refusal

if TYPE_CHECKING:
    from outgate.gate import wire
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: Fetches of one app that are at work; the others wait, and their deadline goes on. Each is some 300 KiB of the gate's.
AT_ONCE: Final = 64
#: Lines of one app, those that wait among them.
MOST: Final = 1000
#: Seconds in which a program says what it wants on its line.
HEAD_LIMIT: Final = 10.0
_FETCHER: Final = "outgate.gate.fetching.web"
_NEEDED: Final = ("httpx", "httpcore", "anyio")


class Fetches:
    """The fetches of a gate.

    :ivar trust: whom servers' certificates must come from.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.trust = Trust()
        self._lines: dict[App, int] = {}
        self._turns: dict[App, asyncio.Semaphore] = {}
        self._web: asyncio.Future[ModuleType | None] | None = None

    async def fetcher(self) -> ModuleType | None:
        """Return the module that fetches, or ``None`` where httpx is not installed; it is imported at first use."""
        if self._web is None:
            self._web = self._gate.loop.run_in_executor(None, _import)
        return await asyncio.shield(self._web)

    def used(self, app: App) -> int:
        """Return how many lines programs of an app have."""
        return self._lines.get(app, 0)

    def begin(self, process: Process, web: ModuleType) -> native:
        """Make a line, and return the program's end of it.

        :raises OSError: the gate has no descriptor left.
        """
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        app = process.app
        self._lines[app] = self.used(app) + 1
        task = self._gate.loop.create_task(self._serve(process, ours, web))
        self._gate.tasks.add(task)
        task.add_done_callback(self._gate.tasks.discard)
        return theirs

    async def _serve(self, process: Process, ours: native, web: ModuleType) -> None:
        app = process.app
        line = Line(ours, app.closer.put)
        try:
            async with asyncio.timeout(HEAD_LIMIT):
                asked = web.read(await line.read_text())
            task = asyncio.current_task()
            assert task is not None, "it is what runs this"
            line.when_gone(task.cancel)
            try:
                async with asyncio.timeout(asked.seconds), self._turn(app):
                    await web.fetch(self._gate, process, line, asked)
            except TimeoutError:
                facts = {"deadline": asked.seconds, "most": limits.most(asked.task)}
                async with asyncio.timeout(0):  # where the program does not read, it does not hear it
                    await line.say(refusal("fetch-deadline", url=limits.shown(asked.url), **facts))
        except (Gone, TimeoutError):
            pass
        except Exception as e:
            self._gate.fault(e, line)
        finally:
            app.closer.put(line.close())
            self._lines[app] -= 1
            if not self._lines[app]:
                del self._lines[app]

    def _turn(self, app: App) -> asyncio.Semaphore:
        turn = self._turns.get(app)
        if turn is None:
            turn = self._turns[app] = asyncio.Semaphore(AT_ONCE)
        return turn


def _import() -> ModuleType | None:
    try:
        return importlib.import_module(_FETCHER)
    except ModuleNotFoundError as e:
        if e.name in _NEEDED:
            return None
        raise


async def fetch(gate: Gate, channel: Channel, process: Process, request: wire.Fetch) -> tuple[Reply, list[int]]:
    """Give a process a line on which it says what it wants fetched, and gets the answer."""
    refused = may_open(gate, process)
    if refused is not None:
        return refused, []
    web = await gate.fetches.fetcher()
    if web is None:
        return refusal("fetch-missing"), []
    app, used = process.app, gate.fetches.used(process.app)
    if used >= MOST:
        return refusal("fetch-too-many", app=app.name, used=used, limit=MOST), []
    try:
        theirs = gate.fetches.begin(process, web)
    except OSError as e:
        return refusal("gate-sockets", errno=e.errno), []
    channel.after_reply(theirs.close)
    return {}, [theirs.fileno()]
