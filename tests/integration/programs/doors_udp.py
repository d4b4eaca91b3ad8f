"""Ask a name server for a name's address by way of a SOCKS5 door, as any program with PySocks would."""

import os
import struct
import sys
from urllib.parse import unquote, urlsplit

import socks

server, name = sys.argv[1:]
door = urlsplit(os.environ["ALL_PROXY"])
assert door.username is not None
assert door.password is not None
sock = socks.socksocket(type=socks.socket.SOCK_DGRAM)
sock.set_proxy(socks.SOCKS5, door.hostname, door.port, username=unquote(door.username), password=unquote(door.password))
sock.settimeout(10)
labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"
sock.sendto(struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">2H", 1, 1), (server, 53))
answer, source = sock.recvfrom(512)
print(*source[:2], answer[:2] == b"\0\x07", ".".join(map(str, answer[-4:])))
