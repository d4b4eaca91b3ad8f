"""Keep a gate's certificate good: take the next when it is due, and show the newest there is on links from then on."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

from outgate.errors import ConfigError
from outgate.gate.fleet import asking
from outgate.gate.fleet.folder import Folder, check

if TYPE_CHECKING:
    from outgate.gate.fleet.fleet import Fleet

#: Seconds between looks whether a certificate is due, or has been renewed by a command.
EVERY = 60.0
#: Seconds after which the log says again what has been the matter all the time.
AGAIN = 3600.0


class Shown(NamedTuple):
    """What a gate shows to others.

    :ivar version: what changes with the certificate.
    :ivar server: towards those that connect to it; ``client`` towards those that it connects to.
    :ivar ends: until when it is good (Unix seconds).
    """

    version: tuple[int, int]
    server: ssl.SSLContext
    client: ssl.SSLContext
    ends: float


def shown(folder: Folder, name: str, now: float) -> Shown:
    """Return what a gate of that name shows at that time, by the files there are.

    :raises ConfigError: there is no certificate, it is another gate's, or has expired.
    """
    own = folder.own()
    check(own, name, now)
    return Shown(folder.version, folder.context(is_server=True), folder.context(is_server=False), own.ends)


class Renewal:
    """Looks after the certificate of a gate that runs, from its start on.

    :ivar shown: what links show from now on.
    :ivar clock: tells the time (Unix seconds).
    :ivar is_looking: whether it looks just now, which may take as long as another gate takes to answer.
    :ivar trouble: why the next certificate could not be had, "" where all is well.
    """

    def __init__(self, fleet: Fleet, shown: Shown) -> None:
        self.shown = shown
        self.clock = time.time
        self.trouble = ""
        self.is_looking = True
        self._fleet = fleet
        self._said = -AGAIN
        self._is_over = False
        self._timer: asyncio.Handle = fleet.gate.loop.call_soon(self._begin)

    def look(self) -> None:
        """Look now, and then every :data:`EVERY` seconds."""
        if not self.is_looking:
            self._begin()

    def _begin(self) -> None:
        self.is_looking = True
        self._timer.cancel()
        self._fleet.start(self._renew())

    async def _renew(self) -> None:
        fleet, name = self._fleet, self._fleet.settings.name
        loop, log = fleet.gate.loop, fleet.gate.log
        try:
            fresh = await loop.run_in_executor(fleet.threads, self._renewed, self.clock())
        except (ConfigError, OSError) as e:
            # The gate that issues may be away for days: that is one line now and then, and none where it changes.
            if str(e) != self.trouble or loop.time() - self._said >= AGAIN:
                log.event("fleet-certificate", gate=name, reason=str(e))
                self.trouble, self._said = str(e), loop.time()
        else:
            self.trouble = ""
            if fresh is not None:
                self.shown = fresh
                log.event("fleet-certificate", gate=name, ends=int(fresh.ends))
        finally:
            self.is_looking = False
            if not self._is_over:
                self._timer = loop.call_later(EVERY, self.look)

    def _renewed(self, now: float) -> Shown | None:
        """Return what is to be shown instead, ``None`` for the same. For a thread: files, and another gate.

        :raises ConfigError: a certificate is due, or over, and there is no other one.
        """
        folder, settings = self._fleet.folder, self._fleet.settings
        why = ""
        if asking.is_due(folder, now):
            try:
                asking.rotate(folder, settings.name, settings.proxy)
            except ConfigError as e:
                why = str(e)
        if folder.version != self.shown.version:
            return shown(folder, settings.name, now)
        check(folder.own(), settings.name, now)
        if why:
            raise ConfigError(why)
        return None

    def stop(self) -> None:
        """Look no more."""
        self._is_over = True
        self._timer.cancel()
