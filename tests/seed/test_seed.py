"""Every sentence of the seed, under the profile and under the default: DESIGN's rows S1 to S20.

Each test has its row's number in its name and says in its docstring what holds; docs/seed.md lists them. What a row
means in depth is tested elsewhere; here it is shown, end to end, for programs that say no more than ``import socket``.
"""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from outgate import __version__
from outgate.core.formats import messages
from outgate.core.profiles import APP_ENGINE
from outgate.core.quota import quotas
from outgate.gate.configuration import keys
from outgate.gate.ledger import schema
from support import peers, web
from support.commands import outgate
from support.devserver import DevServer
from support.newsreader import Reader, copy, news

from .conftest import Gate

EXAMPLES = Path(__file__).parents[2] / "examples"

#: Python that says how a call ended: its JSON value, or class names, errno, code and text of what it raised.
ENDING = """
import json, socket, sys
def ending(call, *args):
    try:
        return {"value": call(*args)}
    except Exception as e:
        classes = [each.__name__ for each in type(e).__mro__]
        return {"is": classes, "errno": getattr(e, "errno", None), "code": getattr(e, "code", ""), "text": str(e)}
def say(value):
    print(json.dumps(value), flush=True)
"""


def test_s01_a_program_imports_socket_and_needs_nothing_else(gate: Gate) -> None:
    """The standard API, and select, ssl's and asyncio's sockets built on it, without a line of special code."""
    code = """
import asyncio, json, select, socket, sys
address = sys.argv[1], int(sys.argv[2])
said = []
with socket.create_connection(address, timeout=10) as sock, sock.makefile("rw") as file:
    file.write("hello\\n")
    file.flush()
    assert select.select([sock], [], [], 10)[0] == [sock]
    said += [file.readline(), sock.getpeername() == address, socket.getaddrinfo(*address)[0][4] == address]
async def main():
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"async\\n")
    said.append((await reader.readline()).decode())
    writer.close()
    await writer.wait_closed()
asyncio.run(main())
print(json.dumps(said))
"""
    with peers.echo() as peer:
        assert gate.run(code, peer.host, peer.port) == ["hello\n", True, True, "async\n"]


def test_s02_libraries_work_without_modification(gate: Gate, tmp_path: Path) -> None:
    """poplib reads a mail and nntplib an article."""
    code = """
import json, poplib, sys
try:
    import nntplib
except ImportError:  # from Python 3.13 on it is redistributed, as standard-nntplib
    nntplib = None
mail, news = map(int, sys.argv[1:])
box = poplib.POP3("127.0.0.1", mail)
box.user("me"); box.pass_("secret")
said = [box.stat()[0]]
box.quit()
with nntplib.NNTP("127.0.0.1", news) as server:
    server.group("demo.sockets")
    said.append(server.article("1")[1].message_id)
print(json.dumps(said))
"""
    sys.path.insert(0, str(EXAMPLES))
    try:
        import servers
    finally:
        sys.path.remove(str(EXAMPLES))
    ports = servers.start(tmp_path)
    assert gate.run(code, ports["mail"], ports["news"]) == [1, "<1@demo.test>"]


def test_s03_a_socket_is_pickled_and_goes_on_in_another_process(gate: Gate, tmp_path: Path) -> None:
    """A front end opens a connection, a back end that shares nothing with it but the app goes on in it."""
    opens = """
import pickle, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"front\\n")
print('"' + sock.recv(6, socket.MSG_WAITALL).decode().strip() + '"')
with open(sys.argv[2], "wb") as task:
    pickle.dump(sock, task)
"""
    goes_on = """
import pickle, sys
with open(sys.argv[1], "rb") as task:
    sock = pickle.load(task)
sock.sendall(b"back\\n")
print('"' + sock.recv(5).decode().strip() + '"')
"""
    task = tmp_path / "task"
    with peers.echo() as peer:
        assert gate.run(opens, peer.port, task) == "front"
        assert gate.run(goes_on, task) == "back"
        (connection,) = peer.connections
        assert connection.wait().data == b"front\nback\n"


