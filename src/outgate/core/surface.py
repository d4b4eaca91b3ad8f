"""Say of every name of the socket module what a program finds there: four lists, for the page and the tests.

A name is *native* (what the interpreter itself has there), *ours* (outgate's stands there), *refused* with a reason, or
*absent* on Linux. Functions, classes and methods have a row each. Constants have one by pattern: those of the table of
options (:mod:`outgate.core.options`) are native where a program may set or read the option, else refused.

The closest row holds: the name itself, else the longest pattern. Nothing loads this into programs; the tests hold it
to every Python that the client is tested with, and ``docs/generate.py`` makes docs/compatibility.md from it.

Sources: CPython's ``Modules/socketmodule.c`` and ``Lib/socket.py``, 3.9 to 3.14.
"""

from __future__ import annotations

from typing import NamedTuple

from outgate.core import options

NATIVE, OURS, REFUSED, ABSENT = "native", "ours", "refused", "absent"


class Row(NamedTuple):
    """One name, or a pattern that ends in ``*``. Names of a class stand with it: ``socket.connect``.

    :ivar list: one of the four.
    :ivar what: what differs from the native one, or is to be known; why it is refused; where it is found instead.
    :ivar errno: with what it is refused.
    :ivar by: what refuses it: a word of :data:`BY`, or the family that has no sockets (``AF_CAN``). ``option`` on a
        native one: only those that the table of options lets be set or read. ``late``: ours from a certain moment on.
    :ivar since: the first Python that has it, where some that we know do not.
    :ivar needs: what must have been there when the interpreter was built, where not every one has it.
    """

    name: str
    list: str
    what: str = ""
    errno: str = ""
    by: str = ""
    since: str = ""
    needs: str = ""


#: What refuses, and so how a refusal can be brought about.
BY = {
    "family": "socket() of this family",
    "type": "socket() of this type",
    "protocol": "socket() of this protocol",
    "option": "setsockopt() and getsockopt() of this option",
    "level": "setsockopt() and getsockopt() at this level",
    "flag": "sendto() and sendmsg() with this flag",
    "ancillary": "sendmsg() with this beside the data",
    "call": "the call itself",
}

_LISTEN = "outbound only; outgate run --dev lets a program listen on loopback"
_EITHER = "EACCES or ENOPROTOOPT"
_FAMILY = "no sockets of this family"
_FAMILIES = "only AF_INET, AF_INET6 and AF_UNIX"
_PROTOCOL = "only TCP and UDP"
_LATE = (
    "C's own until the process has a socket whose bytes the gate carries (UDP, the relay path); then it waits for a "
)
_LATE += "connect in progress and takes the header off"

