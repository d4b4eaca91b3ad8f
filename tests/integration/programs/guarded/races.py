"""Race a guard for a time, and print what the calls said and how often, as JSON: python races.py WHAT SECONDS WORLD.

No library and no client. What changes an address behind a call is another process, with the memory shared, so that it
is in nobody's way; a table of files is a process's own, so a thread changes that.
"""

import ctypes
import errno
import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter

SECONDS, WORLD = float(sys.argv[2]), json.loads(sys.argv[3])
OPEN, PRIVATE, PRIVATE6, PORT = WORLD["open"], WORLD["private"], WORLD["private6"], WORLD["port"]
MARK = b"escaped"
LINGER = struct.pack("ii", 1, 0)  # a reset leaves no port behind that waits for stray packets
libc = ctypes.CDLL(None, use_errno=True)
RACES = {}


def race(function):
    RACES[function.__name__] = function
    return function


def address(host, port=PORT):
    if ":" in host:
        packed = socket.inet_pton(socket.AF_INET6, host)
        return struct.pack("=H", socket.AF_INET6) + port.to_bytes(2, "big") + bytes(4) + packed + bytes(4)
    return struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)


def word(result):
    return "done" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), str(ctypes.get_errno()))


def until_then(function, least=25):
    """Call a function until the time is over, but so many times at least, and count what it returns."""
    found, end = Counter(), time.monotonic() + SECONDS
    while time.monotonic() < end or found.total() < least:
        found[function()] += 1
    return found


