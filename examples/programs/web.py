"""Fetch a page over TLS with urllib. Nothing in here knows of outgate."""

import ssl
import sys
from urllib.request import urlopen

context = ssl.create_default_context(cafile=sys.argv[2])
with urlopen(sys.argv[1], timeout=10, context=context) as answer:
    print(answer.status, answer.read().decode().strip())
