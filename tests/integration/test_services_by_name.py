"""Mail submission, PostgreSQL, Redis and SSH by name: the port of the rule works, and nothing beside it does."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from support.corp import CACHE, CORP, DATABASE, SHELL, SMTP, Corp
from support.fenced import PROGRAMS, attempts, check_refused, events, is_refusal, natively, run
from support.servers import dovecot, postgresql, redis
from support.world import DOMAIN, WWW, World

DB, CACHE_NAME, SHELL_NAME, SMTP_NAME = (f"{host}.{CORP}" for host in ("db", "cache", "shell", "smtp"))


class Service(NamedTuple):
    """A server on a private address, the program that uses it, and what the program prints."""

    server: str
    program: str
    host: str
    port: int
    words: tuple[str, ...]
    prints: str
    addresses: tuple[str, ...]

    @property
    def rule(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, str(PROGRAMS / self.program), self.host, str(self.port), *self.words)


SERVICES = {
    "PostgreSQL": Service(
        "postgresql",
        "postgres_query.py",
        DB,
        5432,
        (postgresql.USER, postgresql.PASSWORD),
        "200 title 0 199\n1000000\n",
        (DATABASE,),
    ),
    "Redis": Service(
        "redis", "redis_use.py", CACHE_NAME, 6379, (redis.PASSWORD,), "True True 1000000\n4950 2\n", (CACHE,)
    ),
    "SSH": Service("openssh", "ssh_exchange.py", SHELL_NAME, 22, (), "SSH-2.0-OpenSSH_", SHELL),
}
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


@each_service
def test_a_rule_by_name_lets_the_program_work(world: World, corp: Corp, log: Path, service: Service) -> None:
    """With one exception by name for one port, the unmodified program prints what it prints natively."""
    getattr(corp, service.server)
    native = world.run(*service.command)
    assert native.stdout.startswith(service.prints), native.stderr
    fenced = run(world, log, *service.command, options=("--except", service.rule))
    assert fenced.returncode == 0, fenced.stderr
    assert fenced.stdout == native.stdout
    connects = [line for line in events(log, "decision") if line["port"] == service.port]
    assert connects
    for line in connects:
        assert (line["verdict"], line["rule"], line["class"]) == ("allow", service.rule, "private")
        assert line["address"] in service.addresses


@each_service
def test_without_the_rule_the_refusal_names_it(world: World, corp: Corp, log: Path, service: Service) -> None:
    """By default the private server is refused with its name's rule as the cure, and nothing is sent to it."""
    getattr(corp, service.server)
    with world.watch() as watch:
        done = run(world, log, *service.command)
        assert watch.to(*service.addresses) == []
    assert done.returncode == 1
    assert done.stdout == ""
    assert "LookUpDenied" in done.stderr
    (by_create,) = attempts(world, log, ("connect", service.host, service.port))
    assert is_refusal(by_create), by_create
    assert f'to permit: except = ["{service.rule}"]' in by_create["text"]


def test_submission_works_with_no_configuration(world: World, corp: Corp, log: Path) -> None:
    """smtplib submits on port 587 with STARTTLS, a password and the host's own full name, as it does natively."""
    corp.postfix
    words = (SMTP_NAME, "587", dovecot.USER, dovecot.PASSWORD)
    command = (sys.executable, str(PROGRAMS / "smtp_submit.py"), *words)
    native = world.run(*command)
    assert native.stdout == f"EHLO worker.{CORP}\n220 True\n235\nrefused recipients: {{}}\n", native.stderr
    fenced = run(world, log, *command)
    assert fenced.returncode == 0, fenced.stderr
    assert fenced.stdout == native.stdout
    (decision,) = (line for line in events(log, "decision") if line["port"] == 587)
    assert (decision["verdict"], decision["class"]) == ("allow", "public")
    assert decision["address"] in SMTP


def test_submission_works_where_the_host_has_no_full_name(world: World, corp: Corp, log: Path) -> None:
    """Where nobody knows the host's own name smtplib greets with an address literal, as it does natively."""
    corp.postfix
    world.near.file("hosts", "127.0.0.1 localhost\n")
    words = (SMTP_NAME, "587", dovecot.USER, dovecot.PASSWORD)
    command = (sys.executable, str(PROGRAMS / "smtp_submit.py"), *words)
    native = world.run(*command)
    assert native.stdout.startswith("EHLO [127.0.0.1]\n"), native.stderr
    fenced = run(world, log, *command)
    assert fenced.stdout == native.stdout, fenced.stderr


def test_port_25_of_a_mail_server_is_refused_in_every_spelling(world: World, corp: Corp, log: Path) -> None:
    """The same server's port 25 is refused by name, address, service name and datagram, and nothing is sent to it."""
    corp.postfix
    steps = [
        ("create", SMTP_NAME, 25),
        ("create", SMTP_NAME, "smtp"),
        ("stream", SMTP_NAME, 25),
        ("connect", SMTP_NAME, 25),
        ("connect", SMTP[0], 25),
        ("connect6", SMTP[1], 25),
        ("connect6", f"::ffff:{SMTP[0]}", 25),
        ("datagram", SMTP[0], 25),
    ]
    assert [seen["error"] for seen in natively(world, *steps)] == [None] * len(steps)
    with world.watch() as watch:
        tried = attempts(world, log, *steps)
        assert watch.to(*SMTP) == []
    check_refused(steps, tried)
    assert f'to permit: except = ["{SMTP_NAME}:25"]' in tried[0]["text"]


