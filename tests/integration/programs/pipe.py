"""Join standard input and output to a connection, as ssh's ProxyCommand wants it: python pipe.py HOST PORT."""

import os
import shutil
import socket
import sys
import threading

with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as sock:
    sock.settimeout(None)

    def send() -> None:
        while data := os.read(0, 65536):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=send, daemon=True).start()
    with sock.makefile("rb", buffering=0) as received:
        shutil.copyfileobj(received, sys.stdout.buffer.raw)
