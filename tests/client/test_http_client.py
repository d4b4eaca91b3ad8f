"""``http.client``, and what is made of it, goes over sockets or through URL Fetch, as profile and environment say."""

from __future__ import annotations

import contextlib
import http.client
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import trustme

from outgate.core.profiles import APP_ENGINE
from outgate.gate.configuration import config
from outgate.testing.running import RunningGate, ThreadGate
from support import web
from support.driven import Driven, Refused
from support.pythons import interpreters

THROUGH = "import os, urllib.request, http.client; os.environ['OUTGATE_HTTP'] = 'urlfetch'"
#: How a server sees which way a request came.
FETCHED = f"Python-urllib/{sys.version_info.major}.{sys.version_info.minor} outgate (app default)"
OVER_SOCKETS = f"Python-urllib/{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate that lets programs reach loopback."""
    with RunningGate() as running:
        yield running
        assert running.faults == []


@pytest.fixture
def program(gate: RunningGate) -> Iterator[Driven]:
    """A program whose http.client goes through URL Fetch."""
    with Driven(gate) as driven:
        driven.do(THROUGH)
        yield driven


def refused(program: Driven, code: str) -> Refused:
    """Return what a line raises."""
    with pytest.raises(Refused) as caught:
        program.do(code)
    return caught.value


def agent_of(gate: RunningGate | ThreadGate, before: str = "", **environ: str) -> str:
    """Return the User-Agent that a server sees of a program whose first act is urllib's, after some lines."""
    with web.server({"/": web.ok(b"hello")}) as server:
        code = f"{before}\nimport urllib.request\nprint(urllib.request.urlopen({server.url()!r}).read())"
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, env={**gate.environ(), **environ}, capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("b'hello'\n", "")
        return server.requests[0]["User-Agent"]


# --- which way --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def app_engine() -> Iterator[ThreadGate]:
    """A gate whose app has App Engine's rules."""
    settings = config.default_settings(os.getuid(), dev=True)
    app = replace(settings.apps["default"], profile=APP_ENGINE)
    with ThreadGate(replace(settings, apps=MappingProxyType({"default": app}))) as running:
        yield running
        assert running.faults == []


def test_sockets_are_the_default(gate: RunningGate) -> None:
    """Without the profile nothing is fetched unless the environment says so."""
    assert agent_of(gate) == OVER_SOCKETS
    assert agent_of(gate, OUTGATE_HTTP="urlfetch") == FETCHED


def test_the_profile() -> None:
    """With it all goes through URL Fetch, from the first contact on; either word in the environment says sockets."""
    with app_engine() as gate:
        assert agent_of(gate) == FETCHED
        assert agent_of(gate, "import socket; socket.socket().close()") == FETCHED
        assert agent_of(gate, OUTGATE_HTTP="sockets") == OVER_SOCKETS
        assert agent_of(gate, GAE_USE_SOCKETS_HTTPLIB="") == OVER_SOCKETS


@pytest.mark.parametrize(
    "before",
    ["import http.client", "import socket, ssl", "import email.utils", "import xmlrpc.client", "import _socket"],
)
def test_whatever_was_imported_before(gate: RunningGate, before: str) -> None:
    """http.client may come first, and bring socket along, or after it."""
    assert agent_of(gate, before, OUTGATE_HTTP="urlfetch") == FETCHED


def test_a_program_that_installs_the_client_itself(gate: RunningGate) -> None:
    """outgate.install() reaches an http.client that was there before."""
    environ = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    before = "import http.client, outgate; outgate.install()"
    assert agent_of(gate, before, OUTGATE_HTTP="urlfetch", **environ) == FETCHED


