"""Fetch and upload over TLS, by a wrapped socket and by one of its own: python ssl_transfer.py HOST.

The last line is what the second connection sent and received, in bytes of the network.
"""

import hashlib
import socket
import ssl
import sys

host = sys.argv[1]
context = ssl.create_default_context()
body = bytes(3_000_000)
upload = f"POST /upload HTTP/1.0\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
fetch = f"GET /large HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


def show(answer):
    head, _, rest = answer.partition(b"\r\n\r\n")
    print(head.split(b"\r\n")[0].decode(), len(rest), hashlib.sha256(rest).hexdigest())


for request in (fetch, upload):
    with context.wrap_socket(socket.create_connection((host, 443), timeout=30), server_hostname=host) as tls:
        tls.sendall(request)
        show(b"".join(iter(lambda tls=tls: tls.recv(65536), b"")))

incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
with socket.create_connection((host, 443), timeout=30) as sock:
    sent = received = 0

    def turn(function, *arguments):
        global sent, received
        while True:
            try:
                return function(*arguments)
            except ssl.SSLWantReadError:
                wants = True
            else:
                wants = False
            finally:
                sent += outgoing.pending
                sock.sendall(outgoing.read())
            if wants and (part := sock.recv(65536)):
                received += len(part)
                incoming.write(part)
            elif wants:
                incoming.write_eof()

    turn(tls.do_handshake)
    turn(tls.write, fetch)
    show(b"".join(iter(lambda: turn(tls.read, 65536), b"")))
    while part := sock.recv(65536):
        received += len(part)
print(sent, received)
