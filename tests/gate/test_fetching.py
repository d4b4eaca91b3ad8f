"""URL Fetch through a real gate: what comes back, what is refused, and what becomes of what goes wrong."""

from __future__ import annotations

import errno
import gzip
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from outgate.testing.running import RunningGate
from support import peers, web
from support.driven import Driven, Refused

pytestmark = pytest.mark.slow

MIB = 2**20


@pytest.fixture(scope="module")
def gate() -> Iterator[RunningGate]:
    """A gate that lets programs reach loopback."""
    with RunningGate() as running:
        yield running
        assert running.faults == []


@pytest.fixture(scope="module")
def program(gate: RunningGate) -> Iterator[Driven]:
    """A program that fetches."""
    with Driven(gate) as driven:
        driven.do("from outgate import urlfetch")
        yield driven


def fetched(program: Driven, url: str, read: str, **options: Any) -> Any:
    """Have the program fetch a URL, and return what an expression on the answer ``a`` says."""
    program.do(f"a = urlfetch.fetch({url!r}, **{options!r})")
    return program.do(read)


def refused(program: Driven, url: str, **options: Any) -> Refused:
    """Return what a fetch of a URL raises."""
    with pytest.raises(Refused) as caught:
        program.do(f"urlfetch.fetch({url!r}, **{options!r})")
    return caught.value


# --- what comes back --------------------------------------------------------------------------------------------------


def test_an_answer(program: Driven) -> None:
    """It has status, headers with repeats, content, and no final URL where nothing redirected."""
    with web.server({"/x?y": web.ok(b"hello", "X-A: 1", "X-A: 2", status="404 Not Found")}) as server:
        seen = "[a.status_code, a.content.decode(), a.headers['x-a'], a.headers.get_all('X-A'), a.final_url,"
        seen += " a.content_was_truncated, a.header_msg.get_all('X-A')]"
        answer = [404, "hello", "1, 2", ["1", "2"], None, False, ["1", "2"]]
        assert fetched(program, server.url("/x?y#z"), seen) == answer
        (request,) = server.requests
        assert (request.method, request.path, request.body) == ("GET", "/x?y", b"")
        assert request["Host"] == f"127.0.0.1:{server.peer.port}"
        assert request["User-Agent"] == "outgate (app default)"


def test_what_is_sent(program: Driven) -> None:
    """Payload, method and headers go as they are, but for those that are the gate's to say."""
    headers = [("X-A", "1"), ("X-A", "2"), ("Host", "evil.example"), ("Content-Length", "7"), ("User-Agent", "x/1")]
    with web.server({"/": web.ok(b"")}) as server:
        assert fetched(program, server.url(), "a.content.decode()", payload="häh", method="put", headers=headers) == ""
        (request,) = server.requests
        assert (request.method, request.body) == ("PUT", "häh".encode())
        assert [value for name, value in request.headers if name == "X-A"] == ["1", "2"]
        assert request["Host"] == f"127.0.0.1:{server.peer.port}"
        assert request["Content-Length"] == "4"
        assert request["User-Agent"] == "x/1 outgate (app default)"


def test_the_largest_payload_and_answer(program: Driven) -> None:
    """10 MiB go, 32 MiB come, and a byte more of either does not."""
    with web.server({"/": web.ok(bytes(32 * MIB)), "/more": web.ok(bytes(32 * MIB + 1))}) as server:
        program.do(f"a = urlfetch.fetch({server.url()!r}, payload=bytes({10 * MIB}), method='POST', deadline=30)")
        assert program.do("[len(a.content), any(a.content)]") == [32 * MIB, False]
        assert len(server.requests[0].body) == 10 * MIB
        with pytest.raises(Refused) as caught:
            program.do(f"urlfetch.fetch({server.url()!r}, payload=bytes({10 * MIB + 1}), method='POST')")
        assert (caught.value.name, caught.value.errno) == ("PayloadTooLargeError", errno.EMSGSIZE)
        why = refused(program, server.url("/more"), deadline=30)
        assert (why.name, why.errno, why.code) == ("ResponseTooLargeError", errno.EFBIG, "fetch-response")
        assert len(server.requests) == 2, "the third was not even sent"


