"""Programs in any language under a guard: they work unmodified, are refused what policy denies, and are metered."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from outgate.testing.running import PATIENCE
from support import guarded
from support.corp import CORP, Corp
from support.fenced import PROGRAMS, events
from support.guarded import GUEST
from support.servers import postgresql
from support.waiting import wait_until
from support.world import DOMAIN, PRIVATE4, TRAP_PORT, WWW, World

WWW4 = f"www4.{DOMAIN}"


@pytest.fixture
def log(world: World) -> Iterator[Path]:
    """Return where the guest's decision log goes."""
    with guarded.log_of(world) as path:
        yield path


def _only(log: Path, kind: str) -> dict[str, object]:
    (found,) = events(log, kind)
    return found


# --- programs that are not Python -------------------------------------------------------------------------------------


def test_curl_works_and_is_metered(world: World, log: Path) -> None:
    """It gets a page by name; the log has its pid and name, the name that it asked for, and every byte."""
    done = guarded.run(world, log, "sh", "-c", f"echo $$; exec curl -sS -w '%{{size_header}}' http://{WWW4}/hello")
    assert (done.returncode, done.stderr.splitlines()[1:]) == (0, [])
    pid, body, header = done.stdout.splitlines()
    assert body == "hello from nginx"
    end = next(each for each in events(log, "end") if each["transport"] == "tcp")
    assert (end["program"], end["pid"], end["name"]) == ("curl", int(pid), WWW4)
    assert end["received"] == int(header) + len(body) + 1
    assert end["sent"] > 0


def test_curl_is_refused(world: World, log: Path) -> None:
    """What policy denies is EACCES at once, with a line in the log and no packet."""
    with world.watch() as watch:
        done = guarded.run(world, log, "curl", "-sS", f"http://{PRIVATE4}:{TRAP_PORT}/")
        assert watch.to(PRIVATE4) == []
    assert done.returncode == 7
    decision = _only(log, "decision")
    assert (decision["program"], decision["verdict"], decision["rule"]) == ("curl", "deny", "non-public")


_NODE = """
const http = require('http'), dns = require('dns');
const get = (options) => new Promise((done) =>
  http.get(options, (r) => { let t = ''; r.on('data', (d) => t += d); r.on('end', () => done(t.trim())); })
    .on('error', (e) => done(e.code)));
(async () => {
  const [host, denied] = process.argv.slice(1);
  const many = await Promise.all([...Array(100)].map(() => get({ host, path: '/hello', agent: false })));
  console.log(JSON.stringify({
    many: [...new Set(many)],
    fetch: (await (await fetch(`http://${host}/hello`)).text()).trim(),
    cares: await dns.promises.resolve4(host),
    denied: await get({ host: denied }),
  }));
})();
"""


def test_node_works(world: World, log: Path) -> None:
    """A hundred requests at once, fetch, its own resolver and a refusal."""
    done = guarded.run(world, log, "node", "-e", _NODE, WWW4, PRIVATE4)
    assert json.loads(done.stdout) == {
        "many": ["hello from nginx"],
        "fetch": "hello from nginx",
        "cares": [WWW[0]],
        "denied": "EACCES",
    }


def test_git_works(world: World, log: Path, tmp_path: Path) -> None:
    """It clones over HTTP, by a helper that it starts."""
    source = tmp_path / "source"
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source))
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    served = world.folder / "nginx/www/repo.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(served)], check=True)
    subprocess.run(["git", "-C", str(served), "update-server-info"], check=True)
    target = log.parent / "clone"
    try:
        done = guarded.run(world, log, "git", "clone", "-q", f"http://{WWW4}/repo.git", str(target))
        assert done.returncode == 0, done.stderr
        assert (target / ".git" / "HEAD").exists()
    finally:
        shutil.rmtree(served)


# --- Python, with a client and without --------------------------------------------------------------------------------

_LIBRARIES = {
    "psycopg": (("psycopg_query.py", f"db.{CORP}", "5432", postgresql.USER, postgresql.PASSWORD), "42\n"),
    "pycurl": (("pycurl_get.py", f"http://{WWW4}/hello"), "200 hello from nginx\n"),
}


