"""Answer at the host's own name servers under policy: judge each question, forward it there, bind what is answered.

Programs that bring a DNS library of their own ask the servers of ``resolv.conf``, which the default policy would often
refuse as private or loopback. A question that the policy refuses gets REFUSED and goes nowhere; the others go to that
very server, from a port and with a number that the program does not know (RFC 5452), so that nobody it is in league
with can answer in the server's place. Nothing is taken out of an answer: what it leads to is judged when it is used.
"""

from __future__ import annotations

import os
import secrets
import time
from _socket import AF_INET, AF_INET6, SOCK_DGRAM
from _socket import socket as native
from collections.abc import Callable
from typing import TYPE_CHECKING

from outgate.core.formats import dnsmessage, frames
from outgate.gate.answering import questions

if TYPE_CHECKING:
    import asyncio

    from outgate.gate.datagram.datagrams import Datagrams
    from outgate.gate.datagram.destination import Destination
    from outgate.gate.server import Gate

#: Seconds between two looks at the file, and that an answer is waited for: what a stub resolver tries in all.
LOOK_AGAIN = 1.0
LIMIT = 15.0
#: Questions of one app that are on their way; beyond that the oldest is given up.
WAITING = 256
#: Servers that the C library takes from the file (MAXNS), and where it goes without one.
_MOST = 3
_DEFAULT = frozenset(("127.0.0.1",))


class NameServers:
    """The addresses of the host's own name servers, as resolv.conf(5) has them now.

    :param clock: gives seconds.
    """

    def __init__(self, path: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._addresses = _DEFAULT

    def __contains__(self, address: str) -> bool:
        now = self._clock()
        if now - self._looked >= LOOK_AGAIN:
            self._looked = now
            self._look()
        if address.startswith("::ffff:") and "." in address:
            address = address[7:]
        return address in self._addresses

    def _look(self) -> None:
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                seen = os.fstat(file.fileno())
                stamp = (seen.st_dev, seen.st_ino, seen.st_mtime_ns)
                if stamp == self._stamp:
                    return
                self._stamp, self._addresses = stamp, parse(file.read(1 << 16))
        except OSError:
            self._stamp, self._addresses = None, _DEFAULT


def parse(text: str) -> frozenset[str]:
    """Return the addresses after ``nameserver`` in the text of resolv.conf(5), without zones. Pure."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            found.append(words[1].partition("%")[0])
    return frozenset(found[:_MOST]) or _DEFAULT


class _Flight:
    """One question on its way."""

    __slots__ = ("asked", "destination", "id", "made", "question", "sock", "timer")

    def __init__(self, made: Datagrams, destination: Destination, asked: bytes, question: dnsmessage.Question) -> None:
        self.made = made
        self.destination = destination
        self.asked = asked
        self.question = question
        self.id = secrets.randbits(16)
        self.sock = native(AF_INET if made.family == 4 else AF_INET6, SOCK_DGRAM)
        self.timer: asyncio.TimerHandle | None = None


class Forwarding:
    """The questions of all apps that are on their way."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._flights: dict[str, dict[_Flight, None]] = {}

    def ask(self, made: Datagrams, destination: Destination, message: bytes) -> None:
        """Judge the question in a datagram; forward it, or answer that it is refused."""
        end = dnsmessage.HEADER
        try:
            question = dnsmessage.question(message)
            end = question.end
            decision = questions.judge(made.process.app, self._gate.udp.narrowed(made), question)
        except dnsmessage.Malformed as e:
            made.dropped += 1
            if e.rcode is not None:
                made.deliver(destination, dnsmessage.refusal(message, e.rcode, end))
            return
        questions.note(self._gate, made.process, question, destination.target[1], decision, ("udp", "relay"))
        if decision.denied:
            made.dropped += 1
            made.deliver(destination, dnsmessage.refusal(message, dnsmessage.REFUSED, end))
            return
        self._forward(made, destination, message, question)

    def _forward(
        self, made: Datagrams, destination: Destination, message: bytes, question: dnsmessage.Question
    ) -> None:
        loop = self._gate.loop
        flights = self._flights.setdefault(made.process.app.name, {})
        while len(flights) >= WAITING:
            self._land(next(iter(flights)))
        try:
            flight = _Flight(made, destination, message, question)
        except OSError:  # no descriptor is left: as if it were lost on the way
            made.dropped += 1
            return
        try:
            flight.sock.setblocking(False)
            flight.sock.connect(destination.target)
            flight.sock.send(flight.id.to_bytes(2, "big") + message[2:])
        except OSError as e:
            flight.sock.close()
            made.fail(destination, e)
            return
        made.count_sent(destination, len(message))
        flights[flight] = None
        loop.add_reader(flight.sock.fileno(), self._on_answer, flight)
        flight.timer = loop.call_later(LIMIT, self._land, flight)

    def _on_answer(self, flight: _Flight) -> None:
        try:
            message = flight.sock.recv(frames.MAX_FRAME)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there, and a socket that is not connected is not told so
            self._land(flight)
            return
        if not dnsmessage.is_answer(message, flight.id, flight.asked, flight.question.end):
            return  # somebody guesses
        self._land(flight)
        questions.bind(flight.made.process.app, message, flight.question)
        flight.made.deliver(flight.destination, flight.asked[:2] + message[2:])

    def _land(self, flight: _Flight) -> None:
        """Give a question up, or be done with it."""
        if flight.timer is not None:
            flight.timer.cancel()
        flights = self._flights[flight.made.process.app.name]
        if flight in flights:
            del flights[flight]
            self._gate.loop.remove_reader(flight.sock.fileno())
            flight.sock.close()

    def forget(self, made: Datagrams) -> None:
        """Give up what a socket has asked that is no more."""
        for flight in [flight for flight in self._flights.get(made.process.app.name, ()) if flight.made is made]:
            self._land(flight)

    def stop(self) -> None:
        """Give up all."""
        for flights in self._flights.values():
            for flight in list(flights):
                self._land(flight)