def test_an_endless_answer(program: Driven) -> None:
    """One that does not say its length ends at the limit: as an error, or cut there if that is asked for."""

    def pour(connection: peers.Connection, request: web.Request) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")

    with web.server({"/": pour}) as server:
        assert refused(program, server.url(), deadline=60).name == "ResponseTooLargeError"
        seen = "[len(a.content), a.content_was_truncated]"
        assert fetched(program, server.url(), seen, deadline=60, allow_truncated=True) == [32 * MIB, True]
        for connection in server.peer.connections:
            assert connection.wait().error is not None, "the gate has ended it"


def test_what_is_packed(program: Driven) -> None:
    """gzip is unpacked, and no header says any more that it was packed; who asks for it himself gets it as it is."""
    packed = gzip.compress(b"hello")
    with web.server({"/": web.ok(packed, "Content-Encoding: gzip")}) as server:
        seen = "[a.content.hex(), sorted(a.headers)]"
        assert fetched(program, server.url(), seen) == [b"hello".hex(), []]
        whole = [packed.hex(), ["Content-Encoding", "Content-Length"]]
        assert fetched(program, server.url(), seen, headers={"Accept-Encoding": "gzip"}) == whole
        assert fetched(program, server.url(), seen, method="HEAD") == ["", ["Content-Encoding", "Content-Length"]]


def test_a_bomb(gate: RunningGate, program: Driven) -> None:
    """What unpacks to more than the limit is refused; the gate has passed it on packed, and never had it unpacked."""
    bomb = gzip.compress(bytes(100 * MIB))
    with web.server({"/": web.ok(bomb, "Content-Encoding: gzip")}) as server:
        assert refused(program, server.url()).name == "ResponseTooLargeError"
        seen = "[len(a.content), a.content_was_truncated]"
        assert fetched(program, server.url(), seen, allow_truncated=True) == [32 * MIB, True]
        assert gate.wait_for(event="end", port=server.peer.port)["received"] < MIB


def test_answers_without_content(program: Driven) -> None:
    """To HEAD, and where the status says that there is none."""
    answers = {"/": web.ok(b"hello"), "/204": b"HTTP/1.1 204 No Content\r\n\r\n"}
    with web.server(answers) as server:
        assert fetched(program, server.url(), "[a.content.hex(), a.headers['content-length']]", method="HEAD") == [
            "",
            "5",
        ]
        assert fetched(program, server.url("/204"), "[a.status_code, a.content.hex()]") == [204, ""]


# --- redirects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(program: Driven, status: int) -> None:
    """They are followed: with the payload once more where the status says so, else by GET, without it."""
    with web.server({"/": web.redirect("/there?x", f"{status} On"), "/there?x": web.ok(b"hello")}) as server:
        seen = "[a.content.decode(), a.final_url]"
        assert fetched(program, server.url(), seen, payload="p" * 100_000, method="POST") == [
            "hello",
            server.url("/there?x"),
        ]
        kept = status in (307, 308)
        assert server.requests[1].method == ("POST" if kept else "GET")
        assert len(server.requests[1].body) == (100_000 if kept else 0)


def test_redirects_are_not_followed_where_the_program_does_not_want_it(program: Driven) -> None:
    """Then the redirect is the answer."""
    with web.server({"/": web.redirect("/there")}) as server:
        seen = "[a.status_code, a.headers['location'], a.final_url]"
        assert fetched(program, server.url(), seen, follow_redirects=False) == [302, "/there", None]
        assert len(server.requests) == 1


def test_a_loop(program: Driven) -> None:
    """The sixth redirect is not followed."""
    with web.server({"/": web.redirect("/")}) as server:
        why = refused(program, server.url())
        assert (why.name, why.errno) == ("TooManyRedirectsError", errno.ELOOP)
        assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("where", "name", "code"),
    [
        ("http://10.0.0.1/", "PolicyDenied", "policy-denied"),
        ("http://169.254.169.254/latest/meta-data", "PolicyDenied", "policy-denied"),
        ("http://[fd00::1]/", "PolicyDenied", "policy-denied"),
        ("http://[::ffff:10.0.0.1]/", "PolicyDenied", "policy-denied"),
        ("http://0x0a000001/", "PolicyDenied", "policy-denied"),
        ("http://127.0.0.1:25/", "InvalidURLError", "fetch-url"),
        ("ftp://127.0.0.1/", "InvalidURLError", "fetch-url"),
        ("file:///etc/passwd", "InvalidURLError", "fetch-url"),
        ("//:x", "MalformedReplyError", "fetch-malformed"),
        ("http://xn--/", "InvalidURLError", "fetch-url"),
        ("http://" + "x" * 11_000, "InvalidURLError", "fetch-url"),
    ],
)
def test_a_redirect_is_judged_like_the_first(program: Driven, where: str, name: str, code: str) -> None:
    """Where it leads to what the program may not reach, or URL Fetch does not fetch, the fetch ends so."""
    with web.server({"/": web.redirect(where)}) as server:
        why = refused(program, server.url())
        assert (why.name, why.code) == (name, code), why
        assert len(server.requests) == 1


