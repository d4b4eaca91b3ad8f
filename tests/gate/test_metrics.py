"""Metrics: what is counted is what happened, under names as Prometheus has them, and no scraper holds the gate."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outgate as package
from outgate.core import tenure
from outgate.errors import ConfigError
from outgate.gate.configuration import config
from outgate.gate.decisionlog.log import DecisionLog
from outgate.gate.metrics import gathering, serving, table
from outgate.gate.metrics.histogram import LAG, LOOK_UP, REQUEST, Histogram
from outgate.gate.travel.sharing import Loan
from outgate.lookout.tailing import Tail
from outgate.testing.running import RunningGate, ThreadGate
from support import commands, peers
from support.scraping import (
    ADDED,
    Scrape,
    asked,
    connect,
    dashboard_queries,
    exchange,
    grouped,
    page,
    rule_queries,
    scrape,
)

ETC = Path(__file__).parents[2] / "etc"

CONFIG = f"""
version = 1
[gate]
metrics = "{{metrics}}"
[apps.blog]
uid = [{os.getuid()}]
billing = true
trusted = true
except = ["loopback"]
quotas = {{{{ connect = {{{{ day = 12 }}}} }}}}
[apps.shop]
uid = [{os.getuid() + 1}]
billing = true
trusted = true
"""

PROGRAM = """
import socket, sys
port = int(sys.argv[1])
with socket.create_connection(("127.0.0.1", port)) as s:
    s.sendall(b"hello")
    s.recv(5)
for host in ("10.0.0.1", "169.254.169.254", "169.254.169.254"):
    try:
        socket.create_connection((host, 80))
    except PermissionError:
        pass
with socket.socket() as probe:
    probe.bind(("", 0))
    closed = probe.getsockname()[1]
try:
    socket.create_connection(("127.0.0.1", closed))
except ConnectionRefusedError:
    pass
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(("127.0.0.1", port))
u.send(b"abc")
try:
    u.sendto(b"abc", ("10.0.0.1", 53))
except PermissionError:
    pass
u.close()
for name in ("peer.test", "peer.test", "nobody.test"):
    try:
        socket.getaddrinfo(name, 80)
    except socket.gaierror:
        pass
try:
    socket.socket().bind(("127.0.0.1", 80))
except PermissionError:
    pass
"""


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate with metrics, after a program that did a little of everything."""
    names = {"peer.test": ["127.0.0.1"]}
    with RunningGate(config=CONFIG.format(metrics="127.0.0.1:0"), names=names) as gate, peers.echo() as peer:
        with gate.program("-c", PROGRAM, str(peer.port)) as program:
            assert program.communicate(timeout=30)[1] == ""
            assert program.returncode == 0
        gate.wait_for(event="end", transport="udp")
        gate.wait_for_counts("blog", processes=0)
        yield gate
        assert gate.faults == []
        assert gate.stop() == 0, gate.stderr()


@pytest.fixture(scope="module")
def address(gate: RunningGate) -> str:
    """Where that gate serves metrics."""
    return str(gate.wait_for(event="metrics")["address"])


@pytest.fixture(scope="module")
def seen(address: str) -> Scrape:
    """What it counted."""
    return scrape(address)