def test_a_copy_in_the_app(gate: RunningGate, tmp_path: Path) -> None:
    """The app's own copy of http/client.py uses sockets, as it did on App Engine."""
    (tmp_path / "myhttplib.py").write_bytes(Path(http.client.__file__).read_bytes())
    with web.server({"/": web.ok(b"hello")}) as server, Driven(gate) as program:
        program.do(THROUGH)
        program.do(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import myhttplib")
        program.do(f"c = myhttplib.HTTPConnection('127.0.0.1', {server.peer.port})")
        program.do("c.request('GET', '/')")
        assert program.do("c.getresponse().read().decode()") == "hello"
        assert server.requests[0]["User-Agent"] == ""


def test_requests_uses_sockets(gate: RunningGate, program: Driven) -> None:
    """urllib3 connects by itself, so what is made of it keeps its sockets."""
    with web.server({"/": web.ok(b"hello")}) as server:
        assert program.do(f"__import__('requests').get({server.url()!r}).text") == "hello"
        assert "outgate" not in server.requests[0]["User-Agent"]
        assert gate.wait_for(event="decision", port=server.peer.port)["path"] == "direct"


# --- what it is like --------------------------------------------------------------------------------------------------


def test_urllib(gate: RunningGate, program: Driven) -> None:
    """Answers, payloads, errors and redirects are what they are over sockets."""
    answers = {
        "/": web.redirect("/there"),
        "/there": web.ok(b"hello", "Set-Cookie: a", "Set-Cookie: b"),
        "/gone": web.ok(b"gone", status="410 Gone"),
    }
    with web.server(answers) as server:
        program.do(f"a = urllib.request.urlopen({server.url()!r}, timeout=10)")
        seen = "[a.status, a.reason, a.url, a.headers.get_all('Set-Cookie'), a.read().decode()]"
        assert program.do(seen) == [200, "OK", server.url("/there"), ["a", "b"], "hello"]
        program.do(f"urllib.request.urlopen({server.url('/there')!r}, data=b'a=1').close()")
        assert (server.requests[2].method, server.requests[2].body) == ("POST", b"a=1")
        why = refused(program, f"urllib.request.urlopen({server.url('/gone')!r})")
        assert (why.name, str(why)) == ("HTTPError", "HTTPError: HTTP Error 410: Gone")
        assert gate.wait_for(event="end", port=server.peer.port)["path"] == "relay"


def test_a_connection(program: Driven) -> None:
    """One is used for many requests; HEAD, bodies in chunks, packed answers and lengths are as over sockets."""
    packed = web.ok(b"packed", "Content-Encoding: gzip")
    with web.server({"/": web.ok(b"hello"), "/packed": packed}) as server:
        program.do(f"c = http.client.HTTPConnection('127.0.0.1', {server.peer.port}, timeout=10)")
        program.do(
            "def ask(*args, **options):\n"
            "    c.request(*args, **options)\n"
            "    a = c.getresponse()\n"
            "    return [a.status, a.getheader('Content-Length'), a.read().decode()]"
        )
        assert program.do("ask('GET', '/')") == [200, "5", "hello"]
        assert program.do("ask('HEAD', '/')") == [200, "5", ""]
        assert program.do("ask('POST', '/', iter([b'he', b'llo']))") == [200, "5", "hello"]
        assert program.do("ask('PUT', '/', __import__('io').BytesIO(b'hello'))") == [200, "5", "hello"]
        assert program.do("ask('GET', '/packed')") == [200, "6", "packed"], "it has asked for it as it is"
        assert program.do("ask('GET', '/none')") == [404, "0", ""]
        assert [request.body for request in server.requests[2:4]] == [b"hello"] * 2


def test_limits(program: Driven) -> None:
    """They are those of URL Fetch: ports, methods, sizes, time."""
    with web.server({"/": web.hang, "/large": web.ok(bytes(32 * 2**20 + 1))}) as server:
        assert refused(program, "urllib.request.urlopen('http://127.0.0.1:25/')").name == "InvalidURLError"
        assert refused(program, f"urllib.request.urlopen({server.url('/large')!r})").name == "ResponseTooLargeError"
        why = refused(program, f"urllib.request.urlopen({server.url()!r}, timeout=0.2)")
        assert (why.name, "TimeoutError" in why.kinds) == ("DeadlineExceededError", True)
        program.do(f"c = http.client.HTTPConnection('127.0.0.1', {server.peer.port})")
        program.do("c.request('OPTIONS', '/')")
        assert refused(program, "c.getresponse()").name == "InvalidMethodError"
        program.do("c.close()")
        assert refused(program, "c.request('POST', '/', bytes(12 * 2**20))").name == "PayloadTooLargeError"


def test_what_is_denied(program: Driven) -> None:
    """A refusal by the policy is the one that a socket would have had."""
    assert refused(program, "urllib.request.urlopen('http://10.0.0.1/')").name == "PolicyDenied"


def test_proxies_and_tunnels(program: Driven) -> None:
    """URL Fetch has none, and says so."""
    handler = "urllib.request.build_opener(urllib.request.ProxyHandler({'http': 'http://127.0.0.1:8080'}))"
    why = refused(program, f"{handler}.open('http://a.example/')")
    assert "URL Fetch uses no proxy" in str(why)
    program.do("c = http.client.HTTPConnection('127.0.0.1', 8080)")
    program.do("c.set_tunnel('a.example')")
    why = refused(program, "c.request('GET', '/')")
    assert str(why) == "NotImplementedError: HTTP CONNECT Tunnelling is not supported"


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate's authorities count, and a context that asks for no certificate asks for none here either."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))

    def read(gate: RunningGate, server: web.Server, context: str) -> Any:
        with Driven(gate) as program:
            program.do(f"{THROUGH}; import ssl")
            return program.do(f"urllib.request.urlopen({server.url()!r}, context={context}).read().decode()")

    with web.server({"/": web.ok(b"hello")}, context) as server:
        with RunningGate() as gate:
            with pytest.raises(Refused) as caught:
                read(gate, server, "None")
            assert caught.value.name == "SSLCertificateError"
            assert read(gate, server, "ssl._create_unverified_context()") == "hello"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with RunningGate() as gate:
            assert read(gate, server, "None") == "hello"


def test_threads(program: Driven) -> None:
    """Each connection is its thread's own."""
    with web.server({"/": web.ok(b"hello")}) as server:
        program.do(
            "from concurrent.futures import ThreadPoolExecutor\n"
            f"def read(_): return urllib.request.urlopen({server.url()!r}).read().decode()\n"
            "with ThreadPoolExecutor(10) as pool: read_all = list(pool.map(read, range(50)))"
        )
        assert program.do("read_all") == ["hello"] * 50


# --- other Pythons ----------------------------------------------------------------------------------------------------

PROGRAM = """
import http.client, sys, urllib.request
from outgate import urlfetch
url, port = sys.argv[1], int(sys.argv[2])
assert urlfetch.fetch(url, payload="a", method="POST").content == urllib.request.urlopen(url).read() == b"hello"
connection = http.client.HTTPConnection("127.0.0.1", port)
connection.request("PUT", "/", iter([b"a"]))
assert connection.getresponse().read() == b"hello"
for wrong, kind in (("http://127.0.0.1:22/", ValueError), ("http://10.0.0.1/", PermissionError)):
    try:
        urlfetch.fetch(wrong)
    except kind as error:
        print(type(error).__name__)
"""


@pytest.mark.pythons
@pytest.mark.parametrize("version", ["3.9", "3.10", "3.11", "3.12", "3.13"])
def test_other_pythons(gate: RunningGate, version: str) -> None:
    """A program of each Python fetches, by either way."""
    path = interpreters().get(version)
    if path is None:
        pytest.skip(f"no Python {version} on this machine")
    with web.server({"/": web.ok(b"hello")}) as server:
        command = [path, "-W", "error", "-c", PROGRAM, server.url(), str(server.peer.port)]
        environ = {**gate.environ(), "OUTGATE_HTTP": "urlfetch"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)
        assert (done.stdout.split(), done.stderr) == (["InvalidURLError", "PolicyDenied"], "")
        assert [request.body for request in server.requests] == [b"a", b"", b"a"]