_MODULE = (
    # Functions and types of _socket that have nothing to do with who may connect where.
    *(
        Row(name, NATIVE)
        for name in (
            *("CAPI", "CMSG_LEN", "CMSG_SPACE", "error", "gaierror", "herror", "timeout", "getdefaulttimeout"),
            *("gethostname", "getprotobyname", "getservbyname", "getservbyport", "has_ipv6", "htonl", "htons"),
            *("inet_aton", "inet_ntoa", "inet_ntop", "inet_pton", "ntohl", "ntohs", "sethostname"),
        )
    ),
    Row("dup", NATIVE, "what it gives is known as a duplicate when it becomes a socket"),
    Row("setdefaulttimeout", NATIVE, "counts for new sockets as natively, and never for the client's own channels"),
    Row("socketpair", NATIVE, "Unix sockets, which are the kernel's alone"),
    Row("socket", OURS, "socket.socket is the interpreter's own class, built on ours; both pass every isinstance()"),
    Row("SocketType", OURS, "the same as _socket.socket"),
    Row("close", OURS, "closes, then tells the gate"),
    Row("getaddrinfo", OURS, "numbers are answered here, names by the gate, without the addresses that no rule allows"),
    Row("gethostbyname", OURS, "asks the gate"),
    Row("gethostbyname_ex", OURS, "asks the gate"),
    Row("gethostbyaddr", OURS, "asks the gate"),
    Row("getnameinfo", OURS, "asks the gate for the name; services and numbers are answered here"),
    Row("if_nameindex", OURS, "the interfaces of the gate's host; a fenced program has none of its own"),
    Row("if_nametoindex", OURS, "of the gate's host"),
    Row("if_indextoname", OURS, "of the gate's host"),
    # Functions and types of socket.py, which work on what is above and below.
    *(
        Row(name, NATIVE)
        for name in (
            *("AddressFamily", "AddressInfo", "MsgFlag", "SocketIO", "SocketKind", "create_connection"),
            *("fromfd", "getfqdn", "has_dualstack_ipv6", "send_fds", "recv_fds"),
        )
    ),
    Row("create_server", REFUSED, _LISTEN, "EACCES", "call"),
    Row("_fallback_socketpair", REFUSED, "it listens; socketpair() does not need it", "EACCES", "call"),
    # What else is to be found in the two modules.
    *(
        Row(name, NATIVE)
        for name in (
            *("__all__", "__builtins__", "__cached__", "__doc__", "__file__", "__loader__", "__name__", "__package__"),
            *("EAGAIN", "EBADF", "EWOULDBLOCK", "IntEnum", "IntFlag", "_GLOBAL_DEFAULT_TIMEOUT", "_GiveupOnSendfile"),
            *("_LOCALHOST", "_LOCALHOST_V6", "_blocking_errnos", "_intenum_converter", "errno", "io", "os", "sys"),
        )
    ),
    Row("array", NATIVE, "imported where it is used, from 3.14 on"),
    Row("selectors", NATIVE, "imported where it is used, from 3.14 on"),
    Row("partial", NATIVE, since="3.15"),
    Row("_socket", OURS, "the module with our class and look-ups in it"),
    Row("__spec__", OURS, "_socket's names who loaded it; its origin is the C module's"),
)

_METHODS = (
    *(
        Row("socket." + name, NATIVE)
        for name in (
            *("__doc__", "__enter__", "__exit__", "__getattribute__", "__getstate__", "__module__", "__new__"),
            *("__repr__", "__slots__", "__weakref__", "_check_sendfile_params", "_closed", "_decref_socketios"),
            *("_io_refs", "_sendfile_use_send", "_sendfile_use_sendfile", "detach", "dup", "family"),
            *("fileno", "get_inheritable", "getblocking", "gettimeout", "proto", "sendfile"),
            *("set_inheritable", "setblocking", "settimeout", "timeout", "type"),
        )
    ),
    Row("socket.__firstlineno__", NATIVE, since="3.13"),
    Row("socket.__static_attributes__", NATIVE, since="3.13"),
    Row("socket._sendfile_zerocopy", NATIVE, since="3.15"),
    Row("socket._real_close", NATIVE, "calls the close of _socket.socket, which is ours"),
    Row("socket.__init_subclass__", OURS, "as type's; sees to it that the files of socket.socket can be pickled"),
    Row("socket.__reduce_ex__", OURS, "pickles a socket of the gate's; any other is refused in C's words"),
    Row("socket.close", OURS, "closes, then tells the gate; that of socket.socket calls it as natively"),
    Row("socket.makefile", OURS, "the interpreter's own, whose files can be pickled"),
    Row("socket.__init__", OURS, "the gate makes the socket; it has the number that it would have natively"),
    Row("socket.__del__", OURS, "warns as natively, closes, then tells the gate"),
    Row("socket.connect", OURS, "the gate decides and dials; the kernel waits"),
    Row("socket.connect_ex", OURS, "as connect; a refusal is its errno"),
    Row("socket.bind", OURS, "to the wildcard or loopback with port 0; any other is refused, EACCES"),
    Row("socket.setsockopt", OURS, "the options of the table, the others are refused"),
    Row("socket.getsockopt", OURS, "the options of the table, the others are refused"),
    Row("socket.sendto", OURS, "natively on TCP, through the gate on UDP; MSG_FASTOPEN is refused"),
    Row("socket.sendmsg", OURS, "as sendto; beside the data may ride what the table of options permits"),
    Row("socket.recvfrom", OURS, "C's, but for what the gate carries"),
    Row("socket.recvfrom_into", OURS, "C's, but for what the gate carries"),
    Row("socket.recvmsg", OURS, "C's, but for what the gate carries"),
    Row("socket.recvmsg_into", OURS, "C's, but for what the gate carries"),
    Row("socket.getpeername", OURS, "on the relay path the address outside"),
    Row("socket.getsockname", OURS, "on the relay path the address outside"),
    Row("socket.shutdown", OURS, "on the relay path the gate carries it over"),
    Row("socket.recv", OURS, _LATE, by="late"),
    Row("socket.recv_into", OURS, _LATE, by="late"),
    Row("socket.send", OURS, _LATE, by="late"),
    Row("socket.sendall", OURS, _LATE, by="late"),
    Row("socket.listen", REFUSED, _LISTEN, "EACCES", "call"),
    Row("socket.accept", REFUSED, _LISTEN, "EACCES", "call"),
    Row("socket._accept", REFUSED, _LISTEN, "EACCES", "call"),
    Row("socket.sendmsg_afalg", REFUSED, _FAMILY, "EAFNOSUPPORT", "AF_ALG"),
    Row("SocketIO.*", NATIVE, "what makefile() gives: it calls recv_into and send"),
)