def test_an_exception_by_name_opens_port_25_of_that_name(world: World, corp: Corp, log: Path) -> None:
    """A name lifts the port's denial for itself, and for no other name or address of another server."""
    corp.postfix
    steps = [("create", SMTP_NAME, 25), ("create", f"mail.{DOMAIN}", 25), ("connect", WWW[0], 25)]
    mine, other, address = attempts(world, log, *steps, options=("--except", f"{SMTP_NAME}:25"))
    assert mine["result"] in SMTP
    assert is_refusal(other)
    assert is_refusal(address)


BY_NAME = ("--except", f"{DB}:5432")


def test_only_the_port_of_the_rule_works(world: World, corp: Corp, log: Path) -> None:
    """Of a name with a rule for one port, all other ports stay refused, and nothing is sent to them."""
    corp.postgresql, corp.openssh
    others = (5433, 80, 22, 5431)
    with world.watch() as watch:
        allowed, *refused = attempts(
            world, log, ("create", DB, 5432), *(("create", DB, port) for port in others), options=BY_NAME
        )
        assert {packet.port for packet in watch.to(DATABASE)} == {5432}
    assert allowed["result"] == DATABASE
    check_refused(others, refused)


def test_another_name_of_the_same_address_is_refused(world: World, corp: Corp, log: Path) -> None:
    """Names are judged as what they are: neither a second name nor an alias of the database has its rule."""
    corp.postgresql
    steps = [(word, f"{host}.{CORP}", 5432) for host in ("reports", "data") for word in ("create", "connect", "lookup")]
    with world.watch() as watch:
        tried = attempts(world, log, *steps, options=BY_NAME)
        assert watch.to(DATABASE) == []
    check_refused(steps, tried)


def test_the_address_of_a_look_up_is_bound_to_the_ports_of_the_rule(world: World, corp: Corp, log: Path) -> None:
    """An address that a look-up of the name gave may be connected to on the rule's port, also in its IPv6 form."""
    corp.postgresql, corp.openssh
    steps = [
        ("lookup", DB, 5432),
        ("connect", DATABASE, 5432),
        ("connect6", f"::ffff:{DATABASE}", 5432),
        ("stream", DATABASE, 5432),
        ("connect", DATABASE, 22),
        ("connect", DATABASE, 5433),
    ]
    found, *allowed, ssh, trap = attempts(world, log, *steps, options=BY_NAME)
    assert found["result"] == [DATABASE]
    assert [seen["error"] for seen in allowed] == [None] * 3, allowed
    assert is_refusal(ssh)
    assert is_refusal(trap)


def test_an_address_that_nobody_looked_up_is_found_by_asking_again(world: World, corp: Corp, log: Path) -> None:
    """A connect to the bare address of an exact name's rule is allowed: the gate asks for that name by itself."""
    corp.postgresql
    steps = [("connect", DATABASE, 5432), ("connect", CACHE, 5432)]
    named, other = attempts(world, log, *steps, options=BY_NAME)
    assert named == {"error": None, "result": DATABASE}
    assert is_refusal(other)


def test_a_suffix_is_for_names_that_were_asked(world: World, corp: Corp, log: Path) -> None:
    """A rule by suffix lets every name below it through, and no bare address before a look-up gave it."""
    corp.redis
    rule = ("--except", f"*.{CORP}:6379")
    steps = [("connect", CACHE, 6379), ("create", CACHE_NAME, 6379), ("connect", CACHE, 6379), ("create", DB, 5432)]
    before, by_name, after, other_port = attempts(world, log, *steps, options=rule)
    assert is_refusal(before)
    assert by_name == after == {"error": None, "result": CACHE}
    assert is_refusal(other_port)


def _ssh(corp: Corp, folder: Path, host: str, *options: str) -> tuple[str, ...]:
    (folder / "known_hosts").write_text(f"{host} {corp.openssh.host_key}\n")
    given = [f"UserKnownHostsFile={folder / 'known_hosts'}", "BatchMode=yes", "ConnectTimeout=10", *options]
    words = [word for option in given for word in ("-o", option)]
    return ("ssh", "-F", "none", *words, "-i", str(corp.openssh.user_key), f"root@{host}", "echo inside; exit 7")


@pytest.mark.parametrize("host", [SHELL_NAME, SHELL[0]])
def test_the_ssh_client_fails_closed(world: World, corp: Corp, log: Path, tmp_path: Path, host: str) -> None:
    """ssh goes round the client: in the fence it reaches nothing by name or address, even if a rule allows it."""
    command = _ssh(corp, tmp_path, host)
    assert world.run(*command).stdout == "inside\n"
    with world.watch() as watch:
        done = run(world, log, *command, options=("--except", f"{host}:22"))
        assert watch.openings() == []
    assert (done.returncode, done.stdout) == (255, "")  # its status for every error of its own (ssh(1))


def test_the_ssh_client_goes_through_a_python_pipe(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """With a Python program as its ProxyCommand ssh logs in under the policy, and is refused where the rule is not."""
    pipe = shlex.join([sys.executable, str(PROGRAMS / "pipe.py")])
    command = _ssh(corp, tmp_path, SHELL_NAME, f"ProxyCommand={pipe} %h %p")
    done = run(world, log, *command, options=("--except", f"{SHELL_NAME}:22"))
    assert (done.returncode, done.stdout) == (7, "inside\n"), done.stderr
    (end,) = events(log, "end")
    assert min(end["sent"], end["received"]) > 1000
    refused = run(world, log, *command)
    assert refused.returncode == 255
    assert f'to permit: except = ["{SHELL_NAME}:22"]' in refused.stderr
