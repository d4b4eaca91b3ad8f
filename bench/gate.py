"""Be the gate that is measured: the development policy with one denied name, a limit that no case reaches, and a log
in a scratch folder.

Started by :mod:`bench.world` as ``python -m bench.gate PIDFD SOCKET PATH``; prints a line when it is ready, and ends
with the process behind the pidfd.
"""

import os
import sys
from dataclasses import replace
from types import MappingProxyType

from outgate.core.policy.decide import Policy
from outgate.gate import main as gate_main
from outgate.gate.configuration import config

#: The largest case holds 5,000.
_OPEN_SOCKETS = 20_000
#: What the case of refused look-ups asks for.
DENIED = "denied.example"


def main(pidfd: int, socket_path: str, path: str) -> int:
    """Serve at the socket's path, on the direct or the relay path, until the process behind the pidfd ends."""
    settings = config.default_settings(os.getuid(), dev=True, path=path)
    policy = Policy.build("default", deny=[DENIED], dev=True)
    apps = {name: replace(app, policy=policy, open_sockets=_OPEN_SOCKETS) for name, app in settings.apps.items()}
    gate = replace(settings.gate, socket=socket_path, socket_mode=0o600, log=socket_path + ".log", state="")
    settings = replace(settings, gate=gate, apps=MappingProxyType(apps))
    return gate_main.run(settings, ready=lambda _: print("ready", flush=True), while_running=pidfd)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
