"""Look a name up: python resolve.py NAME PORT."""

import socket
import sys

for family, kind, _, _, address in sorted(socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_STREAM)):
    print(family.name, kind.name, address[0], address[1])
try:
    socket.getaddrinfo("no-such-name.outgate.test", 80)
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