def peer(sock):
    """Return where a socket leads to, having sent something there; ``None`` where nowhere."""
    try:
        sock.send(MARK, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return sock.getpeername()[0].replace("::ffff:", "")
    except OSError:
        return None


# --- what a call points to --------------------------------------------------------------------------------------------

#: Kind of socket → where its address is in the shared memory, how it begins, its size, and where it changes.
CHANGING = {
    (socket.AF_INET, socket.SOCK_STREAM): (0, address(OPEN), 16, 4),
    (socket.AF_INET6, socket.SOCK_STREAM): (64, address(f"::ffff:{OPEN}"), 28, 20),
    (socket.AF_INET, socket.SOCK_DGRAM): (128, address(OPEN), 16, 4),
}


def change_addresses(memory):
    """Never return: write one host and the other, each in one store, so that there is no third."""
    right, wrong = (int.from_bytes(socket.inet_aton(host), sys.byteorder) for host in (OPEN, PRIVATE))
    words = [ctypes.c_uint32.from_buffer(memory, place + inside) for place, _, _, inside in CHANGING.values()]
    while True:
        for each in words:
            each.value = wrong
        for each in words:
            each.value = right


def connect_once(memory, family, kind, place, size):
    try:
        sock = socket.socket(family, kind)
    except OSError as e:
        return errno.errorcode[e.errno]
    with sock:
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        where = ctypes.addressof(ctypes.c_char.from_buffer(memory, place))
        said = word(libc.connect(sock.fileno(), ctypes.c_void_p(where), size))
        reached = peer(sock)
    return said if reached in (None, OPEN) else f"reached {reached}"


@race
def addresses():
    memory = mmap.mmap(-1, 4096)
    for place, begins, size, _ in CHANGING.values():
        memory[place : place + size] = begins
    changer = os.fork()
    if changer == 0:
        change_addresses(memory)
    found = {}

    def connect(kind):
        place, _, size, _ = CHANGING[kind]
        found[kind] = until_then(lambda: connect_once(memory, *kind, place, size))

    threads = [threading.Thread(target=connect, args=(kind,)) for kind in CHANGING]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    os.kill(changer, signal.SIGKILL)
    os.waitpid(changer, 0)
    return {f"{family.name} {kind.name}": found[family, kind] for family, kind in CHANGING}


# --- what a number stands for -----------------------------------------------------------------------------------------


@race
def files():
    """Connect by a number that a thread has stand for one file after the other, to what is open and what is not."""
    place = os.dup(0)
    sources = [0]
    has_ended = threading.Event()

    def change():
        while not has_ended.is_set():
            for fd in tuple(sources):
                try:
                    os.dup2(fd, place)
                except OSError:  # the next ones are being made
                    pass

    targets = [(raw, len(raw)) for raw in (address(OPEN), address(PRIVATE), address(f"::ffff:{PRIVATE}"))]

    def turn():
        made = [socket.socket(), socket.socket(socket.AF_INET6), socket.socket(type=socket.SOCK_DGRAM)]
        made += [socket.socket(socket.AF_UNIX), *socket.socketpair()]
        sources[:] = [*(each.fileno() for each in made), 0]
        for each in made[:2]:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        for raw, size in targets * 10:
            said[word(libc.connect(place, raw, size))] += 1
        reached = {peer(each) for each in made[:3]} - {None, OPEN}
        sources[:] = [0]
        for each in made:
            each.close()
        return f"reached {reached}" if reached else "nothing else was reached"

    said = Counter()
    changer = threading.Thread(target=change)
    changer.start()
    try:
        found = until_then(turn)
    finally:
        has_ended.set()
        changer.join()
    return {"turns": found, "calls": said}


# --- calls with anything in them --------------------------------------------------------------------------------------

#: x86_64's numbers of what has to do with sockets and the numbers of files, but for what closes our own.
CALLS = {
    **{"socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47},
    **{"shutdown": 48, "bind": 49, "listen": 50, "getsockname": 51, "getpeername": 52, "socketpair": 53},
    **{"setsockopt": 54, "getsockopt": 55, "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "ioctl": 16},
    **{"dup2": 33, "close": 3, "write": 1, "poll": 7, "io_uring_setup": 425, "pidfd_getfd": 438},
    **{"unshare": 272, "setns": 308, "seccomp": 317, "splice": 275, "sendfile": 40, "no such": 480},
}
#: What comes more often than the others: what the guard answers.
OFTEN = ("socket", "connect", "bind", "listen", "sendto", "sendmsg", "sendmmsg", "setsockopt")
#: Numbers of files that the calls may use and end; ours are above.
FIRST, LAST = 3, 40
ARENA, ROOM = 1 << 22, 1 << 17


class Rubbish:
    """Calls that are almost right, over memory that several threads write to."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.memory = mmap.mmap(-1, ARENA)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        hosts = (OPEN, PRIVATE, PRIVATE6, f"::ffff:{PRIVATE}", f"64:ff9b::{PRIVATE}", "127.0.0.1", "::1", "0.0.0.0")
        raw = [address(host, port) for host in (*hosts, OPEN, PRIVATE, WORLD["near"]) for port in (PORT, 53, 9)]
        unix = [b"\0name", b"/tmp/nobody", os.environ["OUTGATE_SOCKET"].encode(), WORLD["daemon"].encode()]
        self.names = [*raw, *(struct.pack("=H", socket.AF_UNIX) + each for each in unix), bytes(16), b"", bytes(128)]
        self.fill()

    def fill(self):
        """Write addresses, vectors and messages that point to one another; what is behind them the calls overwrite."""
        source = self.random
        for slot in range(32):
            place = slot * 1024
            name = source.choice(self.names)
            self.memory[place : place + len(name)] = name
            vector = struct.pack("@QQ", self.base + ROOM, source.choice((0, 1, len(MARK), 4096)))
            self.memory[place + 256 : place + 256 + len(vector)] = vector
            header = self.header(place, name)
            self.memory[place + 512 : place + 512 + len(header)] = header
        self.memory[ROOM : ROOM + len(MARK)] = MARK

    def header(self, place, name):
        rights = struct.pack("@Qiii", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, self.random.randrange(FIRST, LAST))
        self.memory[place + 768 : place + 768 + len(rights)] = rights
        control = self.base + place + 768, self.random.choice((0, 0, 20, 24, 64))
        header = struct.pack("@QIxxxxQQQQi4x", self.base + place, len(name), self.base + place + 256, 1, *control, 0)
        return header + bytes(8)

    def argument(self):
        source = self.random
        kind = source.randrange(10)
        if kind < 4:
            return self.base + source.randrange(32) * 1024 + source.choice((0, 0, 256, 512, 768))
        if kind < 6:
            return source.choice((0, 1, 2, 3, 5, 6, 10, 16, 17, 28, 41, 110, 128, 0x800, 0x80000, 0x80801, -1))
        if kind < 8:
            return source.randrange(FIRST, LAST)
        if kind < 9:
            return 1 << source.randrange(64)
        return source.getrandbits(64) - (1 << 63)

    def call(self):
        source = self.random
        name = source.choice(OFTEN) if source.random() < 0.6 else source.choice(list(CALLS))
        words = [self.argument() for _ in range(6)]
        if name in ("socket", "socketpair") and source.random() < 0.8:
            words[:3] = source.choice((1, 2, 2, 10, 10)), source.choice((1, 1, 2, 0x801, 0x80801)), 0
        elif name not in ("socket", "socketpair", "unshare", "seccomp") and source.random() < 0.9:
            words[0] = source.randrange(FIRST, LAST)
        if name in ("connect", "bind") and source.random() < 0.8:
            words[1], words[2] = self.base + source.randrange(32) * 1024, source.choice((16, 28, 110))
        elif name == "sendto" and source.random() < 0.8:
            flags = source.choice((0x40, 0x40, 0x20000040))
            words[1:] = self.base + ROOM, len(MARK), flags, self.base + source.randrange(32) * 1024, 28
        elif name in ("sendmsg", "sendmmsg") and source.random() < 0.8:
            words[1] = self.base + source.randrange(32) * 1024 + 512
            words[2:4] = (0x40, 0) if name == "sendmsg" else (1, 0x40)
        if name == "dup2":
            words[1] = source.randrange(FIRST, LAST)
        elif name == "poll":
            words[1:3] = source.randrange(4), 0
        elif name in ("close", "write", "splice", "sendfile", "pidfd_getfd"):
            words[0] = source.randrange(FIRST, LAST)
            if name in ("write", "sendfile"):
                words[1] = source.randrange(FIRST, LAST) if name == "sendfile" else self.base + ROOM
                words[2] = source.randrange(0x2000)
        elif name == "seccomp":
            words[0] = 1
        result = libc.syscall(ctypes.c_long(CALLS[name]), *map(ctypes.c_long, words))
        if source.random() < 0.01:
            self.fill()
        return name, word(result)


def throw(seed, seconds):
    """Make calls from two threads, which a signal takes out of every wait; return how often each came to what."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    for each in (signal.SIGPIPE, signal.SIGURG, signal.SIGIO):
        signal.signal(each, signal.SIG_IGN)
    thrower, found = Rubbish(seed), Counter()
    end = time.monotonic() + seconds
    threads = [threading.Thread(target=lambda: run_until(thrower, found, end)) for _ in range(2)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):  # whoever waits in a call has a turn of its own
        for each in threads:
            if each.is_alive():
                try:
                    signal.pthread_kill(each.ident, signal.SIGALRM)
                except ProcessLookupError:
                    pass
        time.sleep(0.01)
    return found


def run_until(thrower, found, end):
    while time.monotonic() < end:
        name, said = thrower.call()
        found[f"{name} {said}"] += 1


@race
def rubbish():
    """Throw from processes of a second each: what one of them has broken in itself is not thrown with any more."""
    found, end, seed = Counter(), time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        receiver, low = os.pipe()
        children = []
        for _ in range(2):
            seed += 1
            child = os.fork()
            if child == 0:
                os.dup2(low, 100)
                os.closerange(FIRST, 100)
                os.closerange(101, 1000)
                null = os.open(os.devnull, os.O_RDWR)
                for number in (0, 1, 2, *range(FIRST, FIRST + 8)):
                    os.dup2(null, number)
                signal.alarm(0)
                counted = throw(seed, 1.0)
                os.write(100, (json.dumps(counted) + "\n").encode())
                os._exit(0)
            children.append(child)
        os.close(low)
        with open(receiver) as stream:
            for line in stream:
                found.update(json.loads(line))
        for child in children:
            _, status = os.waitpid(child, 0)
            found[f"ended {os.waitstatus_to_exitcode(status)}"] += 1
    return dict(found)


# --- signals ----------------------------------------------------------------------------------------------------------


@race
def signals():
    """Connect while two thousand signals a second come: what is interrupted is done again; a connect happens once."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    raw, denied = address(OPEN, WORLD["listener"]), address(PRIVATE)
    before = len(os.listdir("/proc/self/fd"))
    said = Counter()

    def socket_():
        while (fd := libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)) < 0:
            said[f"socket {word(fd)}"] += 1
        return fd

    def turn():
        fd = socket_()
        try:
            while (result := libc.connect(fd, raw, 16)) < 0 and ctypes.get_errno() == errno.EINTR:
                said["connect EINTR"] += 1
            reached = word(result)
        finally:
            os.close(fd)
        fd = socket_()
        try:
            while (result := libc.connect(fd, denied, 16)) < 0 and ctypes.get_errno() == errno.EINTR:
                said["connect EINTR"] += 1
            return f"{reached} {word(result)}"
        finally:
            os.close(fd)

    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    found = until_then(turn)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"turns": found, "interrupted": said, "leaked": len(os.listdir("/proc/self/fd")) - before}


# --- what somebody ends -----------------------------------------------------------------------------------------------


@race
def storm():
    """Connect from four threads, and say each time that a line is read what has come of the connects begun since."""
    found, has_ended = [Counter()], threading.Event()
    turns = [0] * 4

    def connect(number):
        host = (OPEN, PRIVATE)[number % 2]
        raw = address(host)
        while not has_ended.is_set():
            counter = found[0]
            fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
            said = word(fd)
            if fd >= 0:
                libc.setsockopt(fd, socket.SOL_SOCKET, socket.SO_LINGER, LINGER, len(LINGER))
                said = word(libc.connect(fd, raw, 16))
                os.close(fd)
            counter[f"{'open' if host == OPEN else 'private'} {said}"] += 1
            turns[number] += 1

    threads = [threading.Thread(target=connect, args=(number,), daemon=True) for number in range(4)]
    for each in threads:
        each.start()

    def have_turned():
        goal = [each + 5 for each in turns]
        while any(turns[number] < each for number, each in enumerate(goal)):
            time.sleep(0.005)

    have_turned()
    print("ready", flush=True)
    for _ in sys.stdin:
        have_turned()  # what was begun before is over
        found[0] = Counter()
        have_turned()
        print(json.dumps(found[0]), flush=True)
    has_ended.set()
    return {}


if __name__ == "__main__":
    sys.setswitchinterval(1e-5)  # who changes things behind a call shall have its turns
    print(json.dumps(RACES[sys.argv[1]]()), flush=True)
