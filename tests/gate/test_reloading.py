"""The configuration is read beside the loop: the gate answers meanwhile, and one reading comes after the other."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace
from typing import Any

from outgate.errors import ConfigError
from outgate.gate.configuration.config import Settings
from outgate.gate.turns import SWITCH
from outgate.testing.running import PATIENCE, ThreadGate
from support.raw import RawChannel


class Reader:
    """Reads a configuration that is the one before with another number, when it may.

    :ivar began: set when it has begun to read.
    :ivar may: what it waits for.
    """

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may = threading.Event()
        self.intervals: list[float] = []
        self.fails = False

    def __call__(self, before: Settings) -> Settings:
        self.began.set()
        assert self.may.wait(PATIENCE)
        self.intervals.append(sys.getswitchinterval())
        if self.fails:
            raise ConfigError("it is none")
        return replace(before, number=before.number + 1)


def asked(channel: RawChannel) -> dict[str, Any]:
    """Return what the next reply on a channel says."""
    reply = channel.receive()
    assert reply is not None
    answer: dict[str, Any] = reply["answer"]
    return answer


def test_the_gate_answers_while_it_reads() -> None:
    """While the file is read other requests are answered by the old policy; then the new one is in force."""
    reader, usual = Reader(), sys.getswitchinterval()
    with ThreadGate() as gate, RawChannel(gate.socket) as one, RawChannel(gate.socket) as other:
        gate.gate.reloader = reader
        one.post("reload")
        assert reader.began.wait(PATIENCE)
        assert other.ask("stat")["answer"]["policy"] == 1
        reader.may.set()
        assert asked(one)["policy"] == 2
        assert other.ask("stat")["answer"]["policy"] == 2
        assert reader.intervals == [SWITCH]
    assert sys.getswitchinterval() == usual


def test_one_reading_after_the_other() -> None:
    """A reload that is asked for while one reads has a reading of its own, which knows what came of the first."""
    reader = Reader()
    with ThreadGate() as gate, RawChannel(gate.socket) as one, RawChannel(gate.socket) as other:
        gate.gate.reloader = reader
        one.post("reload")
        assert reader.began.wait(PATIENCE)
        other.post("reload")
        with RawChannel(gate.socket) as third:
            third.ask("stat")  # by now the other is waiting
        reader.may.set()
        assert [asked(one)["policy"], asked(other)["policy"]] == [2, 3]
        reader.fails = True
        failed = one.ask("reload")["answer"]
        assert (failed["ok"], failed["error"], failed["policy"]) == (False, "it is none", 3)
        reader.fails = False
        assert one.ask("reload")["answer"]["policy"] == 4, "a failure leaves nobody waiting"


def test_a_gate_that_ends_while_it_reads() -> None:
    """The end of a gate does not wait for what is being read."""
    reader = Reader()
    with ThreadGate() as gate, RawChannel(gate.socket) as channel:
        gate.gate.reloader = reader
        channel.post("reload")
        assert reader.began.wait(PATIENCE)
    assert not os.path.exists(gate.folder)
    reader.may.set()