def test_what_happened_is_what_is_counted(seen: Scrape, gate: RunningGate) -> None:
    """Opens, decisions, refusals, ends, bytes and look-ups of a program are counted under its app, each once."""
    blog = gate.app("blog")
    assert seen.value("outgate_opens_total", app="blog") == blog["connects"] == 3
    assert seen.value("outgate_sockets_made_total", app="blog") == blog["sockets"]
    assert seen.value("outgate_sent_bytes_total", app="blog") == blog["sent"] == 8
    assert seen.value("outgate_received_bytes_total", app="blog") == blog["received"] == 5
    decisions = {
        (verdict, transport, address_class): seen.total(
            "outgate_decisions_total", verdict=verdict, transport=transport, **{"class": address_class}
        )
        for verdict in ("allow", "deny")
        for transport in ("tcp", "udp")
        for address_class in ("loopback", "private", "metadata")
    }
    assert {key: count for key, count in decisions.items() if count} == {
        ("allow", "tcp", "loopback"): 2,
        ("deny", "tcp", "private"): 1,
        ("deny", "tcp", "metadata"): 2,
        ("allow", "udp", "loopback"): 1,
        ("deny", "udp", "private"): 1,
    }
    assert seen.total("outgate_decisions_total", verdict="deny") == blog["denied"]
    assert seen.total("outgate_refusals_total", op="connect", code="policy-denied") == 3
    assert seen.total("outgate_leases_ended_total", transport="tcp", how="closed") == 1
    assert seen.total("outgate_leases_ended_total", transport="tcp", how="failed") == 1
    assert seen.total("outgate_leases_ended_total", transport="udp", how="closed") == 1
    assert seen.total("outgate_leases_ended_total") == blog["ended"]
    assert {
        outcome: seen.total("outgate_lookups_total", app="blog", outcome=outcome)
        for outcome in ("answered", "remembered", "missing", "failed", "late")
    } == {"answered": 1, "remembered": 1, "missing": 1, "failed": 0, "late": 0}
    assert seen.value("outgate_lookup_duration_seconds_count") == 2
    assert seen.value("outgate_dial_duration_seconds_count", outcome="connected") == 1
    assert seen.value("outgate_dial_duration_seconds_count", outcome="failed") == 1
    assert seen.value("outgate_request_duration_seconds_count", op="connect") == 5
    assert seen.total("outgate_decisions_total", app="shop") == 0


def test_what_is_there_now(seen: Scrape, gate: RunningGate) -> None:
    """Gauges say what stands now: every app's limits and sockets, the policy, the process's own descriptors."""
    assert seen.value("outgate_policy_number") == 1
    assert seen.value("outgate_draining") == 0
    assert seen.value("outgate_faults_total") == 0
    assert seen.value("outgate_log_lines_dropped_total") == 0
    for app in ("blog", "shop"):
        for name in ("outgate_processes", "outgate_leases_open", "outgate_leases_parked"):
            assert seen.value(name, app=app) == 0
        assert seen.value("outgate_closes_waiting", app=app) is not None  # a thread may be at work still
        assert seen.value("outgate_leases_limit", app=app) == 4000
    assert seen.value("outgate_quota_used_ratio", app="blog", resource="connect", window="day") == 0.5, (
        "refused ones are charged"
    )
    assert seen.value("process_max_fds") == gate.stats()["descriptors"]
    assert 0 < (seen.value("process_open_fds") or 0) < 200


def test_every_metric_is_one_of_the_table(seen: Scrape) -> None:
    """The page has every metric of the table, of its type, with its labels and its sentence, and no other."""
    assert set(seen.families) == {metric.name for metric in (*table.METRICS, *table.PROCESS)}
    for metric in table.METRICS:
        family = seen.families[metric.name]
        assert (family.type, family.documentation) == (metric.type, metric.help)
    for name, labels in table.series():
        # A metric whose labels are words of what happened has no series before it did.
        assert seen.labels(name) <= {tuple(sorted(labels))}


def test_names_are_as_prometheus_has_them() -> None:
    """Names are snake case with one prefix, in base units, and leave to their type what it puts behind them."""
    for metric in table.METRICS:
        assert metric.name.startswith("outgate_")
        assert metric.name == metric.name.lower().replace("-", "_")
        assert not metric.name.endswith(("_total", "_count", "_sum", "_bucket"))
        assert not {"milliseconds", "ms", "kilobytes", "kb", "percent"} & set(metric.name.split("_"))
        assert metric.type != "histogram" or metric.name.endswith("_seconds")
        assert metric.help.endswith(".")
        assert metric.help[0].isupper() or metric.help[0].isdigit()