@pytest.mark.parametrize("name", _LIBRARIES)
def test_a_library_in_c_works(world: World, corp: Corp, log: Path, name: str) -> None:
    """What reaches nothing in the fence works in a guard, where the rest of the program has a client."""
    pytest.importorskip(name)
    corp.postgresql
    (program, *words), prints = _LIBRARIES[name]
    script = str(PROGRAMS / "libraries" / program)
    options = ("--guard", "--except", f"db.{CORP}:5432")
    done = guarded.run(world, log, guarded.python(), script, *words, options=options)
    assert (done.stdout, done.returncode) == (prints, 0), done.stderr


_BOTH = """
import errno, json, os, pickle, socket, sys
host, denied, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
found = {"pid": os.getpid()}
with socket.create_connection((host, 80), timeout=10) as sock:
    sock.sendall(b"GET /hello HTTP/1.0\\r\\n\\r\\n")
    copy = pickle.loads(pickle.dumps(sock))
    found["copy"] = copy.recv(8).decode()
try:
    socket.create_connection((denied, port), timeout=10)
except OSError as e:
    found["denied"] = [type(e).__name__, e.errno, getattr(e, "rule", None) or e.facts["rule"]]
refused = socket.socket()
found["refused"] = errno.errorcode[refused.connect_ex((host, 81))]
found["again"] = errno.errorcode[refused.connect_ex((host, 81))]
print(json.dumps(found))
"""


def test_a_client_in_a_guard(world: World, log: Path) -> None:
    """A program with the client keeps reasons, pickling and the kernel's own errors; the log has its pid."""
    done = guarded.run(world, log, guarded.python(), "-c", _BOTH, WWW4, PRIVATE4, str(TRAP_PORT))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pid = found.pop("pid")
    assert found == {
        "copy": "HTTP/1.1",
        "denied": ["PolicyDenied", 13, "non-public"],
        "refused": "ECONNREFUSED",
        "again": "ECONNREFUSED",
    }
    assert {each["pid"] for each in events(log, "decision")} == {pid}


_SEMANTICS = """
import errno, json, signal, socket, struct, sys, time
open_, silent, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
found = {}
def name(function, *words):
    try:
        return function(*words) or "done"
    except OSError as e:
        return errno.errorcode[e.errno]
sock = socket.socket()
found["bind"] = name(sock.bind, ("0.0.0.0", 0))
found["port"] = sock.getsockname()[1] != 0
found["connect"] = name(sock.connect, (open_, 80))
found["again"] = name(sock.connect, (open_, 80))
sock = socket.socket()
sock.setblocking(False)
found["at once"] = name(sock.connect, (silent, port))
found["in progress"] = name(sock.connect, (silent, port))
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 200000))
found["time-out"] = name(sock.connect, (silent, port))
class Interrupted(Exception): pass
def interrupt(*_): raise Interrupted
signal.signal(signal.SIGALRM, interrupt)
sock = socket.socket()
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    sock.connect((silent, port))
except Interrupted:
    found["signal"] = "interrupted"
sock = socket.socket()
found["refused"] = [name(sock.connect, (open_, 81)) for _ in range(2)]
found["short"] = name(sock.connect, (open_, 80)), sock.getpeername()[0]
print(json.dumps(found))
"""


def test_connect_is_as_the_kernel_has_it(world: World, log: Path) -> None:
    """Without a client: bound, blocking and not, timed out, interrupted and refused, as natively."""
    words = ("-IS", "-c", _SEMANTICS, WWW[0], "93.184.215.99", "80")
    native = json.loads(world.run(guarded.python(), *words).stdout)
    done = guarded.run(world, log, guarded.python(), *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == native


_UDP_PORT = 5353
_DATAGRAMS = """
import json, socket, sys
found = []
for host in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for connects in (False, True):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(10)
            to = (host, int(sys.argv[1]))
            for size in (0, 1, 1400, 60000):
                if connects:
                    sock.connect(to)
                    sock.send(bytes(size))
                else:
                    sock.sendto(bytes(size), to)
                payload, source = sock.recvfrom(65536)
                assert source[:2] == to, source
                found.append(len(payload))
print(json.dumps(found))
"""


def test_datagrams_are_carried_and_counted(world: World, log: Path) -> None:
    """Datagrams of any size reach a server over IPv4 and IPv6, connected or not, and each byte is counted."""
    with contextlib.ExitStack() as stack:
        for host in WWW:
            stack.enter_context(guarded.datagram_echo(world, host, _UDP_PORT))
        done = guarded.run(world, log, guarded.python(), "-IS", "-c", _DATAGRAMS, str(_UDP_PORT), *WWW)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, 1, 1400, 60000] * 4
    ends = [each for each in events(log, "end") if each["transport"] == "udp"]
    assert [(each["sent"], each["received"]) for each in ends] == [(61401, 61401)] * 4