_NUMBERS = (
    *(
        Row(name, NATIVE)
        for name in (
            *("AF_INET", "AF_INET6", "AF_UNIX", "AF_UNSPEC", "AI_*", "EAI_*", "INADDR_*", "IPPORT_*", "NI_*"),
            *("SHUT_*", "SOCK_STREAM", "SOCK_DGRAM", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SOL_IP", "SOL_SOCKET"),
            *("SOL_TCP", "SOL_UDP", "SOMAXCONN", "IPPROTO_IP", "IPPROTO_IPV6", "IPPROTO_TCP", "IPPROTO_UDP"),
        )
    ),
    Row("IPPROTO_HOPOPTS", NATIVE, "0, as if none were named"),
    Row("SOCK_SEQPACKET", NATIVE, "of Unix sockets only"),
    Row("MSG_*", NATIVE, "on UDP MSG_DONTROUTE and MSG_MORE are refused, on the relay path MSG_OOB"),
    Row("IP_DEFAULT_MULTICAST_*", NATIVE, "values, not options"),
    Row("IP_MAX_MEMBERSHIPS", NATIVE, "a value, not an option"),
    Row("IPV6_RTHDR_TYPE_0", NATIVE, "a value, not an option"),
    *(Row(name, NATIVE, "those that may be set or read", by="option") for name in ("SO_*", "TCP_*", "IP_*", "IPV6_*")),
    *(
        Row(name, REFUSED, "the others: see the table of options", _EITHER, "option")
        for name in ("SO_*", "TCP_*", "IP_*", "IPV6_*")
    ),
    Row("IP_RECVORIGDSTADDR", REFUSED, "see the table of options", _EITHER, "option", since="3.14"),
    Row("SO_ORIGINAL_DST", REFUSED, "see the table of options", _EITHER, "option", since="3.14"),
    Row("AF_*", REFUSED, _FAMILIES, "EAFNOSUPPORT", "family"),
    Row("PF_*", REFUSED, _FAMILIES, "EAFNOSUPPORT", "family"),
    Row("SOCK_RAW", REFUSED, "raw sockets would send what nobody has judged", "EACCES", "type"),
    Row("SOCK_RDM", REFUSED, _PROTOCOL, "EPROTONOSUPPORT", "type"),
    Row("IPPROTO_*", REFUSED, _PROTOCOL, "EPROTONOSUPPORT", "protocol"),
    Row("UDPLITE_*", REFUSED, _PROTOCOL, "ENOPROTOOPT", "level"),
    Row("MSG_FASTOPEN", REFUSED, "it would send before the destination is judged", "EOPNOTSUPP", "flag"),
    Row("SCM_RIGHTS", REFUSED, "over TCP and UDP; native on Unix sockets", "ENOPROTOOPT", "ancillary"),
    Row("SCM_CREDENTIALS", REFUSED, "over TCP and UDP; native on Unix sockets", "ENOPROTOOPT", "ancillary"),
    Row("SOL_*", REFUSED, _FAMILY, "ENOPROTOOPT", "level"),
    *(
        Row(name, REFUSED, _FAMILY, "EAFNOSUPPORT", family, since, needs)
        for name, family, since, needs in (
            ("ALG_*", "AF_ALG", "", ""),
            *((name, "AF_CAN", "", "") for name in ("CAN_*", "J1939_*", "SCM_J1939_*", "SO_J1939_*")),
            ("NETLINK_*", "AF_NETLINK", "", ""),
            ("PACKET_*", "AF_PACKET", "", ""),
            ("ETHERTYPE_*", "AF_PACKET", "3.12", ""),
            ("ETH_P_ALL", "AF_PACKET", "3.12", ""),
            ("TIPC_*", "AF_TIPC", "", ""),
            *((name, "AF_VSOCK", "", "") for name in ("VMADDR_*", "VM_SOCKETS_*", "SO_VM_SOCKETS_*")),
            ("IOCTL_VM_SOCKETS_*", "AF_VSOCK", "", ""),
            ("RDS_*", "AF_RDS", "", "the headers of RDS"),
            *((name, "AF_BLUETOOTH", "", "the headers of Bluetooth") for name in ("BTPROTO_*", "BDADDR_*", "HCI_*")),
            *(
                (name, "AF_BLUETOOTH", "3.14", "the headers of Bluetooth")
                for name in ("BT_*", "L2CAP_*", "RFCOMM_*", "SO_L2CAP_*", "SO_RFCOMM_*", "SO_SCO_*", "SO_HCI_*")
            ),
        )
    ),
)

_WINDOWS, _MACOS, _BSD, _OTHERS = "Windows", "macOS", "BSD", "other systems"
_ELSEWHERE = {
    _WINDOWS: "errorTab fromshare socket.ioctl socket.share SIO_* RCVALL_* SO_EXCLUSIVEADDRUSE SO_BTH_* AF_HYPERV HV_* "
    "HVSOCKET_* IPPROTO_ICLFXBM IPPROTO_ST IPPROTO_CBT IPPROTO_IGP IPPROTO_RDP IPPROTO_PGM IPPROTO_L2TP",
    _MACOS: "AF_SYSTEM PF_SYSTEM SYSPROTO_CONTROL TCP_KEEPALIVE TCP_CONNECTION_INFO",
    _BSD: "AF_DIVERT PF_DIVERT AF_LINK LOCAL_* SCM_CREDS SCM_CREDS2 SO_USELOOPBACK SO_SETFIB SO_REUSEPORT_LB SO_RTABLE "
    "SO_USER_COOKIE MSG_BTAG MSG_ETAG MSG_BCAST MSG_MCAST MSG_EOF MSG_NOTIFICATION IP_RECVDSTADDR IPV6_USE_MIN_MTU",
    _OTHERS: "AF_AAL5 AI_MASK AI_DEFAULT AI_V4MAPPED_CFG EAI_BADHINTS EAI_PROTOCOL EAI_MAX IPX_TYPE IPPROTO_GGP "
    "IPPROTO_IPV4 IPPROTO_ND IPPROTO_HELLO IPPROTO_EON IPPROTO_XTP IPPROTO_IPCOMP IPPROTO_VRRP IPPROTO_BIP "
    "IPPROTO_MOBILE IPPROTO_MAX",
}

ROWS = (
    *_MODULE,
    *_METHODS,
    *_NUMBERS,
    *(Row(name, ABSENT, f"of {system}") for system, names in _ELSEWHERE.items() for name in names.split()),
)


def is_permitted(name: str) -> bool:
    """Tell whether a constant names an option that a program may set or read."""
    return any(option.name == name and option.can_get for option in options.options().values())


def rows_of(name: str) -> tuple[Row, ...]:
    """Return the rows that a name is in by its closest match: exactly one, or the lists are wrong.

    :param name: as ``dir()`` of a module gives it, that of a class with its class: ``socket.connect``.
    """
    found = [row for row in ROWS if _matches(row, name)]
    closest = max((_closeness(row) for row in found), default=None)
    return tuple(row for row in found if _closeness(row) == closest)


def _closeness(row: Row) -> tuple[bool, int]:
    return not row.name.endswith("*"), len(row.name)


def _matches(row: Row, name: str) -> bool:
    if not row.name.endswith("*"):
        return row.name == name
    if not name.startswith(row.name[:-1]):
        return False
    return row.by != "option" or row.list == ABSENT or is_permitted(name) == (row.list == NATIVE)
