"""Programs that people run, in a guard and unmodified: what makes its sockets round Python's works, and is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import guarded, peers
from support.corp import CORP, Corp
from support.fenced import PROGRAMS, events
from support.guarded import GUEST
from support.lab import Lab
from support.world import DOMAIN, PRIVATE4, WWW, World

FOLDER = PROGRAMS / "guarded"
WWW4 = f"www4.{DOMAIN}"
HELLO = "hello from nginx"


@pytest.fixture
def log(world: World) -> Iterator[Path]:
    """Return where the guest's decision log goes."""
    with guarded.log_of(world) as path:
        yield path


@pytest.fixture
def stream(world: World) -> Iterator[int]:
    """Return the port of a TCP echo at a public address."""
    listener = world.far.socket()
    listener.bind((WWW[0], 0))
    with peers.echo(listener=listener) as peer:
        yield peer.port


@pytest.fixture
def datagrams(world: World) -> Iterator[int]:
    """Return the port of a UDP echo at a public address."""
    with guarded.datagram_echo(world, WWW[0]) as port:
        yield port


def _found(world: World, log: Path, *words: str) -> dict[str, object]:
    """Return what a program has printed as JSON."""
    done = guarded.run(world, log, *words)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


# --- other languages --------------------------------------------------------------------------------------------------


@pytest.fixture
def go_program(log: Path) -> str:
    """Return a static program in Go: no C library in it that anything could be preloaded into."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("not installed: golang-go (sh tests/integration/install.sh)")
    made = str(log.parent / "reach")
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GO111MODULE": "off"}
    subprocess.run([go, "build", "-o", made, str(FOLDER / "reach.go")], env=environ, check=True)
    return made


@pytest.mark.timeout(300)  # the first build compiles its net/http
def test_a_static_binary_works(world: World, log: Path, go_program: str, stream: int, datagrams: int) -> None:
    """Five hundred requests in fifty goroutines, both kinds of sockets, its own resolver, and refusals as errnos."""
    with world.watch() as watch:
        words = (go_program, WWW4, f"{WWW[0]}:{stream}", f"{WWW[0]}:{datagrams}", f"{PRIVATE4}:80")
        found = _found(world, log, *words)
        assert watch.to(PRIVATE4) == []
    assert found == {
        "addresses": [WWW[0]],
        "lookup": "done",
        "many": {HELLO: 500},
        "tcp": "over tcp",
        "udp": "over udp",
        "unconnected": "by its name",
        "denied": "EACCES",
        "listen": "EACCES",
    }
    assert {each["program"] for each in events(log, "decision")} == {"reach"}


def test_node_works(world: World, log: Path, datagrams: int) -> None:
    """fetch over TLS, datagrams connected and not, c-ares, and the C library's names in libuv's threads."""
    words = ("env", f"NODE_EXTRA_CA_CERTS={world.ca}", "node", str(FOLDER / "web.js"))
    found = _found(world, log, *words, WWW4, WWW[0], str(datagrams), PRIVATE4)
    assert found == {
        "fetch": [HELLO],
        "datagrams": ["by its name", "connected"],
        "resolve": [WWW[0]],
        "lookup": WWW[0],
        "absent": "ENOTFOUND",
        "denied": "EACCES",
    }


def test_curl_works_over_both_families(world: World, log: Path) -> None:
    """TLS to a name that has an address of each family, to each alone, and a large file whole."""
    url = f"https://www.{DOMAIN}"
    for option in ("--silent", "--ipv4", "--ipv6"):
        assert guarded.run(world, log, "curl", "-sS", option, f"{url}/hello").stdout.strip() == HELLO
    done = guarded.run(world, log, "sh", "-c", f"curl -sS {url}/large | sha256sum")
    large = (world.folder / "nginx/www/large").read_bytes()
    assert done.stdout.split()[0] == hashlib.sha256(large).hexdigest(), done.stderr


# --- git --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(world: World, tmp_path: Path) -> Iterator[Path]:
    """Return a bare repository with one commit, which nginx serves as /guarded.git."""
    source, served = tmp_path / "source", world.folder / "nginx/www/guarded.git"
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source))
    subprocess.run(["git", "init", "-q", str(source)], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(source), str(served)], check=True)
    subprocess.run(["git", "-C", str(served), "update-server-info"], check=True)
    yield served
    shutil.rmtree(served)


def _cloned(log: Path) -> str:
    """Return the message of what the guest has cloned."""
    words = ("git", "-c", "safe.directory=*", "-C", str(log.parent / "clone"), "log", "-1", "--format=%s")
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_git_clones_over_tls(world: World, log: Path, repository: Path) -> None:
    """Its helper for HTTPS, a program of its own, gets there and trusts the certificate."""
    url = f"https://{WWW4}/{repository.name}"
    words = ("env", f"GIT_SSL_CAINFO={world.ca}", "git", "clone", "-q", url, str(log.parent / "clone"))
    done = guarded.run(world, log, *words)
    assert done.returncode == 0, done.stderr
    assert _cloned(log) == "first"
    assert {each["program"] for each in events(log, "end") if each["transport"] == "tcp"} == {"git-remote-http"}


def test_git_clones_over_ssh(world: World, corp: Corp, log: Path, repository: Path) -> None:
    """OpenSSH's client, which git starts, logs in by a key where the policy excepts the name, and only there."""
    server = corp.openssh
    key, known = log.parent / "key", log.parent / "known_hosts"
    shutil.copy(server.user_key, key)
    os.chown(key, GUEST, GUEST)
    known.write_text(f"shell.{CORP} {server.host_key}\n")
    # In a user namespace the system-wide configuration is of nobody, which ssh does not take.
    ssh = f"ssh -F none -i {key} -o UserKnownHostsFile={known} -o BatchMode=yes"
    words = ("env", f"GIT_SSH_COMMAND={ssh}", "git", "clone", "-q", f"ssh://root@shell.{CORP}{repository}")
    refused = guarded.run(world, log, *words, str(log.parent / "refused"))
    assert refused.returncode == 128
    assert "Permission denied" in refused.stderr
    options = ("--guard", "--except", f"shell.{CORP}:22")
    done = guarded.run(world, log, *words, str(log.parent / "clone"), options=options)
    assert done.returncode == 0, done.stderr
    assert _cloned(log) == "first"
    assert "ssh" in {each["program"] for each in events(log, "end")}


