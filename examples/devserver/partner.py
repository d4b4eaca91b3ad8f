"""The far end: numbers its connections and answers each line, so that one sees that both came over the same.

python partner.py 7119
"""

import itertools
import socketserver
import sys

numbers = itertools.count(1)


class Conversation(socketserver.StreamRequestHandler):
    """One connection."""

    def handle(self):
        number = next(numbers)
        for count, line in enumerate(self.rfile, 1):
            self.wfile.write(b"connection %d, line %d: you said: %s" % (number, count, line))


class Partner(socketserver.ThreadingTCPServer):
    """As many at one time as want to talk."""

    allow_reuse_address = True
    daemon_threads = True


with Partner(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 7119), Conversation) as server:
    print("listening at", server.server_address[1], flush=True)
    server.serve_forever()
