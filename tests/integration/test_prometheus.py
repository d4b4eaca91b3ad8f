"""A real Prometheus fetches a real gate's metrics, and its own tools accept page, alerts, scrape and dashboard."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outgate.testing.running import RunningGate
from support import pages, peers
from support.scraping import dashboard_queries, page

ETC = Path(__file__).parents[2] / "etc"
HERE = Path(__file__).parent
PATIENCE = 30.0

CONFIG = f"""
version = 1
[gate]
metrics = "127.0.0.1:0"
socks = ["127.0.0.1:0"]
[apps.blog]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["127.0.0.1"]
"""

PROGRAM = """
import socket, sys
for host in ("127.0.0.1", "10.0.0.1"):
    try:
        with socket.create_connection((host, int(sys.argv[1]))) as s:
            s.sendall(b"hello")
    except PermissionError:
        pass
"""

#: What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$app": ".*"}


@pytest.fixture(scope="module")
def tool() -> str:
    """Return Prometheus's tool; skips where it is not installed."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


@pytest.fixture
def address() -> Iterator[str]:
    """Where a gate serves metrics, after some were allowed and some refused."""
    with RunningGate(config=CONFIG) as gate, peers.sink() as peer:
        with gate.program("-c", PROGRAM, str(peer.port)) as program:
            assert program.communicate(timeout=PATIENCE)[1] == ""
        gate.wait_for(event="end")
        host, _, port = gate.stats()["doors"][0]["address"].rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            gate.wait_for(event="door-refused")
        yield str(gate.wait_for(event="metrics")["address"])
        assert gate.faults == []


def check(*command: object, **options: Any) -> None:
    """Run a check that has nothing to say against it."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_is_well_formed_and_well_named(tool: str, address: str) -> None:
    """promtool has no fault to find with the page: syntax, names, units, suffixes, help."""
    done = subprocess.run(
        [tool, "check", "metrics", "--extended"], input=page(address), capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_scrape_and_alerts_are_accepted(tool: str) -> None:
    """promtool accepts the example of a scrape, and with it the alerts."""
    check(tool, "check", "config", ETC / "prometheus.yml")
    check(tool, "check", "rules", "--lint-fatal", ETC / "outgate.rules.yml")


def test_alerts_are_raised_when_they_should_be(tool: str, tmp_path: Path) -> None:
    """Of series made for it each alert is raised, and not of others (promtool test rules)."""
    for path in (ETC / "outgate.rules.yml", HERE / "outgate.rules.test.yml"):
        shutil.copy(path, tmp_path)
    check(tool, "test", "rules", "outgate.rules.test.yml", cwd=tmp_path)


def test_every_alert_is_tested() -> None:
    """Each alert of the file stands in the file of tests."""
    names = [line.split()[-1] for line in (ETC / "outgate.rules.yml").read_text().splitlines() if "- alert:" in line]
    tests = (HERE / "outgate.rules.test.yml").read_text()
    assert [name for name in names if name not in tests] == []
    assert len(names) == len(set(names)) == 15


def queries() -> list[str]:
    """Return the dashboard's queries as Grafana sends them."""
    found = []
    for query in dashboard_queries(json.loads((ETC / "grafana-dashboard.json").read_text(encoding="utf-8"))):
        if query.startswith("label_values("):
            query = query.removeprefix("label_values(").rpartition(",")[0]
        for name, value in VARIABLES.items():
            query = query.replace(name, value)
        found.append(query)
    return found


def check_queries(tool: str, folder: Path, asked: list[str]) -> None:
    """Have promtool parse queries."""
    rules = [{"record": f"outgate:query:{number}", "expr": query} for number, query in enumerate(asked)]
    path = folder / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    check(tool, "check", "rules", "--lint-fatal", path)


def test_the_dashboard_asks_in_promql(tool: str, tmp_path: Path) -> None:
    """Every query of the dashboard is PromQL that promtool parses."""
    asked = queries()
    assert len(asked) > 30
    assert not [query for query in asked if "$" in query]
    check_queries(tool, tmp_path, asked)


def test_the_pages_ask_in_promql(tool: str, tmp_path: Path) -> None:
    """Every query on the pages is PromQL that promtool parses."""
    blocks = [block for path in pages.paths() for block in pages.blocks(path) if block.language == "promql"]
    assert len(blocks) >= 4
    check_queries(tool, tmp_path, [block.text for block in blocks])


def test_a_prometheus_fetches_it(tool: str, address: str, tmp_path: Path) -> None:
    """A real Prometheus with the example's scrape fetches the gate, and every query of the dashboard is answered."""
    text = (ETC / "prometheus.yml").read_text().replace("127.0.0.1:9464", address).replace(": 15s", ": 100ms")
    (tmp_path / "prometheus.yml").write_text(text)
    shutil.copy(ETC / "outgate.rules.yml", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    log = tmp_path / "log"
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as server:
        try:
            allowed = 'outgate_decisions_total{app="blog", verdict="allow", class="loopback"}'
            answer = wait_for(port, f'{allowed} and on (job) up{{job="outgate"}} == 1', server, log)
            assert answer[0]["value"][1] == "1"
            assert ask(port, 'outgate_opens_total{app="blog"}')[0]["value"][1] == "1"
            wait_for(port, "outgate_opens_total offset 1s", server, log)  # so that there are rates
            empty = [query for query in queries() if not ask(port, query)]
            # Nothing is parked, no policy has changed, nothing was looked up by name.
            assert not [query for query in empty if not any(word in query for word in ("parked", "changes", "lookup"))]
            # How late a loop is, is the machine's as well.
            assert ask(port, 'ALERTS{alertname!~"OutgateMetadataAttempt|OutgateLoopHeld"}') == []
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)


def ask(port: int, query: str) -> list[Any]:
    """Return the result of a query. Raises ``URLError`` while nobody answers, ``AssertionError`` for a bad query."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PATIENCE) as response:
            return list(json.load(response)["data"]["result"])
    except urllib.error.HTTPError as e:
        if e.code == 503:  # it is starting
            return []
        raise AssertionError(f"{query}: {e.read().decode()}") from None


def wait_for(port: int, query: str, server: subprocess.Popen[bytes], log: Path) -> list[Any]:
    """Ask until the query has a result, and return it."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            found = ask(port, query)
        except urllib.error.URLError:
            found = []
        if found:
            return found
        time.sleep(0.02)  # it tells nobody of a scrape
    raise AssertionError(f"no result of {query}: {log.read_text()[-2000:]}")
