"""Have ``http.client`` go through URL Fetch: what its connections write becomes a fetch, and they read the answer.

Only ``connect`` of its two classes is ours. It gives the connection something that takes bytes as a socket does, and
has an answer to be read where a request has been written. So everything that is made of these classes works as it is,
and what connects by itself (urllib3 and requests, or a copy of ``http/client.py`` in the app) keeps using sockets.
"""

from __future__ import annotations

import io
import re

from outgate.client.urlfetch.switch import goes_through_urlfetch
from outgate.core.formats.fetchline import shown
from outgate.errors import build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Optional, Tuple

#: Bytes of a request that are kept: the largest payload, its chunks, and more headers than the gate takes.
_MOST = 11 * 1024 * 1024
_FOLD = re.compile(rb"\r\n[ \t]+")
#: Headers that tell how an answer came from the server, and not how it lies here.
_OF_THE_WAY = ("connection", "keep-alive", "transfer-encoding")
_PORTS = {"http": 80, "https": 443}


def stand_in(module: ModuleType) -> None:
    """Put ourselves into :mod:`http.client`; what its connections do is decided when each connects."""
    _replace(module.HTTPConnection, "http", module)
    if hasattr(module, "HTTPSConnection"):  # a Python without ssl has none
        _replace(module.HTTPSConnection, "https", module)


def _replace(cls: Any, scheme: str, module: ModuleType) -> None:
    native = cls.connect

    def connect(self: Any) -> None:
        if not goes_through_urlfetch():
            native(self)
        elif self._tunnel_host:
            raise NotImplementedError("HTTP CONNECT Tunnelling is not supported")  # as App Engine said it
        else:
            self.sock = Exchange(self, scheme, module)

    connect.__doc__ = native.__doc__
    cls.connect = connect


class Exchange:
    """What a connection has for a socket: it takes a request, and has an answer."""

    def __init__(self, connection: Any, scheme: str, module: ModuleType) -> None:
        host = connection.host
        port = "" if connection.port == _PORTS[scheme] else f":{connection.port}"
        self._origin = f"{scheme}://{f'[{host}]' if ':' in host else host}{port}"
        self._module = module
        self._timeout = connection.timeout
        # Who has said by a context of ssl that any certificate will do has said it of this one.
        self._verify = bool(getattr(getattr(connection, "_context", None), "verify_mode", True))
        self._request = bytearray()

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Keep what belongs to the request."""
        self._request += data
        if len(self._request) > _MOST:
            raise build("fetch-payload", {"url": self._origin, "size": len(self._request), "limit": 10 * 1024 * 1024})

    def makefile(self, mode: str = "rb", *args: Any, **options: Any) -> io.BytesIO:
        """Fetch what has been asked for, and return the answer as it would have come over a socket."""
        from outgate.client.urlfetch.asking import fetch

        request, self._request = bytes(self._request), bytearray()
        method, target, headers, payload = parse(request)
        if not target.startswith("/"):
            why = "URL Fetch uses no proxy"
            raise build(
                "fetch-url", {"url": shown(target), "why": why, "cure": "unset http_proxy, or OUTGATE_HTTP=sockets"}
            )
        answer = fetch(
            self._origin + target,
            payload,
            method,
            headers,
            deadline=self._deadline(),
            follow=False,
            verify=self._verify,
        )
        head = [(name, value) for name, value in answer.headers.pairs if name.lower() not in _OF_THE_WAY]
        if method != "HEAD":
            head = [(name, value) for name, value in head if name.lower() != "content-length"]
            head.append(("Content-Length", str(len(answer.content))))
        head.append(("Connection", "close"))
        reason = self._module.responses.get(answer.status_code, "")
        lines = [f"HTTP/1.1 {answer.status_code} {reason}", *(f"{name}: {value}" for name, value in head), "", ""]
        return io.BytesIO("\r\n".join(lines).encode("latin-1") + answer.content)

    def _deadline(self) -> Optional[float]:
        known = isinstance(self._timeout, (int, float)) and self._timeout > 0
        return float(self._timeout) if known else None

    def settimeout(self, timeout: Optional[float]) -> None:
        """Take it for the deadline."""
        self._timeout = timeout

    def gettimeout(self) -> Optional[float]:
        """Return the deadline."""
        return self._deadline()

    def setsockopt(self, *args: Any) -> None:
        """Do nothing: how the bytes travel is the gate's to say."""

    def shutdown(self, how: int) -> None:
        """Do nothing, as :meth:`close`."""

    def close(self) -> None:
        """Do nothing: there is no connection, and an answer is whole."""

    def fileno(self) -> int:
        """Raise as what has no file does; on App Engine it was ``NotImplementedError``."""
        raise NotImplementedError("a connection through URL Fetch has no file descriptor")


def parse(request: bytes) -> Tuple[str, str, list[Tuple[str, str]], bytes]:
    """Return method, target, headers and payload of a request as ``http.client`` writes it."""
    head, _, payload = request.partition(b"\r\n\r\n")
    lines = _FOLD.sub(b" ", head).decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
        if name.lower() == "transfer-encoding" and value.strip().lower() == "chunked":
            payload = _joined(payload)
    return method, target, headers, payload


def _joined(chunks: bytes) -> bytes:
    """Return the payload that chunks are made of."""
    parts: list[bytes] = []
    place = 0
    while True:
        end = chunks.index(b"\r\n", place)
        size = int(chunks[place:end], 16)
        if not size:
            return b"".join(parts)
        place = end + 2
        parts.append(chunks[place : place + size])
        place += size + 2
