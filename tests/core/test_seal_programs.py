"""The seal's programs: what each of them decides, on every input that matters, and the bytes that are loaded."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

import pytest

from outgate.core import options
from outgate.core.seal.assembler import R0, Label, assemble, jump, leave, put
from outgate.core.seal.counting import END_VALUE, IN, LIVE_VALUE, OUT
from outgate.core.seal.ends import carried, wire, wire_of_ended
from outgate.core.seal.programs import HOOKS, programs
from support.machine import CONTEXT, Helper, run

GATE, OTHER, LIVE, ENDED = 0x1_0000_2345, 0x2345, 7, 8
COOKIE = 0xABCDEF
#: Made by ``python tests/core/test_seal_programs.py``; who changes a program reads the change here.
GOLDEN = Path(__file__).parent / "seal_programs.txt"
CODE = {name: assemble(program) for name, program in programs(GATE, LIVE, ENDED).items()}


def written_down() -> str:
    """Return every program's instructions, one a line."""
    parts = []
    for name, code in CODE.items():
        parts += [f"{name}:", *(code[at : at + 8].hex() for at in range(0, len(code), 8)), ""]
    return "\n".join(parts)


def ask(name: str, context: bytes = b"", *, cgroup: int = OTHER, packet: bytes = b"") -> bool:
    """Ask a program as the kernel would, in a process of a cgroup, perhaps about a packet of an unknown connection."""
    helpers: dict[int, Helper] = {80: lambda *_: cgroup, 26: loader(packet), 46: lambda *_: COOKIE, 1: lambda *_: 0}
    return {0: False, 1: True}[run(CODE[name], context.ljust(64, b"\0"), helpers)]


def loader(packet: bytes) -> Helper:
    """Return what loads bytes of a packet."""

    def load_bytes(arguments: list[int], memory: bytearray) -> int:
        _, offset, to, size, _ = arguments
        if offset + size > len(packet):
            return -14
        memory[to : to + size] = packet[offset : offset + size]
        return 0

    return load_bytes


def named(address: str, port: int) -> bytes:
    """Return a struct bpf_sock_addr that names an address."""
    packed = ipaddress.ip_address(address).packed
    four, six = (packed, bytes(16)) if len(packed) == 4 else (bytes(4), packed)
    return struct.pack("=I4s16s", 2, four, six) + struct.pack("!H2x", port)


def test_every_program_is_what_was_read() -> None:
    """The bytes that are loaded are those that somebody has looked at; there is one for each hook."""
    assert written_down() == GOLDEN.read_text(encoding="utf-8")
    assert CODE.keys() == HOOKS.keys()
    assert all(len(hook.name) < 16 for hook in HOOKS.values())  # BPF_OBJ_NAME_LEN, with its end


@pytest.mark.parametrize("name", ["connect4", "connect6", "sendmsg4", "sendmsg6"])
def test_only_the_gate_connects(name: str) -> None:
    """The gate's cgroup may, and no other: not one whose number has the same lower half either."""
    context = named("93.184.215.14", 443)
    assert ask(name, context, cgroup=GATE)
    assert not ask(name, context, cgroup=OTHER)
    assert not ask(name, context, cgroup=GATE ^ 1 << 33)
    assert not ask(name, context, cgroup=0)


