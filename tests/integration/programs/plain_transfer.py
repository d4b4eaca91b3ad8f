"""Move megabytes over bare sockets, with half of a connection closed: python plain_transfer.py HOST ECHO SOURCE.

ECHO and SOURCE are ports: one sends back what comes until an end of file, the other sends and reads afterwards. For
each connection it prints what it sent and received, in bytes, and whether that was right.
"""

import hashlib
import io
import socket
import sys
import threading

host, echo, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = hashlib.shake_128(b"plain").digest(4_000_000)


def read_all(sock):
    received = bytearray()
    while part := sock.recv(100_000):
        received += part
    return bytes(received)


def feed(sock):
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


with socket.create_connection((host, echo), timeout=30) as sock:
    peer = sock.getpeername()[:2]
    feeder = threading.Thread(target=feed, args=(sock,))
    feeder.start()
    back = read_all(sock)
    feeder.join()
    print(len(data), len(back), back == data, peer == (host, echo))

with socket.create_connection((host, source), timeout=30) as sock:
    came = read_all(sock)
    sent = sock.sendfile(io.BytesIO(data[:1_000_000]))
    print(sent, len(came), hashlib.sha256(came).hexdigest())
