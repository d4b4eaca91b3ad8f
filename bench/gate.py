"""Be the gate that is measured: the development policy with one denied name, limits that no case reaches, and a log
in a scratch folder.

Started by :mod:`bench.world` as ``python -m bench.gate PIDFD SOCKET PATH [ledger] [metrics] [state] [lag] [door=PORT]
[fleet=FILE]``; prints a line when it is ready, and ends with the process behind the pidfd. It keeps what the words say;
with ``lag`` it watches its loop, and prints on SIGUSR2 what it has seen since the last one; with ``door`` it has a
SOCKS5 door there; with ``fleet`` it is the gate of a fleet that the file describes.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from types import MappingProxyType

from outgate.core.policy.decide import Policy
from outgate.core.quota.quotas import DEFAULT
from outgate.gate import main as gate_main
from outgate.gate.configuration import config
from outgate.gate.configuration.ledgers import file_url
from outgate.gate.configuration.settings import FleetSettings, LedgerSettings
from outgate.gate.configuration.tokens import digest
from outgate.gate.server import Gate

#: More than the largest case holds.
_OPEN_SOCKETS = 40_000
#: Seconds between two looks at how late the loop is.
_LOOK = 0.005
#: Connects a minute: the default is checked as a program's would be, and lets all of them through.
_CONNECTS = 10**9
#: What its app is known by at a SOCKS5 door.
TOKEN = "x" * 43
#: What the case of refused look-ups asks for.
DENIED = "denied.example"


class _Lateness:
    """Sees again and again by how many seconds the loop is late, and prints a list of it on SIGUSR2."""

    def __init__(self, gate: Gate) -> None:
        self._loop = gate.loop
        self._seen: list[float] = []
        self._loop.add_signal_handler(signal.SIGUSR2, self._tell)
        self._wait()

    def _wait(self) -> None:
        self._due = time.monotonic() + _LOOK  # not the loop's own clock, which stands still while it is held
        self._loop.call_later(_LOOK, self._look)

    def _look(self) -> None:
        self._seen.append(time.monotonic() - self._due)
        self._wait()

    def _tell(self) -> None:
        print(json.dumps(self._seen), flush=True)
        self._seen = []


def main(pidfd: int, socket_path: str, path: str, words: list[str]) -> int:
    """Serve at the socket's path, on the direct or the relay path, until the process behind the pidfd ends."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    policy = Policy.build("default", deny=[DENIED], dev=True)
    quotas = tuple(quota._replace(limit=_CONNECTS) for quota in DEFAULT)
    own = {"policy": policy, "open_sockets": _OPEN_SOCKETS, "quotas": quotas}
    apps = {name: replace(app, **own) for name, app in settings.apps.items()}
    gate = replace(settings.gate, socket=socket_path, socket_mode=0o600, log=socket_path + ".log", state="")
    settings = replace(settings, gate=gate, apps=MappingProxyType(apps))
    for word in words:
        if word.startswith("door="):
            gate = replace(gate, socks=(f"127.0.0.1:{word.removeprefix('door=')}",))
            apps = {name: replace(app, token=digest(TOKEN)) for name, app in apps.items()}
            settings = replace(settings, gate=gate, apps=MappingProxyType(apps))
        if word.startswith("fleet="):
            with open(word.removeprefix("fleet="), encoding="utf-8") as file:
                found = json.load(file)
            fleet = FleetSettings(found["name"], found["listen"], found["gates"])
            settings = replace(settings, gate=replace(gate, state=found["state"]), fleet=fleet)
    if {"ledger", "state"} & set(words):
        folder = socket_path + ".state"
        os.mkdir(folder, 0o700)
        if "state" in words:
            settings = replace(settings, gate=replace(settings.gate, state=folder))
        if "ledger" in words:
            ledger = LedgerSettings(file_url(folder + "/ledger.sqlite"), "bench", folder)
            settings = replace(settings, ledger=ledger)
    if "metrics" in words:
        settings = replace(settings, gate=replace(settings.gate, metrics=socket_path + ".metrics"))

    def ready(gate: Gate) -> None:
        if "lag" in words:
            _Lateness(gate)
        print("ready", flush=True)

    return gate_main.run(settings, ready=ready, while_running=pidfd)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
