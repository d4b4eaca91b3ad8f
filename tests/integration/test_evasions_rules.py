"""Round a policy by what is beside its rules, by look-ups as messages, by a program's surroundings.

docs/evasions.md lists them all.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from support.corp import BIND, CACHE, CORP, DATABASE, EVIL, Corp
from support.fenced import (
    PROGRAMS,
    Step,
    asked,
    attempts,
    check_refused,
    command,
    creates,
    events,
    natively,
    nothing_is_reached,
    of_evil,
    refused,
    run,
)
from support.world import METADATA, PRIVATE4, TRAP_PORT, WWW, World

# -- rules by name, and what is beside them ----------------------------------------------------------------------------

BY_NAME = ("--except", f"db.{CORP}:5432")


def test_another_port_of_an_allowed_name(world: World, corp: Corp, log: Path) -> None:
    """A name that is allowed for one port is refused on all others, by name and by the address it was looked up as."""
    steps: list[Step] = [("create", f"db.{CORP}", 5433), ("create", f"db.{CORP}", TRAP_PORT)]
    steps += [("neighbour", f"db.{CORP}", DATABASE, 5433)]
    native = natively(world, *steps)
    assert [seen["error"] for seen in native] == [None] * 3
    with nothing_is_reached(world):
        check_refused(steps, attempts(world, log, *steps, options=BY_NAME))


def test_the_neighbour_of_an_allowed_name(world: World, corp: Corp, log: Path) -> None:
    """A look-up of an allowed name opens the address it gave and not the one beside it, IPv4 or as IPv6."""
    steps: list[Step] = [("neighbour", f"db.{CORP}", CACHE, 5432), ("neighbour", f"db.{CORP}", f"::ffff:{CACHE}", 5432)]
    refused(world, log, steps, *BY_NAME)


def test_a_look_up_under_another_name(world: World, corp: Corp, log: Path) -> None:
    """Looking up a name of one's own that answers with an excepted address opens no port beyond the exception's."""
    steps: list[Step] = [("neighbour", of_evil("mixed")[0], PRIVATE4, TRAP_PORT), ("create", of_evil("to-db")[0], 5432)]
    with nothing_is_reached(world):
        check_refused(steps, attempts(world, log, *steps, options=BY_NAME))


REDIRECTS = (
    f"http://{METADATA}/latest/meta-data/",
    f"http://{PRIVATE4}/",
    "http://127.0.0.1/",
    "http://2852039166/",
    f"http://metadata.{EVIL}/",
)


def test_redirects_from_an_allowed_server(world: World, corp: Corp, log: Path) -> None:
    """requests, urllib and httpx follow an allowed server's redirect inside and get a PermissionError, no answer."""
    urls = [f"http://www.{CORP}/to?url={target}" for target in REDIRECTS]
    with nothing_is_reached(world) as watch:
        done = run(world, log, sys.executable, str(PROGRAMS / "follow.py"), *urls)
        assert len(watch.to(WWW[0])) >= 3 * len(urls)
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(seen) == 3 * len(urls), done.stderr
    for line in seen:
        assert "PermissionError" in line.get("kinds", ()), line


def test_another_host_in_a_request_is_not_seen(world: World, corp: Corp, log: Path) -> None:
    """What is said on an allowed connection is not judged, as a denied name in a Host header: by design."""
    code = (
        "import http.client, sys; it = http.client.HTTPConnection(sys.argv[1]); "
        "it.request('GET', '/hello', headers={'Host': sys.argv[2]}); print(it.getresponse().status)"
    )
    words = (sys.executable, "-c", code, f"www.{CORP}", *of_evil("private"))
    assert run(world, log, *words, options=("--deny", *of_evil("private"))).stdout == "200\n"


def test_datagrams(world: World, corp: Corp, log: Path) -> None:
    """Datagrams are judged as connections are: by name, by spelling and by embedded address."""
    hosts = (PRIVATE4, "0x0a090909", METADATA, *of_evil("private", "to-metadata"))
    refused(world, log, creates(hosts, "datagram"))
    refused(world, log, creates(("<broadcast>", "255.255.255.255", "224.0.0.1"), "datagram"), reaches=False)


# -- look-ups as a way out, and as a way to see inside -----------------------------------------------------------------

ONLY = ("--allow", f"www.{CORP}:{TRAP_PORT}")


def test_a_look_up_as_a_message(world: World, corp: Corp, log: Path) -> None:
    """A name that no rule could allow is not asked: neither the wire nor the name server's own log has it."""
    names = of_evil("the-secret-is-42.leak", "native.leak")
    words = ("lookup", "create", "connect", "stream", "datagram")
    steps = [(word, names[0], TRAP_PORT) for word in words] + [(word, names[0]) for word in ("byname", "byname_ex")]
    natively(world, ("lookup", names[1], TRAP_PORT))
    with nothing_is_reached(world) as watch:
        tried = attempts(world, log, *steps, ("create", f"www.{CORP}", TRAP_PORT), options=ONLY)
        on_the_wire = asked(watch)
    check_refused(steps, tried[:-1])
    assert tried[-1]["result"] == WWW[0]
    assert not {name for name in on_the_wire if name.endswith(f"leak.{EVIL}")}
    assert f"www.{CORP}" in on_the_wire
    in_the_log = {name for name, _ in corp.bind.questions()}
    assert names[1] in in_the_log
    assert names[0] not in in_the_log