def test_s04_eight_options_are_there_and_the_rest_are_errors(gate: Gate, profile: str) -> None:
    """What is set is applied, by the profile only for show; an unsupported option is an error in both."""
    code = (
        ENDING
        + """
from socket import *
with socket() as sock:
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    eight = [(SOL_SOCKET, SO_KEEPALIVE), (SOL_SOCKET, SO_DEBUG), (IPPROTO_TCP, TCP_NODELAY), (SOL_SOCKET, SO_LINGER),
             (SOL_SOCKET, SO_OOBINLINE), (SOL_SOCKET, SO_SNDBUF), (SOL_SOCKET, SO_RCVBUF), (SOL_SOCKET, SO_REUSEADDR)]
    got = [sock.getsockopt(*each) for each in eight]
    say([got, sock.getsockopt(SOL_SOCKET, SO_ERROR), ending(sock.setsockopt, SOL_SOCKET, 36, 1),
         ending(sock.setsockopt, IPPROTO_TCP, TCP_KEEPIDLE, 9)])
"""
    )
    got, error, mark, keepidle = gate.run(code)
    assert error == 0
    assert mark["errno"] == 13
    if profile == APP_ENGINE:
        assert got == [0, 128, 0, 0, 0, 2097152, 2097152, 1]
        assert keepidle["code"] == "option-blocked"
    else:
        assert got[0] == 1
        assert keepidle == {"value": None}


def test_s05_sockets_are_for_paid_apps(gate_with: Callable[..., Gate]) -> None:
    """Without billing sockets and look-ups are refused, with a sentence that says what to do."""
    code = ENDING + "say([ending(socket.socket), ending(socket.gethostbyname, 'news.example')])"
    unpaid = gate_with(blog="").running
    text = Path(str(unpaid.config)).read_text().replace("billing = true", "billing = false", 1)
    unpaid.reload(text)
    for refused in Gate(unpaid).run(code):
        assert refused["code"] == "billing-disabled"
        assert "PermissionError" in refused["is"]
        assert "billing = true" in refused["text"]


def test_s06_what_is_sent_is_billed(gate_with: Callable[..., Gate], tmp_path: Path) -> None:
    """Application bytes sent are in the ledger with a price, received ones are counted and cost nothing."""
    rest = '[ledger]\nurl = "ledger.sqlite"\n[ledger.prices]\ncurrency = "USD"\nper = "B"\n'
    gate = gate_with(rest=rest + 'rules = [{ to = "*", sent = "0.12" }]\n')
    code = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
    sock.sendall(b"x" * 1000)
    sock.shutdown(socket.SHUT_WR)
    print(len(sock.makefile("rb").read()))
"""
    with peers.echo() as peer:
        assert gate.run(code, peer.port) == 1000
    gate.running.stop()
    bill = outgate("usage", "--config", str(gate.running.config), "--by", "app", "--json")
    assert bill.returncode == 0, bill.stderr
    (line,) = json.loads(bill.stdout)["lines"]
    assert (line["app"], line["sent"], line["received"]) == ("blog", 1000, 1000)
    assert Decimal(line["amount"]) == 120


def test_s07_daily_and_per_minute_quotas(gate_with: Callable[..., Gate], profile: str) -> None:
    """A quota that is used up is named, with when it resets; the profile has the original's figures."""
    gate = gate_with(blog="quotas = { connect = { day = 2, minute = 60 } }")
    code = (
        ENDING
        + """
address = "127.0.0.1", int(sys.argv[1])
say([ending(lambda: socket.create_connection(address).close()) for _ in range(3)])
"""
    )
    with peers.echo() as peer:
        first, second, third = gate.run(code, peer.port)
    assert first == second == {"value": None}
    assert third["code"] == "quota-exceeded"
    assert "connect.day" in third["text"]
    shown = outgate("quota", "--socket", gate.running.socket, "--app", "other", "--json")
    limits = {row["quota"]: row["limit"] for row in json.loads(shown.stdout)["quotas"]}
    expected = quotas.APP_ENGINE if profile == APP_ENGINE else quotas.DEFAULT
    assert limits == {"open_sockets": 4000, **{quota.name: quota.limit for quota in expected}}


