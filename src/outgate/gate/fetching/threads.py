"""Run the fetches of an app on a thread of its own, so that what a server sends never holds the gate's loop.

To read an answer's head is up to 100 KiB of Python in one piece, half a second of it where a server means harm. On a
thread it takes turns with the loop (:mod:`outgate.gate.turns`).
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

#: Fetches of one app that are at work; the others wait, and their deadline goes on. One that waits for its server is
#: 27 KiB of the gate's memory.
AT_ONCE: Final = 64


class FetchThread:
    """The thread of one app, and its loop.

    :ivar turn: held by each fetch that is at work.
    """

    def __init__(self, app: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.turn = asyncio.Semaphore(AT_ONCE)
        self._thread = threading.Thread(target=self._run, name=f"fetch-{app}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        rest = asyncio.all_tasks(self.loop)
        for task in rest:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def stop(self, limit: float) -> None:
        """End what it does, and wait for that.

        :param limit: seconds; a thread that takes longer ends with the gate.
        """
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(limit)