# --- Python, with sockets made in C and not ---------------------------------------------------------------------------


def test_pip_installs_from_an_index(world: World, log: Path) -> None:
    """It finds a wheel in an index over TLS, and installs it; a wheel on a denied address is not got."""
    index = world.folder / "nginx/www/simple"
    project = index / "outgate-guarded"
    project.mkdir(parents=True)
    try:
        name = _write_wheel(project)
        (project / "index.html").write_text(f"<!DOCTYPE html><a href={name}>{name}</a>")
        target = log.parent / "target"
        pip = (guarded.python(), "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "install")
        words = (*pip, "--quiet", "--retries", "0", "--cert", str(world.ca), "--target", str(target))
        done = guarded.run(world, log, *words, "--index-url", f"https://{WWW4}/simple/", "outgate-guarded")
        assert done.returncode == 0, done.stderr
        assert (target / "outgate_guarded.py").read_text() == "FROM = 'the index'\n"
        done = guarded.run(world, log, *words, f"http://{PRIVATE4}/{name}")
        assert done.returncode == 1
        assert "denied" in done.stderr
    finally:
        shutil.rmtree(index)


def _write_wheel(folder: Path) -> str:
    """Write a wheel of one module (PEP 427), and return its name."""
    name, info = "outgate_guarded-1-py3-none-any.whl", "outgate_guarded-1.dist-info"
    files = {
        "outgate_guarded.py": "FROM = 'the index'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: outgate-guarded\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: outgate\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
    return name


def test_httpx_works(world: World, log: Path) -> None:
    """One request, and several at once on asyncio, over TLS."""
    words = ("env", f"SSL_CERT_FILE={world.ca}", guarded.python(), str(PROGRAMS / "httpx_get.py"), WWW4)
    done = guarded.run(world, log, *words)
    assert done.stdout.splitlines() == [HELLO, "[200, 200, 200, 200, 200]"], done.stderr


@pytest.mark.parametrize("client", [True, False], ids=["client", "alone"])
def test_uvloop_works(world: World, log: Path, stream: int, datagrams: int, client: bool) -> None:
    """libuv's sockets: a hundred connections at once, datagrams, names, a refusal; with Python's client and without."""
    pytest.importorskip("uvloop")
    script = str(FOLDER / "uvloop_reach.py")
    python = (guarded.python(),) if client else _without_client()
    found = _found(world, log, *python, script, WWW4, WWW[0], str(stream), WWW[0], str(datagrams), PRIVATE4)
    assert found == {
        "loop": "uvloop",
        "echoes": 100,
        "datagrams": ["a datagram"] * 2,
        "peer": WWW[0],
        "denied": "EACCES",
    }


def _without_client() -> tuple[str, ...]:
    """Return how to start a Python that has our libraries and loads no client: what it starts with is not heard of."""
    path = guarded.environ()["PYTHONPATH"].split(os.pathsep)
    code = f"import sys, runpy; sys.path += {path!r}; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    return guarded.python(), "-IS", "-c", code


def test_grpc_works(world: World, lab: Lab, log: Path) -> None:
    """Two hundred calls by eight threads, a stream each way, and a refusal, from a core in C++ with a resolver."""
    pytest.importorskip("grpc")
    lab.grpc
    words = (guarded.python(), str(FOLDER / "grpc_call.py"), WWW4, PRIVATE4)
    assert _found(world, log, *words) == {"answers": True, "streamed": 1_000_000, "denied": "UNAVAILABLE"}
