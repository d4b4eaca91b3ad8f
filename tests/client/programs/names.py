"""Print as JSON what stands behind each name of the socket module, or with a file of rows how each is refused.

``names.py`` tells, of an interpreter that the client is loaded into, what is the interpreter's own and what outgate's;
``names.py refused FILE`` does what every row of the file says is refused, and prints what was raised.
"""

import _socket
import contextlib
import json
import os
import socket
import sys
import sysconfig

#: The classes that the module's own are built on, from outgate's to C's.
OURS = sys.modules["outgate.client.standin"].socket
NATIVE = OURS.__bases__[0]
NATIVE_MODULE = sys.modules["outgate.client.install"]._native_module
STANDARD = os.path.realpath(sysconfig.get_path("stdlib"))
LEVELS = {"SO_": 1, "TCP_": 6, "IP_": 0, "IPV6_": 41, "UDPLITE_": 136}


def is_standard(value):
    """Whether a function or class is of the standard library's own files, or built in."""
    module = sys.modules.get(getattr(value, "__module__", None) or "builtins")
    where = getattr(module, "__file__", None)
    return module is not None and (where is None or os.path.realpath(where).startswith(STANDARD))


def behind_module(name):
    """Say what stands behind a name of the two modules."""
    if name in vars(_socket):
        native = vars(NATIVE_MODULE).get(name)
        return "native" if vars(_socket)[name] is native else "ours"
    value = vars(socket)[name]
    if value is _socket:
        return "ours"
    return "native" if is_standard(value) else "ours"


def behind_method(name):
    """Say what stands behind a name of socket.socket: of its own class, of ours below it, or of C's below that."""
    for cls in (socket.socket, OURS):
        value = vars(cls).get(name)
        function = getattr(value, "fget", value)
        if callable(function) and getattr(function, "__module__", "").startswith("outgate."):
            return "ours"
    own = getattr(vars(OURS).get(name), "__func__", vars(OURS).get(name))
    return "ours" if callable(own) and own is not vars(NATIVE).get(name) else "native"


def tell():
    """Return name → what is behind it, at the start and when the process has had a socket that the gate carries."""
    names = set(dir(_socket)) | set(dir(socket))
    methods = set(vars(NATIVE)) | set(vars(socket.socket)) | set(vars(OURS))
    methods -= {"__dict__"}
    told = {name: [behind_module(name)] * 2 for name in names}
    told.update({"SocketIO." + name: [behind_module("SocketIO")] * 2 for name in vars(socket.SocketIO)})
    before = {name: behind_method(name) for name in methods}
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    told.update({"socket." + name: [before[name], behind_method(name)] for name in methods})
    return told


# --- refusals ---------------------------------------------------------------------------------------------------------


def refuse(name, by):
    """Do what is refused, for a name that is refused by this."""
    number = getattr(socket, name, None)
    if by.startswith("AF_"):
        socket.socket(getattr(socket, by, 4096), socket.SOCK_SEQPACKET)
    elif by == "family":
        socket.socket(number, socket.SOCK_DGRAM)
    elif by == "type":
        socket.socket(socket.AF_INET, number)
    elif by == "protocol":
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, number)
    else:
        with socket.socket() as sock:
            USES[by](sock, name, number)


def use_option(sock, name, number):
    level = LEVELS[name[: name.index("_") + 1]]
    with contextlib.suppress(OSError):
        sock.getsockopt(level, number)
        return  # it may be read, so it is not refused
    sock.setsockopt(level, number, 1)


def use_level(sock, name, number):
    sock.setsockopt(LEVELS.get("UDPLITE_") if name.startswith("UDPLITE_") else number, 10, 1)


def use_flag(sock, name, number):
    sock.sendto(b"x", number, ("127.0.0.1", 9))


def use_ancillary(sock, name, number):
    sock.sendmsg([b"x"], [(socket.SOL_SOCKET, number, b"\0\0\0\0")])


def call(sock, name, number):
    if name.startswith("socket."):
        getattr(sock, name.partition(".")[2])()
    elif name == "create_server":
        socket.create_server(("127.0.0.1", 0))
    else:
        getattr(socket, name)()


USES = {"option": use_option, "level": use_level, "flag": use_flag, "ancillary": use_ancillary, "call": call}


def refusals(rows):
    """Return name → [module of the exception, its errno, its text]; ``None`` where nothing was raised."""
    raised = {}
    for name, by in rows:
        raised[name] = None
        try:
            refuse(name, by)
        except OSError as error:
            raised[name] = [type(error).__module__, error.errno, str(error)]
    return raised


if sys.argv[1:2] == ["refused"]:
    with open(sys.argv[2], encoding="utf-8") as file:
        print(json.dumps(refusals(json.load(file))))
else:
    print(json.dumps(tell()))
