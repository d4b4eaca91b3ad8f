"""The console is an application that others mount: below a path of theirs, with a log of their own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from outgate.console.app import make
from outgate.console.sources import Ask, Found, Sources
from outgate.errors import ConfigError
from outgate.lookout import ask
from outgate.lookout.loglines import Wanted
from outgate.testing.running import RunningGate

LINE = {
    "event": "decision", "verdict": "deny", "app": "default", "host": "10.0.0.9", "port": 80, "rule": "non-public",
    "time": "2026-03-01T12:00:00.000Z", "reason": "because", "cure": 'to permit: except = ["10.0.0.9:80"]',
}  # fmt: skip


class Lines:
    """A log that is a list in somebody's hand."""

    place = 0

    def last(self, wanted: Wanted, count: int, before: int | None = None, limit: int = 0) -> Found:
        """Return all that is wanted of it."""
        return Found([LINE] if wanted.has(LINE) else [], None, True, 0)

    def news(self, begin: int | None) -> Lines:
        """Return itself: it gives its line once more."""
        return self

    def come(self) -> Iterator[bytes]:
        """Give its line."""
        yield json.dumps(LINE).encode()

    def close(self) -> None:
        """Nothing is held."""


def no_ledger() -> Any:
    """Say that there is none."""
    raise ConfigError("there is no ledger while one develops")


def mounted(asked: Ask) -> Starlette:
    """Return somebody's application with a console in it."""
    return Starlette(routes=[Mount("/console", make(Sources(asked, Lines(), no_ledger), "the-token"))])


async def pages(asked: Ask, *paths: str) -> list[httpx.Response]:
    """Log in and ask for pages."""
    transport = httpx.ASGITransport(app=mounted(asked))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", follow_redirects=True) as client:
        first = await client.get("/console/?token=the-token")
        assert first.status_code == 200, first.text
        return [await client.get(path) for path in paths]


def test_below_a_path() -> None:
    """Every link, form and file of every page is below the path that it is mounted at, and each can be followed."""
    with RunningGate() as gate:
        asked = ask.Gate(gate.socket).ask
        found = asyncio.run(pages(asked, "/console/", "/console/apps/default", "/console/log", "/console/policy"))
        for page in found:
            assert page.status_code == 200
            links = re.findall(r'(?:href|src|action|data-live)="([^"?#]+)', page.text)
            assert len(links) > 5
            assert all(link.startswith("/console/") for link in links)
        assert "10.0.0.9:80" in found[0].text
        assert "There is no ledger while one develops." in found[1].text
        links = {link for page in found for link in re.findall(r'(?:href|src)="(/console/[^"]+)"', page.text)}
        for answer in asyncio.run(pages(asked, *(link.replace("&amp;", "&") for link in sorted(links)))):
            assert answer.status_code == 200


def test_a_gate_that_gives_no_answer() -> None:
    """What asking raises is a page with its sentence."""

    def asked(message: dict[str, Any]) -> Any:
        raise ask.NoGate("the gate at /x did not answer within 10 s")

    (page,) = asyncio.run(pages_without_login(asked, "/console/log"))
    assert page.status_code == 503
    assert "The gate at /x did not answer within 10 s." in page.text


async def pages_without_login(asked: Ask, *paths: str) -> list[httpx.Response]:
    """Ask for pages with the token alone; the overview, to which it leads, is not asked for."""
    transport = httpx.ASGITransport(app=mounted(asked))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.get("/console/?token=the-token")).status_code == 303
        return [await client.get(path) for path in paths]


@pytest.mark.parametrize("length", [100, 4096, 5000, 10**6])
def test_a_long_form(length: int) -> None:
    """A form that is too long is none: it is refused, and no more of it is kept than that."""

    async def post() -> httpx.Response:
        def asked(message: dict[str, Any]) -> Any:
            raise AssertionError("nothing is asked")

        transport = httpx.ASGITransport(app=mounted(asked))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            await client.get("/console/?token=the-token")
            return await client.post("/console/apps/x/kill", data={"lease": "x" * length, "proof": "wrong"})

    assert asyncio.run(post()).status_code == 403