def test_a_program_chooses_no_label(seen: Scrape) -> None:
    """Labels are apps and words of the gate's own: no host, address or program of a request is in the page."""
    values = {
        value for family in seen.families.values() for sample in family.samples for value in sample.labels.values()
    }
    assert not {value for value in values if "10.0.0" in value or "peer.test" in value or value == "-c"}


QUERIES = [
    *(("dashboard", query) for query in dashboard_queries(json.loads((ETC / "grafana-dashboard.json").read_text()))),
    *(("rules", query) for query in rule_queries(ETC / "outgate.rules.yml")),
]


@pytest.mark.parametrize(("where", "query"), QUERIES)
def test_queries_ask_for_what_is_there(where: str, query: str) -> None:
    """A query of the dashboard or of an alert names metrics that the gate has, and labels that they have."""
    series = dict(table.series())
    found = list(asked(query))
    assert found or "up{" in query
    labels: set[str] = set(ADDED)
    for name, matched in found:
        assert name in series
        assert matched <= {*series[name], *ADDED}
        labels.update(series[name])
    assert grouped(query) <= labels


def test_every_metric_is_looked_at() -> None:
    """Of every metric but the memory that is mapped and the start, dashboard or alerts make something."""
    used = {name for _, query in QUERIES for name, _ in asked(query)}
    left = {metric.name for metric in (*table.METRICS, *table.PROCESS)}
    left -= {metric for metric in left for name in used if name.startswith(metric)}
    assert left == {"process_virtual_memory_bytes", "process_start_time_seconds"}


# --- who may fetch ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", "200 OK"),
        (b"GET /metrics?debug=1 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", "200 OK"),
        (b"GET / HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"),
        (b"GET /metrics\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics SPDY/3\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400 Bad Request"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * serving.LONGEST, "431 Request Header Fields Too Large"),
    ],
)
def test_requests_and_their_answers(gate: RunningGate, address: str, request_: bytes, status: str) -> None:
    """Every request is answered with a status, a length that holds, and the end of the connection."""
    line, headers, body = exchange(address, request_)
    assert line == f"HTTP/1.1 {status}"
    assert int(headers["Content-Length"]) == len(body.encode())
    assert headers["Connection"] == "close"
    assert ("outgate_build_info" in body) == (status == "200 OK" and b"/metrics" in request_)


