"""A web application that opens connections: at import, where gunicorn preloads it, and at every request."""

import os
import socket

HOST, PORT = os.environ["ECHO"].rsplit(":", 1)


def ask(sock, text):
    """Send this to an echo server and return its answer."""
    sock.sendall(text)
    heard = b""
    while len(heard) < len(text):
        heard += sock.recv(100)
    return heard


def dial():
    """Open a connection by name."""
    return socket.create_connection((HOST, int(PORT)), timeout=20)


with dial() as first:
    assert ask(first, b"import") == b"import"
spare = socket.socket()  # made before the workers are, used by none of them


def application(environ, start_response):
    """Answer with the worker's pid and what an echo server said to a connection of its own."""
    with dial() as sock:
        heard = ask(sock, environ["PATH_INFO"].encode())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d %s" % (os.getpid(), heard)]
