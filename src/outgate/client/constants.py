"""Give the kernel's numbers by which the client works, whether or not this interpreter's _socket has names for them.

An interpreter has those names that its headers had when it was built; the kernel knows the numbers all the same. What
stands here for a missing one is Linux's (``asm-generic/socket.h``; on few machines some differ, where nobody builds an
interpreter without the names).

Nothing here may import :mod:`socket`: this module is what ``socket`` will be built on.
"""

from __future__ import annotations

import _socket
from os import O_CLOEXEC, O_NONBLOCK


def _of(name: str, number: int) -> int:
    return int(getattr(_socket, name, number))


AF_UNIX = _of("AF_UNIX", 1)
AF_INET = _of("AF_INET", 2)
AF_INET6 = _of("AF_INET6", 10)

SOCK_STREAM = _of("SOCK_STREAM", 1)
SOCK_DGRAM = _of("SOCK_DGRAM", 2)
SOCK_SEQPACKET = _of("SOCK_SEQPACKET", 5)
SOCK_CLOEXEC = _of("SOCK_CLOEXEC", O_CLOEXEC)
SOCK_NONBLOCK = _of("SOCK_NONBLOCK", O_NONBLOCK)

IPPROTO_TCP = _of("IPPROTO_TCP", 6)
IPPROTO_UDP = _of("IPPROTO_UDP", 17)
IPPROTO_IPV6 = _of("IPPROTO_IPV6", 41)
IPV6_V6ONLY = _of("IPV6_V6ONLY", 26)

SOL_SOCKET = _of("SOL_SOCKET", 1)
SO_REUSEADDR = _of("SO_REUSEADDR", 2)
SO_TYPE = _of("SO_TYPE", 3)
SO_ERROR = _of("SO_ERROR", 4)
SO_SNDBUF = _of("SO_SNDBUF", 7)
SO_LINGER = _of("SO_LINGER", 13)
SO_REUSEPORT = _of("SO_REUSEPORT", 15)
SO_RCVTIMEO = _of("SO_RCVTIMEO", 20)
SO_SNDTIMEO = _of("SO_SNDTIMEO", 21)
SO_ACCEPTCONN = _of("SO_ACCEPTCONN", 30)
SO_PROTOCOL = _of("SO_PROTOCOL", 38)
SO_COOKIE = _of("SO_COOKIE", 57)

MSG_PEEK = _of("MSG_PEEK", 0x2)
MSG_DONTWAIT = _of("MSG_DONTWAIT", 0x40)
MSG_NOSIGNAL = _of("MSG_NOSIGNAL", 0x4000)
SCM_RIGHTS = _of("SCM_RIGHTS", 1)

SHUT_RD = _of("SHUT_RD", 0)
SHUT_WR = _of("SHUT_WR", 1)
SHUT_RDWR = _of("SHUT_RDWR", 2)

AI_NUMERICHOST = _of("AI_NUMERICHOST", 4)
EAI_NONAME = _of("EAI_NONAME", -2)
NI_NUMERICHOST = _of("NI_NUMERICHOST", 1)
NI_NAMEREQD = _of("NI_NAMEREQD", 8)
