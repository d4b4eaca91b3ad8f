"""The seal of a gate: made before it has threads, entered before it makes sockets, left behind when it ends.

:func:`make` is the one to read first. The programs stay attached when the gate ends, however it ends, for as long as a
socket of its making is open anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from outgate.core.seal.assembler import assemble
from outgate.core.seal.programs import HOOKS, programs
from outgate.errors import ConfigError
from outgate.gate.seal import bpf, cgroup, rights
from outgate.gate.seal.counts import Counts

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import Settings

AUTO, REQUIRE, OFF = "auto", "require", "off"


class Seal(NamedTuple):
    """What a gate is to its sockets.

    :ivar folder: of the cgroup that its sockets are marked with, ``""`` for a gate without a seal.
    :ivar home: of the cgroup that it was started in.
    :ivar is_kept: whether the next gate at this socket goes on in the same cgroup.
    :ivar why: why there is no seal, and what to do about it.
    :ivar counts: what its programs count, where that can be asked for.
    """

    folder: str = ""
    home: str = ""
    is_kept: bool = False
    why: str = ""
    counts: Counts | None = None

    @property
    def is_there(self) -> bool:
        """Whether every socket that this gate makes is sealed."""
        return bool(self.folder)

    def holds_against(self, uid: int) -> bool:
        """Tell whether a program of this user is held by it: root, and the gate's user, may move into its cgroup."""
        return self.is_there and uid not in (0, os.geteuid())

    def enter(self) -> None:
        """Move the gate into its cgroup. What it has made before is not sealed: its listening sockets.

        :raises ConfigError: somebody has taken the cgroup away meanwhile.
        """
        if self.is_there:
            try:
                cgroup.enter(self.folder)
            except OSError as e:
                raise ConfigError(f"gate.seal: cannot enter the cgroup {self.folder}: {e.strerror}") from None

    def carried(self, cookie: int) -> tuple[int, int]:
        """Return what a connection that has ended had carried, sent and received; zeros where nobody knows.

        Its own counters are cleared where somebody has taken it apart.
        """
        return self.counts.carried(cookie) if self.counts is not None else (0, 0)

    def wire(self, cookie: int) -> tuple[int, int, bool] | None:
        """As :meth:`.Counts.wire`."""
        return self.counts.wire(cookie) if self.counts is not None else None

    def forget(self, cookie: int) -> None:
        """Forget the end of a connection: another one of the same socket may follow."""
        if self.counts is not None:
            self.counts.forget(cookie)

    def leave(self, is_awaited: bool) -> None:
        """Go back to where the gate was started, and take the cgroup away.

        :param is_awaited: whether programs have sockets for which another gate may come: it goes on in this cgroup.
        """
        if self.is_there and not (self.is_kept and is_awaited):
            try:
                cgroup.enter(self.home)
            except OSError:  # it has been taken away: ours stays, empty, until the next gate beside it starts
                return
            cgroup.remove(self.folder)

    def statistics(self) -> dict[str, object]:
        """Return what ``outgate status`` shows of it."""
        return {"seal": self.is_there, "seal_why": self.why}


def make(settings: Settings, before: str = "") -> Seal:
    """Make the cgroup, attach the programs, and give the rights up that this has taken.

    :param before: folder of the cgroup of the gate whose place this one takes: sockets that it has made obey nobody
        outside of it, so the new one goes on there, whatever its own configuration says.
    :raises ConfigError: ``seal = "require"`` and it cannot be made.
    """
    keys = settings.gate
    home = cgroup.own_folder()
    if before:
        try:
            counts = _attach(before)
        except OSError:  # the last gate's programs are attached, and say the same
            counts = None
        rights.give_up(rights.GIVEN_UP)
        return Seal(before, home, bool(keys.state), counts=counts)
    if keys.seal == OFF:
        return Seal(why='switched off by gate.seal = "off"')
    try:
        if any(app.listen != "none" for app in settings.apps.values()):
            raise _Impossible("an app may listen, and nothing comes in on a sealed socket")
        folder, counts = _prepare(home, keys.socket, bool(keys.state))
    except _Impossible as e:
        if keys.seal == REQUIRE:
            raise ConfigError(f'gate.seal = "require", and there can be none: {e}') from None
        return Seal(why=str(e))
    rights.give_up(rights.GIVEN_UP)
    return Seal(folder, home, bool(keys.state), counts=counts)


def trial() -> str:
    """Return why a gate of this user could have no seal, ``""`` where it could: all is done but to enter the cgroup."""
    try:
        folder, counts = _prepare(cgroup.own_folder(), f"trial of {os.getpid()}", is_kept=False)
    except _Impossible as e:
        return str(e)
    counts.close()
    cgroup.remove(folder)
    return ""


class _Impossible(Exception):
    """There can be no seal; the text says why, and what to do."""


def _prepare(home: str, socket: str, is_kept: bool) -> tuple[str, Counts]:
    """Return the folder of a cgroup of the gate's own, with the programs attached, and what they count."""
    if not home:
        raise _Impossible("cgroup v2 is not mounted here: mount -t cgroup2 none /sys/fs/cgroup")
    try:
        folder = cgroup.make(home, socket, is_kept)
    except OSError as e:
        raise _Impossible(
            f"no cgroup can be made in {home} ({e.strerror}): a systemd unit needs Delegate=yes"
        ) from None
    try:
        return folder, _attach(folder)
    except OSError as e:
        cgroup.remove(folder)
        cure = "use Linux 5.19 or newer"
        if e.errno in (errno.EPERM, errno.EACCES):
            cure = "start the gate with CAP_BPF and CAP_NET_ADMIN, which it gives up"
        raise _Impossible(f"{e.strerror}: {cure}") from None


def _attach(folder: str) -> Counts:
    """Attach every program, and return what they count: on from where the programs that were attached have."""
    with contextlib.ExitStack() as until_here, contextlib.ExitStack() as if_it_fails:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        until_here.callback(os.close, fd)
        counts = Counts.in_use(fd) or Counts.make()
        if_it_fails.callback(counts.close)
        made = programs(cgroup.number(folder), counts.live, counts.ended)
        loaded = {}
        for name, hook in HOOKS.items():
            loaded[name] = bpf.load(hook, assemble(made[name]))
            until_here.callback(os.close, loaded[name])
        for name, hook in HOOKS.items():  # when all of them are taken
            bpf.attach(fd, loaded[name], hook)
        if_it_fails.pop_all()
    return counts
