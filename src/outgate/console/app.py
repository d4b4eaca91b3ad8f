"""Answer the pages of the console: an ASGI application made from a gate to ask, a log and a ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, Final

from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from outgate.console import live, usage, views
from outgate.console.access import Access
from outgate.console.door import Door, form
from outgate.console.extras import Extra
from outgate.console.looking import Looking
from outgate.console.rendering import STATIC, Rendering
from outgate.console.sources import Missing, Sources
from outgate.core.address.destination import destination
from outgate.core.formats import messages
from outgate.errors import ConfigError
from outgate.lookout.ask import NoGate, Refused, paged
from outgate.lookout.loglines import Wanted, since
from outgate.lookout.rates import SORTS

__all__ = ["make"]

#: Refusals that are shown beside other things, and bytes of the log in which they are looked for.
_REFUSALS: Final = 10
_REFUSALS_LIMIT: Final = 1 << 21
#: Lines of one page of the log.
_LINES: Final = 100
#: Rules of one page of a policy; the gate's own pages have a hundred.
_RULE_PAGES: Final = 10
#: Sort of the overview → word of the keyboard of ``outgate top``.
_SORTS: Final[Mapping[str, str]] = {
    "open": "o", "opens": "c", "denied": "d", "sent": "s", "received": "r", "quota": "u", "app": "n",
}  # fmt: skip


def make(sources: Sources, token: str, extras: Sequence[Extra] = ()) -> ASGIApp:
    """Return the application. It can be mounted anywhere: its links begin with ``root_path``.

    :param token: what it is opened by.
    :param extras: pages of who mounts it.
    """
    access = Access(token)
    rendering = Rendering(access, [(extra.path, extra.name) for extra in extras])
    console = _Console(sources, rendering)
    routes = [
        Route("/", console.overview),
        Route("/live", console.overview_live),
        Route("/apps/{name}", console.app),
        Route("/apps/{name}/live", console.app_live),
        Route("/apps/{name}/kill", console.kill, methods=["POST"]),
        Route("/log", console.log),
        Route("/log/live", console.log_live),
        Route("/policy", console.policy),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    for extra in extras:
        routes += [
            Route(extra.path, partial(console.extra, extra)),
            Route(f"{extra.path}/live", partial(console.extra_live, extra)),
        ]
    problems: Any = {NoGate: console.no_gate, Refused: console.no_gate, HTTPException: console.wrong}
    return Door(Starlette(routes=routes, exception_handlers=problems), access, rendering)


class _Console:
    """The pages, one method each. What asks or reads does so in threads."""

    def __init__(self, sources: Sources, rendering: Rendering) -> None:
        self._sources = sources
        self._page = rendering.page
        self._looking = Looking(sources.ask)
        self._streams = live.Streams()

    async def overview(self, request: Request) -> Response:
        """Show all apps."""
        sort = request.query_params.get("sort", "open")
        if sort not in _SORTS:
            sort = "open"
        figures = await to_thread.run_sync(self._looking.figures, _SORTS[sort])
        refusals = await to_thread.run_sync(self._refusals, "")
        return self._page(
            request,
            "overview.html",
            live=views.overview(figures, self._looking.history()),
            apps=[row.name for row in figures.apps[: views.MOST_APPS]],
            hidden=max(0, len(figures.apps) - views.MOST_APPS),
            sort=sort,
            sorts={name: SORTS[key][0] for name, key in _SORTS.items()},
            **refusals,
        )

    async def overview_live(self, request: Request) -> Response:
        """Stream what changes on the overview."""
        sort = _SORTS.get(request.query_params.get("sort", "open"), "o")

        def look() -> dict[str, Any]:
            made = views.overview(self._looking.figures(sort), self._looking.history())
            return {"live": made._asdict()}

        return self._stream(request, look, Wanted(denied=True))

    async def app(self, request: Request) -> Response:
        """Show one app."""
        name = request.path_params["name"]
        return await self._app(request, name)

    async def _app(self, request: Request, name: str, problem: str = "", status: int = 200) -> Response:
        after = _number(request.query_params.get("after"), -1)
        word = request.query_params.get("range", "day")
        span = usage.RANGES.get(word, usage.RANGES["day"])
        made, counts, quotas, sockets = await to_thread.run_sync(self._look_at, name, after)
        refusals = await to_thread.run_sync(self._refusals, name)
        used, no_ledger = await to_thread.run_sync(self._usage, name, span)
        killed = request.query_params.get("killed", "")
        return self._page(
            request,
            "app.html",
            status,
            name=name,
            live=made,
            counts=counts,
            quotas=quotas,
            sockets=[views.socket_row(row) for row in sockets["sockets"]],
            after=after,
            next=sockets["next"],
            range=word if word in usage.RANGES else "day",
            ranges=usage.RANGES,
            usage=used,
            no_ledger=no_ledger,
            **refusals,
            killed=killed if _is_lease(killed) else "",
            problem=problem,
        )

    def _look_at(self, name: str, after: int) -> tuple[views.Live, Any, list[Any], Any]:
        """Ask all about an app: what is live, the gate's counts, its quotas, a page of its sockets."""
        figures = self._looking.figures(app=name)
        if not figures.apps:
            raise HTTPException(404, f"The gate has no app {name!r}.")
        ask = self._sources.ask
        quotas = ask({"op": messages.QUOTA, "app": name, "after": ""})["apps"].get(name, [])
        sockets = ask({"op": messages.LIST, "app": name, "after": after, "holders": False})
        return views.app(figures.apps[0], quotas), figures.counts, quotas, sockets

    async def app_live(self, request: Request) -> Response:
        """Stream what changes on the page of an app."""
        name = request.path_params["name"]
        after = _number(request.query_params.get("after"), -1)

        def look() -> dict[str, Any]:
            made, _, _, sockets = self._look_at(name, after)
            rows = [views.socket_row(row) for row in sockets["sockets"]]
            return {"live": made._asdict(), "sockets": rows, "more": sockets["next"] is not None}

        return self._stream(request, look, Wanted(app=name, denied=True))

    async def kill(self, request: Request) -> Response:
        """Reset one connection, and show the app again."""
        name = request.path_params["name"]
        lease = (await form(request)).get("lease", "")
        if not _is_lease(lease):
            raise HTTPException(400, "That names no socket.")
        answer = await to_thread.run_sync(self._sources.ask, {"op": messages.KILL, "lease": lease})
        if not answer["ok"]:
            return await self._app(request, name, f"{lease} was not ended: {answer['error']}.", 409)
        return RedirectResponse(f"{request.url_for('app', name=name).path}?killed={lease}#sockets", 303)

    async def log(self, request: Request) -> Response:
        """Show the decision log, the latest first."""
        asked = request.query_params
        problem, missing, found = "", "", None
        try:
            wanted = _wanted(asked)
        except ValueError:
            wanted, problem = Wanted(), "Since is no time: write 15m, 2h, 3d, or a time as in 2026-03-01T14:00."
        before = _number(asked.get("before"), -1)
        try:
            find = self._sources.log.last
            found = await to_thread.run_sync(find, wanted, _LINES, before if before >= 0 else None)
        except Missing as error:
            missing = str(error)
        figures = await to_thread.run_sync(self._looking.figures, "n")
        return self._page(
            request,
            "log.html",
            asked={name: asked.get(name, "") for name in ("q", "app", "show", "since")},
            apps=[row.name for row in figures.apps[: views.MOST_APPS]],
            lines=[views.line_row(line) for line in found.lines] if found else [],
            older=found.older if found else None,
            is_whole=found.is_whole if found else True,
            end=found.end if found else "",
            is_latest=before < 0,
            missing=missing,
            problem=problem,
            query={name: value for name, value in asked.items() if name != "before" and value},
        )

    async def log_live(self, request: Request) -> Response:
        """Stream lines of the log as they come."""
        try:
            wanted = _wanted(request.query_params)
        except ValueError:
            wanted = Wanted()
        return self._stream(request, dict, wanted)

    async def policy(self, request: Request) -> Response:
        """Show the rules of an app, and what they say of a destination."""
        asked = request.query_params
        figures = await to_thread.run_sync(self._looking.figures, "n")
        names = [row.name for row in figures.apps]
        name = asked.get("app") or (names[0] if names else "")
        rules, answer = await to_thread.run_sync(self._rules, name) if name else ([], {})
        where = asked.get("to", "").strip()
        why, problem = await to_thread.run_sync(self._why, name, where) if where and name else (None, "")
        return self._page(
            request,
            "policy.html",
            name=name,
            apps=names[: views.MOST_APPS],
            rules=rules,
            answer=answer,
            to=where,
            why=why,
            problem=problem or ("" if answer.get("ok", True) else answer["error"]),
        )

    async def extra(self, extra: Extra, request: Request) -> Response:
        """Show a page of who mounts the console."""
        tables = await to_thread.run_sync(extra.tables)
        return self._page(request, "extra.html", title=extra.name, tables=tables)

    async def extra_live(self, extra: Extra, request: Request) -> Response:
        """Stream what changes on it."""

        def look() -> dict[str, Any]:
            return {"tables": {table.name: table.rows for table in extra.tables()}}

        return self._stream(request, look, Wanted(denied=True))

    def _rules(self, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        rules: list[dict[str, Any]] = []
        answer: dict[str, Any] = {}
        for answer in islice(paged(self._sources.ask, {"op": messages.POLICY, "app": name}), _RULE_PAGES):
            rules += answer.get("rules", [])
        return rules, answer

    def _why(self, name: str, where: str) -> tuple[dict[str, Any] | None, str]:
        """Return what is decided on a destination, and what is wrong with it."""
        try:
            transport, host, port = destination(where)
        except ValueError as error:
            return None, f"{error}"
        message = {"op": messages.WHY, "host": host, "port": port, "transport": transport, "app": name}
        answer = self._sources.ask(message)
        return (None, str(answer["reason"])) if answer["verdict"] == "unknown" else (answer, "")

    def _refusals(self, app: str) -> dict[str, Any]:
        """Return what a page says of the last refusals, with the end of the log, and what is missing without one."""
        try:
            found = self._sources.log.last(Wanted(app=app, denied=True), _REFUSALS, None, _REFUSALS_LIMIT)
        except Missing as error:
            return {"refusals": [], "end": "", "missing": str(error)}
        return {"refusals": [views.line_row(line) for line in found.lines], "end": found.end, "missing": ""}

    def _usage(self, app: str, span: usage.Span) -> tuple[usage.Usage | None, str]:
        """Return what an app has used, or why that cannot be told."""
        try:
            return usage.look(self._sources.ledger(), app, span, time.time()), ""
        except ConfigError as error:
            return None, str(error)

    def _stream(self, request: Request, look: Callable[[], dict[str, Any]], wanted: Wanted) -> Response:
        if not self._streams.has_room:
            raise HTTPException(503, "Too many pages are open; close some.")
        begin = _number(request.headers.get("last-event-id") or request.query_params.get("from"), -1)
        lines = live.NewLines(self._sources.log, wanted, begin if begin >= 0 else None)
        events = self._streams.events(look, lines)
        return StreamingResponse(events, media_type="text/event-stream")

    async def no_gate(self, request: Request, error: Exception) -> Response:
        """Say why the gate gave no answer."""
        text = str(error)
        return self._page(request, "problem.html", 503, problem=f"{text[:1].upper()}{text[1:]}.")

    async def wrong(self, request: Request, error: Exception) -> Response:
        """Say what is wrong with a request."""
        assert isinstance(error, HTTPException)
        text = "There is no such page." if error.status_code == 404 and error.detail == "Not Found" else error.detail
        return self._page(request, "problem.html", error.status_code, problem=text)


def _wanted(asked: Mapping[str, str]) -> Wanted:
    """Return which lines a form asks for. Raises ``ValueError`` for a time that is none."""
    show = asked.get("show", "")
    begin = asked.get("since", "").strip()
    return Wanted(
        app=asked.get("app", ""),
        denied=show == "denied",
        since=since(begin, datetime.now().astimezone()) if begin else "",
        everything=show == "all",
        text=asked.get("q", "").strip()[:200],
    )


def _number(text: str | None, other: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 16 else other


def _is_lease(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isascii() and all(c.isalnum() or c in "-." for c in text)
