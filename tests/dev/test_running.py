"""``outgate dev`` for real: instances, routes, restarts, failures, and nothing left at the end."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import peers
from support.commands import outgate
from support.devserver import PATIENCE, DevServer, wait_until_ended

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "devserver"

#: A WSGI app that tells what it was asked, and does as the path says.
WSGI = """
import json, os, socket, sys, time

def app(environ, start_response):
    path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
    status, said = "200 OK", {
        "pid": os.getpid(), "service": os.environ["GAE_SERVICE"], "instance": os.environ["GAE_INSTANCE"],
        "path": path, "query": environ["QUERY_STRING"], "body": body.decode("latin-1"),
        "method": environ["REQUEST_METHOD"],
        "caller": environ["REMOTE_ADDR"], "headers": {k: v for k, v in environ.items() if k.startswith("HTTP_")},
        "argv": sys.argv[1:], "network": os.readlink("/proc/self/ns/net"), "env": dict(os.environ),
    }
    if path.startswith("/dial/"):
        try:
            socket.create_connection(("127.0.0.1", int(path[6:])), 5).close()
            said["dialled"] = "connected"
        except OSError as error:
            said["dialled"] = f"{type(error).__name__}: {error}"
    if path == "/die":
        os._exit(3)
    if path == "/stream":
        start_response(status, [("Content-Type", "text/plain")])
        def parts():
            yield b"first\\n"
            open("go").read()  # a pipe: until the test has read the first part
            yield b"second\\n"
        return parts()
    if path == "/daemon":
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        said["daemon"] = child.pid
    start_response(status, [("Content-Type", "application/json"), ("X-Mine", "1"), ("X-Mine", "2")])
    return [json.dumps(said).encode()]