def test_head_has_no_body(address: str) -> None:
    """HEAD is answered with the length that GET would have, and no body."""
    status, headers, body = exchange(address, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert (status, body) == ("HTTP/1.1 200 OK", "")
    assert int(headers["Content-Length"]) > 1000
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_slow_scrapers_hold_nobody(gate: RunningGate, address: str) -> None:
    """With every place taken by connections that say nothing, the next scrape is answered, and the oldest is closed."""
    idle = [connect(address) for _ in range(serving.MOST)]
    try:
        assert "outgate_build_info" in page(address)
        assert idle[0].recv(1) == b""
        assert "outgate_build_info" in page(address)
        assert gate.stats()["pid"] == gate.pid
    finally:
        for sock in idle:
            sock.close()


def test_who_goes_in_the_middle_of_it(gate: RunningGate, address: str) -> None:
    """Connections that are reset within their request, or before their answer is read, leave no trace."""
    for piece in (b"", b"GET /met", b"GET /metrics HTTP/1.1\r\n\r\n"):
        with connect(address) as sock:
            sock.sendall(piece)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert "outgate_build_info" in page(address)
    assert gate.faults == []


def test_over_a_unix_socket(tmp_path: Path) -> None:
    """A path serves the same, to its owner and group alone, and is gone when the gate has ended."""
    path = tmp_path / "metrics.sock"
    with RunningGate(config=CONFIG.format(metrics=path)) as gate:
        assert gate.wait_for(event="metrics")["address"] == str(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert scrape(str(path)).value("outgate_opens_total", app="blog") == 0
        assert gate.stop() == 0
    assert not path.exists()


def test_a_port_that_is_taken() -> None:
    """A gate whose metrics have no place runs without, says so, and serves them as soon as there is one."""
    squatter = socket.create_server(("127.0.0.1", 0))
    place = f"127.0.0.1:{squatter.getsockname()[1]}"
    with squatter, RunningGate(config=CONFIG.format(metrics=place)) as gate:
        failed = gate.wait_for(event="metrics-failed")
        assert (failed["address"], failed["reason"]) == (place, "Address already in use; it is tried again")
        squatter.close()
        assert gate.wait_for(event="metrics")["address"] == place
        assert "outgate_build_info" in page(place)
        assert len(gate.log.all(event="metrics-failed")) == 1


def test_without_metrics_nothing_of_it_is_loaded() -> None:
    """A gate that serves none does not load the library that writes them."""
    code = "import outgate.gate.main, sys; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "False\n", done.stderr


def test_without_the_library(tmp_path: Path) -> None:
    """Where metrics are wanted and the library is not installed, the start fails and says what to install."""
    path = tmp_path / "outgate.toml"
    path.write_text(CONFIG.format(metrics="127.0.0.1:0"))
    code = "import sys; sys.modules['prometheus_client'] = None; from outgate.cli.main import main; sys.exit(main())"
    words = ["serve", "--config", str(path), "--socket", str(tmp_path / "gate.sock"), "--log", "-"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=30)
    said = "outgate serve: gate.metrics: prometheus_client is not installed here; pip install 'outgate[gate]'\n"
    assert (done.returncode, done.stderr.splitlines(True)[-1]) == (2, said)
    assert not (tmp_path / "gate.sock").exists()


# --- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", ""),
        ("127.0.0.1:9464", "127.0.0.1:9464"),
        ("localhost:9464", "127.0.0.1:9464"),
        ("127.9.9.9:1", "127.9.9.9:1"),
        ("[::1]:9464", "[::1]:9464"),
        ("[0:0::1]:09464", "[::1]:9464"),
        ("/run/outgate/metrics.sock", "/run/outgate/metrics.sock"),
        ("./metrics.sock", "/etc/outgate/./metrics.sock"),
    ],
)
def test_where_metrics_may_be(text: str, read: str) -> None:
    """Loopback addresses with a port, and paths, are taken."""
    raw = {"version": 1, "gate": {"metrics": text}}
    assert config.from_table(raw, "/etc/outgate/outgate.toml").gate.metrics == read


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9464", 'names no address and port; as in "127.0.0.1:9464"'),
        (":9464", "names no address and port"),
        ("127.0.0.1:", '"" is not a port'),
        ("127.0.0.1:70000", '"70000" is not a port'),
        ("127.0.0.1:-1", '"-1" is not a port'),
        ("127.0.0.1:９４", "is not a port"),
        ("::1:9464", '"::1" is not a numeric address'),
        ("[127.0.0.1]:9464", "is not a numeric address"),
        ("gate.corp:9464", '"gate.corp" is not a numeric address'),
        ("0.0.0.0:9464", "can be reached from other hosts, and metrics have no password; name a loopback address"),
        ("10.1.2.3:9464", "metrics_exposed = true"),
        ("[::]:9464", "can be reached from other hosts"),
        ("[::ffff:127.0.0.1]:9464", "can be reached from other hosts"),
        ("/" + "x" * 120, "longer than the 107 bytes"),
        ("./gate.sock", "is the gate's own already"),
        (17, "takes text in quotes"),
    ],
)
def test_where_metrics_may_not_be(text: object, why: str) -> None:
    """What is no place, or one that others reach unasked, is refused with its place in the file and the way out."""
    raw = {"version": 1, "gate": {"metrics": text, "socket": "./gate.sock"}}
    with pytest.raises(ConfigError) as caught:
        config.from_table(raw, "/etc/outgate/outgate.toml")
    assert str(caught.value).startswith("/etc/outgate/outgate.toml: gate.metrics: ")
    assert why in str(caught.value)


