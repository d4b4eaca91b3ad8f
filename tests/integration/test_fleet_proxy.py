"""Gates that reach each other by a proxy of Debian's alone: joining, sockets both ways, a proxy that ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from support import peers
from support.driven import Driven, Refused
from support.hosts import PORT, Hosts
from support.servers import leading
from support.servers.process import Server

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

#: In front of the proxies of the middle, and the far end's, at a further address of each host.
_PROXY, _FAR = 3128, 7777
_START: dict[str, Callable[..., Server]] = {"squid": leading.squid, "tinyproxy": leading.tinyproxy}

_CONFIGURATION = """\
[fleet]
name = "{name}"
gates = {gates}
proxy = "{proxy}:{port}"
[apps.worker]
uid = [{uid}]
billing = true
trusted = true
except = ["{own}:{far}"]
"""


@pytest.fixture(params=_START)
def hosts(request: pytest.FixtureRequest) -> Iterator[tuple[Hosts, Server]]:
    """Two hosts whose packets go no further than to the proxy between them; and that proxy."""
    if shutil.which(request.param, path="/usr/sbin:/usr/bin") is None:
        pytest.skip(f"{request.param} is not installed (sh tests/integration/install.sh)")
    with Hosts("a", "b", forwards=False) as made:
        for name in ("a", "b"):
            own = made.address(name)
            made[name].configure(
                _CONFIGURATION.format(
                    name=name,
                    gates=made.gates,
                    proxy=made.middle_for(name),
                    port=_PROXY,
                    uid=os.getuid(),
                    own=own,
                    far=_FAR,
                )
            )
        proxy = made.keep(_START[request.param](made.middle, made.folder, "0.0.0.0", _PROXY, asks=False), _PROXY)
        made.join()
        yield made, proxy
        for host in made:
            assert '"fault"' not in host.log.read_text()


def _opened(hosts: Hosts, name: str, program: Driven) -> None:
    program.do(f"sock = socket.create_connection(({hosts.address(name)!r}, {_FAR}), 15); import outgate")


def _descriptor(program: Driven) -> str:
    text: str = program.do("text = outgate.descriptor(sock)") or program.do("text")
    return text


def test_sockets_travel_by_a_proxy(hosts: tuple[Hosts, Server]) -> None:
    """B has joined by the proxy; sockets go both ways by it, and without it a descriptor says who is not reached."""
    made, proxy = hosts
    for name in ("a", "b"):
        assert "answers" in made[name].fleet("show")
    listeners = {name: made[name].namespace.socket() for name in ("a", "b")}
    for name, listener in listeners.items():
        listener.bind((made.address(name), _FAR))
    with (
        peers.echo(listener=listeners["a"]),
        peers.echo(listener=listeners["b"]),
        made["a"].driven() as front,
        made["b"].driven() as worker,
    ):
        for name, holder, other in (("a", front, worker), ("b", worker, front)):
            _opened(made, name, holder)
            text = _descriptor(holder)
            other.do(f"import outgate; there = outgate.adopt({text!r}); there.settimeout(None)")
            holder.do("sock.close()")
            word = "by the proxy " * 20_000
            other.do(f"there.sendall({word.encode()!r}[:100_000])")
            assert other.do("there.recv(100_000, socket.MSG_WAITALL).decode()") == word[:100_000]
            other.do("there.close()")
        _opened(made, "a", front)
        text = _descriptor(front)
        proxy.stop()
        with pytest.raises(Refused) as refused:
            worker.do(f"outgate.adopt({text!r})")
        assert refused.value.code == "fleet-unreachable"
        front.do("sock.close()")
    assert "does not answer" in made["b"].fleet("show")


@pytest.mark.parametrize("hosts", ["squid"], indirect=True)
def test_a_proxy_that_lets_nobody_through_is_named(hosts: tuple[Hosts, Server]) -> None:
    """A gate that the proxy does not serve, or that is not behind it, is said to be that, and by what status."""
    made, proxy = hosts
    proxy.stop()
    made.keep(leading.squid(made.middle, made.folder, "0.0.0.0", _PROXY, asks=True), _PROXY)
    listener = made["a"].namespace.socket()
    listener.bind((made.address("a"), _FAR))
    with peers.echo(listener=listener), made["a"].driven() as front, made["b"].driven() as worker:
        _opened(made, "a", front)
        with pytest.raises(Refused) as refused:
            worker.do(f"import outgate; outgate.adopt({_descriptor(front)!r})")
        assert refused.value.code == "fleet-unreachable"
        assert "the proxy refuses with status 407" in str(refused.value)
        assert f"{made.address('a')}:{PORT}" in str(refused.value)
        front.do("sock.close()")
    assert "407" in made["b"].fleet("show")
