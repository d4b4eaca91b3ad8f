"""Ask the gate that issues certificates for one: to join a fleet, and to go on being of it. Blocks; for threads."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import ssl
import threading
import time
from typing import Any

from outgate.core.fleet import names, terms
from outgate.core.fleet.token import Token
from outgate.errors import ConfigError
from outgate.gate.fleet import authority
from outgate.gate.fleet.folder import Folder

#: Seconds that each step may take, and all of them: where a byte comes now and then no step takes long.
LIMIT = 10.0
WHOLE = 30.0


def join(folder: Folder, token: Token, name: str, proxy: str = "") -> None:
    """Become a gate of a fleet.

    :param name: what the configuration calls this gate.
    :raises ConfigError: it cannot be, and why.
    """
    if token.name != name:
        raise ConfigError(f'this join token is for gate "{token.name}", and fleet.name here is "{name}"')
    unknown = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unknown.check_hostname, unknown.verify_mode = False, ssl.CERT_NONE  # what it says is held to the fingerprint
    ca = _ask(unknown, token.issuer, token.at, "GET", "/authority", proxy=proxy)
    try:
        is_it = hashlib.sha256(ssl.PEM_cert_to_DER_cert(ca.decode("ascii"))).hexdigest() == token.fingerprint
    except ValueError:
        is_it = False
    if not is_it:
        raise ConfigError(f"who answers at {token.at} is not the gate that made this join token")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode("ascii"))
    key, asked = authority.request()
    said = {"secret": token.secret, "name": name, "request": asked.decode("ascii")}
    folder.join(token, ca, key, _ask(context, token.issuer, token.at, "POST", "/join", said, proxy))


def rotate(folder: Folder, name: str, proxy: str = "") -> float:
    """Take another certificate for this gate, and return until when it is good (Unix seconds).

    :raises ConfigError: it cannot be had, and why; the one there was goes on.
    """
    key, asked = authority.request()
    if folder.is_issuer:
        try:
            certificate = folder.issue(name, asked, time.time())
        except ValueError as e:
            raise ConfigError(str(e)) from None
    else:
        issuer, at = folder.issuer
        context = folder.context(is_server=False)
        certificate = _ask(context, issuer, at, "POST", "/rotate", {"request": asked.decode("ascii")}, proxy)
    try:
        made = authority.read(certificate)
    except ValueError:
        raise ConfigError("what came is no certificate") from None
    if made.name != name:
        raise ConfigError(f'the certificate that came is for "{made.name}", and this is gate "{name}"')
    folder.renew(key, certificate)
    return made.ends


def trouble(folder: Folder, name: str, at: str, proxy: str = "") -> str:
    """Return why another gate cannot be worked with, or "" where each is content with the other's certificate."""
    try:
        _ask(folder.context(is_server=False), name, at, "GET", "/gate", proxy=proxy)
    except ConfigError as e:
        return str(e)
    return ""


def is_due(folder: Folder, now: float) -> bool:
    """Tell whether this gate's certificate should be followed by another."""
    own = folder.own()
    return terms.is_due(own.begins, own.ends, now)


def _ask(
    context: ssl.SSLContext,
    name: str,
    at: str,
    method: str,
    path: str,
    said: dict[str, Any] | None = None,
    proxy: str = "",
) -> bytes:
    try:
        answer = _answer(context, name, at, method, path, None if said is None else json.dumps(said), proxy)
    except ssl.SSLCertVerificationError as e:
        raise ConfigError(f"gate {name} at {at} shows a certificate that is not good: {e.verify_message}") from None
    except (OSError, http.client.HTTPException) as e:
        raise ConfigError(f"gate {name} does not answer at {at}: {getattr(e, 'strerror', None) or e}") from None
    status, body = answer
    if status != 200:
        raise ConfigError(f"gate {name} at {at} refuses: {body[:500].decode('utf-8', 'replace')}")
    return body


def _answer(
    context: ssl.SSLContext, name: str, at: str, method: str, path: str, said: str | None, proxy: str
) -> tuple[int, bytes]:
    place = names.place(at)
    near = names.place(proxy) if proxy else place
    # The certificate is made out to the gate's name, wherever the gate is.
    connection = http.client.HTTPConnection(*near, timeout=LIMIT)
    if proxy:
        connection.set_tunnel(*place)
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        with contextlib.suppress(OSError, AttributeError):  # perhaps there is none yet
            connection.sock.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(WHOLE, end)
    watch.daemon = True
    watch.start()
    try:
        connection.connect()
        plain: socket.socket = connection.sock
        connection.sock = context.wrap_socket(plain, server_hostname=names.host_of(name))
        # After a tunnel http.client would write the proxy's name for the host.
        connection.request(method, path, said, {"Host": str(place)})
        response = connection.getresponse()
        return response.status, response.read(1 << 20)
    except (OSError, http.client.HTTPException):
        if is_late.is_set():
            raise TimeoutError(f"it took longer than {WHOLE:g} s") from None
        raise
    finally:
        watch.cancel()
        connection.close()
