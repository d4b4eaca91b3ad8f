"""URL Fetch under the default policy, against nginx: what it fetches, and that no redirect leads it astray."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.fenced import SECRET, events, run
from support.servers import nginx
from support.world import DOMAIN, PRIVATE4, WWW, World

PROGRAM = """
import hashlib, json, os, sys
how, *urls = sys.argv[1:]
for url in urls:
    try:
        if how == "fetch":
            from outgate import urlfetch
            answer = urlfetch.fetch(url, deadline=30)
            said = [answer.status_code, hashlib.sha256(answer.content).hexdigest(), answer.final_url]
        else:
            os.environ["OUTGATE_HTTP"] = "urlfetch"
            import urllib.request
            answer = urllib.request.urlopen(url, timeout=30)
            said = [answer.status, hashlib.sha256(answer.read()).hexdigest(), answer.url]
    except Exception as e:
        said = [type(e).__name__, getattr(e, "code", None)]
    print(json.dumps(said))
"""


def fetched(world: World, log: Path, how: str, *urls: str) -> list[list[Any]]:
    """Return what a fenced program says that came of fetching each URL, by ``fetch`` or by ``urllib``."""
    done = run(world, log, sys.executable, "-c", PROGRAM, how, *urls)
    assert done.returncode == 0, done.stderr
    assert events(log, "fault") == []
    return [json.loads(line) for line in done.stdout.splitlines()]


def digest(data: bytes) -> str:
    """Return how the program names content."""
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("how", ["fetch", "urllib"])
def test_nginx(world: World, log: Path, how: str) -> None:
    """By name and address, plain and with TLS, IPv4 and IPv6, small and large, and through a redirect."""
    name = f"www.{DOMAIN}"
    hello, large = digest(b"hello from nginx\n"), digest(nginx.large_file())
    urls = [f"http://{name}/hello", f"https://{name}/hello", f"http://{WWW[0]}/hello", f"https://[{WWW[1]}]/large"]
    seen = fetched(world, log, how, *urls, f"https://{name}/moved")
    assert [each[:2] for each in seen] == [[200, hello]] * 3 + [[200, large], [200, hello]]
    assert seen[-1][2] == f"https://{name}/hello"
    ends = events(log, "end")
    assert {line["path"] for line in ends} == {"relay"}
    assert len(ends) == 6, "a redirect is a connection of its own"


@pytest.mark.parametrize("how", ["fetch", "urllib"])
def test_a_redirect_into_the_private_network(world: World, log: Path, how: str) -> None:
    """A server that says where to go next is not followed to where the program may not go: not one packet."""
    place = f"http://www.{DOMAIN}/to?url=http://{PRIVATE4}:8080/"
    with world.watch() as watch:
        ((name, code),) = fetched(world, log, how, place)
        assert watch.to(PRIVATE4, *SECRET) == []
    assert (name, code) == ("PolicyDenied", "policy-denied")
    (denied,) = [line for line in events(log, "decision") if line["verdict"] == "deny"]
    assert (denied["host"], denied["port"]) == (PRIVATE4, 8080)
