"""Hand an open connection to other programs as a text: python text_front.py HOST GROUP.

First in a variable of the environment, then in a document of JSON, as it would stand in the payload of any queue. The
programs may be written by others: they get a text, no code.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import outgate

WORKER = str(Path(__file__).with_name("text_worker.py"))


def main():
    """Open a session here, and let two other programs read."""
    host, group = sys.argv[1:]
    with socket.create_connection((host, 119)) as sock, sock.makefile("rwb") as file:
        print("front", os.getpid(), file.readline().decode()[:3], flush=True)
        file.write(f"GROUP {group}\r\n".encode())
        file.flush()
        print("front", os.getpid(), file.readline().decode().rstrip(), flush=True)
        text, other = outgate.descriptor(sock), outgate.descriptor(sock)
    # Closed here. For each descriptor that nobody has adopted the gate keeps the connection, as long as idle_timeout.
    subprocess.run([sys.executable, WORKER], env={**os.environ, "NEWS_SOCKET": text}, check=True)
    payload = json.dumps({"socket": other})
    subprocess.run([sys.executable, WORKER], input=payload, text=True, check=True)


if __name__ == "__main__":
    main()
