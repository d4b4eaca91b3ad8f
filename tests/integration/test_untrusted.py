"""A program that is fenced and not trusted reaches nothing by force: its sockets are pairs, and the gate judges."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.corp import Corp
from support.fenced import PROGRAMS, SECRET, check_refused, command, events
from support.world import FORBIDDEN, NEAR4, PRIVATE4, TRAP_PORT, WWW, World

if TYPE_CHECKING:
    from support.world import Finished

#: Root without any capability: to the network it is what an ordinary user is, and it can read this interpreter.
WITHOUT_POWER = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
DENIED = (*FORBIDDEN, "127.0.0.1", "::1", NEAR4)
PLACES = json.dumps({"denied": DENIED, "port": TRAP_PORT, "open": WWW[0], "open6": WWW[1]})


def _config(folder: Path, *lines: str) -> Path:
    config = folder / "outgate.toml"
    config.write_text("\n".join(["version = 1", "[apps.guest]", "uid = [0]", "billing = true", *lines, ""]))
    return config


def _run(world: World, config: Path, log: Path, *words: str, how: str = "--fence") -> Finished:
    options = (how, "--config", str(config), "--log", str(log))
    return world.outgate("run", *options, "--", *WITHOUT_POWER, *words)


def _forge(world: World, folder: Path, log: Path, what: str, *lines: str) -> list[tuple[str, Any]]:
    done = _run(world, _config(folder, *lines), log, sys.executable, str(PROGRAMS / "forge.py"), what, PLACES)
    assert done.returncode == 0, done.stderr
    return [(tried, came) for tried, came in json.loads(done.stdout)]


OF_A_PAIR = {kind: {os.strerror(errno.EINVAL)} for kind in ("disconnect", "connect anew", "bind", "listen")}
#: What comes of an attempt that went as it should: refused by the gate, by the pair, or by an empty network.
REFUSED = {
    "tcp": {
        "connect by the gate": {errno.EACCES},
        **OF_A_PAIR,
    },
    "udp": OF_A_PAIR,
    "channel": {
        "connect": {"policy-denied", os.strerror(socket.EAI_ADDRFAMILY)},
        "reach": {"policy-denied", os.strerror(socket.EAI_ADDRFAMILY)},
        "option": {"option-denied", "option"},
        "bind": {"bind"},
        "another's": {"unknown-descriptor"},
        "no packet": {"gate-refused-channel", "ended"},
        "a null": {"gate-refused-channel"},
        "too many": {"gate-refused-channel"},
        "no such look-up": {"gate-refused-channel"},
        "the other's connection": {"HTTP/1.1 200"},
    },
    "kernel": {
        kind: {os.strerror(errno.EPERM)}
        for kind in ("a raw socket", "a packet socket", "the gate's network", "the gate's files", "the gate's memory")
    },
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_program_reaches_nothing(world: World, corp: Corp, log: Path, tmp_path: Path, what: str) -> None:
    """Nothing it does by force sends a packet where the policy refuses; the gate has no fault and serves others."""
    with world.watch() as watch, world.watch_loopback() as inner:
        tried = _forge(world, tmp_path, log, what)
        assert watch.to(*SECRET) == []
        assert [packet for packet in watch.openings() if packet.port == 25] == []
        assert inner.openings() == []
    assert events(log, "fault") == []
    assert tried[-1] == ("served", "HTTP/1.1 200 OK")
    for kind, expected in REFUSED[what].items():
        came = {each for name, outcomes in tried if name == kind for each in _flat(outcomes)}
        assert came, kind
        assert came <= expected, kind


def _flat(outcome: Any) -> list[Any]:
    return outcome if isinstance(outcome, list) else [outcome]


def test_the_same_force_turns_a_direct_socket(world: World, corp: Corp, log: Path, tmp_path: Path) -> None:
    """The control: a direct socket that is not sealed can be turned to a denied address, and the sniffer sees that."""
    with world.watch() as watch:
        tried = _forge(world, tmp_path, log, "tcp", "trusted = true", "[gate]", 'seal = "off"')
        assert watch.to(PRIVATE4)
    assert ("disconnect", "ok") in tried


def test_the_same_force_comes_to_nothing_on_a_sealed_socket(
    world: World, corp: Corp, log: Path, tmp_path: Path
) -> None:
    """A trusted app's direct socket that is sealed leads nowhere else, by the same means."""
    with world.watch() as watch, world.watch_loopback() as inner:
        tried = _forge(world, tmp_path, log, "tcp", "trusted = true", "[gate]", 'seal = "require"')
        assert watch.to(*SECRET) == []
        assert [packet for packet in watch.openings() if packet.port == 25] == []
        assert inner.openings() == []
    assert ("disconnect", "ok") in tried
    assert ("connect anew", os.strerror(errno.EPERM)) in tried
    assert ("connect anew", "ok") not in tried
    assert events(log, "fault") == []


@pytest.mark.parametrize("step", ["connect", "datagram"])
def test_without_a_fence_it_is_refused(world: World, log: Path, tmp_path: Path, step: str) -> None:
    """An untrusted program that nothing contains gets no socket anywhere, with the cure in the refusal."""
    words = command((step, WWW[0], 80))
    with world.watch() as watch:
        done = _run(world, _config(tmp_path), log, *words, how="--unconfined")
        assert watch.to(*WWW) == []
    assert done.returncode == 0, done.stderr
    (seen,) = json.loads(done.stdout)
    check_refused([step], [seen])
    assert "app 'guest' is not trusted, and nothing contains this program" in seen["text"]


def test_a_direct_path_is_for_trusted_apps(world: World, log: Path, tmp_path: Path) -> None:
    """A configuration that would hand kernel sockets to an untrusted program is refused, and nothing is started."""
    done = _run(world, _config(tmp_path, 'path = "direct"'), log, "true")
    assert done.returncode == 2
    assert "apps.guest.path" in done.stderr
    assert "trusted = true" in done.stderr
