"""Connect through the C library, round the socket module, and print the errno: python round_connect.py ADDRESS PORT."""

import ctypes
import ipaddress
import struct
import sys

AF_INET, AF_INET6, SOCK_STREAM = 2, 10, 1
libc = ctypes.CDLL(None, use_errno=True)
address, port = ipaddress.ip_address(sys.argv[1]), int(sys.argv[2])
if address.version == 4:
    family, name = AF_INET, struct.pack("=H", AF_INET) + struct.pack("!H4s8x", port, address.packed)
else:
    family, name = AF_INET6, struct.pack("=H", AF_INET6) + struct.pack("!HI16sI", port, 0, address.packed, 0)
fd = libc.socket(family, SOCK_STREAM, 0)
print(ctypes.get_errno() if fd < 0 or libc.connect(fd, name, len(name)) else 0)
