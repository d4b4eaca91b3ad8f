"""Try to connect and say what came of it, one line of JSON: python try_connect.py HOST PORT."""

import json
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((host, port), timeout=5).close()
    result = {"error": None}
except OSError as error:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    result = {"error": type(error).__name__, "kinds": kinds, "errno": error.errno, "text": str(error)}
print(json.dumps(result))
