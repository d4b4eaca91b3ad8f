"""BIND as the name server of the world's later half: zones of our own, and a log of every question."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

from support import dns
from support.namespaces import Namespace
from support.servers.process import Server

_CONFIG = """\
options {{
    directory "{folder}";
    listen-on {{ {address}; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    managed-keys-directory "{folder}";
    recursion yes;
    allow-query {{ any; }};
    allow-recursion {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    querylog yes;
    # Every answer begins with another address than the one before it, as a name's owner may choose.
    rrset-order {{ order cyclic; }};
    # What is in none of the zones here is asked of the other name server, which knows when there is no such name.
    forward only;
    forwarders {{ {upstream}; }};
}};
controls {{ }};
"""
_SOA = "@ 60 IN SOA ns hostmaster 1 60 60 60 60\n@ 60 IN NS ns\nns 60 IN A {address}\n"
_QUESTION = re.compile(r" query: (\S+) IN (\S+) ")

_marks = itertools.count(1)


class Bind(Server):
    """BIND with its questions; see :func:`start`.

    :ivar address: where it answers.
    """

    def __init__(self, namespace: Namespace, folder: Path, address: str, command: list[str], zone: str) -> None:
        super().__init__("named", namespace, folder, command)
        self.address = address
        self._namespace = namespace
        self._zone = zone

    def questions(self) -> list[tuple[str, str]]:
        """Return (name, record type) of every question so far, in order and in lower case.

        BIND writes its log in the order in which it was asked, so a question of ours shows that all before it are in.
        """
        mark = f"mark-{next(_marks)}.{self._zone}"
        dns.ask(self._namespace, self.address, mark)

        def read() -> list[tuple[str, str]]:
            found = [(name.lower(), kind) for name, kind in _QUESTION.findall(self.log.read_text(errors="replace"))]
            if (mark, "A") not in found:
                raise OSError("the last question is not in the log yet")
            return [each for each in found if not each[0].startswith("mark-")]

        self.wait_until(read)
        return read()


def start(namespace: Namespace, folder: Path, address: str, upstream: str, zones: dict[str, str]) -> Bind:
    """Serve zones on port 53 of an address, UDP and TCP.

    :param upstream: the name server that is asked for all other names.
    :param zones: name of the zone → its records as in a zone file (RFC 1035, section 5), without SOA and NS.
    """
    config = _CONFIG.format(folder=folder, address=address, upstream=upstream)
    for zone, records in zones.items():
        (folder / zone).write_text(_SOA.format(address=address) + records)
        config += f'zone "{zone}" {{ type primary; file "{folder / zone}"; }};\n'
    (folder / "named.conf").write_text(config)
    # Debian confines /usr/sbin/named by AppArmor to its own folders; a copy elsewhere may read these.
    program = shutil.copy2(shutil.which("named", path="/usr/sbin:/usr/bin") or "named", folder / "named")
    # -g keeps it in the foreground and sends its whole log to standard error; one thread is enough.
    command = [str(program), "-g", "-n", "1", "-c", str(folder / "named.conf")]
    return Bind(namespace, folder, address, command, next(iter(zones)))