"""

#: The same in short, as ASGI.
ASGI = """
import json, os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body")
    said = {"pid": os.getpid(), "service": os.environ["GAE_SERVICE"], "path": scope["path"], "body": body.decode(),
            "caller": scope["client"][0]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A WSGI front end and two instances of an ASGI back end, for tests that only ask."""
    folder = tmp_path_factory.mktemp("two")
    for name, code, text in (
        ("front", WSGI, "handlers: [{url: /secret, script: auto, login: admin}, {url: '/[^x].*|/', script: main.app}]"),
        ("back", ASGI, "service: back\nentrypoint: uvicorn main:app\nmanual_scaling: {instances: 2}"),
    ):
        (folder / name).mkdir()
        (folder / name / "main.py").write_text(code)
        (folder / name / "app.yaml").write_text(f"{text}\nenv_variables: {{GREETING: hello}}\n")
    with DevServer(folder, "front", "back") as server:
        for name in ("default/0", "back/0", "back/1"):
            server.wait_for(rf"^{name} .*policy 1")
        yield server


def test_services_are_processes_of_their_own(two: DevServer) -> None:
    """Front end and back end, and each instance of it, answer from different processes, by their host names."""
    front = json.loads(two.ask("/a").text)
    backs = [json.loads(two.ask("/b", host=f"{number}.back.localhost").text) for number in (0, 1)]
    assert (front["service"], [back["service"] for back in backs]) == ("default", ["back", "back"])
    assert len({front["pid"], *(back["pid"] for back in backs)}) == 3


def test_instances_take_turns(two: DevServer) -> None:
    """Requests for a service go to its instances in turn."""
    for number in (0, 1):
        two.ask(host=f"{number}.back.localhost")  # both are ready
    pids = [json.loads(two.ask(host="back.localhost").text)["pid"] for _ in range(4)]
    assert pids[0] != pids[1]
    assert pids[:2] == pids[2:]


def test_requests_arrive_whole(two: DevServer) -> None:
    """Method, path, query, body and headers arrive as they were sent, and the answer's headers come back."""
    answer = two.ask("/a%20b?x=1&y=%2F", method="PUT", body=b"\0\xff" * 40_000, headers={"X-Own": "v"})
    said = json.loads(answer.text)
    assert (said["method"], said["path"], said["query"]) == ("PUT", "/a b", "x=1&y=%2F")
    assert said["body"].encode("latin-1") == b"\0\xff" * 40_000
    assert said["headers"]["HTTP_X_OWN"] == "v"
    assert said["headers"]["HTTP_HOST"] == f"localhost:{two.port}"
    assert said["caller"] == "127.0.0.1"
    assert (said["argv"], said["env"]["GREETING"]) == ([], "hello")
    assert answer.headers["x-mine"] == "1, 2" or answer.headers["x-mine"] == "2"


def test_a_body_of_unknown_length_arrives(two: DevServer) -> None:
    """A chunked request body reaches WSGI and ASGI apps whole."""
    for host in ("localhost", "back.localhost"):
        connection = http.client.HTTPConnection("127.0.0.1", two.port, timeout=PATIENCE)
        connection.request("POST", "/c", iter([b"one ", b"two"]), {"Host": host}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["body"] == "one two"
        connection.close()


def test_nobody_outside_can_pretend(two: DevServer) -> None:
    """Headers that only App Engine sets do not pass, however they are spelled, nor do those that say who calls."""
    forged = {"X-AppEngine-TaskName": "t", "X_APPENGINE_QUEUENAME": "q", "x-appengine-user-ip": "9.9.9.9"}
    said = json.loads(two.ask(headers={**forged, "X-Forwarded-For": "9.9.9.9"}).text)
    assert "9.9.9.9" not in said["headers"].values()
    assert {name for name in said["headers"] if "APPENGINE" in name} == {"HTTP_X_APPENGINE_USER_IP"}


@pytest.mark.parametrize(
    ("host", "path", "status"),
    [
        ("localhost", "/secret", 403),
        ("localhost", "/_ah/queue/deferred", 403),
        ("back.localhost", "/_ah/queue/x", 403),
        ("localhost", "/x", 404),
        ("nobody.localhost", "/", 404),
        ("rebound.example", "/", 421),
    ],
)
def test_what_is_not_for_outside(two: DevServer, host: str, path: str, status: int) -> None:
    """Paths of the queue and of admin handlers are closed, as is what no handler names, and every foreign host name."""
    assert two.ask(path, host=host, method="POST").status == status


def test_the_default_policy_holds(two: DevServer) -> None:
    """An app that says nothing of policy does not reach this machine; it and the terminal hear what would permit it."""
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        said = json.loads(two.ask(f"/dial/{port}").text)
    assert said["dialled"].startswith("PolicyDenied")
    assert f'except = ["127.0.0.1:{port}"]' in said["dialled"]
    two.wait_for(rf"^gate .*127\.0\.0\.1:{port} .*denied.*to permit")


def test_the_decision_log_can_be_kept(tmp_path: Path) -> None:
    """With --log every line of the decision log is in a file as well, behind what the file had."""
    (tmp_path / "main.py").write_text(WSGI)
    log = tmp_path / "decisions.jsonl"
    log.write_text("{}\n")
    with DevServer(tmp_path, "--log", str(log)) as server:
        server.ask("/dial/9")
    kept, *lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert kept == {}
    assert [line["host"] for line in lines if line["event"] == "decision"] == ["127.0.0.1"]
    done = outgate("dev", "--port", "0", "--log", "no/such/folder", cwd=tmp_path)
    assert done.returncode == 2
    assert "--log no/such/folder: No such file or directory; name a file" in done.stderr


def test_instances_are_fenced_where_the_host_allows(two: DevServer) -> None:
    """An instance is in the network that its first line says: an empty one of its own, or the host's."""
    own = json.loads(two.ask().text)["network"] != os.readlink("/proc/self/ns/net")
    line = two.wait_for(r"^default/0 .*policy 1.*, (NOT )?fenced")
    assert own == (line[1] is None)


def test_no_other_user_could_ask_an_instance(two: DevServer) -> None:
    """The sockets of instances, queue and gate are in a folder that only this user may enter."""
    path = two.wait_for(r"--socket (\S+)/gate.sock")[1]
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert len(os.listdir(path)) >= 6


def test_answers_are_streamed(tmp_path: Path) -> None:
    """The first part of an answer is here before the app has made the second."""
    (tmp_path / "main.py").write_text(WSGI)
    os.mkfifo(tmp_path / "go")
    with DevServer(tmp_path) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/stream", headers={"Host": "localhost"})
        response = connection.getresponse()
        assert response.readline() == b"first\n"
        (tmp_path / "go").write_text("")
        assert response.read() == b"second\n"
        connection.close()


def test_an_app_notices_that_its_caller_has_gone(tmp_path: Path) -> None:
    """A caller that hangs up in the middle of an endless answer is gone for the app, too, which can stop."""
    (tmp_path / "main.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n        return\n"
        "    await receive()\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'x', 'more_body': True})\n"
        "    print('then', (await receive())['type'], flush=True)\n"
    )
    with DevServer(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            sock.settimeout(PATIENCE)
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
        server.wait_for(r"then http\.disconnect")


def test_a_caller_may_leave_while_it_sends(tmp_path: Path) -> None:
    """A caller that hangs up in the middle of its body does no harm to the next."""
    (tmp_path / "main.py").write_text(WSGI)
    with DevServer(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(b"POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        assert server.ask("/next").status == 200
        assert "Traceback" not in server.printed


def test_websockets_are_refused_in_words(tmp_path: Path) -> None:
    """A WebSocket is answered 501, and not half carried."""
    (tmp_path / "main.py").write_text(WSGI)
    with DevServer(tmp_path) as server:
        answer = server.ask(headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"})
    assert answer.status == 501
    assert "WebSockets" in answer.text


def test_a_changed_file_starts_its_service_again(tmp_path: Path) -> None:
    """After a change the same address answers with the new code, and a broken one is answered with its traceback."""
    code = tmp_path / "main.py"
    code.write_text("def app(e, start):\n    start('200 OK', [])\n    return [b'one']\n")
    with DevServer(tmp_path) as server:
        assert server.ask().text == "one"
        code.write_text("def app(:\n")
        server.wait_for(r"main\.py has changed: starting default again")
        server.wait_for(r"default/0 ended with status 1 before it was ready; starts again in 1 s")
        answer = server.ask()
        assert answer.status == 503
        assert "SyntaxError" in answer.text
        code.write_text("def app(e, start):\n    start('200 OK', [])\n    return [b'two']\n")
        server.wait_for(r"main\.py has changed", count=2)
        assert server.ask().text == "two"


def test_a_changed_app_yaml_is_a_new_plan(tmp_path: Path) -> None:
    """A new policy holds after app.yaml has changed; a broken one is said, and what ran goes on."""
    (tmp_path / "main.py").write_text(WSGI)
    yaml = tmp_path / "app.yaml"
    yaml.write_text("runtime: python311\n")
    with peers.echo() as echo, DevServer(tmp_path) as server:
        assert "PolicyDenied" in server.ask(f"/dial/{echo.port}").text
        yaml.write_text("runtime: [python311\n")
        server.wait_for("what ran goes on running")
        assert "PolicyDenied" in server.ask(f"/dial/{echo.port}").text
        since = server.mark
        yaml.write_text(f'outgate: {{except: ["127.0.0.1:{echo.port}"]}}\n')
        server.wait_for("app.yaml has changed: starting all again")
        server.wait_for(r"Ctrl-C ends all", since=since)
        assert json.loads(server.ask(f"/dial/{echo.port}").text)["dialled"] == "connected"


def test_an_instance_that_dies_is_started_again(tmp_path: Path) -> None:
    """An instance that ends by itself is said so, with its status, and another takes its place."""
    (tmp_path / "main.py").write_text(WSGI)
    with DevServer(tmp_path) as server:
        first = json.loads(server.ask().text)["pid"]
        assert server.ask("/die").status == 502
        server.wait_for(r"default/0 ended with status 3; starts again in 1 s")
        server.wait_for(r"^default/0 .*policy 1", count=2)
        assert json.loads(server.ask().text)["pid"] != first


def test_a_folder_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """An instance whose folder has gone is said to be without, and runs again when the folder is there."""
    folder, aside = tmp_path / "app", tmp_path / "aside"
    folder.mkdir()
    (folder / "main.py").write_text(WSGI)
    with DevServer(tmp_path, "app", "--no-reload") as server:
        server.ask()
        folder.rename(aside)
        server.ask("/die")
        server.wait_for(r"default/0 could not be started \(.*No such file")
        assert server.ask().status == 503
        aside.rename(folder)
        server.wait_for(r"^default/0 .*policy 1", count=2)
        assert server.ask().status == 200


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("application = None", "main.py has no 'app'"),
        ("app = 3", "main:app is no app but int"),
        ("raise SystemExit('no database')", "no database"),
    ],
)
def test_an_instance_that_cannot_start(tmp_path: Path, code: str, says: str) -> None:
    """What an app says that does not start is printed as its last words, and pauses grow."""
    (tmp_path / "main.py").write_text(code)
    with DevServer(tmp_path) as server:
        server.wait_for(r"before it was ready; starts again in 1 s")
        server.wait_for(rf"^outgate +\|   .*{re.escape(says)}")
        server.wait_for(r"before it was ready; starts again in 2 s")


def test_a_port_in_use_names_who_has_it(tmp_path: Path) -> None:
    """A port that another process has is an error that names the process and the way out."""
    (tmp_path / "main.py").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = outgate("dev", "--port", taken.getsockname()[1], cwd=tmp_path)
    assert done.returncode == 2
    assert f"is in use by process {os.getpid()} (" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("service: [x", "app.yaml: line"),
        ("outgate: {alow: []}", "outgate.alow: unknown key"),
        ("instances: x", "instances"),
    ],
)
def test_a_broken_app_yaml_starts_nothing(tmp_path: Path, text: str, says: str) -> None:
    """A file that cannot be used ends the command with what is wrong in it, before anything is started."""
    (tmp_path / "app.yaml").write_text(text)
    done = outgate("dev", "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_at_the_end(tmp_path: Path, number: int) -> None:
    """Ctrl-C, and each signal like it, ends instances, what they started in sessions of their own, and the gate."""
    (tmp_path / "main.py").write_text(WSGI)
    server = DevServer(tmp_path)
    daemon = json.loads(server.ask("/daemon").text)["daemon"]
    folder = server.wait_for(r"--socket (\S+)/gate.sock")[1]
    started = server.descendants()
    assert daemon in started
    assert server.stop(number) == 0
    wait_until_ended(started)
    assert not os.path.exists(folder)


def test_nothing_serves_on_when_the_server_is_killed(tmp_path: Path) -> None:
    """A server that is killed without a word takes its instances and its gate along."""
    (tmp_path / "main.py").write_text(WSGI)
    server = DevServer(tmp_path)
    server.ask()
    started = server.descendants()
    folder = server.wait_for(r"--socket (\S+)/gate.sock")[1]
    server.process.kill()
    server.stop()
    wait_until_ended(started)
    shutil.rmtree(folder)


def test_without_its_gate_it_ends(tmp_path: Path) -> None:
    """A gate that dies ends the server, with a word and a status, as nothing could be reached any more."""
    (tmp_path / "main.py").write_text(WSGI)
    with DevServer(tmp_path) as server:
        server.ask()
        gate = next(
            pid for pid in server.descendants() if b"outgate.dev.gating" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        os.kill(gate, signal.SIGKILL)
        server.wait_for("the gate has ended")
        server.process.wait(PATIENCE)
        assert server.stop() == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runtime: python27", "does not list the library"),
        ("runtime: python27\nlibraries: [{name: ssl, version: latest}]", "TLS"),
        ("runtime: python311", "TLS"),
    ],
)
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_ssl_must_be_listed_by_the_original_rules(tmp_path: Path, text: str, says: str, kind: str) -> None:
    """S18: with runtime python27 an app has ssl only if app.yaml lists it; else ImportError has the line to add."""
    asks = "    try:\n        import ssl\n        said = ssl.PROTOCOL_TLS_CLIENT.name\n"
    asks += "    except ImportError as error:\n        said = str(error)\n"
    if kind == "wsgi":
        code = f"def app(e, start):\n{asks}    start('200 OK', [])\n    return [said.encode()]\n"
    else:
        code = (
            f"async def app(scope, receive, send):\n    if scope['type'] != 'http':\n        return\n{asks}"
            "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
            "    await send({'type': 'http.response.body', 'body': said.encode()})\n"
        )
    (tmp_path / "main.py").write_text(code)
    (tmp_path / "app.yaml").write_text(text)
    with DevServer(tmp_path) as server:
        answer = server.ask()
    assert answer.status == 200
    assert says in answer.text
    assert ("- name: ssl" in answer.text) == (says != "TLS")


def test_the_example(tmp_path: Path) -> None:
    """The sample's front end opens a connection, and the back end goes on with the same one, as the page shows."""
    folder = tmp_path / "devserver"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    partner = subprocess.Popen(
        [shutil.which("python3") or "python3", str(folder / "partner.py"), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert partner.stdout is not None
        port = partner.stdout.readline().split()[-1]
        front = folder / "front.yaml"
        front.write_text(front.read_text().replace("7119", port))
        with DevServer(folder, "front.yaml", "back.yaml") as server:
            assert server.ask("/say", method="POST", body=b"text=good+evening").status == 303
            server.wait_for(r"^default/0 .*heard: back end")
            page = server.ask().text
        lines = re.findall(r"<li>(front|back) end, process (\d+): connection (\d+), line (\d): you said: ([^<]*)", page)
        (_, opener, *first), (_, worker, *second) = lines
        assert [line[0] for line in lines] == ["front", "back"]
        assert opener != worker
        assert first == ["1", "1", f"hello, this is process {opener}"]
        assert second == ["1", "2", "good evening"]
    finally:
        partner.terminate()
        partner.communicate()
