"""Three gates on three hosts with one Redis and one PostgreSQL; a gate and Redis are killed in the middle of it all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme

from support import peers
from support.driven import Driven, Refused
from support.hosts import Hosts
from support.keyvalue import SERVERS
from support.servers import postgresql, redis
from support.servers.process import Server
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        os.geteuid() != 0 or postgresql.programs() is None or not SERVERS,
        reason="needs root, and Debian's postgresql and redis-server",
    ),
]

NAMES = ("a", "b", "c")
_ECHO = 7777
#: Connects a day that the three gates have together.
_LIMIT = 60

_CONFIGURATION = """\
[fleet]
name = "{name}"
gates = {gates}
state = "redis://{state}:6379/0"
state_credentials = "{credentials}"
[ledger]
url = "postgresql://{user}@{database}/postgres"
gate = "{name}"
[apps.worker]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
quotas = {{ connect = {{ day = {limit}, minute = "unlimited" }} }}
"""


class Site:
    """The hosts, and what is between them.

    :ivar at: where the far end is that echoes.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.at = (hosts.middle_for("a"), _ECHO)
        self._folders = {name: hosts.folder / name for name in ("redis", "postgres")}
        for folder in self._folders.values():
            folder.mkdir()
        self.redis = self.start_redis()
        authority = trustme.CA()
        issued = authority.issue_cert(hosts.middle_for("a"))
        chain, key = (self._folders["postgres"] / name for name in ("chain.pem", "issued.pem"))
        issued.cert_chain_pems[0].write_to_path(chain)
        issued.private_key_pem.write_to_path(key)
        chain.chmod(0o644)
        database = postgresql.start(hosts.middle, self._folders["postgres"], "0.0.0.0", chain, key)
        hosts.keep(database, 5432)
        passwords = hosts.folder / "pgpass"
        passwords.write_text(f"*:*:*:{postgresql.USER}:{postgresql.PASSWORD}\n")
        passwords.chmod(0o600)
        credentials = hosts.folder / "state.secret"
        credentials.write_text(f"default:{redis.PASSWORD}\n")
        credentials.chmod(0o600)
        for name in NAMES:
            hosts[name].environ["PGPASSFILE"] = str(passwords)
            hosts[name].configure(
                _CONFIGURATION.format(
                    name=name,
                    gates=hosts.gates,
                    state=hosts.middle_for("a"),
                    database=hosts.middle_for("a"),
                    credentials=credentials,
                    user=postgresql.USER,
                    uid=os.getuid(),
                    path="relay" if name == "c" else "direct",
                    limit=_LIMIT,
                )
            )

    def start_redis(self) -> Server:
        """Start a Redis that knows nothing."""
        return self.hosts.keep(redis.start(self.hosts.middle, self._folders["redis"], "0.0.0.0"), 6379)

    def known(self, name: str) -> dict[str, Any]:
        """Return what `outgate fleet --json` says at a host, with the gates by their names."""
        done = self.hosts[name].outgate("fleet", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        found["gates"] = {row["name"]: row for row in found["gates"]}
        return found

    def wait_until_known(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask at a host until it is so: nobody tells of what others announce."""
        found: dict[str, Any] = {}

        def is_so() -> bool:
            found.clear()
            found.update(self.known(name))
            return condition(found)

        wait_until(is_so)
        return found

    def is_whole(self, known: dict[str, Any]) -> bool:
        """Whether all gates are announced, and what they share answers."""
        states = sorted(row["state"] for row in known["gates"].values())
        return states == ["announced", "announced", "this"] and known["fleet_state"]["answers"]


@pytest.fixture
def site() -> Iterator[Site]:
    """Three hosts whose gates are one fleet."""
    with Hosts(*NAMES) as hosts:
        made = Site(hosts)
        hosts.join()
        yield made


def _open(program: Driven, at: tuple[str, int], name: str = "sock") -> None:
    program.do(f"{name} = socket.create_connection({at!r}, 20); import outgate")


def _opened_until_refused(program: Driven, at: tuple[str, int]) -> int:
    """Open connections until the quota refuses one, and return how many there were."""
    code = f"def opens(count=0):\n while count <= {_LIMIT}:\n  try: socket.create_connection({at!r}, 20).close()"
    program.do(f"{code}\n  except OSError as e: return [count, getattr(e, 'quota', '')]\n  count += 1")
    count, quota = program.do("opens()")
    assert quota == "connect.day"
    return int(count)


def _echoed(program: Driven, name: str, size: int) -> None:
    program.do(f"{name}.sendall(bytes({size})); got = 0")
    program.do(f"while got < {size}: got += len({name}.recv(65536)) or 1 / 0")


def _descriptor(program: Driven, name: str) -> str:
    text: str = program.do(f"text = outgate.descriptor({name})") or program.do("text")
    return text


def _metered(site: Site, name: str) -> int:
    """Return how many bytes a gate has seen sent."""
    found = json.loads(site.hosts[name].outgate("stats", "--json").stdout)
    return int(found["apps"]["worker"]["sent"])


def _stored(site: Site, name: str) -> int:
    """Return how many connects a gate has written down as used, at least."""
    with contextlib.closing(sqlite3.connect(site.hosts[name].folder / "state" / "quotas.sqlite")) as database:
        return int(database.execute("SELECT coalesce(sum(used), 0) FROM windows WHERE per = 'day'").fetchone()[0])


def test_three_hosts_go_on_when_one_gate_and_redis_die(site: Site) -> None:
    """Sockets travel, one quota holds over all, what is killed harms nothing else, and every byte is in the ledger."""
    hosts = site.hosts
    far = hosts.middle.socket()
    far.bind(("0.0.0.0", _ECHO))
    with peers.echo(listener=far), hosts["a"].driven() as a, hosts["c"].driven() as c:
        b = hosts["b"].driven()
        with b:
            # A → B → C, a thousand bytes at each; what is kept of A's at C, and of B's at C.
            _open(a, site.at)
            _echoed(a, "sock", 1000)
            b.do(f"import outgate; sock = outgate.adopt({_descriptor(a, 'sock')!r})")
            a.do("sock.close()")
            _echoed(b, "sock", 1000)
            c.do(f"import outgate; of_a = outgate.adopt({_descriptor(b, 'sock')!r})")
            b.do("sock.close()")
            _echoed(c, "of_a", 1000)
            _open(b, site.at)
            c.do(f"of_b = outgate.adopt({_descriptor(b, 'sock')!r})")
            _echoed(c, "of_b", 500)
            _open(b, site.at, "direct")
            _echoed(b, "direct", 300)

            site.wait_until_known("a", site.is_whole)
            shown = site.wait_until_known("c", lambda known: known["gates"]["a"]["apps"]["worker"]["with_others"] == 1)
            assert shown["gates"]["c"]["apps"]["worker"]["of_others"] == 2
            assert shown["differing"] == {}

            # One quota: what the three have used together; 3 so far.
            for program, count in ((a, 9), (b, 6), (c, 5)):
                for _ in range(count):
                    _open(program, site.at, "passing")
                    if program is not b:  # what closes within five seconds before a gate is killed is not on its bill
                        _echoed(program, "passing", 10)
                    program.do("passing.close()")

            # Redis and gate B die, when B has written down what was used there.
            site.wait_until_known("a", lambda known: sum(known["shares"][0]["held"].values()) == 23)
            wait_until(lambda: _metered(site, "b") >= 800)
            wait_until(lambda: _stored(site, "b") >= 8)
            site.redis.kill()
            hosts["b"].stop(signal.SIGKILL)
            _echoed(c, "of_a", 700)  # nothing else breaks: of A at C, and of B's own program without a gate
            _echoed(b, "direct", 200)
            with pytest.raises(Refused) as refused:
                c.do("of_b.recv(1)")
            assert refused.value.errno == errno.ECONNRESET
            away = site.wait_until_known("a", lambda known: not known["fleet_state"]["answers"])
            assert away["gates"]["a"]["state"] == "this"
            assert away["gates"].keys() == set(NAMES)

            # Whole again: the gate with its state, a Redis with nothing.
            site.start_redis()
            hosts["b"].start()
            for name in NAMES:
                site.wait_until_known(name, site.is_whole)
            _echoed(b, "direct", 100)
            b.do("direct.close()")
            text = _descriptor(c, "of_a")
            c.do("of_a.close()")
            a.do(f"sock = outgate.adopt({text!r}); sock.settimeout(20)")
            _echoed(a, "sock", 800)
            a.do("sock.close()")

            # The quota goes on where it was; what a gate that was killed had used is rounded up (docs/quotas.md).
            opened = 23
            for program in (a, b, c):
                opened += _opened_until_refused(program, site.at)
            assert _LIMIT - 2 * 8 <= opened <= _LIMIT
            for name in NAMES:
                site.wait_until_known(name, lambda known: sum(known["shares"][0]["held"].values()) >= _LIMIT)

    # C's cable is pulled: it is alone, says so, and answers its own; plugged in, all are whole again.
    hosts.pull("c")
    site.wait_until_known("c", lambda known: not known["fleet_state"]["answers"])
    assert site.known("a")["fleet_state"]["answers"]
    assert site.known("c")["gates"]["a"]["state"] in ("announced", "last heard")
    hosts.plug("c")
    for name in NAMES:
        site.wait_until_known(name, site.is_whole)

    # Each gate's ends are in the one ledger, window for window.
    for name in NAMES:
        hosts[name].stop()
    for name in NAMES:
        done = hosts[name].outgate(
            "usage", "verify", "--config", str(hosts[name].config), "--log", str(hosts[name].log), "--json"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"fault"' not in hosts[name].log.read_text()
    done = hosts["a"].outgate("usage", "--config", str(hosts["a"].config), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    total = json.loads(done.stdout)["total"]
    assert (total["sent"], total["received"]) == (5740, 5740)
