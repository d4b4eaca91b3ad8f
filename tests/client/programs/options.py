"""Set and read the options named on stdin, before and after connect, and print how each call ended.

No checks of its own: the test beside compares what it prints natively and through a gate. Python 3.9+.
"""

import json
import socket
import struct
import sys

from harness import listener

#: Bytes to ask for where an option is not a number.
SIZES = {"linger": 8, "timeval": 16, "bytes": 64}


def ending(call):
    """Return what a call returned, or class, errno and text of what it raised."""
    try:
        result = call()
    except OSError as e:
        return {"error": type(e).__name__, "errno": e.errno, "text": str(e), "code": getattr(e, "code", None)}
    return {"result": result.hex() if isinstance(result, bytes) else result}


def value_of(option):
    """Return the value to set: what the test gave, packed as C has it."""
    if option["type"] in SIZES and isinstance(option["value"], list):
        return struct.pack("ii" if option["type"] == "linger" else "ll", *option["value"])
    return option["value"]


def go_through(sock, options):
    """Set every option and read it back; return by name what came of it."""
    report = {}
    for option in options:
        level, number = option["level"], option["number"]
        size = [SIZES[option["type"]]] if option["type"] in SIZES else []
        done = ending(lambda: sock.setsockopt(level, number, value_of(option)))  # noqa: B023 (called at once)
        read = ending(lambda: sock.getsockopt(level, number, *size))  # noqa: B023
        if option["moves"] and "result" in read:
            read = {"result": "some"}  # the kernel's own figures
        report[option["name"]] = [done, read]
    return report


def main():
    """Go through all options on a fresh and a connected socket of both families."""
    options = json.load(sys.stdin)
    report = {}
    with socket.socket() as sock:
        report["fresh tcp4"] = go_through(sock, options)
    if len(sys.argv) > 1:  # one that may connect
        with listener() as server, socket.socket() as sock:
            sock.connect(server.getsockname())
            report["connected tcp4"] = go_through(sock, options)
    with socket.socket(socket.AF_INET6) as sock:
        report["fresh tcp6"] = go_through(sock, options)
    json.dump(report, sys.stdout)


main()