def test_a_look_up_below_an_allowed_suffix_is_a_message(world: World, corp: Corp, log: Path) -> None:
    """A rule by suffix lets every name below it be asked, so that its owner can be told things: by design."""
    (name,) = of_evil("hello.leak")
    with world.watch() as watch:
        (seen,) = attempts(world, log, *creates([name]), options=("--allow", f"*.{EVIL}:{TRAP_PORT}"))
        assert name in asked(watch)
    assert seen["result"] == WWW[0]


def test_a_question_of_ones_own(world: World, corp: Corp, log: Path) -> None:
    """Where only names are allowed, nothing reaches a name server but a permitted question, over UDP or TCP."""
    refused(world, log, [("datagram", BIND, 54), ("datagram", WWW[0], 53)], *ONLY)
    for how in ("datagram", "connect"):
        with world.watch() as watch:  # it is the host's own name server: the gate answers there, under policy
            (seen,) = attempts(world, log, (how, BIND, 53), options=ONLY)
            assert watch.to(BIND) == []
        assert seen["error"] is None


def test_a_reverse_look_up_as_a_message(world: World, corp: Corp, log: Path) -> None:
    """An address that no rule could allow is not asked for its name, as that would be a message as well."""
    with nothing_is_reached(world) as watch:
        (seen,) = attempts(world, log, ("byaddr", "198.18.42.42"), options=ONLY)
        assert not {name for name in asked(watch) if name.startswith("42.42.")}
    assert seen["error"] is not None


def test_limited_look_ups(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """With ``names`` in its configuration an app with rules by address may look up those names and no others."""
    config = _config(tmp_path, names=[f"*.{CORP}"])
    steps = [("lookup", f"x.leak.{EVIL}", 80), ("byname", f"x.leak.{EVIL}"), ("create", f"x.leak.{EVIL}", 80)]
    with nothing_is_reached(world) as watch:
        tried = attempts(world, log, *steps, ("create", f"www.{CORP}", TRAP_PORT), options=("--config", str(config)))
        assert not {name for name in asked(watch) if name.endswith(EVIL)}
    check_refused(steps, tried[:-1])
    assert tried[-1]["result"] == WWW[0]


def test_reading_the_inside_from_refusals(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """With brief reasons a refusal does not say what a name resolved to; the operator's log does."""
    config = _config(tmp_path, reasons="brief")
    steps = [*creates([f"db.{CORP}"], "connect"), *creates([f"db.{CORP}"]), ("lookup", f"db.{CORP}", 80)]
    with nothing_is_reached(world):
        tried = attempts(world, log, *steps, options=("--config", str(config)))
    check_refused(steps, tried)
    for seen in tried:
        assert DATABASE not in seen["text"]
    assert DATABASE in {line["address"] for line in events(log, "decision")}


def _config(folder: Path, **keys: object) -> Path:
    """Write a configuration with one app for root, and these keys."""
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    path = folder / "outgate.toml"
    path.write_text(f"version = 1\n[apps.default]\nuid = [0]\nbilling = true\ntrusted = true\n{lines}\n")
    return path


# -- what is around a program ------------------------------------------------------------------------------------------


def test_hosts_entries_of_ones_own(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """A program that puts another address for an allowed name into its own hosts file changes nothing at the gate."""
    (tmp_path / "hosts").write_text(f"{PRIVATE4} www.{CORP}\n")
    mount = f"mount --bind {shlex.quote(str(tmp_path / 'hosts'))} /etc/hosts && exec {shlex.join(command(*_WWW))}"
    words = ("unshare", "--mount", "sh", "-c", mount)
    assert json.loads(world.run(*words).stdout)[0]["result"] == PRIVATE4
    with nothing_is_reached(world):
        done = run(world, log, *words)
    assert [seen["result"] for seen in json.loads(done.stdout)] == [WWW[0], WWW[0]], done.stderr


def test_environment_of_the_resolver(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """What a program tells its own C library about names (hostname(7), resolv.conf(5)) does not reach the gate."""
    (tmp_path / "aliases").write_text(f"intranet private.{EVIL}\n")
    words = ("env", f"HOSTALIASES={tmp_path / 'aliases'}", f"LOCALDOMAIN={EVIL}")
    steps = creates(["intranet", "private"])
    assert [seen["result"] for seen in json.loads(world.run(*words, *command(*steps)).stdout)] == [PRIVATE4] * 2
    with nothing_is_reached(world) as watch:
        done = run(world, log, *words, *command(*steps))
        assert not {name for name in asked(watch) if name.endswith(EVIL)}
    for seen in json.loads(done.stdout):
        assert "gaierror" in seen["kinds"], seen


_WWW = creates([f"www.{CORP}"]) + creates([f"www.{CORP}"], "connect")


def test_names_in_the_fence_without_the_client(world: World, corp: Corp, log: Path) -> None:
    """A look-up that goes round the client finds no network: nothing is asked, and nothing is found."""
    with world.watch() as watch:
        done = run(world, log, "getent", "ahosts", f"www.{CORP}")
        isolated = run(world, log, sys.executable, "-I", *command(*_WWW)[1:])
        assert watch.openings() == []
    assert done.returncode == 2
    assert all("gaierror" in seen["kinds"] for seen in json.loads(isolated.stdout))
