"""Exchange keys with an SSH server and check that it has the host key it names: python ssh_exchange.py HOST PORT.

What RFC 4253 and RFC 8731 ask of a client, as far as the server's signature.
"""

import hashlib
import os
import socket
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEXINIT, ECDH_INIT, ECDH_REPLY = 20, 30, 31
OURS = b"SSH-2.0-outgate_test"


def string(data):
    return struct.pack("!I", len(data)) + data


def strings(data):
    found = []
    while data:
        (size,) = struct.unpack_from("!I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def send(payload):
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 * (padding < 4)
    stream.write(struct.pack("!IB", 1 + len(payload) + padding, padding) + payload + bytes(padding))
    stream.flush()


def receive(kind):
    size, padding = struct.unpack("!IB", stream.read(5))
    payload = stream.read(size - 1)[: size - 1 - padding]
    assert payload[0] == kind, payload
    return payload


with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as sock:
    stream = sock.makefile("rwb")
    stream.write(OURS + b"\r\n")
    theirs = stream.readline().rstrip(b"\r\n")
    names = [
        b"curve25519-sha256",
        b"ssh-ed25519",
        *[b"aes128-ctr"] * 2,
        *[b"hmac-sha2-256"] * 2,
        *[b"none"] * 2,
        b"",
        b"",
    ]
    our_init = bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, names)) + bytes(5)
    send(our_init)
    their_init = receive(KEXINIT)
    secret = X25519PrivateKey.generate()
    public = secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    send(bytes([ECDH_INIT]) + string(public))
    host_key, their_public, signature = strings(receive(ECDH_REPLY)[1:])

shared = secret.exchange(X25519PublicKey.from_public_bytes(their_public)).lstrip(b"\0")
shared = b"\0" * (shared[0] >> 7) + shared  # an mpint is signed (RFC 4251, section 5)
parts = (OURS, theirs, our_init, their_init, host_key, public, their_public, shared)
digest = hashlib.sha256(b"".join(map(string, parts))).digest()
Ed25519PublicKey.from_public_bytes(strings(host_key)[1]).verify(strings(signature)[1], digest)
print(theirs.decode())
print("SHA256:" + hashlib.sha256(host_key).hexdigest())
