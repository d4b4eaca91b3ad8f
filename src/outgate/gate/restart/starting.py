"""Begin with what the gate before this one has left, and keep what the next one needs."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from outgate.errors import ConfigError
from outgate.gate.kernel import notify
from outgate.gate.restart import returning
from outgate.gate.restart.keeping import Keeping
from outgate.gate.restart.records import VERSION, replay
from outgate.gate.restart.statefile import StateFile
from outgate.gate.restart.store import Store

if TYPE_CHECKING:
    from outgate.gate.configuration.settings import GateSettings
    from outgate.gate.server import Gate
    from outgate.gate.takeover.taking import Taken


def path_of(settings: GateSettings) -> str:
    """Return where the gate at this socket says what it has open, "" where nothing outlives it.

    The name has a sum of the socket's path: gates of one user that listen elsewhere do not go on with one another's.
    """
    return os.path.join(settings.state, f"leases-{zlib.crc32(os.fsencode(settings.socket)):08x}") * bool(settings.state)


def begin(gate: Gate, notifier: notify.Notifier, environ: Mapping[str, str]) -> None:
    """Go on where the last gate at this socket ended, and write its file from now on. The loop does not run yet.

    A file that cannot be read, or written, is said in the log; the gate serves all the same.

    :raises ConfigError: another gate has it, or a newer one wrote it.
    """
    path = path_of(gate.settings.gate)
    if not path:
        return
    store = gate.store = Store(notifier, room(environ)) if notifier.is_heard else Store()
    passed = notify.passed(environ, os.getpid())
    try:
        file = StateFile(path)
    except OSError as error:
        gate.log.event("state-failed", reason=f"{error.filename or path}: {error.strerror}", file=path)
        store.let_go(store.take_back(passed))
        return
    data, problem = file.read()
    past = replay(data)
    problem = problem or (past.problem if data else "")
    if past.newer:
        file.close()
        raise ConfigError(
            f"gate.state: {path} is of version {past.newer}, which this gate is too old for; it reads {VERSION}: "
            "upgrade it, or remove the file, and the connections that are in it are metered no more"
        )
    if problem:
        gate.log.event("state-refused", reason=problem, file=path)
    stored = store.take_back(passed)
    generation = 0
    if past.header is not None:
        generation = returning.take_identity(gate, past)
        returning.go_on(gate, past, stored, gate.settings.gate.log)
    store.let_go(stored)
    for cookie in stored:
        lease = gate.registry.by_cookie.get(cookie)
        if lease is None or not gate.sharing.is_parked(lease):
            store.drop(cookie)
    gate.keeping = Keeping(gate, file, generation)


def go_on_with(gate: Gate, taken: Taken, notifier: notify.Notifier, environ: Mapping[str, str]) -> None:
    """Write the file of the gate whose place this one takes, with all that was handed over.

    :raises ConfigError: this gate is to have another file, and another gate has it.
    """
    path = path_of(gate.settings.gate)
    had = taken.state.keeping
    gate.store = Store(notifier, room(environ)) if notifier.is_heard and path else Store()
    old = None
    if had is not None:
        gate.store.know(had.stored)
        old = StateFile(had.path, taken.fds[had.lock])
        returning.go_on_with(gate, replay(old.read()[0]), taken.state.orphans)
    if old is not None and old.path != path:
        old.remove()  # what stands in it is here, and must not be found by a third
        old.close()
        old = None
    if not path:
        return
    try:
        file = old or StateFile(path)
    except OSError as error:
        gate.log.event("state-failed", reason=f"{error.filename or path}: {error.strerror}", file=path)
        return
    gate.keeping = Keeping(gate, file, gate.generation)


def room(environ: Mapping[str, str]) -> int | None:
    """Return how many fds the service manager stores, ``None`` where it does not say (before systemd 254)."""
    said = environ.get("FDSTORE", "")
    return int(said) if said.isascii() and said.isdigit() else None
