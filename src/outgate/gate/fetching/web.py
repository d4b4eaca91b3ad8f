"""Fetch one URL with httpx, over the gate's own connections; :func:`fetch` is the whole story.

Nothing is kept: the payload is asked for when it is sent, the answer passed on as it comes, still packed. Unpacking is
left to the program, whose time and memory it takes: what a server packs to harm who unpacks it harms nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import httpcore
import httpx
import msgspec
from msgspec import Meta

from outgate.core.fetch import headers, limits
from outgate.core.formats import fetchline
from outgate.gate.fetching.connecting import PIECE, Connections
from outgate.gate.fetching.failing import FAILED, Withheld, reply_to
from outgate.gate.fetching.line import Gone, Line

if TYPE_CHECKING:
    from outgate.gate.registry import Process
    from outgate.gate.server import Gate

#: Seconds after which other fetches have their turn: an answer in chunks of a byte is slow to read.
_TURN = 0.001


class Asked(msgspec.Struct, frozen=True):
    """What a program wants fetched (:mod:`outgate.core.formats.fetchline`)."""

    url: str
    method: str
    headers: list[tuple[str, str]]
    size: Annotated[int, Meta(ge=0)]
    deadline: Annotated[float, Meta(gt=0)] | None = None
    follow: bool = True
    verify: bool = True
    truncate: bool = False
    task: bool = False

    @property
    def seconds(self) -> float:
        """In how many the whole answer must have come."""
        return limits.deadline(self.deadline, self.task)


_decoder = msgspec.json.Decoder(Asked)


class _Payload(httpx.AsyncByteStream):
    """The payload, asked for each time that it is sent."""

    def __init__(self, line: Line, size: int) -> None:
        self._line = line
        self._size = size
        self._left = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self.skip()
        await self._line.ask({"send": True})
        self._left = self._size
        while self._left:
            yield await self._next()

    async def skip(self) -> None:
        """Take out what the server did not want of it."""
        while self._left:
            await self._next()

    async def _next(self) -> bytes:
        data = await self._line.read(min(PIECE, self._left))
        self._left -= len(data)
        if not self._left:
            self._line.answered()
        return data


class _Answer(httpx.AsyncByteStream):
    """The bytes of an answer as httpcore gives them, for httpx."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._response.aiter_stream():
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _Transport(httpx.AsyncBaseTransport):
    """Carry httpx's requests over connections of ours, each over one of its own."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        answer = await self._pool.handle_async_request(
            httpcore.Request(request.method, target, headers=request.headers.raw, content=request.stream)
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Answer(answer))

    async def aclose(self) -> None:
        await self._pool.aclose()


def read(text: bytes) -> Asked:
    """Return what a program wants. Raises :class:`Gone` where its text is none that the client writes."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Gone from None


async def fetch(gate: Gate, process: Process, line: Line, asked: Asked) -> None:
    """Judge → connect → send → follow → answer.

    :raises Gone: the program has gone.
    """
    connections = Connections(gate, process)
    current = asked.url
    try:
        _refuse(limits.judge_request(current, asked.method, asked.size))
        _refuse(headers.judge(current, asked.headers))
        sent = headers.prepare(asked.headers, asked.method, process.app.name)
        payload = _Payload(line, asked.size)
        context = gate.fetches.trust.context(asked.verify, gate.settings.number)
        pool = httpcore.AsyncConnectionPool(context, max_keepalive_connections=0, network_backend=connections)
        async with httpx.AsyncClient(transport=_Transport(pool), trust_env=False) as client:
            request = _request(asked, sent.pairs, payload)
            redirects = 0
            while True:
                url = request.url
                _refuse(limits.judge_url(current, url.scheme, url.host, url.port))
                response = await client.send(request, stream=True)
                if not asked.follow or response.next_request is None:
                    break
                redirects += 1
                request = response.next_request
                current = str(request.url)
                _refuse(limits.judge_redirect(current, redirects))
                await response.aclose()
            await payload.skip()
            pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]
            head = {"status": response.status_code, "headers": pairs, "unpack": sent.unpacks}
            await line.say({**head, "url": current if redirects else None})
            truncated = await _pass_on(line, asked, response, current)
            await line.say({"end": True, "truncated": truncated})
    except FAILED as e:
        await line.say(await reply_to(e, current, connections))
    finally:
        connections.close()


def _refuse(refused: limits.Refusal | None) -> None:
    if refused is not None:
        raise Withheld(refused)


def _request(asked: Asked, pairs: list[tuple[str, str]], payload: _Payload) -> httpx.Request:
    raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs]
    if not asked.size:
        return httpx.Request(asked.method, asked.url, headers=raw)
    return httpx.Request(
        asked.method, asked.url, headers=[*raw, (b"Content-Length", b"%d" % asked.size)], content=payload
    )


async def _pass_on(line: Line, asked: Asked, response: httpx.Response, url: str) -> bool:
    """Pass the bytes of an answer on, and tell whether some at its end were left out."""
    limit = limits.MAX_RESPONSE
    too_large = "fetch-response", {"url": fetchline.shown(url), "limit": limit}
    said = response.headers.get("content-length", "")
    if asked.method != "HEAD" and not asked.truncate and said.isdecimal() and len(said) < 20 and int(said) > limit:
        raise Withheld(too_large)
    loop = asyncio.get_running_loop()
    turn = loop.time()
    left = limit
    waiting = bytearray()
    async for piece in response.aiter_raw():
        if len(piece) > left:
            if not asked.truncate:
                raise Withheld(too_large)
            await line.send(fetchline.frame(fetchline.BYTES, waiting + piece[:left]))
            return True
        left -= len(piece)
        waiting += piece
        if len(waiting) >= PIECE:
            await line.send(fetchline.frame(fetchline.BYTES, waiting))
            waiting.clear()
        if loop.time() - turn > _TURN:
            await asyncio.sleep(0)
            turn = loop.time()
    if waiting:
        await line.send(fetchline.frame(fetchline.BYTES, waiting))
    return False
