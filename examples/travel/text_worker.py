"""Go on with a connection that a text names: in the variable NEWS_SOCKET, or as "socket" in JSON on standard input."""

import json
import os
import sys

import outgate

text = os.environ.get("NEWS_SOCKET") or json.load(sys.stdin)["socket"]
with outgate.adopt(text) as sock, sock.makefile("rwb") as file:
    file.write(b"NEXT\r\n")
    file.flush()
    print("worker", os.getpid(), file.readline().decode().rstrip())