def test_others_may_reach_them_where_somebody_says_so() -> None:
    """With metrics_exposed an address that other hosts reach is taken."""
    raw = {"version": 1, "gate": {"metrics": "0.0.0.0:9464", "metrics_exposed": True}}
    assert config.from_table(raw, "outgate.toml").gate.metrics == "0.0.0.0:9464"


def test_an_app_has_not_the_socket_of_the_metrics() -> None:
    """One path for metrics and for an app's programs is refused."""
    raw = {"version": 1, "gate": {"metrics": "/run/m.sock"}, "apps": {"a": {"socket": "/run/m.sock", "billing": True}}}
    with pytest.raises(ConfigError, match=r"apps\.a\.socket: /run/m\.sock is that of the metrics already"):
        config.from_table(raw, "outgate.toml")


# --- how they are written ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 200)), st.sampled_from([REQUEST, LOOK_UP, LAG]))
def test_histogram_counts_as_prometheus_does(values: list[float], bounds: tuple[float, ...]) -> None:
    """A bucket holds every observation up to its bound, that included; the last all of them, and the sum is theirs."""
    histogram = Histogram(bounds)
    for value in [*values, *bounds]:
        histogram.observe(value)
    seen = [max(0.0, value) for value in [*values, *bounds]]
    for name, count in histogram.cumulative():
        assert count == sum(value <= float(name) for value in seen)
    assert histogram.cumulative()[-1] == ("+Inf", len(seen))
    assert histogram.sum == pytest.approx(sum(seen))


def test_bounds_ascend() -> None:
    """The bounds of every histogram ascend, none twice."""
    for bounds in (REQUEST, LOOK_UP, LAG):
        assert list(bounds) == sorted(set(bounds))


def test_a_large_gate_is_written_in_slices() -> None:
    """With 600 apps and 20,000 parked leases no piece has more than a slice of lines, and all are the page."""
    base = config.default_settings(os.getuid(), dev=True)
    apps = {f"app{number}": replace(base.apps["default"], name=f"app{number}") for number in range(600)}
    with ThreadGate(replace(base, apps=MappingProxyType(apps))) as running, peers.silent():
        gate = running.gate

        class Item:
            process = type("P", (), {"app": gate.registry.apps["app7"]})()

        def write() -> list[bytes]:
            for number in range(20_000):
                loan = gate.sharing.loans[-number] = Loan(Item())  # type: ignore[arg-type]
                loan.tenure = tenure.PARKED
            try:
                for number in range(600):
                    gate.counts.ended(f"app{number}", "tcp", "closed")
                return list(gathering.pages(gate))
            finally:
                gate.sharing.loans.clear()

        pieces = running.call(write)
    assert max(piece.count(b"\n") for piece in pieces) <= gathering.SLICE + 2
    assert pieces.count(b"") >= 3, "turns of the loop for others, within the tally"
    whole = Scrape(b"".join(pieces).decode())
    assert whole.value("outgate_leases_parked", app="app7") == 20_000
    assert whole.total("outgate_leases_parked") == 20_000
    assert whole.total("outgate_leases_ended_total", how="closed") == 600
    assert len(whole.families["outgate_leases_limit"].samples) == 600
    assert b"".join(pieces).count(b"# TYPE outgate_opens_total ") == 1


def test_a_page_is_given_out_again() -> None:
    """Who asks a moment later gets the page of that moment, and who asks when it is old a new one."""
    with ThreadGate() as running:
        gate = running.gate
        server = running.call(lambda: serving.Serving(gate, "127.0.0.1:0"))
        running.call(server.start)
        first = scrape(server.address)
        running.call(lambda: setattr(server, "_fresh_until", float("inf")))
        running.call(lambda: gate.counts.reloaded(applied=False))
        again = scrape(server.address)
        running.call(lambda: setattr(server, "_fresh_until", 0.0))
        fresh = scrape(server.address)
        running.call(server.stop)
    counts = [each.value("outgate_reloads_total", outcome="failed") for each in (first, again, fresh)]
    assert counts == [0, 0, 1]


