"""Libraries that wait for many sockets at once, each in its main use and refused, on every loop, against real servers.

Each program runs natively as the control, and then over both paths under the default policy, where it is also told to
go where that policy lets nobody go. ``docs/data/libraries.toml`` has a row for each.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support import peers
from support.corp import CORP, Corp
from support.fenced import PROGRAMS, events, run
from support.servers import nginx, postgresql, redis
from support.servers.process import Server
from support.world import DOMAIN, PRIVATE4, WWW, World

NATIVE, DIRECT, RELAY = PATHS = ("native", "direct", "relay")
LOOPS = ("asyncio", "uvloop")
#: The policy permits neither: a name that leads inside only, refused when it is looked up, and an address.
DENIED = (f"inside.{DOMAIN}", PRIVATE4)
#: What a program says of a refusal: its class, EACCES, and that there is a cure.
BY_NAME, BY_ADDRESS = "denied LookUpDenied 13 True", "denied PolicyDenied 13 True"
SHELL_NAME, DB, CACHE_NAME = (f"{host}.{CORP}" for host in ("shell", "db", "cache"))
WEBSOCKETS, WEBSOCKETS_TLS = 8081, 8444
_LARGE = hashlib.sha256(nginx.large_file()).hexdigest()[:16]
_HELLO = "hello from nginx"


class Use(NamedTuple):
    """A program in which a library does what it is mostly used for, and what comes of it.

    :ivar words: its arguments after the loop; what stands in braces is filled in.
    :ivar prints: all of its output natively, the same on each loop but for :attr:`on`.
    :ivar on: a loop that cannot do everything, what it does not print, and what instead.
    :ivar loops: its first argument, one after the other.
    :ivar ports: where the gate sees it connect or send to; those of the world's own peers are added.
    :ivar needs: the company's server that is started for it.
    :ivar rules: what is excepted from the default policy, for servers inside the company.
    :ivar refusals: what it says of each call that the policy refuses, to the destinations of :data:`DENIED`.
    :ivar environ: what its environment has beside the world's.
    :ivar ends: how its connections end.
    """

    program: str
    words: tuple[str, ...]
    prints: str
    ports: tuple[int, ...]
    loops: tuple[str, ...] = LOOPS
    on: tuple[str, str, str] = ("", "", "")
    needs: str = ""
    rules: tuple[str, ...] = ()
    refusals: tuple[str, ...] = (BY_NAME, BY_ADDRESS)
    environ: tuple[tuple[str, str], ...] = ()
    ends: frozenset[str] = frozenset({"closed"})

    def output(self, loop: str, is_refused: bool) -> str:
        """Return what it prints on a loop."""
        text = self.prints.replace(*self.on[1:]) if loop == self.on[0] else self.prints
        return text + "".join(f"{line}\n" for line in self.refusals if is_refused)


_WEB = ("{www}",)
_PEERS = ("{www}", "{tcp}", "{udp}")
_HTTPX = "".join(
    f"HTTP/{version} {_HELLO}\n{_LARGE}\ngot 1000000\n{{('HTTP/{version}', 200)}}\n" for version in ("1.1", "2")
)
#: It connects by connect_ex(), which gives an errno.
_GEVENT = (BY_NAME, "PermissionError [Errno 13] Permission denied")
_TASKS = f"stream True\ntls {_HELLO}\n"

USES = {
    "asyncio": Use(
        "use_asyncio.py",
        ("{www}", "{www4}", "{tcp}", "{udp}", "{mail}", "{file}"),
        "streams to the end\ndatagrams four endpoints\nby_hand streams, datagrams, a file\ntls TLSv1.2\nstart_tls OK\n"
        "eyeballs [True, True]\nfile 10000\nnames (2, 'https', True)\nends (111, 'cancelled')\n",
        (443, 143),
        on=("uvloop", "streams, datagrams, a file", "streams"),
        refusals=(*[BY_NAME] * 2, *[BY_ADDRESS] * 3),
        ends=frozenset({"closed", "failed"}),  # it tries a port where nobody listens
    ),
    "httpx": Use("use_httpx.py", _WEB, _HTTPX, (443,)),
    "httpx on trio": Use(
        "use_httpx.py",
        _WEB,
        "".join(line for line in _HTTPX.splitlines(keepends=True) if not line.startswith("{")),
        (443,),
        ("trio",),
    ),
    "aiohttp": Use(
        "use_aiohttp.py",
        _WEB,
        f"(200, '{_HELLO}\\n')\n20 {{(200, '{_HELLO}\\n')}}\n{_LARGE}\ngot 1000000\n",
        (80, 443),
    ),
    "redis": Use(
        "use_redis.py",
        (CACHE_NAME, redis.PASSWORD),
        "True True 1000000\n100\nhello\n20000000\n",
        (6379,),
        needs="redis",
        rules=(f"{CACHE_NAME}:6379",),
    ),
    "asyncpg": Use(
        "use_asyncpg.py",
        (DB, postgresql.USER, postgresql.PASSWORD),
        "False 10000 9999\nTrue 10000 9999\n1225\n",
        (5432,),
        needs="postgresql",
        rules=(f"{DB}:5432",),
    ),
    "asyncssh": Use(
        "use_asyncssh.py",
        (SHELL_NAME, "{folder}/openssh/user", "{folder}/openssh/known_hosts", "{folder}/openssh"),
        "7 True\nTrue\n",
        (22,),
        needs="openssh",
        rules=(f"{SHELL_NAME}:22",),
    ),
    "websockets": Use(
        "use_websockets.py",
        ("{www}", str(WEBSOCKETS), str(WEBSOCKETS_TLS)),
        f"('echo', 4950)\n{[(None, 4950)] * 5}\n",
        (WEBSOCKETS, WEBSOCKETS_TLS),
        needs="websockets",
    ),
    "trio": Use("use_trio.py", _PEERS, f"{_TASKS}with_context TLSv1.2\ndatagrams connected\n", (443,), ("trio",)),
    "anyio": Use("use_anyio.py", _PEERS, f"{_TASKS}datagrams connected\n", (443,), (*LOOPS, "trio")),
    "twisted": Use(
        "use_twisted.py",
        ("{www}", "{www4}", "{tcp}", "{udp}"),
        f"stream True\ndatagrams True\n200 {_HELLO}\n20 {{b'{_HELLO}\\n'}}\n",
        (80, 443),
        ("epoll", "asyncio"),
        # Twisted keeps neither a look-up's error nor, as it connects by connect_ex(), a connect's: only its errno.
        refusals=(
            f"DNSLookupError DNS lookup failed: no results for hostname lookup: {DENIED[0]}.",
            "ConnectError An error occurred while connecting: 13: Permission denied.",
        ),
    ),
    "tornado": Use(
        "use_tornado.py",
        ("{www}", "{tcp}", "{mail}"),
        f"200 {_HELLO}\n200 {_HELLO}\n{{(200, b'{_HELLO}\\n')}}\ngot 1000000\nTrue\nBYE\n",
        (80, 443, 143),
    ),
    "gevent": Use(
        "use_gevent.py",
        _PEERS,
        f"True True\nTrue True True\n{{'{_HELLO}\\n'}}\n",
        (80,),
        ("before", "after"),
        refusals=_GEVENT,
    ),
    "gevent, blocking look-ups": Use(
        "use_gevent.py",
        _PEERS,
        "True True\n",
        (),
        ("unpatched",),
        refusals=_GEVENT,
        environ=(("GEVENT_RESOLVER", "block"),),
    ),
}
each_use = pytest.mark.parametrize(
    ("name", "loop", "path"),
    [
        pytest.param(name, loop, path, id=f"{name}-{loop}-{path}", marks=[pytest.mark.slow] if path == RELAY else [])
        for name, use in USES.items()
        for loop in use.loops
        for path in PATHS
    ],
)


@contextlib.contextmanager
def datagram_echo(sock: socket.socket) -> Iterator[int]:
    """Send back each datagram that comes to a bound socket, and give its port."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        while True:
            ready, _, _ = select.select([sock, theirs], [], [])
            if theirs in ready:
                return
            data, address = sock.recvfrom(65536)
            sock.sendto(data, address)

    with sock, ours, theirs:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            ours.send(b"end")
            thread.join()


