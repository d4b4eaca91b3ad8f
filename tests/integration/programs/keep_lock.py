"""Hold sockets from memory whose pages never come: python keep_lock.py PAGES HOST PORT.

Reads words from standard input, one a line, and answers each: a thread does what keeps the kernel's lock of a socket,
and the rest of the program goes on asking the gate.
"""

import ctypes
import errno
import mmap
import os
import queue
import socket
import sys
import threading

PAGES, HOST, PORT = sys.argv[1], sys.argv[2], int(sys.argv[3])
PAGE = mmap.PAGESIZE
_SO_LINGER = 13
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.setsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint]
_SHARED, _PRIVATE, _FIXED, _ANONYMOUS = 1, 2, 0x10, 0x20
held = []
outcomes = queue.SimpleQueue()


def keep(what, *args):
    threading.Thread(target=what, args=args, daemon=True).start()


def memory(name):
    """Return memory of two pages: the first is there, the second is one that does not come."""
    file = os.open(os.path.join(PAGES, name), os.O_RDONLY)
    base = _libc.mmap(None, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, _PRIVATE | _ANONYMOUS, -1, 0)
    ctypes.memset(base, 0, PAGE)
    _libc.mmap(base + PAGE, PAGE, mmap.PROT_READ, _SHARED | _FIXED, file, 0)
    return base


def open_(_):
    """Connect, and exchange a few bytes."""
    sock = socket.create_connection((HOST, PORT))
    sock.sendall(b"hello")
    assert sock.recv(5, socket.MSG_WAITALL) == b"hello"
    held.append(sock)
    return "opened"


def send_on(number):
    """Keep the lock of a connection: send from a page that does not come."""
    keep(_libc.send, held[int(number)].fileno(), ctypes.c_void_p(memory(number) + PAGE - 8), 16, 0)
    return "held"


def send(name):
    """Open a connection, and keep its lock."""
    open_(name)
    return send_on(str(len(held) - 1))


def set_option(name):
    """Keep the lock of a socket that was never connected: of this option the kernel takes a part with the lock held."""
    make(name)
    return keep_option(str(len(held) - 1))


def make(_):
    """Make a socket."""
    held.append(socket.socket())
    return "made"


def dial(words):
    """Begin to connect one that is held to a port, and go on."""
    number, port = map(int, words.split())
    keep(lambda: outcomes.put(_outcome(held[number].connect, (HOST, port))))
    return "dialling"


def outcome(_):
    """Say what has become of the dial."""
    return outcomes.get()


def keep_option(number):
    """Keep the lock of one that is held."""
    sock = held[int(number)]
    keep(_libc.setsockopt, sock.fileno(), socket.SOL_SOCKET, _SO_LINGER, memory(number) + PAGE - 4, 8)
    return "held"


def _outcome(what, *args):
    try:
        what(*args)
    except OSError as e:
        return f"{errno.errorcode[e.errno]} {getattr(e, 'code', '')}"
    return "connected"


def connect(number):
    """Connect one that is held."""
    return _outcome(held[int(number)].connect, (HOST, PORT))


def close(number):
    """Close one that is held."""
    held[int(number)].close()
    return "closed"


def exchange(_):
    """Connect, exchange a few bytes, and close."""
    try:
        with socket.create_connection((HOST, PORT)) as sock:
            sock.sendall(b"hello")
            return str(sock.recv(5, socket.MSG_WAITALL) == b"hello")
    except OSError as e:
        return f"{errno.errorcode[e.errno]} {getattr(e, 'code', '')}"


def use(number):
    """Exchange a few bytes on one that was held."""
    held[int(number)].sendall(b"again")
    return "ok"


WORDS = {each.__name__.strip("_"): each for each in (open_, send, send_on, set_option, connect, close, exchange, use)}
WORDS |= {each.__name__: each for each in (make, dial, outcome, keep_option)}
for line in sys.stdin:
    word, _, rest = line.strip().partition(" ")
    print(WORDS[word](rest), flush=True)
