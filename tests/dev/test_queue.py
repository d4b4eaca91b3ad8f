"""The task queue for real: tasks reach their handlers as App Engine's did, again after failures, sockets included."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support import peers
from support.devserver import DevServer

pytestmark = pytest.mark.slow

#: Adds tasks as the request says, prints what its handlers are told, and fails as often as it is asked to.
FRONT = """
import json, os, socket
from outgate.dev import taskqueue
import work

tries = {}

def app(environ, start_response):
    path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
    status, said = "200 OK", ""
    try:
        if path == "/add":
            said = taskqueue.add(**json.loads(body))
        elif path == "/defer":
            given = json.loads(body)
            said = taskqueue.defer(getattr(work, given.pop("function")), *given.pop("args", ()), **given)
        elif path == "/lend":
            with socket.create_connection(("127.0.0.1", int(os.environ["ECHO"]))) as sock:
                sock.sendall(b"from the front\\n")
                sock.recv(100)
                said = taskqueue.defer(work.use, sock, _target="back")
        elif path.startswith("/fail"):
            name = environ["HTTP_X_APPENGINE_TASKNAME"]
            tries[name] = tries.get(name, 0) + 1
            status = "200 OK" if tries[name] > int(path[5:]) else "503 Service Unavailable"
    except Exception as error:
        status, said = "400 Bad Request", f"{type(error).__name__}: {error}"
    told = {k: v for k, v in environ.items() if "APPENGINE" in k or k == "CONTENT_TYPE"}
    print("told", json.dumps({"path": path, "method": environ["REQUEST_METHOD"],
                              "body": body.decode("latin-1"),
                              "service": os.environ["GAE_SERVICE"], **told}), flush=True)
    start_response(status, [])
    return [said.encode()]
"""

BACK = """
import work

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
"""

WORK = '''
import os
from outgate.dev.taskqueue import PermanentTaskFailure

calls = 0

class Poison:
    """Pickles well, and opens nowhere."""
    def __reduce__(self):
        return int, ("not a number",)

def say(*args, **kwargs):
    print("said", os.environ["GAE_SERVICE"], args, kwargs, flush=True)

async def say_later(text):
    say(text)

def poisoned():
    from outgate.dev import taskqueue
    taskqueue.defer(say, Poison())

def give_up(why):
    raise PermanentTaskFailure(why)

def second_time():
    global calls
    calls += 1
    if calls < 2:
        raise RuntimeError("not yet")
    say("at last")

def use(sock):
    sock.sendall(b"from the back\\n")
    say(sock.recv(100).decode().strip(), os.getpid())
    sock.close()
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A front end and a back end with one module in common; the queue "mail" is the back end's."""
    folder = tmp_path_factory.mktemp("queue")
    with peers.echo() as echo:
        (folder / "front.py").write_text(FRONT)
        (folder / "back.py").write_text(BACK)
        (folder / "work.py").write_text(WORK)
        (folder / "front.yaml").write_text(
            f"entrypoint: gunicorn front:app\nenv_variables: {{ECHO: '{echo.port}'}}\n"
            f"outgate: {{except: ['127.0.0.1:{echo.port}'], tasks: {{mail: back}}}}\n"
        )
        (folder / "back.yaml").write_text("entrypoint: gunicorn back:app\nservice: back\n")
        with DevServer(folder, "front.yaml", "back.yaml", "--no-reload") as server:
            yield server


def call(server: DevServer, path: str, **given: object) -> str:
    """Ask the front end; return what it answered."""
    return server.ask(path, method="POST", body=json.dumps(given).encode()).text


def told(server: DevServer, path: str, since: int, count: int = 1) -> dict[str, str]:
    """Return what the handler of a path was told."""
    line = server.wait_for(rf'told (.*"path": "{path}".*)', since=since, count=count)[1]
    said: dict[str, str] = json.loads(line)
    return said


def test_a_task_is_posted_as_push_queues_did(server: DevServer) -> None:
    """The handler gets path, form, type and the headers of App Engine, the name that add() returned among them."""
    since = server.mark
    name = call(server, "/add", url="/work", payload={"a": "1 2"}, queue="slow", headers={"X-Own": "v"})
    said = told(server, "/work", since)
    assert (said["method"], said["body"]) == ("POST", "a=1+2")
    assert said["CONTENT_TYPE"] == "application/x-www-form-urlencoded"
    assert said["HTTP_X_APPENGINE_TASKNAME"] == name
    assert said["HTTP_X_APPENGINE_QUEUENAME"] == "slow"
    assert said["HTTP_X_APPENGINE_TASKRETRYCOUNT"] == said["HTTP_X_APPENGINE_TASKEXECUTIONCOUNT"] == "0"
    assert said["service"] == "default"


def test_a_task_that_fails_is_tried_again(server: DevServer) -> None:
    """Until a handler answers with a good status it is called again, and told how often it was and what it said."""
    since = server.mark
    name = call(server, "/add", url="/fail2")
    for count in (1, 2, 3):
        said = told(server, "/fail2", since, count)
        assert said["HTTP_X_APPENGINE_TASKNAME"] == name
        assert said["HTTP_X_APPENGINE_TASKRETRYCOUNT"] == str(count - 1)
        assert said["HTTP_X_APPENGINE_TASKEXECUTIONCOUNT"] == str(count - 1)
        assert said.get("HTTP_X_APPENGINE_TASKPREVIOUSRESPONSE") == ("503" if count > 1 else None)
    server.wait_for(rf"task {name} of queue default: default answered 503; retry 2 in 0.2 s", since=since)