def test_a_redirect_elsewhere_takes_no_secret_along(program: Driven) -> None:
    """Another server gets neither the Authorization nor the Cookie that the program meant for the first."""
    with web.server({"/": web.ok(b"")}) as other, web.server({"/": web.redirect(other.url())}) as server:
        secrets = {"Authorization": "Basic secret", "Cookie": "session=secret", "X-A": "1"}
        fetched(program, server.url(), "a.status_code", headers=secrets)
        assert server.requests[0]["Authorization"] == "Basic secret"
        assert (other.requests[0]["Authorization"], other.requests[0]["Cookie"]) == ("", "")
        assert other.requests[0]["X-A"] == "1"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "options", "name"),
    [
        ("ftp://a.example/", {}, "InvalidURLError"),
        ("http:///x", {}, "InvalidURLError"),
        ("nonsense", {}, "InvalidURLError"),
        ("", {}, "InvalidURLError"),
        ("http://127.0.0.1:22/", {}, "InvalidURLError"),
        ("http://127.0.0.1:99999/", {}, "InvalidURLError"),
        ("http://127.0.0.1:8080/" + "x" * 20_000, {}, "InvalidURLError"),
        ("http://127.0.0.1:8080/" + "x" * 70_000, {}, "InvalidURLError"),
        ("http://127.0.0.1:8080/\r\nX-A: 1", {}, "InvalidURLError"),
        ("http://a b/", {}, "DNSLookupFailedError"),
        ("http://xn--/", {}, "InvalidURLError"),
        ("http://a:b/", {}, "InvalidURLError"),
        ("http://[::1", {}, "InvalidURLError"),
        ("http://a/\x7f", {}, "InvalidURLError"),
        ("http://a/\ud800", {}, "UnicodeEncodeError"),
        ("http://127.0.0.1:8080/", {"method": "TRACE"}, "InvalidMethodError"),
        ("http://127.0.0.1:8080/", {"method": "GET / HTTP/1.1\r\nX:"}, "InvalidMethodError"),
        ("http://127.0.0.1:8080/", {"headers": {"X-A": "1\r\nX-B: 2"}}, "InvalidHeaderError"),
        ("http://127.0.0.1:8080/", {"headers": {"X-A\r\nX-B": "1"}}, "InvalidHeaderError"),
        ("http://127.0.0.1:8080/", {"headers": {"X-A": "日"}}, "InvalidHeaderError"),
        ("http://127.0.0.1:8080/", {"headers": {"X-A": "x" * 17_000}}, "InvalidHeaderError"),
        ("http://127.0.0.1:8080/", {"headers": {"X-A": "x" * 3_000_000}}, "InvalidHeaderError"),
        ("http://127.0.0.1:8080/", {"deadline": 0}, "ValueError"),
        ("http://127.0.0.1:8080/", {"deadline": -1}, "ValueError"),
        ("http://10.0.0.1/", {}, "PolicyDenied"),
    ],
)
def test_what_is_no_request(program: Driven, url: str, options: dict[str, Any], name: str) -> None:
    """It is refused by name, before anything is looked up or connected."""
    why = refused(program, url, **options)
    assert why.name == name, why
    assert "OSError" in why.kinds or "ValueError" in why.kinds


