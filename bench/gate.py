"""Be the gate that is measured: the development policy with one denied name, limits that no case reaches, and a log
in a scratch folder.

Started by :mod:`bench.world` as ``python -m bench.gate PIDFD SOCKET PATH [booked]``; prints a line when it is ready,
and ends with the process behind the pidfd. Where it is ``booked`` it keeps a ledger, a state file and metrics.
"""

import os
import sys
from dataclasses import replace
from types import MappingProxyType

from outgate.core.policy.decide import Policy
from outgate.core.quota.quotas import DEFAULT
from outgate.gate import main as gate_main
from outgate.gate.configuration import config
from outgate.gate.configuration.ledgers import file_url
from outgate.gate.configuration.settings import LedgerSettings

#: The largest case holds 5,000.
_OPEN_SOCKETS = 20_000
#: Connects a minute: the default is checked as a program's would be, and lets all of them through.
_CONNECTS = 10**9
#: What the case of refused look-ups asks for.
DENIED = "denied.example"


def main(pidfd: int, socket_path: str, path: str, booked: bool) -> int:
    """Serve at the socket's path, on the direct or the relay path, until the process behind the pidfd ends."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    policy = Policy.build("default", deny=[DENIED], dev=True)
    quotas = tuple(quota._replace(limit=_CONNECTS) for quota in DEFAULT)
    own = {"policy": policy, "open_sockets": _OPEN_SOCKETS, "quotas": quotas}
    apps = {name: replace(app, **own) for name, app in settings.apps.items()}
    gate = replace(settings.gate, socket=socket_path, socket_mode=0o600, log=socket_path + ".log", state="")
    settings = replace(settings, gate=gate, apps=MappingProxyType(apps))
    if booked:
        folder = socket_path + ".state"
        os.mkdir(folder, 0o700)
        gate = replace(gate, state=folder, metrics=socket_path + ".metrics")
        ledger = LedgerSettings(file_url(folder + "/ledger.sqlite"), "bench", folder)
        settings = replace(settings, gate=gate, ledger=ledger)
    return gate_main.run(settings, ready=lambda _: print("ready", flush=True), while_running=pidfd)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3], "booked" in sys.argv[4:]))
