"""What the seal's programs have counted, as the gate asks for it: by the cookie of a socket."""

from __future__ import annotations

import contextlib
import os

from outgate.core.seal import ends
from outgate.core.seal.counting import END_VALUE, ENDED, KEY, LIVE, LIVE_VALUE
from outgate.core.seal.programs import HOOKS
from outgate.gate.seal import bpf

__all__ = ["Counts"]

_LIVE, _ENDED = "seal_live", "seal_ended"
_SIZES = {_LIVE: (KEY, LIVE_VALUE), _ENDED: (KEY, END_VALUE)}


class Counts:
    """Two maps: of connections under way, and of those that have ended.

    :ivar live: fd of the first, ``ended`` of the second.
    """

    def __init__(self, live: int, ended: int) -> None:
        self.live, self.ended = live, ended
        self._live, self._ended = bpf.Table(live, LIVE_VALUE), bpf.Table(ended, END_VALUE)

    @classmethod
    def make(cls) -> Counts:
        """Return new ones. Raises :exc:`.bpf.Refused` without CAP_BPF."""
        live = bpf.new_map(_LIVE, KEY, LIVE_VALUE, LIVE, is_full_at_most=True)
        try:
            return cls(live, bpf.new_map(_ENDED, KEY, END_VALUE, ENDED))
        except OSError:
            os.close(live)
            raise

    @classmethod
    def in_use(cls, cgroup: int) -> Counts | None:
        """Return those of the gate that was here before, where it has left its programs behind and this one may look.

        With them its connections go on being counted to the packet; without, they are estimated.

        :param cgroup: fd of the folder.
        """
        try:
            found = bpf.maps_in_use(cgroup, HOOKS["end"])
        except OSError:  # without CAP_SYS_ADMIN
            return None
        if {name: sizes for name, (_, *sizes) in found.items()} == {name: [*each] for name, each in _SIZES.items()}:
            return cls(found[_LIVE][0], found[_ENDED][0])
        for fd, *_ in found.values():  # of another release
            os.close(fd)
        return None

    def close(self) -> None:
        """Close both."""
        os.close(self.live)
        os.close(self.ended)

    def carried(self, cookie: int) -> tuple[int, int]:
        """Return what a connection that has ended had carried, sent and received; zeros where nobody knows."""
        value = self._look(self._ended, cookie)
        return (0, 0) if value is None else ends.carried(value)

    def wire(self, cookie: int) -> tuple[int, int, bool] | None:
        """Return the bytes that a connection has put on the wire, sent and received, and whether that is all.

        :returns: ``None`` where its packets were not counted from the first on.
        """
        value = self._look(self._live, cookie)
        if value is not None:
            return (*ends.wire(value), False)
        value = self._look(self._ended, cookie)
        found = ends.wire_of_ended(value) if value is not None else None
        return (*found, True) if found is not None else None

    def forget(self, cookie: int) -> None:
        """Forget the end of a connection: another one of the same socket may follow."""
        with contextlib.suppress(OSError):
            self._ended.forget(cookie)

    @staticmethod
    def _look(table: bpf.Table, cookie: int) -> bytes | None:
        try:
            return table.look(cookie)
        except OSError:  # a kernel before 5.19 that keeps bpf(2) from everybody
            return None
