"""What runs in an instance: apps are told apart, ssl is denied and lifted, deferred functions have outcomes."""

from __future__ import annotations

import asyncio
import functools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outgate.dev.inside import deferred, loading
from outgate.dev.taskqueue import PermanentTaskFailure
from outgate.errors import build
from outgate.urlfetch import in_task


def wsgi(environ: Any, start_response: Any) -> Any:
    """A plain WSGI app."""


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """A plain ASGI app."""


class WsgiObject:
    """As Flask and Django have it."""

    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class AsgiObject:
    """As Starlette has it."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


class AsgiPlainObject:
    """One whose call is a function that returns an awaitable."""

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any: ...


class WsgiClass:
    """One whose instances are the answer."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...


@pytest.mark.parametrize(
    ("app", "kind"),
    [
        (wsgi, loading.WSGI),
        (asgi, loading.ASGI),
        (WsgiObject(), loading.WSGI),
        (AsgiObject(), loading.ASGI),
        (AsgiObject().__call__, loading.ASGI),
        (AsgiPlainObject(), loading.ASGI),
        (WsgiClass, loading.WSGI),
        (lambda environ, start_response, extra=None: None, loading.WSGI),
        (functools.partial(asgi), loading.ASGI),
        (functools.partial(lambda log, environ, start_response: None, "log"), loading.WSGI),
        (print, loading.WSGI),
    ],
)
def test_interfaces(app: Any, kind: str) -> None:
    """WSGI and ASGI are told apart by how the object would be called."""
    assert loading.interface(app) == kind


def test_paths_choose_among_apps() -> None:
    """The first handler that matches answers; what none matches goes to the last."""
    routes = [("/a/.*", "first"), ("/.*", "second"), ("/b", "third")]
    assert [loading.choose(routes, path) for path in ("/a/x", "/a", "/b", "*")] == [
        "first",
        "second",
        "second",
        "third",
    ]


def test_a_plain_function_is_done() -> None:
    """A call that returns is over."""
    assert deferred.run("t", pickle.dumps((len, ("abc",), {}))) == (200, "")


def test_only_the_queue_may_defer(capsys: pytest.CaptureFixture[str]) -> None:
    """Without the header that only the queue sets nothing is unpickled."""
    assert deferred.run(None, pickle.dumps((print, ("called",), {}))).status == 403
    assert deferred.run("", pickle.dumps((print, ("called",), {}))).status == 403
    assert capsys.readouterr().out == ""


class Raises:
    """Raises when it is unpickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        return _throw, (self.error,)


def _throw(error: BaseException) -> None:
    raise error


def _give_up() -> None:
    raise PermanentTaskFailure("over")


@pytest.mark.parametrize(
    ("body", "status", "failed"),
    [
        (b"", 200, "EOFError"),
        (b"garbage", 200, "UnpicklingError"),
        (pickle.dumps("no call"), 200, "ValueError"),
        (b"cno_such_module\nname\n.", 200, "ModuleNotFoundError"),
        (pickle.dumps((_give_up, (), {})), 200, "PermanentTaskFailure: over"),
        (pickle.dumps((_throw, (OSError("again"),), {})), 500, ""),
        (pickle.dumps((int, ("x",), {})), 500, ""),
        (pickle.dumps((len, (Raises(build("unknown-descriptor", {})),), {})), 200, "UnknownDescriptor"),
        (pickle.dumps((len, (Raises(build("gate-unavailable", {"path": "/x", "why": "none"})),), {})), 500, ""),
    ],
)
def test_outcomes(body: bytes, status: int, failed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What can never be unpickled has failed for good; what a gate or the function says may change is called again."""
    outcome = deferred.run("t", body)
    assert outcome.status == status
    assert (failed in outcome.failed) if failed else not outcome.failed
    assert "Traceback" in capsys.readouterr().err


def test_failures_fit_a_header() -> None:
    """Whatever an exception says, the header is one line of ASCII."""
    ((name, value),) = deferred.header(deferred.Outcome(200, "ä\nsecond line " + "x" * 1000))
    assert name == "X-Outgate-Task-Failed"
    assert value == "\\xe4"


def test_ssl_is_denied_but_where_it_is_lifted(tmp_path: Path) -> None:
    """S18: import ssl raises ImportError with the line to add; while lifted it works, and raises again after."""
    code = """
from outgate.dev.inside import banned
banned.ban()
def tries():
    try:
        import ssl
    except ImportError as error:
        return str(error)
    return ssl.__name__
first = tries()
with banned.lifted():
    second = tries()
import http.client  # lives without
print(repr(first), second, tries() == first, "- name: ssl" in first)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.startswith("'No module named _ssl: app.yaml does not list the library; add")
    assert done.stdout.endswith(" ssl True True\n")


# --- tasks may wait longer for what they fetch ------------------------------------------------------------------------


def test_a_request_of_a_queue_is_a_task() -> None:
    """What serves it, WSGI or ASGI, may wait ten minutes for a fetch; the next request in the same thread may not."""
    seen: list[bool] = []

    def plain(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(in_task.get())
        return []

    async def modern(scope: Any, receive: Any, send: Any) -> None:
        seen.append(in_task.get())

    serve = loading.around_wsgi([(".*", plain)])
    for headers in ({"HTTP_X_APPENGINE_QUEUENAME": "default"}, {}):
        serve({"PATH_INFO": "/work", "REQUEST_METHOD": "POST", **headers}, None)
    around = loading.around_asgi([(".*", modern)])
    for pairs in ([(b"x-appengine-queuename", b"default")], []):
        asyncio.run(around({"type": "http", "path": "/work", "method": "POST", "headers": pairs}, None, None))
    assert seen == [True, False, True, False]
