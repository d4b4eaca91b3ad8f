"""Give programs lines to URL Fetch, and see to what is fetched: how many lines, and how long each may take."""

from __future__ import annotations

import asyncio
import importlib
from _socket import AF_UNIX, SOCK_STREAM, socketpair
from _socket import socket as native
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Final

from outgate.core.fetch import limits
from outgate.core.formats import fetchline
from outgate.gate import wire
from outgate.gate.fetching.line import Gone, Line
from outgate.gate.fetching.threads import FetchThread
from outgate.gate.judging import may_open
from outgate.gate.kernel.closer import Closable, close_now
from outgate.gate.replies import Reply, refusal
from outgate.gate.tls.trust import Trust
from outgate.gate.turns import take_turns

if TYPE_CHECKING:
    from outgate.gate.channel import Channel
    from outgate.gate.registry import App, Process
    from outgate.gate.server import Gate

#: Lines of one app, those among them whose fetches wait for their turn.
MOST: Final = 1000
#: Seconds in which a program says what it wants on its line.
HEAD_LIMIT: Final = 10.0
#: Seconds that an app's thread has to end with the gate.
_STOP_LIMIT: Final = 0.5
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
        self._threads: dict[App, FetchThread] = {}
        self._web: asyncio.Future[ModuleType | None] | None = None

    async def fetcher(self) -> ModuleType | None:
        """Return the module that fetches, or ``None`` where httpx is not installed; it is imported at first use."""
        if self._web is None:
            take_turns()  # with the import as well
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
        task = self._gate.loop.create_task(self._see_to(process, ours, web))
        self._gate.tasks.add(task)
        task.add_done_callback(self._gate.tasks.discard)
        return theirs

    async def _see_to(self, process: Process, ours: native, web: ModuleType) -> None:
        app = process.app
        thread = self._threads.get(app)
        if thread is None:
            thread = self._threads[app] = FetchThread(app.name)
        served = asyncio.run_coroutine_threadsafe(self._serve(process, ours, web, thread.turn), thread.loop)
        try:
            await asyncio.wrap_future(served)
        except Exception as e:
            self._gate.fault(e, wire.Fetch())
        finally:
            self._lines[app] -= 1
            if not self._lines[app]:
                del self._lines[app]

    async def _serve(self, process: Process, ours: native, web: ModuleType, turn: asyncio.Semaphore) -> None:
        """Read what a program wants, and fetch it. On the thread of its app, as all that this calls."""
        line = Line(ours, partial(self._dispose, process.app))
        try:
            async with asyncio.timeout(HEAD_LIMIT):
                asked = web.read(await line.read_text())
            task = asyncio.current_task()
            assert task is not None, "it is what runs this"
            line.when_gone(task.cancel)
            try:
                async with asyncio.timeout(asked.seconds), turn:
                    await web.fetch(self._gate, process, line, asked)
            except TimeoutError:
                facts = {"deadline": asked.seconds, "most": limits.most(asked.task)}
                async with asyncio.timeout(0):  # where the program does not read, it does not hear it
                    await line.say(refusal("fetch-deadline", url=fetchline.shown(asked.url), **facts))
        except (Gone, TimeoutError):
            pass
        finally:
            self._dispose(process.app, line.close())

    def _dispose(self, app: App, item: Closable) -> None:
        """Have the app's closer close something, from its fetching thread."""
        if self._gate.loop.is_running():
            self._gate.loop.call_soon_threadsafe(app.closer.put, item)
        else:  # the gate ends
            close_now(item)

    def stop(self) -> None:
        """End all of them."""
        for thread in self._threads.values():
            thread.stop(_STOP_LIMIT)


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
