"""Fetch with http.client over one connection that is kept alive, then upload: python http_client.py HOST [PORT]."""

import http.client
import sys

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 80, timeout=30)
for path in ("/hello", "/nth", "/nth"):
    connection.request("GET", path)
    answer = connection.getresponse()
    print(answer.status, answer.read().decode().strip())
connection.request("POST", "/upload", body=b"x" * 3_000_000)
print(connection.getresponse().read().decode().strip())
connection.close()