def test_a_name_is_taken_once(server: DevServer) -> None:
    """A second task of a name is refused by its class, also when the first is done, and in another queue it is not."""
    since = server.mark
    assert call(server, "/add", url="/once", name="one") == "one"
    told(server, "/once", since)
    assert call(server, "/add", url="/once", name="one").startswith("TaskAlreadyExistsError")
    assert call(server, "/add", url="/once", name="one", queue="other") == "one"


def test_a_countdown_is_kept(server: DevServer) -> None:
    """A task with a countdown comes after one without that was added later."""
    since = server.mark
    call(server, "/add", url="/later", countdown=1)
    call(server, "/add", url="/at-once")
    order = [server.wait_for(r'told .*"path": "(/later|/at-once)"', since=since, count=count)[1] for count in (1, 2)]
    assert order == ["/at-once", "/later"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "/x", "payload": "x" * 102_400}, "TaskTooLargeError"),
        ({"url": "/x", "target": "nobody"}, "UnknownTargetError: no service of default is 'nobody'"),
        ({"url": "http://x/"}, "InvalidTaskError"),
        ({"url": "/x", "queue": "a b"}, "InvalidQueueNameError"),
    ],
)
def test_what_cannot_be_added(server: DevServer, given: dict[str, object], says: str) -> None:
    """Too large, for nobody, with no path, for a queue without a name: each is its own error in the app."""
    assert call(server, "/add", **given).startswith(says)


def test_which_service_runs_a_task(server: DevServer) -> None:
    """A deferred function runs where it was deferred, where the queue's tasks run, or where its target says."""
    for options, service in (({}, "default"), ({"_queue": "mail"}, "back"), ({"_target": "back"}, "back")):
        since = server.mark
        call(server, "/defer", function="say", args=[service], key="v", **options)
        assert server.wait_for(r"said (\w+) \('(\w+)',\) {'key': 'v'}", since=since).groups() == (service, service)


def test_a_coroutine_function_can_be_deferred(server: DevServer) -> None:
    """A deferred coroutine function is run to its end, in a WSGI and in an ASGI service."""
    for target in ("default", "back"):
        since = server.mark
        call(server, "/defer", function="say_later", args=["x"], _target=target)
        server.wait_for(rf"said {target} \('x',\)", since=since)


def test_an_open_socket_goes_from_front_end_to_back_end(server: DevServer) -> None:
    """S3: a socket that the front end opened and used is pickled into a task, and the back end goes on with it."""
    since = server.mark
    call(server, "/lend")
    pid = server.wait_for(r"said back \('from the back', (\d+)\)", since=since)[1]
    assert int(pid) in server.descendants()


def test_a_payload_that_cannot_be_unpickled_fails_for_good(server: DevServer) -> None:
    """Such a task is not tried again: the terminal says so and why, and the next task of the queue runs."""
    since = server.mark
    call(server, "/defer", function="poisoned")
    line = server.wait_for(r"^outgate .*task (\w+) of queue default has failed for good: (.*)", since=since)
    assert "cannot be unpickled: ValueError" in line[2]
    call(server, "/defer", function="say", args=["after"])
    server.wait_for(r"said default \('after',\)", since=since)
    assert f"task {line[1]} of queue default: " not in server.printed, "no retry was announced"


def test_a_function_can_give_up(server: DevServer) -> None:
    """PermanentTaskFailure ends a task with its words; any other exception has it called again."""
    since = server.mark
    call(server, "/defer", function="give_up", args=["the day is over"])
    server.wait_for(r"^outgate .*failed for good: PermanentTaskFailure: the day is over", since=since)
    call(server, "/defer", function="second_time", _target="back")
    server.wait_for(r"said back \('at last',\)", since=since)


def test_who_adds_a_task_is_told_that_it_has_failed_for_good(server: DevServer) -> None:
    """The path that a task names gets the reason as text, in the service that added it; a success is not told."""
    since = server.mark
    call(server, "/defer", function="give_up", args=["the day is over"], _target="back", _on_failure="/done-for/42")
    said = told(server, "/done-for/42", since)
    assert (said["service"], said["method"]) == ("default", "POST")
    assert said["body"] == "PermanentTaskFailure: the day is over"
    assert said["HTTP_X_APPENGINE_QUEUENAME"] == "default"
    since = server.mark
    call(server, "/defer", function="say", args=["well"], _on_failure="/done-for/43")
    call(server, "/defer", function="give_up", args=["again"], _on_failure="/done-for/44")
    told(server, "/done-for/44", since)
    assert '"path": "/done-for/43"' not in server.printed
    assert "InvalidTaskError: on_failure" in call(server, "/add", url="/work", on_failure="no path")


@pytest.mark.parametrize(
    "line", [b"\n", b"nonsense\n", b"[]\n", b'{"url": "/x"}\n', b"[" * 100_000 + b"\n", b"x" * 500_000 + b"\n"]
)
def test_what_is_no_task_is_answered_or_cut(server: DevServer, line: bytes) -> None:
    """Whatever is written to the queue's socket, it answers or hangs up, and takes the next task."""
    import os
    import socket

    folder = server.wait_for(r"--socket (\S+)/gate.sock")[1]
    path = next(os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("t") and "." not in name)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        try:
            sock.sendall(line)
            answer = sock.recv(10_000)
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
    assert not answer or json.loads(answer)["error"] == "InvalidTaskError"
    since = server.mark
    call(server, "/add", url="/still-there")
    told(server, "/still-there", since)
