"""Libraries that wait for their sockets, each in its main use, natively and over both paths, against real servers.

``docs/data/libraries.toml`` has a row for each; ``tests/test_library_list.py`` holds that. What another file of this
folder tries already over a path is not tried here again.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from support.corp import CORP, Corp
from support.fenced import PROGRAMS, events, run
from support.lab import Lab
from support.pythons import interpreter
from support.servers import (
    dovecot,
    inn,
    mariadb,
    mosquitto,
    moto,
    nginx,
    rpc,
    slapd,
    telnetd,
    vsftpd,
)
from support.world import DOMAIN, FAR4, PRIVATE4, ZONE, World

NEWS, MAIL, WWW, WWW4, WWW6 = (f"{host}.{DOMAIN}" for host in ("news", "mail", "www", "www4", "www6"))
SHELL_NAME, DB, CACHE_NAME, SMTP = (f"{host}.{CORP}" for host in ("shell", "db", "cache", "smtp"))
_LOGIN = (dovecot.USER, dovecot.PASSWORD)
_BIG = hashlib.sha256(nginx.large_file()).hexdigest()[:16]
_FILE = hashlib.sha256(vsftpd.FILES["large.bin"]).hexdigest()[:16]
_PEOPLE = sorted(slapd.PEOPLE.values())
_LISTED = sorted([*vsftpd.FILES, vsftpd.INCOMING])
_MAILS = "3 messages\n" + "".join(f"{subject}\n" for subject in dovecot.SUBJECTS)
_UPLOADED = "got 1000000\n"
NATIVE, DIRECT, RELAY = PATHS = ("native", "direct", "relay")


class Use(NamedTuple):
    """A program in which a library does what it is mostly used for, and what comes of it.

    :ivar prints: all of its output.
    :ivar ports: where the gate sees it connect or send to.
    :ivar needs: the servers that are started for it, of the lab or of the company.
    :ivar rules: what is excepted from the default policy, for servers inside the company.
    :ivar paths: where this is tried; fewer than all where another file has tried the rest.
    """

    program: str
    words: tuple[str, ...]
    prints: str
    ports: frozenset[int]
    needs: str = ""
    rules: tuple[str, ...] = ()
    paths: tuple[str, ...] = PATHS


def _ports(*ports: int) -> frozenset[int]:
    return frozenset(ports)


def _ftp(tls: bool) -> str:
    login = "230\n200 True\n" if tls else "230\n"
    return f"{login}{_LISTED}\n{len(vsftpd.FILES['large.bin'])} {_FILE}\nTrue\n"


_HTTP = "200 hello from nginx\n200 2\n200 3\ngot 3000000\n"
_MYSQL = "200 title 0 199\n1000000\n"
_LDAP = "".join(f"{way} {tls} {_PEOPLE}\nTrue True\n" for way, tls in
                (("NO_TLS", False), ("TLS_BEFORE_BIND", True), ("ldaps", True)))  # fmt: skip
_MQTT = f"Success\nGranted QoS 1\n{[('rooms/cellar/temperature', 200_000), ('rooms/kitchen/temperature', 5)]}\n"
_SSL = "".join(f"{when} True 443 https\n" for when in ("before", "after", "without blocking")) + "DNS True\n"

#: Library, and what is special about this use of it, → the use.
USES = {
    "http.client": Use("http_client.py", (WWW,), _HTTP, _ports(80), paths=(RELAY,)),
    "http.client TLS": Use(
        "https_client.py", (WWW4,), f"200 {nginx.LARGE} {_BIG}\nTrue\n", _ports(443), paths=(RELAY,)
    ),
    "urllib.request": Use("urllib_get.py", (f"http://{WWW6}/scheme",), "200 scheme http\n", _ports(80), paths=(RELAY,)),
    "urllib.request TLS": Use(
        "urllib_get.py", (f"https://{WWW}/moved",), "200 hello hello from nginx\n", _ports(443), paths=(RELAY,)
    ),
    "urllib.request FTP": Use(
        "libraries/urllib_ftp.py",
        (WWW4,),
        f"{len(vsftpd.FILES['large.bin'])} {len(vsftpd.FILES['large.bin'])} {_FILE}\n",
        _ports(21),
        "vsftpd",
    ),
    "ftplib": Use("libraries/ftp_transfer.py", (WWW4,), _ftp(False), _ports(21), "vsftpd"),
    "ftplib IPv6": Use("libraries/ftp_transfer.py", (WWW6,), _ftp(False), _ports(21), "vsftpd"),
    "ftplib TLS": Use("libraries/ftp_transfer.py", (WWW, "--tls"), _ftp(True), _ports(21), "vsftpd"),
    "imaplib": Use("imap_read.py", (MAIL, *_LOGIN), _MAILS, _ports(143), paths=(RELAY,)),
    "imaplib TLS": Use("imap_read.py", ("--tls", MAIL, *_LOGIN), _MAILS, _ports(993), paths=(RELAY,)),
    "poplib": Use(
        "pop3_read.py",
        (MAIL, *_LOGIN),
        "3 messages\n" + "".join(f"Subject: {each} 8\n" for each in dovecot.SUBJECTS) + "+OK Logging out.\n",
        _ports(110),
        paths=(RELAY,),
    ),
    "poplib STARTTLS": Use("pop3_starttls.py", (MAIL, *_LOGIN), "True\n3 messages\n", _ports(110), paths=(RELAY,)),
    "smtplib": Use(
        "smtp_submit.py",
        (SMTP, "587", *_LOGIN),
        f"EHLO worker.{CORP}\n220 True\n235\nrefused recipients: {{}}\n",
        _ports(587),
        "postfix",
        paths=(DIRECT, RELAY),
    ),
    "nntplib": Use("nntp_post.py", (NEWS, inn.GROUPS[1]), f"240\nHello, {inn.GROUPS[1]}.\n", _ports(119)),
    "telnetlib": Use(
        "libraries/telnet_type.py",
        (NEWS, telnetd.USER, telnetd.PASSWORD),
        f"0 {telnetd.USER}\n{len(''.join(f'{number} ' for number in range(1, 2001)))}\ngoodbye\n",
        _ports(23),
        "telnetd",
    ),
    "xmlrpc.client": Use(
        "libraries/xmlrpc_call.py",
        (WWW4, str(rpc.PORT)),
        "['add', 'echo', 'fail']\n6 {'list': [1, None, 'ä']}\n500000\n1 True\n[2, 4]\n",
        _ports(rpc.PORT),
        "rpc",
    ),
    "ssl": Use("libraries/ssl_orders.py", (WWW,), _SSL, _ports(443)),
    "select": Use(
        "libraries/wait_many.py",
        (WWW,),
        "".join(f"{each} 4 {_BIG}\n" for each in ("BySelect", "ByPoll", "ByEpoll", "BySelectors")),
        _ports(80),
    ),
    "urllib3": Use(
        "libraries/urllib3_pool.py",
        (WWW4,),
        f"hello from nginx\n3\n{{'{_BIG}'}}\n9 True\nNewConnectionError True\nTrue\n",
        _ports(80, 9),
    ),
    "httpx": Use(
        "libraries/httpx_http2.py",
        (WWW,),
        "".join(f"HTTP/{version} hello from nginx [302]\n{_BIG}\n{_UPLOADED}" for version in ("1.1", "2")),
        _ports(443),
    ),
    "PyMySQL": Use(
        "libraries/pymysql_query.py",
        (WWW, mariadb.USER, mariadb.PASSWORD, mariadb.DATABASE),
        f"plain\n{_MYSQL}TLS\n{_MYSQL}",
        _ports(3306),
        "mariadb",
    ),
    "paramiko SFTP": Use(
        "libraries/paramiko_sftp.py",
        (SHELL_NAME, "{folder}/openssh/user", "{folder}/openssh/known_hosts", "{folder}/openssh"),
        "2000000\n2000000 True\nTrue\n",
        _ports(22),
        "openssh",
        (f"{SHELL_NAME}:22",),
    ),
    "paho-mqtt": Use(
        "libraries/mqtt_exchange.py",
        (WWW, mosquitto.USER, mosquitto.PASSWORD),
        _MQTT * 2,
        _ports(1883, 8883),
        "mosquitto",
    ),
    "dnspython": Use(
        "libraries/dns_ask.py",
        (FAR4, WWW),
        f"{ZONE[WWW][0]}\n{ZONE[WWW][1]}\n" * 2 + "0 0\n",
        _ports(53),
    ),
    "ldap3": Use(
        "libraries/ldap_search.py", (MAIL, slapd.BASE, slapd.ADMIN, slapd.PASSWORD), _LDAP, _ports(389, 636), "slapd"
    ),
    "boto3": Use(
        "libraries/s3_store.py",
        (f"http://{WWW4}:{moto.PORT}", moto.ACCESS, moto.SECRET),
        f"{[('large', 12 << 20), ('small', 5)]}\nhello\nTrue\nNoSuchKey\n",
        _ports(moto.PORT),
        "moto",
    ),
    # Over the paths in test_paths.py and, by a rule, in test_services_by_name.py.
    "requests": Use("requests_get.py", (WWW,), "", _ports(443), paths=()),
    "redis": Use("redis_use.py", (CACHE_NAME, "6379", "password"), "", _ports(6379), paths=()),
    "pg8000": Use("postgres_query.py", (DB, "5432", "user", "password"), "", _ports(5432), paths=()),
}
each_use = pytest.mark.parametrize(
    ("path", "name"),
    [pytest.param(path, name, id=f"{name}-{path}") for name, use in USES.items() for path in use.paths],
)


@pytest.fixture
def ready(request: pytest.FixtureRequest, lab: Lab) -> Callable[[str], None]:
    """Have what a use needs running."""

    def start(name: str) -> None:
        if name and hasattr(Lab, name):
            getattr(lab, name)
        elif name:
            corp: Corp = request.getfixturevalue("corp")
            getattr(corp, name)
            if name == "openssh":
                folder = corp.world.folder / "openssh"
                (folder / "known_hosts").write_text(f"{SHELL_NAME} {(folder / 'host.pub').read_text()}")

    return start


def _command(world: World, program: str, words: Sequence[str]) -> tuple[str, ...]:
    return (sys.executable, str(PROGRAMS / program), *(word.format(folder=world.folder) for word in words))


@each_use
def test_the_library_works(world: World, log: Path, ready: Callable[[str], None], name: str, path: str) -> None:
    """Its program prints what it should, with nothing on standard error but our line, and each connection ends well."""
    use = USES[name]
    ready(use.needs)
    command = _command(world, use.program, use.words)
    if path == NATIVE:
        done = world.run(*command)
        assert (done.stdout, done.stderr, done.returncode) == (use.prints, "", 0)
        return
    rules = [word for rule in use.rules for word in ("--except", rule)]
    done = run(world, log, *command, options=("--path", path, *rules))
    assert (done.stdout, done.returncode) == (use.prints, 0), done.stderr
    (line,) = done.stderr.splitlines()
    assert f"{path} path" in line
    decisions, ends = events(log, "decision"), events(log, "end")
    assert {line["verdict"] for line in decisions} == {"allow"}
    seen = {line["port"] for line in decisions}
    assert use.ports <= seen
    made = [line for line in decisions if line.get("lease")]
    assert made
    assert {line["path"] for line in made if line["transport"] == "tcp"} <= {path}
    ended = {end["lease"]: end for end in ends}
    assert {line["lease"] for line in made} <= ended.keys()
    assert {end["how"] for end in ends if end.get("connected", True)} == {"closed"}


# -- what is denied --------------------------------------------------------------------------------------------------

#: The policy permits neither: a name that leads inside only, refused when it is looked up, and an address.
DENIED = {"name": f"inside.{DOMAIN}", "address": PRIVATE4}
#: Whose own error says no more than where it went; the refusal is its cause.
SILENT = ("boto3", "pg8000")
#: One use of each library, of those that tell of errors by an exception.
REFUSED = {name.partition(" ")[0]: use for name, use in reversed(USES.items()) if name != "select"}


@pytest.mark.parametrize(
    ("name", "host"),
    [
        pytest.param(name, host, id=f"{name}-{kind}")
        for name in REFUSED
        for kind, host in DENIED.items()
        if (name, kind) != ("dnspython", "name")  # it takes name servers by address only
    ],
)
def test_the_library_shows_the_refusal(
    world: World, log: Path, ready: Callable[[str], None], name: str, host: str
) -> None:
    """Its exception is or carries ``PolicyDenied``, its text says why and what would permit it, and nothing is sent."""
    use = REFUSED[name]
    if use.needs == "openssh":
        ready(use.needs)  # which makes the files that are its arguments
    hosts = (NEWS, MAIL, WWW, WWW4, WWW6, SHELL_NAME, CACHE_NAME, DB, SMTP, PRIVATE4 if name == "dnspython" else FAR4)
    hosts = (NEWS, MAIL, WWW, WWW4, WWW6, SHELL_NAME, CACHE_NAME, DB, SMTP, FAR4)
    words = [functools.reduce(lambda word, known: word.replace(known, host), hosts, word) for word in use.words]
    command = _command(world, "libraries/how_it_fails.py", [str(PROGRAMS / use.program), *words])
    with world.watch() as watch:
        done = run(world, log, *command)
        assert watch.to(PRIVATE4) == []
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    refusals = [each["text"] for each in shown if "PolicyDenied" in each["kinds"]]
    if name == "ldap3" and host != PRIVATE4:  # it says nothing of why a look-up failed
        assert refusals == []
        assert shown[0]["text"] == "invalid server address"
        assert {line["verdict"] for line in events(log, "decision")} == {"deny"}
        return
    if name == "ldap3":  # its own exception is made to be one of ours as well, and begins with words of its own
        refusals = [text.partition("opening: ")[2] for text in refusals]
    assert refusals
    for text in refusals:
        assert text.startswith(f"[Errno {errno.EACCES}] default → {host}")
        assert f"{PRIVATE4} (private)" in text
        assert f'to permit: except = ["{"udp://" if name == "dnspython" else ""}{host}' in text
    if name in SILENT:
        assert "denied" not in shown[0]["text"]
        assert host in shown[0]["text"]
    else:  # in whatever quotes
        reason = refusals[0].partition("] ")[2].partition(";")[0]
        assert reason in shown[0]["text"]
        assert "to permit: except = [" in shown[0]["text"]


# -- what needs more than the default policy -------------------------------------------------------------------------


def test_paho_may_not_listen(world: World, lab: Lab, log: Path) -> None:
    """Its ``loop_start`` makes a pair of sockets by listening on loopback, and is refused with what would let it."""
    lab.mosquitto
    use = USES["paho-mqtt"]
    done = run(world, log, *_command(world, use.program, (*use.words, "--threaded")))
    assert done.returncode == 1
    assert "OutboundOnly: " in done.stderr
    assert "outgate run --dev lets a program listen on loopback" in done.stderr


def test_paho_may_listen_under_dev(world: World, lab: Lab, log: Path) -> None:
    """With the development policy ``loop_start`` does what ``loop_forever`` does without it."""
    lab.mosquitto
    use = USES["paho-mqtt"]
    command = _command(world, use.program, (*use.words, "--threaded"))
    done = world.outgate("run", "--dev", "--log", str(log), "--", *command)
    assert (done.stdout, done.returncode) == (use.prints, 0), done.stderr
    assert use.ports <= {line["port"] for line in events(log, "decision")}


# -- what has left the standard library ------------------------------------------------------------------------------

#: Runs a program with a folder in front of the path: python -c WITH_FOLDER FOLDER PROGRAM [ARG ...].
WITH_FOLDER = "import runpy, sys; sys.path.insert(0, sys.argv[1]); del sys.argv[:2]; runpy.run_path(sys.argv[0])"


@pytest.mark.pythons
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["nntplib", "telnetlib"])
def test_the_redistributed_module_works(
    world: World, log: Path, tmp_path: Path, ready: Callable[[str], None], name: str, path: str
) -> None:
    """On Python 3.13, without the module, what PyPI has in its place does what the module did."""
    python = interpreter("3.13")
    if python is None:
        pytest.skip("no Python 3.13 on this machine")
    use = USES[name]
    ready(use.needs)
    source = importlib.metadata.distribution(f"standard-{name}").locate_file(name)
    (tmp_path / name).symlink_to(str(source))
    program = str(PROGRAMS / use.program)
    command = (python, "-W", "ignore::DeprecationWarning", "-c", WITH_FOLDER, str(tmp_path), program, *use.words)
    if path == NATIVE:
        done = world.run(*command)
        assert done.stderr == ""
    else:
        done = run(world, log, *command, options=("--path", path))
        assert use.ports <= {line["port"] for line in events(log, "decision")}
    assert (done.stdout, done.returncode) == (use.prints, 0), done.stderr
