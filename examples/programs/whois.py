"""Ask who has a domain or an address (whois, RFC 3912: TCP port 43). Nothing in here knows of outgate.

    outgate run -- python whois.py example.com
    outgate run --allow tcp://public:43 -- python whois.py 192.0.2.1 whois.example.net     # whois, and nothing else

It begins at IANA, or at the server that is named, and asks on where an answer refers to another one.
"""

import re
import socket
import sys

#: References that are followed, and bytes of an answer that are read.
FOLLOWED, LONGEST = 3, 1_000_000


def ask(server, question):
    """Return what a server answers."""
    with socket.create_connection((server, 43), timeout=10) as sock:
        sock.sendall(question.encode("idna") + b"\r\n")
        answer = b""
        while len(answer) < LONGEST:
            data = sock.recv(65536)
            if not data:
                break
            answer += data
    return answer.decode("utf-8", "replace")


question, server = sys.argv[1], (*sys.argv[2:], "whois.iana.org")[0]
for _ in range(FOLLOWED):
    answer = ask(server, question)
    print(f"-- {server}\n{answer.strip()}")
    found = re.search(r"^(?:refer|whois|Registrar WHOIS Server):\s*([A-Za-z0-9.-]+)\s*$", answer, re.M)
    if not found or found[1] == server:
        break
    server = found[1]