MAY_BIND = ("0.0.0.0", "127.0.0.1", "127.9.8.7", "::", "::1", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.3.2.1")
MAY_NOT_BIND = (
    *("10.9.9.9", "93.184.215.14", "0.0.0.127", "1.0.0.127", "126.255.255.255", "128.0.0.0", "255.255.255.255"),
    *("::2", "::100", "::7f00:1", "1::", "0:0:1::", "0:1::", "::1:0:0:0", "::fffe:127.0.0.1", "::ffff:10.9.9.9"),
    *("::ffff:0.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "fe80::1", "::ffff:128.0.0.1", "::1:ffff:7f00:1"),
)


@pytest.mark.parametrize("address", [*MAY_BIND, *MAY_NOT_BIND])
def test_binding(address: str) -> None:
    """Programs bind to port 0 of the wildcard or loopback and to nothing else; the gate binds as it likes."""
    name = "bind6" if ":" in address else "bind4"
    assert ask(name, named(address, 0)) == (address in MAY_BIND)
    assert ask(name, named(address, 1)) is ask(name, named(address, 256)) is ask(name, named(address, 65535)) is False
    assert ask(name, named(address, 80), cgroup=GATE)


def test_options_are_those_of_the_table() -> None:
    """Programs set what the client's table lets them, glibc's resolver its own, and nothing else; the gate sets all."""
    resolvers = {(options.IP, 11), (options.IPV6, 25)}
    for level in (*options.LEVELS, 255, 263, 270, 2**31 - 1):
        for number in (*range(130), 2**31 - 1, 2**32 - 1):
            socket = struct.pack("=II", 0, 2)  # struct bpf_sock: an interface, and the family
            context = struct.pack("=QQQII", CONTEXT + 32, 0, 0, level, number) + socket
            allowed = (level, number) in options.SETTABLE | resolvers
            assert ask("option", context) == allowed, (level, number)
            assert ask("option", context, cgroup=GATE)
            assert ask("option", context[:-4] + struct.pack("=I", 1)), "a Unix socket is not the gate's to seal"


@pytest.mark.parametrize("state", range(1, 13))
def test_nothing_comes_in_on_a_socket_that_listens(state: int) -> None:
    """In state LISTEN (10), and in no other, every packet is dropped."""
    there = struct.pack("=168xQ", CONTEXT + 176) + struct.pack("=72xI", state)
    assert ask("in", there) == (state != 10)
    assert ask("in", bytes(200)), "a packet without a socket"


def test_no_packet_says_its_own_way() -> None:
    """IPv4 with options, and IPv6 with a routing header, wherever it may stand, do not go out; all else does."""
    for first in range(256):
        plain = first == 0x45 or first >> 4 == 6
        assert ask("out", packet=bytes([first]) + bytes(5) + b"\6" + bytes(60)) == plain, hex(first)
    for following in range(256):
        header = b"\x60" + bytes(5) + bytes([following]) + bytes(33)
        for inner in (6, 17, 43, 60):
            may = following not in (43, 60) and (following != 0 or inner == 6)
            assert ask("out", packet=header + bytes([inner]) + bytes(40)) == may, (following, inner)
    assert not ask("out", packet=b"\x45\0\0\0"), "too short to be read"


class Maps:
    """The two maps, as the programs see them."""

    def __init__(self) -> None:
        self.tables: dict[int, dict[int, bytes]] = {LIVE: {}, ENDED: {}}
        self.asked: list[int] = []
        self.helpers: dict[int, Helper] = {
            1: self._look,
            2: self._update,
            3: self._delete,
            46: lambda *_: COOKIE,
            59: self._ask,
        }

    def _look(self, arguments: list[int], memory: bytearray) -> int:
        table, key, *_ = arguments
        value = self.tables[table].get(int.from_bytes(memory[key : key + 8], "little"))
        if value is None:
            return 0
        memory += value
        return len(memory) - len(value)

    def _update(self, arguments: list[int], memory: bytearray) -> int:
        table, key, value, flags, _ = arguments
        size = {LIVE: LIVE_VALUE, ENDED: END_VALUE}[table]
        assert flags == 0
        self.tables[table][int.from_bytes(memory[key : key + 8], "little")] = bytes(memory[value : value + size])
        return 0

    def _delete(self, arguments: list[int], memory: bytearray) -> int:
        table, key, *_ = arguments
        self.tables[table].pop(int.from_bytes(memory[key : key + 8], "little"), None)
        return 0

    def _ask(self, arguments: list[int], memory: bytearray) -> int:
        self.asked.append(arguments[1])
        return 0

    def tell(self, op: int, old: int, new: int) -> None:
        """Tell the program of a change of state."""
        context = bytearray(192)
        struct.pack_into("=III", context, 0, op, old, new)
        struct.pack_into("=II", context, 104, 5, 2**32 - 5)  # the numbers have wrapped round
        struct.pack_into("=QQ", context, 168, 2000, 1001)
        assert run(CODE["end"], bytes(context), self.helpers) == 1


@pytest.mark.parametrize("is_counted", [True, False])
def test_what_a_connection_carried_is_written_down_as_it_ends(is_counted: bool) -> None:
    """At the beginning the state is asked for; only when it becomes CLOSE the counters are kept, by cookie."""
    maps = Maps()
    for op in range(20):
        maps.tell(op, 1, 1)
    assert (maps.asked, maps.tables) == ([4], {LIVE: {COOKIE: bytes(16)}, ENDED: {}})
    live, ended = maps.tables[LIVE], maps.tables[ENDED]
    if is_counted:
        live[COOKIE] = struct.pack("=QQ", 3333, 2222)
        assert wire(live[COOKIE]) == (3333, 2222)
    else:
        live.clear()
    for new in range(1, 13):
        maps.tell(10, 1, new)
        assert bool(ended) == (new >= 7)
        assert bool(live) == (is_counted and new < 7), "it is in one of the two"
        if new == 7:
            (value,) = ended.values()
    assert ended.keys() == {COOKIE}
    assert value == struct.pack("=IIQQQQ", 1, 10, 1001, 2000, *((3333, 2222) if is_counted else (0, 0)))
    assert carried(value) == (1010, 2000)
    assert wire_of_ended(value) == ((3333, 2222) if is_counted else None)


def packet(family: int, options: int = 0, ip: int = 0, extension: bytes = b"") -> bytes:
    """Return the headers of a segment: TCP's with some bytes of options, IPv4's with some of its own."""
    tcp = bytes(12) + bytes([(20 + options) // 4 << 4]) + bytes(7 + options)
    if family == 4:
        return bytes([0x40 | (20 + ip) // 4]) + bytes(19 + ip) + tcp
    following = 0 if extension else 6
    return b"\x60" + bytes(5) + bytes([following]) + bytes(33) + extension + tcp


#: Jumbo payload (RFC 2675): TCP follows, and four bytes of length.
JUMBO = bytes((6, 0, 0xC2, 4, 0, 1, 0, 0))


@pytest.mark.parametrize(
    ("headers", "length", "segments", "expected"),
    [
        (packet(4), 40, 0, 40),
        (packet(4, 12), 1500, 1, 1500),
        (packet(4, 12), 52 + 3 * 1448, 3, 3 * 1500),
        (packet(4, 12), 52 + 2 * 1448 + 1, 3, 2 * 1500 + 53),
        (packet(4, 40), 60 + 20 + 44 * 1000, 44, 44 * 1080),
        (packet(6), 1280, 1, 1280),
        (packet(6, 12), 72 + 45 * 1428, 45, 45 * 1500),
        (packet(6, 12, extension=JUMBO), 8 + 72 + 100 * 1428, 100, 100 * 1500),
    ],
)
@pytest.mark.parametrize("name", ["in", "out"])
def test_packets_are_counted_as_they_are_on_the_wire(
    name: str, headers: bytes, length: int, segments: int, expected: int
) -> None:
    """What the kernel hands over in one piece is counted with the headers that each segment has."""
    count(name, headers, length, segments, expected)


def test_options_of_what_comes_in_are_counted() -> None:
    """IPv4 with options goes out nowhere, and comes in."""
    count("in", packet(4, 12, 8), 60 + 2 * 1000, 2, 2 * 1060)


def count(name: str, headers: bytes, length: int, segments: int, expected: int) -> None:
    """Have a packet counted, and see that it is counted in its place alone."""
    before = {OUT: 7, IN: 11}
    way = {"in": IN, "out": OUT}[name]
    context = bytearray(200)
    struct.pack_into("=I", context, 0, length)
    struct.pack_into("=I", context, 164, segments)
    end: list[bytes] = []

    def look(arguments: list[int], memory: bytearray) -> int:
        table, key, *_ = arguments
        assert table == LIVE
        assert int.from_bytes(memory[key : key + 8], "little") == COOKIE
        return CONTEXT + 184

    struct.pack_into("=QQ", context, 184, before[OUT], before[IN])

    def cookie(_: list[int], memory: bytearray) -> int:
        end[:] = [memory]  # type: ignore[list-item]
        return COOKIE

    helpers: dict[int, Helper] = {26: loader(headers), 46: cookie, 1: look}
    assert run(CODE[name], bytes(context), helpers) == 1
    found = dict(zip((OUT, IN), struct.unpack_from("=QQ", end[0], CONTEXT + 184), strict=True))
    assert found == {**before, way: before[way] + expected}


@pytest.mark.parametrize(
    ("state", "under_way", "acknowledged", "received", "expected"),
    [
        (2, 1, 0, 0, (0, 0)),  # SYN_SENT: there was no connection
        (1, 0, 1, 0, (0, 0)),  # ESTABLISHED: its SYN is no byte
        (1, 10, 101, 7, (110, 7)),
        (8, 0, 101, 8, (100, 7)),  # CLOSE_WAIT: the peer's FIN is none
        (11, 1, 101, 8, (100, 7)),  # CLOSING, and ours is under way
        (5, 0, 102, 7, (100, 7)),  # FIN_WAIT2
        (9, 1, 101, 8, (100, 7)),  # LAST_ACK
    ],
)
def test_reading_an_end(
    state: int, under_way: int, acknowledged: int, received: int, expected: tuple[int, int]
) -> None:
    """Neither the SYN nor a FIN is a byte of the application's."""
    assert carried(struct.pack("=IIQQQQ", state, under_way, acknowledged, received, 0, 0)) == expected


def test_the_assembler_refuses_what_would_not_load() -> None:
    """A label that is missing, behind, or there twice is an error with its name."""
    for program in ([jump("x"), leave()], [Label("x"), put(R0, 0), jump("x")], [Label("x"), Label("x"), leave()]):
        with pytest.raises(ValueError, match="'x'"):
            assemble(program)


if __name__ == "__main__":
    GOLDEN.write_text(written_down(), encoding="utf-8")
