"""Stand before every request: let in who has the token, and say to the browser what our pages may do."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outgate.console.access import HEADERS, Access, is_local
from outgate.console.rendering import Rendering

__all__ = ["Door", "form"]

#: Bytes of the longest form.
_LONGEST: Final = 4096
#: What is public: how pages look.
_STATIC: Final = "/static/"


class Door:
    """An ASGI application around another.

    :param app: what is behind.
    :param access: who may come in.
    :param rendering: makes the page that asks for the token.
    """

    def __init__(self, app: ASGIApp, access: Access, rendering: Rendering) -> None:
        self._app = app
        self._access = access
        self._rendering = rendering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # there is no other: no WebSocket, no lifespan of ours
            return

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = await self._answer(Request(scope, receive))
        await (answer or self._app)(scope, receive, say)

    async def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that is not let in, or that lets somebody in; ``None`` for one to go on."""
        host = request.headers.get("host", "")
        if not is_local(host):
            text = "This console answers to localhost and 127.0.0.1 alone; forward its port: ssh -L."
            return Response(text, 421, media_type="text/plain")
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        if path.startswith(_STATIC):
            return None
        access = self._access
        token = request.query_params.get("token")
        if path == "/login" and request.method == "POST":
            if not _is_from_here(request.headers):
                return self._rendering.page(request, "login.html", 403, problem="The form came from another page.")
            token = (await form(request)).get("token", "").strip()
        if token is not None:
            if not access.has_token(token):
                return self._rendering.page(request, "login.html", 401, problem="That is not this console's token.")
            return self._welcome(request)
        if not access.has_session(request.cookies.get(access.cookie, "")):
            return self._rendering.page(request, "login.html", 401, problem="")
        if request.method in ("GET", "HEAD"):
            return None
        proof = (await form(request)).get("proof", "")
        headers = request.headers
        if access.may_change(proof, host, headers.get("origin"), headers.get("sec-fetch-site")):
            return None
        problem = "The form came from another page, or from before a restart. Nothing was done."
        return self._rendering.page(request, "problem.html", 403, problem=problem)

    def _welcome(self, request: Request) -> Response:
        root = request.scope.get("root_path", "")
        answer = RedirectResponse(f"{root}/", 303)
        access = self._access
        answer.set_cookie(access.cookie, access.session, httponly=True, samesite="strict", path=f"{root}/")
        return answer


def _is_from_here(headers: Headers) -> bool:
    return headers.get("sec-fetch-site") in (None, "same-origin", "none")


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a form, the first of each name; of one that is too long, or none, there are none."""
    kept: dict[str, str] | None = request.scope.get("outgate.form")
    if kept is None:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LONGEST:
                body = b""
                break
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=16) if body.count(b"&") < 16 else {}
        kept = request.scope["outgate.form"] = {name: values[0] for name, values in fields.items()}
    return kept
