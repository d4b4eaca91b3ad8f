"""Stand in front of the services: route each request to an instance, stream bodies both ways, let nobody pretend.

Headers that only App Engine sets are taken out of what comes from outside, so that a handler can trust them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Final

import httpx

from outgate.dev import instances, tasks
from outgate.dev.instances import Instance, Pool
from outgate.dev.journal import Journal, Request
from outgate.dev.output import Printer
from outgate.dev.plan import Plan, Refusal, is_console, route

__all__ = ["Front"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

#: Of one connection only (RFC 9110, 7.6.1); and what the front says itself.
_HOP: Final = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"),
    )
)
_OURS: Final = frozenset((b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"))
#: Where the transport to an instance thinks that it goes.
_INSTANCE: Final = "http://instance"
_RESERVED: Final = tasks.RESERVED_HEADER.encode()


class _Gone(Exception):
    """Whoever asked has gone."""


class _Body(httpx.AsyncByteStream):
    """The body of a request as it comes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._ended.is_set():
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            if not message.get("more_body"):
                self._ended.set()
            if message.get("body"):
                yield message["body"]

    async def gone(self) -> None:
        """Wait until whoever asked has gone; nothing is read of the body here."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Front:
    """The ASGI app of the server.

    :param journal: is told of every request.
    :param console: what answers where :func:`.plan.is_console` says so, ``None`` for nothing.
    :param local: whether only this machine can reach it.
    """

    def __init__(
        self, plan: Plan, pool: Pool, printer: Printer, journal: Journal, console: App | None = None, *, local: bool
    ) -> None:
        self.plan = plan
        self._pool = pool
        self._printer = printer
        self._journal = journal
        self._console = console
        self._local = local
        self._transports: dict[str, httpx.AsyncHTTPTransport] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._console is not None and is_console(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            await self._console(scope, receive, send)
            return
        at, began = time.time(), time.monotonic()
        status = 0

        async def noted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._serve(scope, receive, noted)
        finally:
            target, took = _url(scope).removeprefix(_INSTANCE), time.monotonic() - began
            instance = scope.get("outgate.instance", "")
            self._journal.request(Request(at, scope["method"], target, instance, status, took))

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = dict(scope["headers"])
        if said.get(b"upgrade", b"").lower() == b"websocket":
            await _answer(
                send, 501, "WebSockets are not carried to instances; App Engine's standard environment has none"
            )
            return
        host = said.get(b"host", b"").decode("latin-1")
        target = route(self.plan, host, scope["path"], local=self._local)
        if isinstance(target, Refusal):
            await _answer(send, target.status, target.text)
            return
        instance = await self._pool.pick(target.service.service, target.instance)
        if instance.state != instances.READY:
            await _answer(send, 503, _failed(instance))
            return
        scope["outgate.instance"] = instance.name
        await self._forward(scope, receive, send, instance)

    async def close(self) -> None:
        """Let go of the connections to instances."""
        for transport in self._transports.values():
            await transport.aclose()

    def _transport(self, instance: Instance) -> httpx.AsyncHTTPTransport:
        made = self._transports.get(instance.path)
        if made is None:
            # No connection is kept: one to a process that has ended would fail the first request to the next.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            made = self._transports[instance.path] = httpx.AsyncHTTPTransport(uds=instance.path, limits=limits)
        return made

    async def _forward(self, scope: Scope, receive: Receive, send: Send, instance: Instance) -> None:
        body = _Body(receive)
        carrying = asyncio.create_task(self._carry(scope, body, send, instance))
        leaving = asyncio.create_task(body.gone())
        try:
            await asyncio.wait({carrying, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (carrying, leaving):
                each.cancel()
            ended = await asyncio.gather(carrying, leaving, return_exceptions=True)
        error = ended[0]
        if isinstance(error, Exception) and not isinstance(error, _Gone):
            raise error

    async def _carry(self, scope: Scope, body: _Body, send: Send, instance: Instance) -> None:
        request = httpx.Request(
            scope["method"], _url(scope), headers=passed_on(scope), stream=body, extensions={"timeout": {}}
        )
        begun = False
        try:
            response = await self._transport(instance).handle_async_request(request)
            try:
                headers = [(name.lower(), value) for name, value in response.headers.raw if name.lower() not in _HOP]
                await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
                begun = True
                assert isinstance(response.stream, httpx.AsyncByteStream)
                async for chunk in response.stream:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            self._printer.say(f"{scope['method']} {scope['path']}: {instance.name} gave no answer: {error!r}", bad=True)
            if begun:
                raise  # what was begun cannot be taken back: the connection is cut, so nobody takes it for whole
            await _answer(send, 502, f"{instance.name} ended while it answered; its last words are in the log")


def _url(scope: Scope) -> str:
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    query = scope["query_string"].decode("latin-1")
    # An absolute form would make httpx take the host of it apart; the header has the host that was asked for.
    return f"{_INSTANCE}{path or '/'}" + (f"?{query}" if query else "")


def passed_on(scope: Scope) -> Headers:
    """Return the headers of a request as an instance gets them."""
    caller = (scope.get("client") or ("127.0.0.1", 0))[0].encode()
    named = {
        name.strip().lower()
        for key, value in scope["headers"]
        if key.lower() == b"connection"
        for name in value.split(b",")
    }
    kept = []
    host = b""
    for name, value in scope["headers"]:
        # Underscores too: WSGI makes the same variable of X_AppEngine_… and X-AppEngine-…
        plain = name.lower().replace(b"_", b"-")
        if plain == b"host":
            host = value
        if plain in _HOP or plain in _OURS or plain in named or plain.startswith(_RESERVED):
            continue
        kept.append((name, value))
    if any(name.lower() == b"transfer-encoding" for name, _ in scope["headers"]):
        kept.append((b"Transfer-Encoding", b"chunked"))  # its length is not known; this one is of our connection
    return [
        *kept,
        (b"X-Forwarded-For", caller),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", host),
        (b"X-AppEngine-User-IP", caller),
    ]


def _failed(instance: Instance) -> str:
    lines = "\n".join(instance.tail)
    return f"{instance.name} does not run: it ended before it was ready. Its last words:\n\n{lines}"


async def _answer(send: Send, status: int, text: str) -> None:
    body = (text + "\n").encode(errors="backslashreplace")
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