@pytest.fixture
def words(world: World) -> Iterator[dict[str, str]]:
    """What the programs' arguments say of the world, with one port that answers on TCP in both families, and on UDP."""
    with contextlib.ExitStack() as stack:
        first = world.far.socket()
        first.bind((WWW[0], 0))
        port: int = first.getsockname()[1]
        second = world.far.socket(socket.AF_INET6)
        second.bind((WWW[1], port))
        for listener in (first, second):
            stack.enter_context(peers.echo(listener=listener))
        datagrams = world.far.socket(kind=socket.SOCK_DGRAM)
        datagrams.bind((WWW[0], 0))
        yield {
            "www": f"www.{DOMAIN}",
            "www4": f"www4.{DOMAIN}",
            "mail": f"mail.{DOMAIN}",
            "folder": str(world.folder),
            "file": str(world.folder / "nginx/www/large"),
            "tcp": str(port),
            "udp": str(stack.enter_context(datagram_echo(datagrams))),
        }


def start(request: pytest.FixtureRequest, world: World, name: str) -> None:
    """Have what a use needs running."""
    if name == "websockets":
        if name not in world.servers:
            folder = world.folder / name
            folder.mkdir()
            command = [sys.executable, str(PROGRAMS / "asynchronous/serve_websockets.py"), "", str(WEBSOCKETS)]
            command += [str(WEBSOCKETS_TLS), str(world.certificate), str(world.key)]
            world.keep(name, Server(name, world.far, folder, command))
            for address in WWW:
                for port in (WEBSOCKETS, WEBSOCKETS_TLS):
                    world.wait_for(name, address, port)
    elif name:
        corp: Corp = request.getfixturevalue("corp")
        getattr(corp, name)
        if name == "openssh":
            folder = world.folder / "openssh"
            (folder / "known_hosts").write_text(f"{SHELL_NAME} {(folder / 'host.pub').read_text()}")


