"""The gate remembers what it last refused to each process, and tells who may know."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import pytest

from outgate.core.formats import frames
from outgate.gate import refusals
from outgate.gate.configuration import config
from outgate.gate.reception import Reception
from outgate.testing.running import PATIENCE, ThreadGate
from support.raw import RawChannel

_DENIED = ("10.9.9.9", 5432)


def settings(**changes: Any) -> config.Settings:
    """Return the default settings, which refuse private addresses."""
    return config.default_settings(os.getuid(), False, **changes)


def last(gate: ThreadGate, pid: int = 0) -> dict[str, Any]:
    """Return what the gate says was last refused."""
    with RawChannel(gate.socket) as channel:
        return dict(channel.ask("last", pid=pid)["answer"])


def test_a_denied_connect_is_explained() -> None:
    """Who, what, when, and all of the decision; also when the process has gone."""
    before = time.time()
    with ThreadGate(settings()) as gate:
        assert last(gate)["verdict"] == "unknown"
        with RawChannel(gate.socket) as channel:
            ((id, sock),) = channel.new()
            with sock:
                channel.connect(id, _DENIED)
        found = last(gate, os.getpid())
        assert before - 1 <= found.pop("time") <= time.time() + 1
        assert found.pop("policy") == gate.gate.settings.number
        assert found == {
            "app": "default", "pid": os.getpid(), "uid": os.getuid(), "program": "raw", "call": "connect",
            "errno": "EACCES", "host": "10.9.9.9", "port": 5432, "transport": "tcp", "verdict": "deny",
            "address": "10.9.9.9", "class": "private", "name": "", "rule": "non-public", "place": "built-in",
            "kind": "address", "code": "policy-denied",
            "reason": found["reason"], "cure": 'to permit: except = ["10.9.9.9:5432"]',
        }  # fmt: skip
        assert 'rule "non-public"' in found["reason"]
        assert last(gate) == last(gate, os.getpid())
        missing = last(gate, os.getpid() + 1)
        assert missing["verdict"] == "unknown"
        assert "nothing was refused to process" in missing["reason"]


def test_other_refusals_are_explained() -> None:
    """Look-ups, datagrams with and without a connect, what one may not bind to, and limits have their errno."""
    with ThreadGate(settings(deny=("*.evil.test",))) as gate, RawChannel(gate.socket) as channel:

        def said() -> tuple[str, str, str, str]:
            found = last(gate)
            return found["call"], found["errno"], found["transport"], found["code"]

        channel.ask("resolve", call="getaddrinfo", args=["x.evil.test", 80, 0, 1, 0, 0])
        assert said() == ("look up", "EACCES", "tcp", "policy-name-denied")
        (id,) = channel.ask("new", family=4, count=1, kind="udp")["ids"]
        channel.ask("reach", sock=id, host=_DENIED[0], port=_DENIED[1], connect=True)
        assert said() == ("connect", "EACCES", "udp", "policy-denied")
        channel.ask("reach", sock=id, host=_DENIED[0], port=_DENIED[1] + 1)
        assert said() == ("send", "EACCES", "udp", "policy-denied")
        end = channel.fds[-1]
        end.settimeout(PATIENCE)
        end.send(frames.pack(frames.DATA, socket.inet_aton("10.0.0.1"), 7) + b"x")
        end.recv(1000)
        assert last(gate)["host"] == "10.0.0.1"
        channel.ask("bind", sock=id, host="10.0.0.1", port=7)
        assert said() == ("bind", "EACCES", "tcp", "bind")
        assert gate.faults == []


def test_a_brief_app_is_told_the_kind_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own programs learn of the refusal no more than they were told; who may manage the gate learns all."""
    made = settings()
    (app,) = made.apps.values()
    object.__setattr__(app, "reasons", "brief")
    with ThreadGate(made) as gate, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            channel.connect(id, _DENIED)
        assert last(gate)["rule"] == "non-public"
        monkeypatch.setattr(Reception, "may_manage", lambda self, process: False)
        found = last(gate)
        assert (found["rule"], found["class"], found["kind"], found["verdict"]) == ("", "", "address", "deny")
        assert "10.9.9.9 (private)" not in found["reason"]


def test_others_are_told_of_their_app_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused to another app's process is as if it had not been."""
    with ThreadGate(settings()) as gate, RawChannel(gate.socket) as channel:
        ((id, sock),) = channel.new()
        with sock:
            channel.connect(id, _DENIED)
        known = gate.gate.refusals._of_app
        gate.call(lambda: known.update(other=known.pop("default")))
        assert last(gate, os.getpid())["verdict"] == "deny"
        monkeypatch.setattr(Reception, "may_manage", lambda self, process: False)
        assert last(gate, os.getpid())["verdict"] == last(gate)["verdict"] == "unknown"


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that were refused something last are kept, so many of each app."""
    monkeypatch.setattr(refusals, "MOST", 3)
    kept = refusals.Refusals()
    with ThreadGate(settings()) as gate:
        app = gate.gate.registry.apps["default"]
        from outgate.gate.registry import Process

        for pid in (1, 2, 3, 1, 4):
            process = Process(app, f"token {pid}", pid, 0, 0)
            kept.note(process, refusals.Asked("connect", "tcp", "x", 1), "draining", {})
        assert [pid for pid in range(6) if kept.find("default", pid) is not None and pid] == [1, 3, 4]
        newest = kept.find(None, 0)
        assert newest is not None
        assert newest.process.pid == 4
        assert kept.find("other", 0) is None


def test_what_a_guard_says_is_believed_of_guarded_processes_alone() -> None:
    """A program without a guard cannot put something into the memory that was not refused."""
    with ThreadGate(settings()) as gate:
        with RawChannel(gate.socket, role="anchor") as anchor:
            anchor.post("hello")
            anchor.post("refused", call="listen", transport="tcp", host="", port=0)
            with RawChannel(gate.socket, token=anchor.token) as channel:
                channel.ask("stat")
        assert last(gate)["verdict"] == "unknown"
        assert gate.faults == []
