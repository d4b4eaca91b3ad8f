"""Look names up with dnspython: python dnspython_ask.py NAME/TYPE...; prints each answer, or what was raised.

With ``--connect PORT`` before the names it connects to the first address of each, and prints that, too.
"""

import asyncio
import socket
import sys

import dns.asyncresolver
import dns.exception
import dns.resolver

words = sys.argv[1:]
port = 0
if words[0] == "--connect":
    port = int(words[1])
    words = words[2:]
for word in words:
    name, _, kind = word.partition("/")
    try:
        found = sorted(map(str, dns.resolver.resolve(name, kind or "A")))
        again = sorted(map(str, asyncio.run(dns.asyncresolver.resolve(name, kind or "A"))))
    except dns.exception.DNSException as error:
        print(word, type(error).__name__)
        continue
    print(word, *found, again == found)
    if port:
        try:
            socket.create_connection((found[0], port), 5).close()
            print("connected")
        except OSError as error:
            print(type(error).__name__)
