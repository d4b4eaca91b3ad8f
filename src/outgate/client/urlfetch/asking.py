"""Ask the gate to fetch a URL, give it the payload when it wants it, and take in the answer."""

from __future__ import annotations

import errno
import json
import os
import socket

from outgate.client import channel, fetching
from outgate.client.urlfetch.answers import Answer, Headers
from outgate.client.urlfetch.tasks import in_task
from outgate.client.urlfetch.unpacking import Packed, Plain, TooLarge, Torn
from outgate.core.formats import fetchline, messages
from outgate.errors import GateError, build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, Optional, Tuple, Union

#: Seconds by which a gate may be later than the deadline of a fetch, before it is taken for hung.
_GRACE = 10.0
#: The longest deadline there is.
_LONGEST = 600.0
#: Bytes of an answer, unpacked. The gate has the same limit for what it passes on.
MAX_RESPONSE = 32 * 1024 * 1024
#: Characters that are sent of what the gate refuses anyway for its length.
_MOST_OF_A_URL, _MOST_OF_A_METHOD = 20_000, 100
_DESCRIBE_THE_BODY = ("content-encoding", "content-length")


def fetch(
    url: str,
    payload: bytes,
    method: str,
    headers: Iterable[Tuple[str, str]],
    *,
    deadline: Optional[float] = None,
    follow: bool = True,
    verify: bool = True,
    truncate: bool = False,
) -> Answer:
    """Fetch a URL and return the answer, whatever its status.

    :param deadline: seconds in which it must be whole, ``None`` for the gate's default.
    :param truncate: leave out what is beyond the largest answer, instead of raising.
    :raises outgate.errors.GateError: what the gate refuses, and what went wrong.
    """
    asked = {
        "url": url[:_MOST_OF_A_URL],
        "method": method[:_MOST_OF_A_METHOD],
        "headers": list(headers),
        "size": len(payload),
        "deadline": deadline,
        "follow": follow,
        "verify": verify,
        "truncate": truncate,
        "task": in_task.get(),
    }
    text = json.dumps(asked, ensure_ascii=False).encode()
    if len(text) > fetchline.MAX_FRAME:
        facts = {
            "url": fetchline.shown(url),
            "why": f"they have {len(text)} bytes",
            "cure": "send what is long as the payload",
        }
        raise build("fetch-header", facts)
    line = _Line(min(_LONGEST, _LONGEST if deadline is None else deadline) + _GRACE)
    try:
        line.give(fetchline.frame(fetchline.TEXT, text))
        head = line.hear()
        while "send" in head:
            line.give(payload)
            head = line.hear()
        return _answer(line, head, url, truncate)
    finally:
        line.close()


def _answer(line: _Line, head: dict[str, Any], url: str, truncate: bool) -> Answer:
    headers = Headers((name, value) for name, value in head["headers"])
    is_packed = head["unpack"] and headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip")
    body: Union[Packed, Plain] = Packed(MAX_RESPONSE) if is_packed else Plain()
    truncated = False
    try:
        for piece in line.pieces():
            body.feed(piece)
        truncated = line.truncated
        content = body.end(torn=truncated)
    except TooLarge as e:
        if not truncate:
            raise build("fetch-response", {"url": fetchline.shown(url), "limit": MAX_RESPONSE}) from None
        content, truncated = e.content, True
    except Torn as e:
        raise build(
            "fetch-malformed", {"url": fetchline.shown(url), "why": f"it is packed with gzip, and {e}"}
        ) from None
    if is_packed and content:
        headers = Headers(pair for pair in headers.pairs if pair[0].lower() not in _DESCRIBE_THE_BODY)
    return Answer(head["status"], headers, content, head["url"], truncated)


class _Line:
    """The program's end of a line; a socket of its own :mod:`socket`, so where that is patched it waits as others do.

    :ivar truncated: whether the end of the answer was left out, when the pieces have been read.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self.truncated = False
        try:
            self._sock: socket.socket = fetching.fetch({"op": messages.FETCH}, _take)
        except GateError as e:
            if e.code == "gate-refused-channel" and f"'{messages.FETCH}'" in str(e.facts.get("why", "")):
                raise channel.unavailable("fetch-unknown") from None
            raise
        self._sock.settimeout(patience)
        self._file = self._sock.makefile("rb", 65536)

    def give(self, data: bytes) -> None:
        """Send bytes. A gate that does not want them all has closed, and has said why before."""
        try:
            self._sock.sendall(data)
        except socket.timeout:
            raise self._late() from None
        except OSError as e:
            if e.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise

    def hear(self) -> dict[str, Any]:
        """Return the text that comes next. Raises the refusal that is in it."""
        kind, data = self._frame()
        if kind != fetchline.TEXT:
            raise self._ended()
        return _checked(data)

    def pieces(self) -> Iterator[bytes]:
        """Give the bytes of the answer. Raises the refusal where it does not come to its end."""
        while True:
            kind, data = self._frame()
            if kind == fetchline.TEXT:
                self.truncated = bool(_checked(data)["truncated"])
                return
            yield data

    def _frame(self) -> Tuple[int, bytes]:
        kind, size = fetchline.parse(self._read(fetchline.HEADER))
        return kind, self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except socket.timeout:
            raise self._late() from None
        except ConnectionResetError:
            data = b""
        if len(data) < size:
            raise self._ended()
        return data

    def _late(self) -> Exception:
        return channel.unavailable("gate-timeout", op=messages.FETCH, limit=self._patience)

    def _ended(self) -> Exception:
        return channel.unavailable("gate-unavailable", why="it ended during the fetch")

    def close(self) -> None:
        """End the fetch, if it goes on."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)  # a child that was forked meanwhile has the socket too
        except OSError:
            pass
        self._file.close()
        self._sock.close()


def _checked(data: bytes) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(data)
    return channel.checked(text)


def _take(reply: dict[str, Any], fds: list[int]) -> socket.socket:
    if not fds:  # cut off by this process's limit (MSG_CTRUNC)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fds[0])