_CLOSING = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
for size in range(1, 5):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(bytes(size), (host, port))
        assert len(sock.recv(100)) == size
    print(size, flush=True)
    sys.stdin.readline()
"""


def test_the_close_of_a_udp_socket_is_told(world: World, log: Path) -> None:
    """The kernel tells the guard, so its lease ends when it is closed, and not with the next look, a second after."""
    words = (guarded.python(), "-ISc", _CLOSING, WWW[0], str(_UDP_PORT))
    with guarded.datagram_echo(world, WWW[0], _UDP_PORT), guarded.started(world, log, *words) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for size in range(1, 5):  # each is opened right after the look, or the notice, that has ended the one before
            assert process.stdout.readline() == f"{size}\n"
            wait_until(lambda count=size: len(events(log, "end")) == count, limit=PATIENCE)
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.wait() == 0
    ends = events(log, "end")
    assert [(each["sent"], each["received"], each["how"]) for each in ends] == [(n, n, "closed") for n in range(1, 5)]
    assert min(each["duration"] for each in ends[1:]) < 0.5, ends


# --- the guard itself -------------------------------------------------------------------------------------------------


_WAITS = """
import errno, socket, sys
sock = socket.create_connection((sys.argv[1], 80), timeout=10)
print("ready", flush=True)
sys.stdin.readline()
sock.sendall(b"GET /hello HTTP/1.0\\r\\n\\r\\n")
print(sock.recv(8).decode(), flush=True)
try:
    socket.create_connection((sys.argv[1], 80), timeout=10)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
