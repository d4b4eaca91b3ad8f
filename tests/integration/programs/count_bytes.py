"""Fetch over a bare socket and print what was sent and received, in bytes: python count_bytes.py ADDRESS PATH."""

import socket
import sys

request = f"GET {sys.argv[2]} HTTP/1.0\r\nHost: {sys.argv[1]}\r\n\r\n".encode()
received = 0
with socket.create_connection((sys.argv[1], 80), timeout=30) as sock:
    sock.sendall(request)
    while data := sock.recv(65536):
        received += len(data)
print(len(request), received)
