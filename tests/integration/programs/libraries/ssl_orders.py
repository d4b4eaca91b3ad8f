"""Wrap a socket in TLS before it is connected, after, and without blocking: python ssl_orders.py HOST."""

import select
import socket
import ssl
import sys

host = sys.argv[1]
context = ssl.create_default_context()
request = f"GET /scheme HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()


def fetch(tls):
    tls.sendall(request)
    body = b"".join(iter(lambda: tls.recv(65536), b"")).partition(b"\r\n\r\n")[2]
    return tls.version() in ("TLSv1.2", "TLSv1.3"), tls.getpeername()[1], body.decode().strip()


family, kind, proto, _, address = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)[0]
with context.wrap_socket(socket.socket(family, kind, proto), server_hostname=host) as tls:
    tls.settimeout(30)
    tls.connect(address)
    print("before", *fetch(tls))
with context.wrap_socket(socket.create_connection((host, 443), 30), server_hostname=host) as tls:
    print("after", *fetch(tls))
sock = socket.create_connection((host, 443), 30)
sock.setblocking(False)
with context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False) as tls:
    while True:
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            select.select([tls], [], [], 30)
        except ssl.SSLWantWriteError:
            select.select([], [tls], [], 30)
    tls.setblocking(True)
    print("without blocking", *fetch(tls))
    print(tls.getpeercert()["subjectAltName"][0][0], tls.session is not None)