"""


def test_without_its_guard_a_program_opens_nothing(world: World, log: Path) -> None:
    """A guard that is killed leaves what is open, and nothing else comes: the network around is empty."""
    with guarded.started(world, log, guarded.python(), "-IS", "-c", _WAITS, WWW[0]) as process:
        assert process.stdout.readline() == "ready\n"
        guard = guarded.guard_of(world)
        pidfd = os.pidfd_open(guard)
        os.kill(guard, signal.SIGKILL)
        select.select([pidfd], [], [])
        os.close(pidfd)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.read().split() == ["HTTP/1.1", "ENOSYS"]


_TRIES = """
import errno, socket, sys
for line in sys.stdin:
    try:
        with socket.socket() as sock:
            sock.connect((sys.argv[1], 80))
        print("done", flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
"""


def test_a_guard_finds_the_next_gate(world: World, log: Path) -> None:
    """While no gate answers nothing is opened, with ENETDOWN; when the next one does, it goes on."""
    folder = log.parent
    config = folder / "outgate.toml"
    config.write_text(
        f'version = 1\n[gate]\nsocket = "{folder}/gate.sock"\nlog = "{log}"\nstate = "{folder}/state"\n'
        f"[apps.guest]\nuid = [{GUEST}]\nbilling = true\n"
    )
    words = (guarded.python(), "-IS", "-c", _TRIES, WWW[0])
    run = (*guarded.AS_GUEST, guarded.python(), "-m", "outgate", "run", "--guard", "--socket", f"{folder}/gate.sock")
    with contextlib.ExitStack() as stack:
        gate = stack.enter_context(guarded.gate(world, config))
        program = stack.enter_context(
            subprocess.Popen(
                world.near.command(*run, "--", *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**world.environ(), **guarded.environ()},
            )
        )
        stack.callback(program.kill)

        def tries() -> str:
            assert program.stdin is not None
            assert program.stdout is not None
            program.stdin.write("\n")
            program.stdin.flush()
            return program.stdout.readline().rstrip()

        assert tries() == "done"
        gate.kill()
        gate.wait()
        assert tries() == "ENETDOWN"
        stack.enter_context(guarded.gate(world, config))
        assert tries() == "done"


def test_status_and_signals_are_the_programs_own(world: World, log: Path) -> None:
    """Its exit status, and the signal that ended it, come through; it is the process that was started."""
    assert guarded.run(world, log, "sh", "-c", "exit 7").returncode == 7
    assert guarded.run(world, log, "no-such-program").returncode == 127
    ended = guarded.run(world, log, "sh", "-c", "kill -TERM $$")
    assert ended.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_close_is_seen_by_the_far_end(world: World, log: Path) -> None:
    """What a program closes in the midst of its life ends for the far end too."""
    code = """
import socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10)
sock.close()
print("closed", flush=True)
sys.stdin.readline()
"""
    with contextlib.closing(world.far.socket()) as listener:
        listener.bind((WWW[0], 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        with guarded.started(world, log, guarded.python(), "-IS", "-c", code, WWW[0], port) as process:
            far, _ = listener.accept()
            with far:
                far.settimeout(20)
                assert process.stdout.readline() == "closed\n"
                assert far.recv(1) == b""
                assert process.poll() is None


def test_only_listed_unix_sockets(world: World, log: Path, tmp_path: Path) -> None:
    """A configuration guards its app's programs by itself, and opens the Unix sockets that it lists, and no other."""
    folder = log.parent
    config = folder / "outgate.toml"
    with contextlib.ExitStack() as stack:
        paths = []
        for name in ("listed", "other"):
            path = str(folder / f"{name}.sock")
            listener = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            listener.bind(path)
            os.chmod(path, 0o666)
            listener.listen()
            paths.append(path)
        config.write_text(
            f'version = 1\n[apps.guest]\nuid = [{GUEST}]\nbilling = true\nguard = true\nunix = ["{paths[0]}"]\n'
        )
        code = """
import socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as sock:
        print(sock.connect_ex(path))
print(open("/proc/self/status").read().split("Seccomp:")[1].split()[0])
"""
        words = (guarded.python(), "-IS", "-c", code, *paths)
        done = guarded.run(world, log, *words, options=("--config", str(config)))
        assert done.stdout.split() == ["0", "111", "2"], done.stderr


def test_an_untrusted_app_gets_the_kernels_sockets(world: World, log: Path) -> None:
    """What would be relayed in the fence is direct in a guard, and says so in the log."""
    config = log.parent / "outgate.toml"
    config.write_text(f"version = 1\n[apps.guest]\nuid = [{GUEST}]\nbilling = true\n")
    done = guarded.run(
        world, log, "curl", "-sS", f"http://{WWW[0]}/hello", options=("--guard", "--config", str(config))
    )
    assert done.stdout == "hello from nginx\n", done.stderr
    assert _only(log, "end")["path"] == "direct"


def test_root_is_not_guarded(world: World, log: Path) -> None:
    """Root of the host is refused, with what to do; best effort falls back to the fence and says so."""
    done = world.outgate("run", "--guard", "--log", str(log), "--", "true")
    assert done.returncode == 2
    assert "run as another user" in done.stderr
    done = world.outgate("run", "--guard=best-effort", "--log", str(log), "--", "true")
    assert done.returncode == 0
    assert "NOT guarded: root cannot be guarded" in done.stderr
    assert "fenced" in done.stderr


def test_sockets_from_outside_are_closed(world: World, log: Path) -> None:
    """A connection that was open before the guard is not handed on: it leads out."""
    with world.near.socket() as sock:
        sock.connect((PRIVATE4, TRAP_PORT))
        done = subprocess.run(
            world.near.command(*guarded.command(log, "sh", "-c", f"echo escaped >&{sock.fileno()}")),
            pass_fds=[sock.fileno()],
            capture_output=True,
            text=True,
            cwd=world.folder,
            env={**world.environ(), **guarded.environ()},
        )
        world.near.wait_empty()
        assert done.returncode != 0
        assert "is closed: fd" in done.stderr
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