@each_use
def test_the_library_works_and_is_refused(
    request: pytest.FixtureRequest, world: World, words: dict[str, str], log: Path, name: str, loop: str, path: str
) -> None:
    """It prints what it prints natively; what is denied raises ``PolicyDenied``, below the library's own error."""
    use = USES[name]
    start(request, world, use.needs)
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    command += [str(PROGRAMS / "asynchronous" / use.program), loop, *(word.format(**words) for word in use.words)]
    environ = [f"{key}={value}" for key, value in use.environ]
    if path == NATIVE:
        done = world.run("env", *environ, *command)
        assert (done.stdout, done.returncode) == (use.output(loop, False), 0), done.stderr
        assert done.stderr == ""
        return
    options = ("--path", path, *(word for rule in use.rules for word in ("--except", rule)))
    with world.watch() as watch:
        done = run(world, log, "env", *environ, *command, *DENIED, options=options)
        assert watch.to(PRIVATE4) == []
    assert (done.stdout, done.returncode) == (use.output(loop, True), 0), done.stderr
    (said,) = done.stderr.splitlines()
    assert f"{path} path" in said
    decisions, ends = events(log, "decision"), events(log, "end")
    made = [line for line in decisions if line.get("lease") and line["verdict"] == "allow"]
    assert {line["path"] for line in made if line["transport"] == "tcp"} == {path}
    assert {line["port"] for line in made} >= set(use.ports)
    assert {line["host"] for line in decisions if line["verdict"] == "deny"} == set(DENIED)
    ended = {line["lease"]: line["how"] for line in ends}
    assert {line["lease"] for line in made} <= ended.keys()
    # A close with bytes unread is a reset natively; only the relay sees it.
    assert set(ended.values()) - ({"reset"} if path == RELAY else set()) == use.ends


@pytest.mark.parametrize("refused", WWW, ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("library", ["asyncio", "uvloop", "trio", "anyio", "twisted", "tornado"])
def test_a_refused_family_falls_to_the_other(
    world: World, words: dict[str, str], log: Path, library: str, refused: str
) -> None:
    """Of a name with addresses of both families, one refused at this port, the other is connected to."""
    (other,) = {*WWW} - {refused}
    host = f"[{refused}]" if ":" in refused else refused
    program = PROGRAMS / "asynchronous/one_family.py"
    options = ("--deny", f"tcp://{host}:{words['tcp']}")
    done = run(world, log, sys.executable, str(program), library, words["www"], words["tcp"], options=options)
    times = 3 if library == "asyncio" else 1
    assert (done.stdout.split(), done.returncode) == ([other] * times, 0), done.stderr
    assert {line["address"] for line in events(log, "end")} == {other}