def test_s08_no_listen_sockets(gate: Gate) -> None:
    """listen, accept and create_server are refused at the call; a socket that was inherited listening stays native."""
    code = (
        ENDING
        + """
with socket.socket() as sock:
    sock.bind(("", 0))
    say([ending(sock.listen), ending(sock.accept), ending(socket.create_server, ("", 0))])
"""
    )
    for refused in gate.run(code):
        assert refused["errno"] == 13
        assert "outbound only" in refused["text"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        inherits = "import socket, sys; sock = socket.socket(fileno=0); sock.accept()[0].sendall(b'native')"
        environ = gate.running.environ()
        with subprocess.Popen([sys.executable, "-c", inherits], stdin=server, env=environ) as program:
            with socket.create_connection(server.getsockname(), timeout=20) as client:
                assert client.makefile("rb").read() == b"native"
            assert program.wait(20) == 0


def test_s09_tcp_and_udp_only(gate: Gate) -> None:
    """Raw, packet and netlink sockets and other protocols are refused at socket(); Unix sockets stay native."""
    code = (
        ENDING
        + """
kinds = [(socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_NETLINK, socket.SOCK_RAW),
         (socket.AF_VSOCK, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_RAW, 1)]
kinds += [(socket.AF_INET, socket.SOCK_STREAM, each) for each in (132, 262)]
kinds += [(socket.AF_INET, socket.SOCK_DGRAM, each) for each in (1, 136)]
one, other = socket.socketpair()
one.sendall(b"native")
say([[ending(socket.socket, *kind) for kind in kinds], other.recv(6).decode(),
     [socket.socket(kind, type).type for kind in (socket.AF_INET, socket.AF_INET6)
      for type in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]])
"""
    )
    refused, native, made = gate.run(code)
    assert {each["errno"] for each in refused} <= {1, 13, 93, 94, 97}
    assert all("OSError" in each["is"] for each in refused)
    assert (native, made) == ("native", [1, 2, 1, 2])


def test_s10_no_bind_to_a_given_address_or_port(gate: Gate, profile: str) -> None:
    """The wildcard with port 0 may be bound; loopback with port 0 too by default, and not by the profile."""
    code = (
        ENDING
        + """
def bind(*address):
    with socket.socket() as sock:
        sock.bind(address)
say([ending(bind, *each) for each in (("", 0), ("127.0.0.1", 0), ("", 8080), ("127.0.0.1", 8080), ("192.0.2.1", 0))])
"""
    )
    wildcard, loopback, *others = gate.run(code)
    assert wildcard == {"value": None}
    assert (loopback == {"value": None}) is (profile != APP_ENGINE)
    assert {each["errno"] for each in others} == {13}


def why(gate: Gate, *words: str) -> dict[str, Any]:
    """Return what the gate would decide on a destination for an app without exceptions of its own."""
    done = outgate("why", *words, "--socket", gate.running.socket, "--app", "blog", "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_s11_port_25_is_blocked_and_587_open(gate: Gate) -> None:
    """Over TCP and UDP, to any address; mail goes by the submission port."""
    code = ENDING + "say([ending(socket.create_connection, ('198.41.0.4', 25), 5)])"
    (refused,) = gate.run(code)
    assert (refused["code"], refused["errno"]) == ("policy-denied", 13)
    assert '"*:25"' in refused["text"]
    assert why(gate, "udp://198.41.0.4:25")["verdict"] == "deny"
    assert why(gate, "198.41.0.4:587")["verdict"] == "allow"


@pytest.mark.parametrize(
    ("destination", "default", "original"),
    [
        ("10.1.2.3:80", "deny", "deny"),
        ("192.168.1.1:443", "deny", "deny"),
        ("255.255.255.255:80", "deny", "deny"),
        ("224.0.0.1:80", "deny", "deny"),
        ("169.254.169.254:80", "deny", "deny"),
        ("[fd00::1]:80", "deny", "deny"),
        ("198.41.0.4:443", "allow", "allow"),
        ("142.250.74.36:443", "allow", "deny"),
        ("8.8.8.8:53", "allow", "allow"),
        ("udp://8.8.8.8:53", "allow", "allow"),
        ("8.8.8.8:443", "allow", "deny"),
        ("[2001:4860:4860::8888]:53", "allow", "allow"),
        ("[2001:4860:4860::8844]:443", "allow", "deny"),
    ],
)
def test_s12_private_broadcast_multicast_and_googles_ranges_are_blocked(
    gate: Gate, profile: str, destination: str, default: str, original: str
) -> None:
    """The listed exceptions are open at their ports; Google's ranges are blocked by the profile alone."""
    assert why(gate, destination)["verdict"] == (original if profile == APP_ENGINE else default)


def test_s13_gethostbyaddr(gate: Gate, profile: str) -> None:
    """It works, and by the profile is NotImplementedError, so that smtplib.SMTP needs local_hostname."""
    code = (
        ENDING
        + """
import smtplib
say([ending(lambda: socket.gethostbyaddr("127.0.0.1")[0]), ending(lambda: smtplib.SMTP().local_hostname),
     ending(lambda: smtplib.SMTP(local_hostname="mymailhostname").local_hostname)])
"""
    )
    by_address, without, named = gate.run(code)
    assert named == {"value": "mymailhostname"}
    if profile == APP_ENGINE:
        assert "NotImplementedError" in by_address["is"]
        assert "NotImplementedError" in without["is"]
        assert "local_hostname" in without["text"]
    else:
        assert by_address["value"]
        assert without["value"]


def test_s14_idle_sockets_may_be_reclaimed(gate_with: Callable[..., Gate], profile: str) -> None:
    """By the profile one that nobody uses is taken, with a reason; any operation renews. By default it is kept.

    Two minutes are two seconds here. What is used in between (getpeername, select) outlives what is not.
    """
    gate = gate_with(blog="idle_timeout = 2")
    code = (
        ENDING
        + """
import select
address = "127.0.0.1", int(sys.argv[1])
idle, asked, selected = (socket.create_connection(address) for _ in range(3))
idle.sendall(b"idle")
say(idle.recv(4, socket.MSG_WAITALL).decode())
while sys.stdin not in select.select([sys.stdin, selected], [], [], 0.2)[0]:
    asked.getpeername()
say([ending(lambda: idle.send(b"x") and idle.send(b"x")), asked.send(b"y"), selected.send(b"z")])
"""
    )
    with peers.echo() as peer, gate.start(code, peer.port) as program:
        assert program.stdout is not None
        assert json.loads(program.stdout.readline()) == "idle"
        connection = next(each for each in peer.connections if each.received)
        if profile == APP_ENGINE:
            connection.wait()
        else:
            while _idle(gate, sent=4) < 3:
                pass
        output, errors = program.communicate("\n", timeout=peers.PATIENCE)
        assert program.returncode == 0, errors
        idle, *others = json.loads(output)
    assert others == [1, 1]
    if profile == APP_ENGINE:
        assert idle["code"] == "lease-idle"
        assert "BrokenPipeError" in idle["is"]
    else:
        assert idle == {"value": 1}


def _idle(gate: Gate, sent: int) -> float:
    """Return for how many seconds the socket that has sent so many bytes has been idle."""
    done = outgate("ps", "--socket", gate.running.socket, "--json")
    (row,) = [row for row in json.loads(done.stdout)["sockets"] if row["sent"] == sent]
    return float(row["idle"])


def test_s15_a_descriptor_belongs_to_its_app(gate: Gate) -> None:
    """Another app that comes by a descriptor gets what it gets for one that was never there."""
    opens = """
import json, outgate, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(json.dumps(outgate.descriptor(sock)))
"""
    adopts = ENDING + "import outgate\nsay(ending(lambda: outgate.adopt(sys.argv[1]).getpeername()[1]))"
    with peers.echo() as peer:
        text = gate.run(opens, peer.port)
        forged = text[:-1] + ("A" if text[-1] != "A" else "B")
        foreign = gate.run(adopts, text, app="other")
        assert foreign == gate.run(adopts, forged)
        assert foreign["code"] == "unknown-descriptor"
        assert gate.run(adopts, text) == {"value": peer.port}


def test_s16_httplib_goes_through_url_fetch_unless_one_brings_ones_own(
    gate: Gate, profile: str, tmp_path: Path
) -> None:
    """By the profile http.client is URL Fetch, but for a copy of it and by a switch; by default it is sockets."""
    package = tmp_path / "mine"
    shutil.copytree(Path(http.client.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
import importlib, json, sys
sys.path.insert(0, sys.argv[2])
connection = importlib.import_module(sys.argv[3]).HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.request("GET", "/", headers={"User-Agent": "seed"})
print(json.dumps(connection.getresponse().read().decode()))
"""
    with web.server({"/": web.ok(b"hello")}) as server:
        assert gate.run(code, server.peer.port, tmp_path, "http.client") == "hello"
        assert gate.run(code, server.peer.port, tmp_path, "mine.client") == "hello"
        assert gate.run(code, server.peer.port, tmp_path, "http.client", OUTGATE_HTTP="sockets") == "hello"
        agents = [request["User-Agent"] for request in server.requests]
    fetched = "seed outgate (app blog)" if profile == APP_ENGINE else "seed"
    assert agents == [fetched, "seed", "seed"]


def test_s17_the_development_server_needs_no_flags(profile: str, tmp_path: Path) -> None:
    """outgate dev in a folder with an app.yaml serves it, and its sockets work."""
    with peers.echo() as peer:
        (tmp_path / "app.yaml").write_text(
            f'runtime: python311\noutgate:\n  profile: {profile}\n  except: ["127.0.0.1:{peer.port}"]\n'
        )
        (tmp_path / "main.py").write_text(
            "import socket\n\ndef app(environ, start_response):\n"
            f"    with socket.create_connection(('127.0.0.1', {peer.port})) as sock:\n"
            "        sock.sendall(b'through the gate')\n"
            "        answer = sock.recv(16, socket.MSG_WAITALL)\n"
            "    start_response('200 OK', [])\n"
            "    return [answer]\n"
        )
        with DevServer(tmp_path) as server:
            assert server.ask("/").text == "through the gate"


def test_s18_tls(profile: str, tmp_path: Path) -> None:
    """Always there; by the profile where app.yaml lists the library, else ImportError says which line to add."""
    main = (
        "def app(environ, start_response):\n"
        "    try:\n        import ssl\n        said = 'TLS'\n"
        "    except ImportError as e:\n        said = str(e)\n"
        "    start_response('200 OK', [])\n"
        "    return [said.encode()]\n"
    )
    for listed in (False, True):
        folder = tmp_path / str(listed)
        folder.mkdir()
        (folder / "main.py").write_text(main)
        libraries = "libraries:\n- {name: ssl, version: latest}\n" if listed else ""
        (folder / "app.yaml").write_text(f"runtime: python27\n{libraries}outgate:\n  profile: {profile}\n")
        with DevServer(folder) as server:
            said = server.ask("/").text
        if profile == APP_ENGINE and not listed:
            assert said.startswith("No module named _ssl")
            assert "- name: ssl" in said
        else:
            assert said == "TLS"


@pytest.mark.slow
def test_s19_a_news_reader_passes_an_open_socket_to_a_task(profile: str, tmp_path: Path) -> None:
    """The sample's front end opens a session with a news server, and a task of its back end reads on in it."""
    with news() as server:
        port = server.server_address[1]
        folder = copy(tmp_path, port=port)
        yaml = folder / "front.yaml"
        yaml.write_text(yaml.read_text().replace("outgate:\n", f"outgate:\n  profile: {profile}\n"))
        with Reader(folder) as reader:
            page = reader.read(f"127.0.0.1:{port}", "sample.sky")
    opener, worker = re.findall(r"process (\d+)", page.one("session"))
    assert opener != worker
    assert "was told QUIT" in page.one("session")
    assert page.all("subject")[0] == "The Pleiades ✨ with the naked eye"


def test_s20_everything_that_may_change_carries_a_version(gate: Gate) -> None:
    """Configuration, log lines, --json, descriptors, the channel and the ledger each have one; so has outgate, 0.x."""
    code = """
import outgate, socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print('"' + outgate.descriptor(sock) + '"')
"""
    with peers.echo() as peer:
        assert re.match(r"outgate\d+\.", gate.run(code, peer.port))
    assert min(keys.VERSION, messages.VERSION, schema.VERSION) >= 1 <= messages.OLDEST <= messages.VERSION
    assert __version__.startswith("0.")
    assert {line["v"] for line in gate.running.log.all()} == {1}
    for command in ("stats", "ps", "quota", "status"):
        assert json.loads(outgate(command, "--socket", gate.running.socket, "--json").stdout)["v"] == 1
