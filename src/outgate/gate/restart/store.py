"""Leave the sockets that no process has with the service manager, so that they outlive the gate.

A parked lease is one whose descriptor is out and that nobody holds but the gate. systemd keeps a duplicate of it for us
(sd_pid_notify_with_fds(3), ``FileDescriptorStoreMax=`` of systemd.service(5)) and passes it to the next gate.
"""

from __future__ import annotations

import os
from _socket import socket as native
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from outgate.gate.kernel import births, notify, patient
from outgate.gate.registry import Lease

if TYPE_CHECKING:
    from outgate.gate.travel.sharing import Loan


class Store:
    """The file descriptor store of the service; without a service manager it keeps nothing.

    :param room: how many it takes ($FDSTORE of systemd 254 and later); ``None`` where it does not say.
    """

    def __init__(self, notifier: notify.Notifier | None = None, room: int | None = None) -> None:
        self._notifier = notifier
        self._room = room
        self._kept: set[int] = set()

    def keep(self, loan: Loan) -> None:
        """Store a lease that nobody has."""
        item = loan.item
        if self._notifier is None or not isinstance(item, Lease) or item.side is not None or item.cookie in self._kept:
            return
        if item.decision is None:  # not connected: nothing of it is written down for the next gate
            return
        if self._room is not None and len(self._kept) >= self._room:
            return
        if self._notifier.store(_name(item.cookie), item.sock.fileno()):
            self._kept.add(item.cookie)

    def drop(self, cookie: int) -> None:
        """Have one given up: a process has it again, or it has ended."""
        if cookie in self._kept and self._notifier is not None:
            self._kept.discard(cookie)
            self._notifier.unstore(_name(cookie))

    def keeps(self, lease: Lease) -> bool:
        """Tell whether a lease outlives the gate, though no process has it."""
        return lease.cookie in self._kept

    def kept(self) -> list[int]:
        """Return the cookies of what is stored, for :meth:`know`."""
        return list(self._kept)

    def know(self, cookies: Iterable[int]) -> None:
        """Note what the gate has stored whose place this one takes."""
        self._kept.update(cookies)

    def stop(self) -> None:
        """Leave what is stored where it is: the gate ends."""
        self._notifier = None

    def take_back(self, passed: Mapping[str, int]) -> dict[int, native]:
        """Return cookie → socket of what the gate before this one has stored; what is no such thing is given up.

        :param passed: name → fd, as the service manager passes them; ours from now on.
        """
        found: dict[int, native] = {}
        for name, fd in passed.items():
            sock = _socket(fd)
            if sock is None or _name(births.cookie_of(sock)) != name:
                os.close(fd) if sock is None else sock.close()
                if self._notifier is not None:
                    self._notifier.unstore(name)
                continue
            cookie = births.cookie_of(sock)
            found[cookie] = sock
            self._kept.add(cookie)
        return found

    def let_go(self, stored: Mapping[int, native]) -> None:
        """Close our duplicates of what came back, and have given up what became no lease."""
        for sock in stored.values():
            sock.close()


def _name(cookie: int) -> str:
    return f"{notify.STORED}{cookie:x}"


def _socket(fd: int) -> native | None:
    """Return an fd as the TCP socket it is, ``None`` if it is none."""
    for family in patient.FAMILIES:
        if patient.is_tcp(fd, family):
            return patient.take(fd, family, native)
    return None
