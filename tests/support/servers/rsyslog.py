"""rsyslog as the log host of the world: syslog over TCP and UDP on port 514, each message a line of a file."""

from __future__ import annotations

from pathlib import Path

from support.namespaces import Namespace
from support.servers.process import Server

_CONFIG = """\
global(workDirectory="{folder}")
module(load="imudp")
module(load="imtcp")
template(name="plain" type="string" string="%inputname% %syslogfacility-text%.%syslogseverity-text% %msg%\\n")
{inputs}
*.* action(type="omfile" file="{folder}/messages" template="plain" asyncWriting="off" flushOnTXEnd="on")
"""


class Rsyslog(Server):
    """A running rsyslogd; see :func:`start`.

    :ivar messages: the file it writes to: input, facility and severity, message.
    """

    messages: Path

    def wait_for(self, text: str, count: int = 1) -> list[str]:
        """Wait until so many messages with this text are there, and return them."""
        self.wait_until(lambda: self._find(text, count))
        return self._find(text, count)

    def _find(self, text: str, count: int) -> list[str]:
        found = [line for line in self.messages.read_text().splitlines() if text in line]
        if len(found) < count:
            raise OSError(f"{len(found)} of {count} messages have {text!r}")
        return found


def start(namespace: Namespace, folder: Path, addresses: tuple[str, ...]) -> Rsyslog:
    """Serve on port 514, TCP and UDP, of these addresses."""
    config = folder / "rsyslog.conf"
    inputs = "\n".join(
        f'input(type="{kind}" address="{address}" port="514")' for address in addresses for kind in ("imudp", "imtcp")
    )
    config.write_text(_CONFIG.format(folder=folder, inputs=inputs))
    command = ["rsyslogd", "-n", "-f", str(config), "-i", f"{folder}/rsyslog.pid"]
    server = Rsyslog("rsyslogd", namespace, folder, command)
    server.messages = folder / "messages"
    return server
