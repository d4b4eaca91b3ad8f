"""Fetch a large file with http.client over TLS: python https_client.py HOST."""

import hashlib
import http.client
import ssl
import sys

connection = http.client.HTTPSConnection(sys.argv[1], timeout=30, context=ssl.create_default_context())
connection.request("GET", "/large")
answer = connection.getresponse()
data = answer.read()
print(answer.status, len(data), hashlib.sha256(data).hexdigest()[:16])
print(connection.sock.version() in ("TLSv1.2", "TLSv1.3"))
connection.close()
