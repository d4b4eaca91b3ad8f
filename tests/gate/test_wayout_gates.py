"""Connections that leave by a proxy, when another gate takes the place of the one that led them, or comes after it."""

from __future__ import annotations

import errno
import os
import signal
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from support import proxies
from support.commands import serving
from support.proxies import Client, Proxy
from support.upgrades import Program

pytestmark = pytest.mark.slow

CONFIG = """
version = 1
[apps.blog]
uid = [{uid}]
billing = true
trusted = true
path = "{path}"
except = ["203.0.113.5"]
via = "{via}"
"""
#: A connection, one that waits for a proxy that says nothing more, and what becomes of both.
PROGRAM = """
import json, socket, sys, threading
def say(value):
    print(json.dumps(value), flush=True)
s = socket.create_connection(("203.0.113.5", 7))
came = []
def waits():
    try:
        socket.create_connection(("203.0.113.5", 9)).close()
        came.append(0)
    except OSError as e:
        came.append(e.errno)
thread = threading.Thread(target=waits)
if "waits" in sys.argv:
    thread.start()
say("ready")
for line in sys.stdin:
    s.sendall(b"abc")
    say([s.recv(3, socket.MSG_WAITALL).decode(), list(s.getpeername())])
if "waits" in sys.argv:
    thread.join()
s.close()
say(came)
"""


def script(client: Client) -> None:
    """Connect to an echo, but to port 9 never."""
    client.hear_greeting()
    client.say(proxies.GREETED)
    _, port = client.hear_request()
    if port == 9:
        client.wait_for_end()
        return
    client.say(proxies.REPLIED)
    client.echo()


def configured(folder: Path, proxy: Proxy, path: str, scheme: str = "socks5", more: str = "") -> tuple[str, ...]:
    """Write a configuration, and return the options that name it."""
    file = folder / "outgate.toml"
    file.write_text(CONFIG.format(uid=os.getuid(), path=path, via=proxy.url(scheme)) + more)
    return ("--config", str(file))


def ends(gate: Any) -> list[dict[str, Any]]:
    """Return the ends of what was connected."""
    return [line for line in gate.log() if line["event"] == "end" and line["connected"]]


@pytest.mark.parametrize("path", ["auto", "direct"])
def test_taken_over(tmp_path: Path, path: str) -> None:
    """What is open goes on, and its line has its proxy and its bytes; who waits for a proxy has to connect again."""
    with Proxy(script) as proxy:
        options = configured(tmp_path, proxy, path)
        with serving(tmp_path, *options) as first:
            program = Program(first, "waits", code=PROGRAM)
            assert program.said() == "ready"
            assert program.ask() == ["abc", ["203.0.113.5", 7]]
            clients = [proxy.next(), proxy.next()]
            with serving(tmp_path, *options, "--takeover") as second:
                assert first.process.wait(20) == 0
                assert program.ask() == ["abc", ["203.0.113.5", 7]]
                assert program.finish() == [errno.ECONNABORTED]
                second.wait_for_counts("blog", open=0)
                second.stop()
            (line,) = ends(second)
            assert (line["sent"], line["received"], line["via"]) == (6, 6, proxy.url("socks5"))
            assert len(clients) == 2


def test_a_gate_that_is_killed(tmp_path: Path) -> None:
    """A connection that the program holds lives on, and the next gate counts its bytes, less those of the handshake."""
    with Proxy(script) as proxy:
        options = configured(tmp_path, proxy, "direct")
        with serving(tmp_path, *options) as first:
            program = Program(first, code=PROGRAM)
            assert program.said() == "ready"
            assert program.ask() == ["abc", ["203.0.113.5", 7]]
            first.process.send_signal(signal.SIGKILL)
            first.process.wait(20)
            assert program.ask() == ["abc", ["203.0.113.5", 7]]
            with serving(tmp_path, *options) as second:
                assert program.ask() == ["abc", ["203.0.113.5", 7]]
                assert program.finish() == []
                second.wait_for_counts("blog", open=0)
                second.stop()
            (line,) = ends(second)
            assert (line["sent"], line["received"], line["via"]) == (9, 9, proxy.url("socks5"))


#: A connection that is reset, and another one in its place.
AGAIN = """
import json, socket, sys
def dial():
    s = socket.create_connection(("203.0.113.5", 7))
    s.sendall(b"abc")
    return s, s.recv(3, socket.MSG_WAITALL).decode()
s, got = dial()
print(json.dumps(got), flush=True)
for line in sys.stdin:
    try:
        got = s.recv(1).decode()
    except OSError as e:
        got = [e.errno]
    s.close()
    s, again = dial()
    print(json.dumps([got, again]), flush=True)
s.close()
print(json.dumps("end"), flush=True)
"""


def test_tls_stays_with_its_gate(tmp_path: Path) -> None:
    """No other gate has the keys: what leads out by TLS is reset when another takes over, and opens again at once."""
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with Proxy(proxies.secured(proxies.http(), server)) as proxy:
        options = configured(tmp_path, proxy, "auto", "https", 'ca = "ca.pem"\n')
        with serving(tmp_path, *options) as first:
            program = Program(first, code=AGAIN)
            assert program.said() == "abc"
            with serving(tmp_path, *options, "--takeover") as second:
                assert first.process.wait(20) == 0
                assert program.ask() == [[errno.ECONNRESET], "abc"]
                assert program.finish() == "end"
                second.wait_for_counts("blog", open=0)
                second.stop()
            assert [(line["how"], line["sent"], line["received"]) for line in ends(second)] == [
                ("handed-over", 3, 3),
                ("closed", 3, 3),
            ]
