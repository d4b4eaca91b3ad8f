"""Run the gate of a development server: a process beside it that knows nothing of the app's code.

Its decision log comes back over a pipe, line by line, for the terminal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from outgate.errors import ConfigError

__all__ = ["EmbeddedGate", "launch"]

#: Isolated (-I) from the app's folder: a json.py of the app's is not for the gate.
_LAUNCH = """\
import sys
sys.path += [folder for folder in sys.argv.pop(1).split("\\n") if folder not in sys.path]
from outgate.dev.gating import launch
launch()
"""


class EmbeddedGate:
    """A gate that has said that it is ready.

    :ivar log: what it writes its decision log to; a line is a JSON object.
    :ivar warnings: what it warned about.
    """

    def __init__(self, table: Mapping[str, Any], source: str) -> None:
        """Start it.

        :raises ConfigError: it did not, with what it said.
        """
        pidfd = os.pidfd_open(os.getpid())
        os.set_inheritable(pidfd, True)
        ready, said = os.pipe()
        argv = [sys.executable, "-I", "-c", _LAUNCH, _folders(), str(pidfd), str(said), source]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("NOTIFY_", "WATCHDOG_"))}
        try:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environ,
                pass_fds=(pidfd, said),
                start_new_session=True,  # Ctrl-C is for the server, which ends the gate last
            )
        finally:
            os.close(pidfd)
            os.close(said)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self.process.stdin as stdin:
            stdin.write(json.dumps(table).encode())
        with open(ready, encoding="utf-8") as pipe:
            answer = json.loads(pipe.read() or '{"error": "the gate ended before it was ready"}')
        if "error" in answer:
            self.process.wait()
            self.process.stdout.close()
            raise ConfigError(answer["error"])
        self.log = self.process.stdout
        self.warnings: list[str] = answer["warnings"]

    def stop(self) -> None:
        """End it, and wait until it has."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _folders() -> str:
    """Return where outgate and what it needs are found, a folder a line, without the working one."""
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return "\n".join([here, *(each for each in sys.path if os.path.isabs(each) and each != os.getcwd())])


def launch() -> None:
    """Be the gate, and end with it: threads in the C library's resolver end when it answers; nobody waits for them."""
    pidfd, said, source = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    os.set_inheritable(pidfd, False)
    os.set_inheritable(said, False)
    os._exit(_serve(pidfd, said, source))


def _serve(pidfd: int, said: int, source: str) -> int:
    from outgate.dev import policies
    from outgate.gate import main as gate_main
    from outgate.gate.kernel import host

    def say(**answer: object) -> None:
        with open(said, "w", encoding="utf-8") as pipe:
            json.dump(answer, pipe)

    try:
        settings = policies.settings(json.load(sys.stdin), source, host.own_addresses())
    except ConfigError as error:
        say(error=str(error))
        return 2
    warnings = [str(each) for each in settings.warnings]
    ready: Callable[[object], None] = lambda gate: say(warnings=warnings)  # noqa: E731
    return gate_main.run(settings, ready=ready, while_running=pidfd)
