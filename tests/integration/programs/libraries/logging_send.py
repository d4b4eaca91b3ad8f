"""Send records with the handlers of logging: python logging_send.py MARK KIND HOST PORT [USER PASSWORD].

KIND is one of: stream, datagram (of pickled records), syslog-tcp, syslog-udp, http, smtp.
"""

import logging
import logging.handlers
import socket
import sys

mark, kind, host, port, *login = sys.argv[1:]
address = (host, int(port))


def make():
    handlers = logging.handlers
    if kind == "stream":
        return handlers.SocketHandler(*address)
    if kind == "datagram":
        return handlers.DatagramHandler(*address)
    if kind.startswith("syslog"):
        transport = socket.SOCK_STREAM if kind.endswith("tcp") else socket.SOCK_DGRAM
        made = handlers.SysLogHandler(address, handlers.SysLogHandler.LOG_LOCAL3, transport)
        made.append_nul = False
        made.setFormatter(logging.Formatter("program: %(message)s" + ("\n" if kind.endswith("tcp") else "")))
        return made
    if kind == "http":
        return handlers.HTTPHandler(f"{host}:{port}", "/hello", "GET")
    return handlers.SMTPHandler(address, "a@corp.example", ["b@far.example"], "Subject", tuple(login), (), timeout=30)


logging.raiseExceptions = True  # what goes wrong is printed
logger = logging.getLogger("program")
logger.propagate = False
handler = make()
logger.addHandler(handler)
for number in range(3):
    logger.error("%s number %d", mark, number)
handler.close()
print("sent")