def test_a_line_in_a_url_stays_in_it(program: Driven) -> None:
    """What a URL cannot have is quoted, and comes as part of the path."""
    with web.server({"/%C3%A4%20b": web.ok(b"hello")}) as server:
        assert fetched(program, server.url("/ä b"), "a.content.decode()") == "hello"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_nobody_listens(program: Driven) -> None:
    """A refused connection has its own errno."""
    with peers.refusing() as (host, port):
        why = refused(program, f"http://{host}:{port}/")
        assert (why.name, why.errno) == ("DownloadError", errno.ECONNREFUSED)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"", "ConnectionClosedError"),
        (b"HTTP/1.1 200 OK\r\nX-A", "ConnectionClosedError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "ConnectionClosedError"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "ConnectionClosedError"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "MalformedReplyError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", "MalformedReplyError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "MalformedReplyError"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "MalformedReplyError"),
        (b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 200_000 + b"\r\n\r\n", "MalformedReplyError"),
        (web.ok(b"no gzip", "Content-Encoding: gzip"), "MalformedReplyError"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000, "ConnectionClosedError"),
    ],
)
def test_a_server_that_stops_or_talks_nonsense(program: Driven, answer: bytes, name: str) -> None:
    """Half an answer is never taken for a whole one."""
    with web.server({"/": answer}) as server:
        assert refused(program, server.url()).name == name


def test_a_deadline(gate: RunningGate, program: Driven) -> None:
    """A server that says nothing is left when it is over, and its connection is ended."""
    with web.server({"/": web.hang}) as server:
        why = refused(program, server.url(), deadline=0.2)
        assert (why.name, why.errno, "TimeoutError" in why.kinds) == ("DeadlineExceededError", errno.ETIMEDOUT, True)
        assert "deadline of 0.2 s exceeded while waiting for HTTP response from URL" in str(why)
        assert server.peer.accepted().wait().saw_end
        assert gate.wait_for(event="end", port=server.peer.port)["how"] == "closed"


def test_a_deadline_is_of_the_whole_answer(program: Driven) -> None:
    """One that comes byte by byte does not go on for ever."""
    with web.server({"/": _dribble}) as server:
        assert refused(program, server.url(), deadline=0.3).name == "DeadlineExceededError"
        server.peer.accepted().wait()


def _dribble(connection: peers.Connection, request: web.Request) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
    connection.socket.settimeout(0.01)
    while True:
        connection.send(b"x")
        try:
            connection.receive()
            return
        except TimeoutError:
            pass


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that makes certificates."""
    return trustme.CA()


def tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return the context of a server with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    """A program of a gate that trusts the authority, by its environment; the program does not."""
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with RunningGate() as gate:
        monkeypatch.delenv("SSL_CERT_FILE")
        with Driven(gate) as driven:
            driven.do("from outgate import urlfetch")
            yield driven
        assert gate.faults == []


def test_certificates(authority: trustme.CA, trusting: Driven) -> None:
    """One from an authority that the gate trusts, and for the host, is good; all else is refused, unless asked for."""
    good, wrong = tls(authority, "127.0.0.1"), tls(authority, "other.example")
    with web.server({"/": web.ok(b"hello")}, good) as server, web.server({"/": web.ok(b"hello")}, wrong) as other:
        assert fetched(trusting, server.url(), "a.content.decode()") == "hello"
        why = refused(trusting, other.url())
        assert (why.name, why.errno) == ("SSLCertificateError", errno.EPROTO)
        assert "IP address mismatch" in str(why)
        assert fetched(trusting, other.url(), "a.content.decode()", validate_certificate=False) == "hello"


def test_an_unknown_authority(authority: trustme.CA, program: Driven) -> None:
    """Its certificates are refused, and nothing of the request is sent."""
    with web.server({"/": web.ok(b"hello")}, tls(authority, "127.0.0.1")) as server:
        assert refused(program, server.url()).name == "SSLCertificateError"
        assert server.requests == []


def test_a_server_without_tls(program: Driven) -> None:
    """https where http is spoken is no certificate's fault."""

    def answer(connection: peers.Connection) -> None:
        connection.send(web.ok(b"", status="400 Bad Request"))
        connection.drain()

    with peers.Peer(answer) as peer:
        why = refused(program, f"https://127.0.0.1:{peer.port}/")
        assert (why.name, why.errno) == ("DownloadError", errno.EPROTO)


def test_a_large_answer_and_payload_by_tls(authority: trustme.CA, trusting: Driven) -> None:
    """They come and go whole."""
    with web.server({"/": web.ok(bytes(20 * MIB))}, tls(authority, "127.0.0.1")) as server:
        options = {"payload": "x" * (5 * MIB), "method": "PUT", "deadline": 30}
        assert fetched(trusting, server.url(), "len(a.content)", **options) == 20 * MIB
        assert len(server.requests[0].body) == 5 * MIB
