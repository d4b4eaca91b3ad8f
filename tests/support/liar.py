"""A name server that lies, loops, stays silent and sends garbage: the first label of the name asked for says how.

Only what stands before a hyphen counts, so that ``alternate-1`` and ``alternate-2`` have counts of their own.

It runs on threads of the test's own process, so that a test can see what was asked (:attr:`Liar.asked`).
"""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from typing import Callable

from support import dns
from support.dns import A, Question, Record

#: The zone whose names this server has an opinion about.
ZONE = "lies.example"
_MOST_UDP = 65507
_POINTER_TO_ITSELF = struct.pack("!H", 0xC000 | 12)


class Liar:
    """The running server; a context manager.

    :param datagrams: a UDP socket bound to port 53.
    :param listener: a TCP socket that listens on the same.
    :param honest: a public address that truthful answers give.
    :param secret: an address that answers must not lead to.
    :ivar asked: every question so far, in order.
    """

    def __init__(self, datagrams: socket.socket, listener: socket.socket, honest: str, secret: str) -> None:
        self._udp, self._tcp = datagrams, listener
        self._honest, self._secret = honest, secret
        self.asked: list[Question] = []
        self._times: Counter[tuple[str, int]] = Counter()
        self._held: list[Callable[[], object]] = []
        self._is_released = False
        self._threads = [
            threading.Thread(target=work, name=f"liar {work.__name__}") for work in (self._serve_udp, self._serve_tcp)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Liar:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End both threads and close the sockets."""
        for sock in (self._udp, self._tcp):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # a socket without a peer complains, and wakes its reader all the same
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._tcp.close()

    def names(self) -> list[str]:
        """Return the names asked for so far."""
        return [question.name for question in self.asked]

    # -- carrying --------------------------------------------------------------------------------------------------

    def _serve_udp(self) -> None:
        while True:
            query, client = self._udp.recvfrom(65535)
            if not client:
                return  # shut down
            self._answer(query, lambda data, client=client: self._udp.sendto(data[:_MOST_UDP], client), is_tcp=False)

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return  # shut down
            with connection:
                connection.settimeout(5)
                self._serve_stream(connection)

    def _serve_stream(self, connection: socket.socket) -> None:
        """Answer one query after another, as the C library sends two at once, until there is nothing to say."""

        def send(data: bytes) -> None:
            connection.sendall(struct.pack("!H", len(data)) + data)

        while len(size := connection.recv(2, socket.MSG_WAITALL)) == 2:
            query = connection.recv(struct.unpack("!H", size)[0], socket.MSG_WAITALL)
            if not self._answer(query, send, is_tcp=True):
                return

    def _answer(self, query: bytes, send: Callable[[bytes], object], is_tcp: bool) -> bool:
        """Say what the name asks for; tell whether that was anything."""
        try:
            question = dns.read_question(query)
        except ValueError:
            return False
        self.asked.append(question)
        self._times[question.name, question.kind] += 1
        label = question.name.partition(".")[0].partition("-")[0]
        if label == "held" and not self._is_released:
            self._held.append(lambda: send(self._addresses(question, self._honest)))
            return True
        habit = getattr(self, f"_say_{label}", self._say_honest) if question.name.endswith(ZONE) else self._say_nothing
        data = habit(question, is_tcp)
        if data:
            try:
                send(data)
            except OSError:
                pass  # who asked has gone
        return bool(data)

    # -- what it says: each takes the question and whether it came over TCP, and returns the answer's bytes ------------

    def _addresses(self, question: Question, *addresses: str, name: str = "") -> bytes:
        """Answer with those of the addresses that are of the type asked for."""
        records = [dns.address(name or question.name, address) for address in addresses]
        return dns.pack_answer(question, [record for record in records if record.kind == question.kind])

    def _say_nothing(self, question: Question, is_tcp: bool) -> bytes:
        """There is no such name."""
        return dns.pack_answer(question, code=dns.NXDOMAIN)

    def _say_honest(self, question: Question, is_tcp: bool) -> bytes:
        """The public address."""
        return self._addresses(question, self._honest)

    def _say_alternate(self, question: Question, is_tcp: bool) -> bytes:
        """Public the first time, secret the second, and so on."""
        return self._addresses(question, (self._secret, self._honest)[self._times[question.name, question.kind] % 2])

    def _say_rebind(self, question: Question, is_tcp: bool) -> bytes:
        """Public the first time, secret ever after."""
        is_first = self._times[question.name, question.kind] == 1
        return self._addresses(question, self._honest if is_first else self._secret)

    def _say_silent(self, question: Question, is_tcp: bool) -> bytes:
        """Never an answer."""
        return b""

    def _say_release(self, question: Question, is_tcp: bool) -> bytes:
        """The public address; and names that begin with ``held`` get theirs only now."""
        self._is_released = True
        while self._held:
            self._held.pop()()
        return self._addresses(question, self._honest)

    def _say_broken(self, question: Question, is_tcp: bool) -> bytes:
        """Server failure."""
        return dns.pack_answer(question, code=dns.SERVFAIL)

    def _say_refused(self, question: Question, is_tcp: bool) -> bytes:
        """Query refused."""
        return dns.pack_answer(question, code=dns.REFUSED)

    def _say_empty(self, question: Question, is_tcp: bool) -> bytes:
        """The name exists and has no address."""
        return dns.pack_answer(question)

    def _say_garbage(self, question: Question, is_tcp: bool) -> bytes:
        """The right id and flags, then noise."""
        return struct.pack("!2H", question.id, dns.ANSWER) + bytes(range(255, 100, -1))

    def _say_stranger(self, question: Question, is_tcp: bool) -> bytes:
        """The secret address of another name than was asked for."""
        return self._addresses(question, self._secret, name=f"other.{ZONE}")

    def _say_other(self, question: Question, is_tcp: bool) -> bytes:
        """The answer to another question."""
        return self._addresses(question._replace(name=f"honest.{ZONE}"), self._secret)

    def _say_loop(self, question: Question, is_tcp: bool) -> bytes:
        """An alias of itself, with the secret address behind it."""
        records = [dns.alias(question.name, question.name)] * 20
        return dns.pack_answer(question, records)

    def _say_spin(self, question: Question, is_tcp: bool) -> bytes:
        """An owner that is a compression pointer to itself (RFC 1035, section 4.1.4)."""
        head = struct.pack("!6H", question.id, dns.ANSWER, 1, 1, 0, 0)
        return head + _POINTER_TO_ITSELF + struct.pack("!2H", question.kind, 1) + _POINTER_TO_ITSELF

    def _say_short(self, question: Question, is_tcp: bool) -> bytes:
        """An address record that claims more data than there is."""
        return self._addresses(question, self._honest)[:-2] if question.kind == A else dns.pack_answer(question)

    def _say_control(self, question: Question, is_tcp: bool) -> bytes:
        """An alias with a line break, a NUL and a blank in it, and a public address behind it."""
        odd = f"a\nb\0c d.{ZONE}"
        records = [dns.alias(question.name, odd)]
        if question.kind == A:
            records.append(dns.address(odd, self._honest))
        return dns.pack_answer(question, records)

    def _say_cut(self, question: Question, is_tcp: bool) -> bytes:
        """Cut off over UDP, and nothing over TCP."""
        return b"" if is_tcp else dns.pack_answer(question, flags=dns.TRUNCATED)

    def _say_huge(self, question: Question, is_tcp: bool) -> bytes:
        """About 1,500 addresses that are all secret, and the last one public: as much as one message can hold."""
        if not is_tcp:
            return dns.pack_answer(question, flags=dns.TRUNCATED)
        if question.kind != A:
            return dns.pack_answer(question)
        base = int.from_bytes(socket.inet_aton(self._secret), "big") & 0xFFFF0000
        records = [Record(question.name, A, struct.pack("!I", base + number)) for number in range(1500)]
        return dns.pack_answer(question, [*records, dns.address(question.name, self._honest)])