def test_who_does_not_take_the_answer_holds_nobody() -> None:
    """Scrapers that ask for a page far larger than any buffer and take nothing leave gate and others alone."""
    with ThreadGate() as running:
        gate = running.gate
        server = running.call(lambda: serving.Serving(gate, "127.0.0.1:0"))
        running.call(server.start)
        running.call(lambda: setattr(server, "_page", b"x" * 64_000_000))
        running.call(lambda: setattr(server, "_fresh_until", float("inf")))
        stuck = [connect(server.address) for _ in range(4)]
        for sock in stuck:
            sock.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert sock.recv(1) == b"H", "its answer has begun"
        assert len(page(server.address)) == 64_000_000
        assert running.stats()["boot"] == gate.boot
        for sock in stuck:
            sock.close()
        running.call(server.stop)
        assert running.faults == []


def test_reloads_and_faults_are_counted(tmp_path: Path) -> None:
    """A reload that is applied, one that fails and a fault of the gate's own are each one more."""
    path = str(tmp_path / "metrics.sock")
    text = CONFIG.format(metrics=path)
    with RunningGate(config=text) as gate:
        gate.wait_for(event="metrics")
        assert gate.reload(text)["ok"]
        assert not gate.reload("version = 99")["ok"]
        seen = scrape(path)
    assert seen.value("outgate_reloads_total", outcome="applied") == 1
    assert seen.value("outgate_reloads_total", outcome="failed") == 1
    assert seen.value("outgate_policy_number") == 2


def test_lag_is_what_something_held_the_loop_for() -> None:
    """The loop's lag is sampled: with something that holds it for a second, a sample of at least that is there."""
    import time

    with ThreadGate() as running:
        gate = running.gate
        server = running.call(lambda: serving.Serving(gate, "127.0.0.1:0"))
        running.call(server.start)
        running.call(lambda: time.sleep(0.8))  # what must never happen, for once
        while not sum(gate.counts.lag.counts):
            running.call(lambda: None)
        running.call(server.stop)
    assert sum(gate.counts.lag.counts[gate.counts.lag.bounds.index(0.5) :]) >= 1


def test_lines_that_are_lost_stay_counted(tmp_path: Path) -> None:
    """Lines that a full disk cost are counted while they are lost, and still when the log has reported them."""
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    log = DecisionLog(str(path))
    for _ in range(3):
        log.event("lost")
    assert log.flush()
    assert log.lost == log.dropped == 3
    path.unlink()
    log.reopen()
    log.event("written")
    assert log.flush()
    log.close()
    assert (log.lost, log.dropped) == (3, 0)
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["log-dropped", "written"]


def test_the_next_gate_serves_them(tmp_path: Path) -> None:
    """After a takeover the next gate serves metrics at the same place, with what the one before had counted."""
    path, metrics = tmp_path / "outgate.toml", tmp_path / "metrics.sock"
    path.write_text(CONFIG.format(metrics=metrics))
    code = "import socket\ntry: socket.create_connection(('10.0.0.1', 80))\nexcept PermissionError: pass"
    autoload = Path(package.__file__).parent / "client" / "autoload"
    with commands.serving(tmp_path, "--config", str(path)) as first:
        env = commands.environment(OUTGATE_SOCKET=first.socket, PYTHONPATH=str(autoload))
        assert subprocess.run([sys.executable, "-c", code], env=env, timeout=30).returncode == 0
        before = scrape(str(metrics))
        with commands.serving(tmp_path, "--config", str(path), "--takeover") as second:
            first.process.wait(30)
            tail = Tail(str(second.log_path))
            lines = filter(None, tail.follow())
            while sum(line["event"] == "metrics" for line in second.log()) < 2:
                next(lines)
            after = scrape(str(metrics))
            tail.close()
    sockets = before.value("outgate_sockets_made_total", app="blog")
    assert sockets
    assert after.value("outgate_sockets_made_total", app="blog") == sockets
    assert (after.value("process_start_time_seconds") or 0) > (before.value("process_start_time_seconds") or 0)
