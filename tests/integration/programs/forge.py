"""Try by force what the policy refuses: python forge.py tcp|udp|channel|kernel, with a world's addresses as JSON.

Everything goes round the socket module: through the C library on the fds of sockets that the gate has given, and over
channels of its own. It prints a JSON list of [what was tried, what came of it], and at the end asks as an ordinary
program whether it is still served.
"""

import array
import ctypes
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from support.raw import RawChannel  # the standard library only

libc = ctypes.CDLL(None, use_errno=True)
PLACES = json.loads(sys.argv[2])
#: Where nobody may go, and one port that is refused everywhere.
DENIED = [(address, PLACES["port"]) for address in PLACES["denied"]] + [(PLACES["open"], 25)]
ALLOWED = (PLACES["open"], 80)
MSG_FASTOPEN, MSG_NOSIGNAL = 0x20000000, 0x4000
tried = []


def note(what, came):
    tried.append([what, came])


def call(what, name, *arguments):
    """Call the C library and note the name of the errno, or ``ok``."""
    result = getattr(libc, name)(*arguments)
    number = ctypes.get_errno()
    note(what, "ok" if result >= 0 else os.strerror(number))
    return result


def name_of(address, port):
    """Return a sockaddr as C wants it, with its length."""
    found = ipaddress.ip_address(address)
    if found.version == 4:
        packed = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, found.packed)
    else:
        packed = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16sI", port, 0, found.packed, 0)
    return packed, len(packed)


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Vector)),
        ("count", ctypes.c_size_t),
        ("control", ctypes.c_char_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def send_fds(fd, fds, data=b"x", address=None):
    """Send fds (SCM_RIGHTS), to an address where one is given, and note what came of it."""
    rights = array.array("i", fds).tobytes()
    control = struct.pack("@Nii", socket.CMSG_LEN(len(rights)), socket.SOL_SOCKET, socket.SCM_RIGHTS) + rights
    control = control.ljust(socket.CMSG_SPACE(len(rights)), b"\0") if fds else b""
    name, length = name_of(*address) if address else (None, 0)
    vector = Vector(data, len(data))
    message = Message(name, length, ctypes.pointer(vector), 1, control or None, len(control), 0)
    call(f"{len(fds)} fds" if fds else "a message to an address", "sendmsg", fd, ctypes.byref(message), MSG_NOSIGNAL)


def aim(fd, data=b"forged"):
    """Try to turn a socket that leads somewhere to where it may not lead."""
    for address in DENIED:
        name, length = name_of(*address)
        unspecified = struct.pack("=H14x", socket.AF_UNSPEC)
        call("send to another", "sendto", fd, data, len(data), MSG_NOSIGNAL, name, length)
        call("fast open to another", "sendto", fd, data, len(data), MSG_NOSIGNAL | MSG_FASTOPEN, name, length)
        send_fds(fd, [], data, address)
        call("disconnect", "connect", fd, unspecified, len(unspecified))
        call("connect anew", "connect", fd, name, length)
        call("fast open anew", "sendto", fd, data, len(data), MSG_NOSIGNAL | MSG_FASTOPEN, name, length)
    call("bind", "bind", fd, *name_of("0.0.0.0", 8080))
    call("listen", "listen", fd, 1)
    call("shut down", "shutdown", fd, 2)
    for address in DENIED:
        call("connect after a shutdown", "connect", fd, *name_of(*address))


def strange_fds():
    """Return fds that no gate should take: a socket of the fence, a network, a directory, a pipe, many of them."""
    made = [os.open("/proc/self/ns/net", os.O_RDONLY), os.open("/", os.O_RDONLY), *os.pipe()]
    own = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    return [*made, own]


def tcp():
    """Force the fds of TCP sockets: connected, not connected, and refused ones."""
    with socket.create_connection(ALLOWED, timeout=20) as sock:
        aim(sock.fileno())
    with socket.create_connection(ALLOWED, timeout=20) as sock:
        fds = strange_fds()
        send_fds(sock.fileno(), fds)
        send_fds(sock.fileno(), fds * 50)
        libc.send(sock.fileno(), os.urandom(100_000), 100_000, MSG_NOSIGNAL)
    for option in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=option) as sock:
            aim(sock.fileno())
    for address in DENIED:
        with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
            note("connect by the gate", sock.connect_ex(address))
            libc.send(sock.fileno(), b"GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL)
            aim(sock.fileno())


def header(address, port, kind=0, version=None, flow=0, scope=0, tail=b""):
    """Return a header as outgate.core.formats.frames makes it, or nearly so."""
    packed = ipaddress.ip_address(address).packed
    version = (4 if len(packed) == 4 else 6) if version is None else version
    return struct.pack("!BBHII", kind, version, port, flow, scope) + (packed + tail).ljust(16, b"\0")


def forged():
    """Return frames that lie, in every way that comes to mind."""
    frames = [b"G", b"garbage" * 100, os.urandom(28), os.urandom(2000), bytes(27), bytes(28), bytes(60_000)]
    for address, port in DENIED:
        for kind in (0, 1, 2, 3, 255):
            frames += [header(address, port, kind, version) for version in (None, 0, 4, 5, 6, 255)]
        frames += [
            header(address, port, flow=0xFFFFFFFF),
            header(address, port, scope=1),
            header(address, port, tail=b"\1"),
            header(address, 0),
        ]
        if ":" not in address:
            mapped = (f"::ffff:{address}", f"::{address}", f"64:ff9b::{address}")
            frames += [header(other, port) for other in mapped]
    frames += [header("255.255.255.255", 80), header("224.0.0.1", 80), header("0.0.0.0", 80), header("ff02::1", 80)]
    return [frame + b"forged" for frame in frames]


def udp():
    """Force the fds of UDP sockets: frames that lie about where they go, on sockets that may send somewhere."""
    for family, address in ((socket.AF_INET, PLACES["open"]), (socket.AF_INET6, PLACES["open6"])):
        for connected in (True, False):
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                if connected:
                    sock.connect((address, 4000))
                sock.sendto(b"honest", (address, 4000)) if not connected else sock.send(b"honest")
                for frame in forged():
                    libc.send(sock.fileno(), frame, len(frame), MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                    # Each is taken before the next one: the socket is not full.
                    frame = header(address, 4000) + b"honest"
                    libc.send(sock.fileno(), frame, len(frame), MSG_NOSIGNAL)
                send_fds(sock.fileno(), strange_fds(), header(*DENIED[0]))
                send_fds(sock.fileno(), strange_fds() * 50, header(*DENIED[0]))
                aim(sock.fileno(), header(*DENIED[0]))
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            libc.send(sock.fileno(), b"", 0, MSG_NOSIGNAL)
            for frame in forged():
                libc.send(sock.fileno(), frame, len(frame), MSG_NOSIGNAL | socket.MSG_DONTWAIT)


SPELLINGS = ("0x0a090909", "167774473", "10.9.9.9", "::ffff:10.9.9.9", "012.9.9.9", "0", "localhost", "127.1")
OPTIONS = [
    (socket.SOL_SOCKET, 25, b"lo\0".hex()),  # SO_BINDTODEVICE
    (socket.SOL_SOCKET, 36, 1),  # SO_MARK
    (socket.SOL_SOCKET, 62, 1),  # SO_BINDTOIFINDEX
    (socket.IPPROTO_IP, 4, bytes([131, 7, 4, 10, 9, 9, 9, 0]).hex()),  # IP_OPTIONS: a source route
    (socket.IPPROTO_IP, 15, 1),  # IP_FREEBIND
    (socket.IPPROTO_IP, 19, 1),  # IP_TRANSPARENT
    (socket.IPPROTO_IP, 50, 1),  # IP_UNICAST_IF
    (socket.IPPROTO_IPV6, 57, bytes(24).hex()),  # IPV6_RTHDR
    (socket.IPPROTO_TCP, 19, 1),  # TCP_REPAIR
    (socket.IPPROTO_TCP, 23, 5),  # TCP_FASTOPEN
    (socket.IPPROTO_TCP, 31, b"tls".hex()),  # TCP_ULP
]


def said(reply):
    """Return what a reply comes to: the code of a refusal, an errno, or ``ok``."""
    if reply is None:
        return "ended"
    return reply["error"]["code"] if "error" in reply else os.strerror(reply["errno"]) if "errno" in reply else "ok"


def ask(what, op, **fields):
    """Ask on a channel of its own, as whatever process the fields of ``hello`` make us, and note what came of it."""
    with RawChannel(os.environ["OUTGATE_SOCKET"], fields.pop("token", None)) as channel:
        channel.post(op, **fields)
        note(what, said(channel.receive()))


def channel():
    """Speak to the gate by hand: for denied destinations, with ids of others, and in no language at all."""
    path = os.environ["OUTGATE_SOCKET"]
    code = "import socket, sys; s = socket.create_connection(sys.argv[1:], 20); print(s.fileno(), flush=True); input()"
    code += "; s.sendall(b'GET /hello HTTP/1.0\\r\\n\\r\\n'); print(s.recv(12).decode())"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code, ALLOWED[0], str(ALLOWED[1])]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        other.stdout.readline()
        with RawChannel(path) as mine:
            ((id, sock),) = mine.new()
            reply = mine.ask("new", family=4, count=1, kind="udp")
            datagrams = reply["ids"][0]
            for address in (*DENIED, *((spelling, 80) for spelling in SPELLINGS)):
                fields = {"host": address[0], "port": address[1]}
                note("connect", said(mine.ask("connect", sock=id, filled=0x7FFFFFFF, **fields)))
                for connect in (True, False):
                    note("reach", said(mine.ask("reach", sock=datagrams, connect=connect, **fields)))
            for level, number, value in OPTIONS:
                for which in (id, datagrams):
                    note("option", said(mine.ask("option", sock=which, level=level, number=number, value=value)))
            for host, port in ((PLACES["open"], 0), ("0.0.0.0", 53), ("127.0.0.1", 80), ("10.9.9.9", 0)):
                for which in (id, datagrams):
                    note("bind", said(mine.ask("bind", sock=which, host=host, port=port)))
            # What others opened has numbers near ours.
            for near in range(id - 40, id + 40):
                if near in (id, datagrams):
                    continue
                asked = [
                    mine.ask("connect", sock=near, host=ALLOWED[0], port=80),
                    mine.ask("harvest", sock=near),
                    mine.ask("name", sock=near),
                    mine.ask("bind", sock=near, host=""),
                    mine.ask("option", sock=near, level=1, number=9, value=1),
                    mine.ask("reach", sock=near, host=ALLOWED[0], port=80),
                ]
                note("another's", sorted({said(reply) for reply in asked}))
                mine.ask("close", sock=near, shared=False)
            sock.close()
        for near in range(id - 40, id + 40):
            with RawChannel(path, role="anchor") as anchor:
                anchor.post("hello")
                anchor.post("close", sock=near, shared=False)
        for packet in (b"", b"{", b"null", b'{"op":"connect"}', b"\xff" * 60_000, b'{"op":"new","family":5,"count":1}'):
            with RawChannel(path) as strange:
                strange.send(packet)
                note("no packet", said(strange.receive()))
        with RawChannel(path) as strange:
            try:
                strange.send({"op": "stat", "hello": strange.hello}, strange_fds())
            except PermissionError:
                note("fds over a channel", "refused by the kernel")
            else:
                note("fds over a channel", said(strange.receive()))
        ask("an address in a look-up", "resolve", call="getaddrinfo", args=["10.9.9.9\0", 80, 0, 0, 0, 0])
        ask("no such look-up", "resolve", call="system", args=["id"])
        ask("a null", "connect", sock=id, host=f"{ALLOWED[0]}\0.{DENIED[0][0]}", port=80)
        ask("too many", "new", family=4, count=9)
        output, _ = other.communicate("\n")
        note("the other's connection", output.strip())


def kernel():
    """Go round the gate: sockets of the fence itself, other networks, and the gate's own files."""
    for address in (*DENIED, ALLOWED):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            fd = libc.socket(family, kind, 0)
            call("connect a socket of its own", "connect", fd, *name_of(*address))
            call("send on it", "sendto", fd, b"x", 1, MSG_NOSIGNAL | MSG_FASTOPEN, *name_of(*address))
    call("a raw socket", "socket", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    call("a packet socket", "socket", socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
    with RawChannel(os.environ["OUTGATE_SOCKET"]) as raw:
        gate = struct.unpack("@iii", raw.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    handle = os.pidfd_open(gate)
    call("the gate's network", "setns", handle, 0x40000000)
    for number in range(64):
        call("the gate's files", "syscall", 438, handle, number, 0)  # pidfd_getfd(2)
    call("the gate's memory", "ptrace", 16, gate, 0, 0)  # PTRACE_ATTACH


{"tcp": tcp, "udp": udp, "channel": channel, "kernel": kernel}[sys.argv[1]]()
with socket.create_connection(ALLOWED, timeout=20) as sock:
    sock.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
    note("served", sock.makefile("rb").read().partition(b"\r\n")[0].decode())
print(json.dumps(tried))
