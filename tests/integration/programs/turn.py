"""Try to turn sockets that a gate has made: python turn.py, with a world's addresses as JSON.

Everything goes round the socket module, through the C library, on the fds that the gate has given. It prints a JSON
object: what was tried → what came of it, the errno's name or ``ok``.
"""

import ctypes
import errno
import ipaddress
import json
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
PLACES = json.loads(sys.argv[1])
PORT = PLACES["port"]
UNSPECIFIED = struct.pack("=H14x", socket.AF_UNSPEC)
MSG_FASTOPEN, MSG_NOSIGNAL = 0x20000000, 0x4000
PAYLOAD = b"turned"
came = {}


def call(what, name, *arguments):
    """Call the C library and note what came of it."""
    result = getattr(libc, name)(*arguments)
    came[what] = "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def name_of(address, port):
    """Return a sockaddr as C wants it, and its length."""
    found = ipaddress.ip_address(address)
    if found.version == 4:
        packed = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, found.packed)
    else:
        packed = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", port, 0, found.packed, 0)
    return packed, len(packed)


def send_named(what, fd, address):
    """Send a message that names its destination."""

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))

    class Message(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_char_p),
            ("name_length", ctypes.c_uint32),
            ("vectors", ctypes.POINTER(Vector)),
            ("count", ctypes.c_size_t),
            ("control", ctypes.c_char_p),
            ("control_length", ctypes.c_size_t),
            ("flags", ctypes.c_int),
        )

    vector = Vector(PAYLOAD, len(PAYLOAD))
    name, length = name_of(*address)
    message = Message(name, length, ctypes.pointer(vector), 1, None, 0, 0)
    call(what, "sendmsg", fd, ctypes.byref(message), MSG_NOSIGNAL | MSG_FASTOPEN)


def turn(kind, fd, address):
    """Try to connect a socket elsewhere, in every way there is."""
    name, length = name_of(address, PORT)
    call(f"{kind}: connect", "connect", fd, name, length)
    call(f"{kind}: fast open", "sendto", fd, PAYLOAD, len(PAYLOAD), MSG_NOSIGNAL | MSG_FASTOPEN, name, length)
    send_named(f"{kind}: fast open by sendmsg", fd, (address, PORT))
    if "fresh" not in kind:
        call(f"{kind}: disconnect", "connect", fd, UNSPECIFIED, 16)
    call(f"{kind}: connect after it", "connect", fd, name, length)
    call(f"{kind}: fast open after it", "sendto", fd, PAYLOAD, len(PAYLOAD), MSG_NOSIGNAL | MSG_FASTOPEN, name, length)


def option(what, fd, level, number, value):
    call(f"option {what}", "setsockopt", fd, level, number, value, len(value))


def fresh(family, address):
    """Turn a socket that was never connected, and one whose connect was refused by the gate."""
    with socket.socket(family) as sock:
        turn(f"fresh {address}", sock.fileno(), address)
    with socket.socket(family) as sock:
        number = sock.connect_ex((address, PORT))
        came[f"refused {address}: by the gate"] = errno.errorcode[number]
        turn(f"refused {address}, fresh", sock.fileno(), address)


def connected(family, there, address):
    """Turn a socket that is connected to where it may be."""
    with socket.socket(family) as sock:
        sock.connect(there)
        turn(f"connected {address}", sock.fileno(), address)


def exchange(sock):
    """Return whether a socket carries an echo, both ways; one that was turned never will."""
    sock.settimeout(2)
    try:
        sock.sendall(b"honest")
        return sock.recv(6) == b"honest"
    except TimeoutError:
        return False


four, six = (PLACES["open"], PLACES["echo"]), (PLACES["open6"], PLACES["echo"])
for place in PLACES["denied"]:
    wide = ":" in place
    fresh(socket.AF_INET6 if wide else socket.AF_INET, place)
    connected(socket.AF_INET6 if wide else socket.AF_INET, six if wide else four, place)
mapped = "::ffff:" + next(each for each in PLACES["denied"] if ":" not in each)
fresh(socket.AF_INET6, mapped)
connected(socket.AF_INET6, six, mapped)

with socket.socket() as sock:
    call("bind to a port", "bind", sock.fileno(), *name_of("0.0.0.0", 8080))
    call("bind to an address", "bind", sock.fileno(), *name_of(PLACES["near"], 0))
    call("bind to the wildcard", "bind", sock.fileno(), *name_of("0.0.0.0", 0))
with socket.socket(socket.AF_INET6) as sock:
    call("bind to a port of IPv6", "bind", sock.fileno(), *name_of("::", 8080))
    call("bind to a mapped address", "bind", sock.fileno(), *name_of("::ffff:" + PLACES["near"], 0))

# By setsockopt, and the packets of a connected socket would go another way.
with socket.create_connection(four) as sock, socket.create_connection(six) as wide:
    source_route = bytes((131, 7, 4)) + ipaddress.ip_address(mapped[7:]).packed + b"\0"
    option("IP_OPTIONS", sock.fileno(), 0, 4, source_route)
    private = ipaddress.ip_address(next(each for each in PLACES["denied"] if ":" in each)).packed
    segments = bytes((0, 4, 4, 1, 1, 0, 0, 0)) + ipaddress.ip_address(PLACES["open6"]).packed + private
    option("IPV6_RTHDR", wide.fileno(), 41, 57, segments)
    option("SO_BINDTODEVICE", sock.fileno(), 1, 25, b"lo\0\0")
    option("SO_BINDTOIFINDEX", sock.fileno(), 1, 62, struct.pack("=i", 1))
    option("SO_MAX_PACING_RATE", sock.fileno(), 1, 47, struct.pack("=Q", 2**64 - 1))
    option("IP_TRANSPARENT", sock.fileno(), 0, 19, struct.pack("=i", 1))
    option("TCP_REPAIR", sock.fileno(), 6, 19, struct.pack("=i", 1))
    option("TCP_ULP", sock.fileno(), 6, 31, b"tls")
    option("TCP_NODELAY", sock.fileno(), 6, 1, struct.pack("=i", 1))
    came["an honest exchange"] = "ok" if exchange(sock) and exchange(wide) else "not what was sent"
    for each in (sock, wide):  # what went another way would be sent again for minutes, into other tests
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

# Nobody is asked about a disconnect, nor about a listen, which binds by itself: a visitor comes from outside.
for which, (family, there) in {"IPv4": (socket.AF_INET, four), "IPv6": (socket.AF_INET6, six)}.items():
    with socket.socket(family) as sock:
        sock.connect(there)
        call(f"listen, {which}: disconnect", "connect", sock.fileno(), UNSPECIFIED, 16)
        call(f"listen, {which}", "listen", sock.fileno(), 5)
        size = ctypes.c_uint32(28)
        name = ctypes.create_string_buffer(28)
        libc.getsockname(sock.fileno(), name, ctypes.byref(size))
        print(json.dumps(struct.unpack_from("!H", name.raw, 2)[0]), flush=True)
        sys.stdin.readline()  # it has been
        os.set_blocking(sock.fileno(), False)
        call(f"accept, {which}", "accept", sock.fileno(), None, None)

print(json.dumps(came), flush=True)
