"""Ask a cloud's metadata service for credentials, as a forged request would. Nothing in here knows of outgate."""

import socket

try:
    socket.create_connection(("169.254.169.254", 80), timeout=5)
except PermissionError as error:
    print("PermissionError:", error)
else:
    raise SystemExit("connected to the metadata service!")
