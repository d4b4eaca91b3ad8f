"""Serve a mailbox, a newsgroup and a page on loopback, for the tour: POP3, NNTP and HTTPS, as small as they can be."""

import http.server
import socketserver
import ssl
import threading
from pathlib import Path

MESSAGE = b"From: gate@demo.test\r\nSubject: It works\r\n\r\nThis mail came through a socket of the gate's.\r\n"
ARTICLE = b"From: gate@demo.test\r\nSubject: Outbound\r\nMessage-ID: <1@demo.test>\r\n\r\nNo listen sockets here.\r\n"


class LineServer(socketserver.StreamRequestHandler):
    """A server that answers lines; a reply of several lines ends with a dot."""

    greeting = b""
    replies: "dict[str, bytes]" = {}  # noqa: RUF012

    def handle(self) -> None:
        self.wfile.write(self.greeting)
        for line in self.rfile:
            words = line.decode("latin-1").upper().split() or [""]
            self.wfile.write(self.replies.get(words[0], b"500 unknown command\r\n"))
            if words[0] == "QUIT":
                return


class Pop3(LineServer):
    greeting = b"+OK demo mailbox\r\n"
    replies = {  # noqa: RUF012
        "USER": b"+OK\r\n",
        "PASS": b"+OK 1 message\r\n",
        "STAT": b"+OK 1 %d\r\n" % len(MESSAGE),
        "LIST": b"+OK\r\n1 %d\r\n.\r\n" % len(MESSAGE),
        "RETR": b"+OK\r\n" + MESSAGE + b".\r\n",
        "QUIT": b"+OK\r\n",
    }


class Nntp(LineServer):
    greeting = b"200 demo news\r\n"
    replies = {  # noqa: RUF012
        "CAPABILITIES": b"101 \r\nVERSION 2\r\nREADER\r\n.\r\n",
        "GROUP": b"211 1 1 1 demo.sockets\r\n",
        "ARTICLE": b"220 1 <1@demo.test>\r\n" + ARTICLE + b".\r\n",
        "QUIT": b"205 \r\n",
    }


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"Hello over TLS, through the gate.\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def start(folder: Path) -> "dict[str, int]":
    """Start the three on free ports of 127.0.0.1 and return their ports; ``folder/ca.pem`` signs the page's TLS."""
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ports = {}
    for name, handler in (("mail", Pop3), ("news", Nntp), ("web", Page)):
        server = _Server(("127.0.0.1", 0), handler)
        if name == "web":
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ports[name] = server.server_address[1]
    return ports
