"""Decide which socket options a program may set and read: one closed table, with a reason for whatever is refused.

The eight of App Engine's Socket API and the harmless ones that today's libraries need are really applied. All else is
refused, what the table does not know at all included: a kernel's next option must not be the way round a policy.

Options are told by number and not by Python's constants, which differ between its versions; the numbers are those of
``asm-generic/socket.h`` (x86, ARM, RISC-V), and the same on Linux everywhere else above the socket level. Which options
there are for TCP, UDP, IPv4 and IPv6 is the kernel's to say, with its own errno; :attr:`Option.kinds` only repeats it.

This leaf is loaded into other people's interpreters at their first ``setsockopt``: Python 3.9+, and no import at all.
Sources: socket(7), tcp(7), udp(7), ip(7), ipv6(7), the kernel's ``include/uapi``, and RFC 3542.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing costs more than everything else that the client imports
if TYPE_CHECKING:
    from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple, Union

#: Levels of options, by their numbers (``SOL_SOCKET``, ``IPPROTO_*``).
SOCKET, IP, TCP, UDP, IPV6 = 1, 0, 6, 17, 41
LEVELS = {SOCKET: "SOL_SOCKET", IP: "IPPROTO_IP", TCP: "IPPROTO_TCP", UDP: "IPPROTO_UDP", IPV6: "IPPROTO_IPV6"}

# Who sees to an option of a socket on the relay path; on the direct path it is always the kernel, natively.
#: The gate sets and reads it on the kernel's socket outside.
OUTSIDE = "outside"
#: It concerns the program's own waiting, so the program's end of the pair has it, natively.
INSIDE = "inside"
#: It can be set and read back, and changes nothing: what it is for does not happen on a relay.
KEPT = "kept"
#: The client answers, since the program's end of the pair, a Unix socket, would say something else.
ANSWERED = "answered"

# Codes of refusals (rows of outgate.errors.TABLE).
#: ENOPROTOOPT, as from a kernel that does not have the option: programs that can do without it go on.
UNKNOWN = "option"
#: EACCES, as whatever the policy denies.
DENIED = "option-denied"
#: EACCES, as App Engine answered.
BLOCKED = "option-blocked"


class Option:
    """One option: what it is, who may do what with it, and why not.

    :ivar type: how Python passes its value: ``int``, ``bytes``, ``linger`` (two C ints) or ``timeval`` (two C longs).
    :ivar kinds: what it can be used on: of ``tcp4 tcp6 udp4 udp6``.
    :ivar can_set, can_get: whether a program may.
    :ivar dev: whether ``--dev`` lets it pass all the same, for servers under test.
    :ivar relay: who sees to it on the relay path; ``""`` where it is refused.
    :ivar means: what it does, or why it is refused.
    :ivar users: who needs it: ``App Engine`` for the eight, libraries otherwise.
    :ivar code: row of its refusal.
    :ivar cure: what to do instead, or ``""``.
    """

    __slots__ = (
        *("can_get", "can_set", "code", "cure", "dev", "kinds", "level", "means", "name", "number", "relay", "type"),
        "users",
    )

    def __init__(self, level: int, name: str, number: int) -> None:
        self.level = level
        self.name = name
        self.number = number
        self.can_set = self.can_get = self.dev = False
        self.type = self.kinds = self.relay = self.means = self.users = self.cure = ""
        self.code = UNKNOWN


_ALL = "tcp4 tcp6 udp4 udp6"
_TCP = "tcp4 tcp6"
_SIX = "tcp6 udp6"
_AE = "App Engine"
_AMQP = "py-amqp (Celery), which reads and sets these"
_SOME = "programs, no library that we know"

#: (level, name, number, type, "rw" or "r", kinds, relay, what it does, who needs it)
_ALLOWED = (
    (SOCKET, "SO_DEBUG", 1, "int", "rw", _ALL, OUTSIDE, "records debugging, for administrators only", _AE),
    (SOCKET, "SO_REUSEADDR", 2, "int", "rw", _ALL, KEPT, "binds in spite of closed connections", _AE),
    (SOCKET, "SO_TYPE", 3, "int", "r", _ALL, ANSWERED, "SOCK_STREAM or SOCK_DGRAM", "ssl, pymongo, trio"),
    (SOCKET, "SO_ERROR", 4, "int", "r", _ALL, ANSWERED, "the pending error", _AE + ", every event loop"),
    (SOCKET, "SO_BROADCAST", 6, "int", "rw", _ALL, OUTSIDE, "lets datagrams go to broadcast addresses, which the "
     "policy judges as any other", "asyncio, twisted"),
    (SOCKET, "SO_SNDBUF", 7, "int", "rw", _ALL, OUTSIDE, "bytes of the send buffer, within the host's limit", _AE),
    (SOCKET, "SO_RCVBUF", 8, "int", "rw", _ALL, OUTSIDE, "bytes of the receive buffer, within the host's limit", _AE),
    (SOCKET, "SO_KEEPALIVE", 9, "int", "rw", _ALL, OUTSIDE, "probes an idle connection", _AE),
    (SOCKET, "SO_OOBINLINE", 10, "int", "rw", _ALL, KEPT, "urgent data in line; a relay has no urgent data", _AE),
    (SOCKET, "SO_LINGER", 13, "linger", "rw", _ALL, OUTSIDE, "how close() waits for unsent data, or resets", _AE),
    (SOCKET, "SO_RCVLOWAT", 18, "int", "rw", _ALL, INSIDE, "bytes to wait for", _SOME),
    (SOCKET, "SO_SNDLOWAT", 19, "int", "r", _ALL, INSIDE, "always 1", _SOME),
    (SOCKET, "SO_RCVTIMEO", 20, "timeval", "rw", _ALL, INSIDE, "how long a receive waits", "py-amqp, ldap3"),
    (SOCKET, "SO_SNDTIMEO", 21, "timeval", "rw", _ALL, INSIDE, "how long a send, or connect, waits", "py-amqp"),
    (SOCKET, "SO_ACCEPTCONN", 30, "int", "r", _ALL, ANSWERED, "whether it listens", "trio"),
    (SOCKET, "SO_PROTOCOL", 38, "int", "r", _ALL, ANSWERED, "its protocol", "CPython, trio"),
    (SOCKET, "SO_DOMAIN", 39, "int", "r", _ALL, ANSWERED, "its family", "CPython, trio"),
    (IP, "IP_TOS", 1, "int", "rw", _ALL, OUTSIDE, "service field of its packets", _SOME),
    (IP, "IP_TTL", 2, "int", "rw", _ALL, OUTSIDE, "how many hops its packets live; fewer reach nobody new", _SOME),
    (IP, "IP_MTU_DISCOVER", 10, "int", "rw", _ALL, OUTSIDE, "whether its packets may be fragmented", _SOME),
    (IP, "IP_MTU", 14, "int", "r", _ALL, OUTSIDE, "the path's packet size, once connected", _SOME),
    (IP, "IP_BIND_ADDRESS_NO_PORT", 24, "int", "rw", _ALL, OUTSIDE, "leaves the port to connect()", "trio"),
    (TCP, "TCP_NODELAY", 1, "int", "rw", _TCP, OUTSIDE, "sends small segments at once", _AE + ", nearly all"),
    (TCP, "TCP_MAXSEG", 2, "int", "rw", _TCP, OUTSIDE, "the largest segment", _AMQP),
    (TCP, "TCP_CORK", 3, "int", "rw", _TCP, OUTSIDE, "holds small segments back", _AMQP),
    (TCP, "TCP_KEEPIDLE", 4, "int", "rw", _TCP, OUTSIDE, "seconds before the first probe",
     "redis, pymongo, pika, py-amqp, and urllib3's users"),
    (TCP, "TCP_KEEPINTVL", 5, "int", "rw", _TCP, OUTSIDE, "seconds between probes", "the same"),
    (TCP, "TCP_KEEPCNT", 6, "int", "rw", _TCP, OUTSIDE, "probes before it is given up", "the same"),
    (TCP, "TCP_SYNCNT", 7, "int", "rw", _TCP, OUTSIDE, "how often a connect is repeated", _AMQP),
    (TCP, "TCP_LINGER2", 8, "int", "rw", _TCP, OUTSIDE, "seconds in FIN_WAIT2", _AMQP),
    (TCP, "TCP_DEFER_ACCEPT", 9, "int", "rw", _TCP, OUTSIDE, "for servers; here it delays one ACK", _AMQP),
    (TCP, "TCP_WINDOW_CLAMP", 10, "int", "rw", _TCP, OUTSIDE, "bounds the window", _AMQP),
    (TCP, "TCP_INFO", 11, "bytes", "r", _TCP, OUTSIDE, "the kernel's account of the connection", _SOME),
    (TCP, "TCP_QUICKACK", 12, "int", "rw", _TCP, OUTSIDE, "acknowledges at once", _AMQP),
    (TCP, "TCP_CONGESTION", 13, "bytes", "r", _TCP, OUTSIDE, "the congestion control; a gate that runs as root could "
     "choose one that its programs may not", _SOME),
    (TCP, "TCP_USER_TIMEOUT", 18, "int", "rw", _TCP, OUTSIDE, "ms until unacknowledged data end it", "pika, py-amqp"),
    (TCP, "TCP_NOTSENT_LOWAT", 25, "int", "rw", _TCP, OUTSIDE, "unsent bytes at which it is writable", "trio"),
    (IPV6, "IPV6_UNICAST_HOPS", 16, "int", "rw", _SIX, OUTSIDE, "as IP_TTL", _SOME),
    (IPV6, "IPV6_MTU_DISCOVER", 23, "int", "rw", _SIX, OUTSIDE, "as IP_MTU_DISCOVER", _SOME),
    (IPV6, "IPV6_MTU", 24, "int", "r", _SIX, OUTSIDE, "as IP_MTU", _SOME),
    (IPV6, "IPV6_V6ONLY", 26, "int", "rw", _SIX, OUTSIDE, "whether ::ffff:0:0/96 is open to it; the policy judges what "
     "is embedded", "socket, asyncio, trio, aioquic, asyncssh"),
    (IPV6, "IPV6_DONTFRAG", 62, "int", "rw", _SIX, OUTSIDE, "as IP_MTU_DISCOVER", _SOME),
    (IPV6, "IPV6_TCLASS", 67, "int", "rw", _SIX, OUTSIDE, "as IP_TOS", _SOME),
)  # fmt: skip

_GROUPS = "a policy has no groups, and multicast is refused by address"
_ROUTE = "it would lead packets another way than the one that was judged"
_SOURCE = "it would give packets an address or port that the gate did not choose"
_HEADERS = "it would put headers of the program's own into packets, or read raw ones"
_UNMETERED = "it would move or hide bytes where the meter does not count them"
_HOST = "it would take time, memory or privilege of the gate's host"
_OPENER = "it would send data before the destination is judged"
_ANCILLARY = "what comes beside a datagram does not pass a relay"
_LOCAL = "it is for Unix sockets"
_SERVER = "it is for servers"
_NEEDLESS = "no library that we know needs it"
_DEV = "outgate run --dev permits it"

#: (level, code, why, cure, dev, "NAME=number …")
_REFUSED = (
    (SOCKET, DENIED, _ROUTE, "", False, "SO_DONTROUTE=5 SO_BINDTODEVICE=25 SO_MARK=36 SO_BINDTOIFINDEX=62"),
    (SOCKET, DENIED, "a filter on the gate's socket would hide from it what comes in", "", False, "SO_ATTACH_FILTER=26 "
     "SO_DETACH_FILTER=27 SO_LOCK_FILTER=44 SO_ATTACH_BPF=50"),
    (SOCKET, DENIED, _HOST, "use SO_SNDBUF", False, "SO_SNDBUFFORCE=32"),
    (SOCKET, DENIED, _HOST, "use SO_RCVBUF", False, "SO_RCVBUFFORCE=33"),
    (SOCKET, DENIED, _HOST, "", False, "SO_BUSY_POLL=46 SO_PREFER_BUSY_POLL=69 SO_BUSY_POLL_BUDGET=70 SO_BUF_LOCK=72 "
     "SO_RESERVE_MEM=73 SO_DEVMEM_LINEAR=78 SO_DEVMEM_DMABUF=79 SO_DEVMEM_DONTNEED=80"),
    (SOCKET, DENIED, "the host's traffic control may go by it", "use IP_TOS or IPV6_TCLASS", False, "SO_PRIORITY=12"),
    (SOCKET, DENIED, "the gate paces with it", "", False, "SO_MAX_PACING_RATE=47"),
    (SOCKET, UNKNOWN, "all sockets of a gate have one owner, so a port could be shared with another app's", _DEV, True,
     "SO_REUSEPORT=15"),
    (SOCKET, UNKNOWN, _SERVER, "", False, "SO_INCOMING_CPU=49 SO_ATTACH_REUSEPORT_CBPF=51 SO_ATTACH_REUSEPORT_EBPF=52 "
     "SO_INCOMING_NAPI_ID=56 SO_DETACH_REUSEPORT_BPF=68"),
    (SOCKET, UNKNOWN, _LOCAL, "", False, "SO_PASSCRED=16 SO_PEERCRED=17 SO_PEERSEC=31 SO_PASSSEC=34 SO_PEERGROUPS=59 "
     "SO_PASSPIDFD=76 SO_PEERPIDFD=77 SO_PASSRIGHTS=83"),
    (SOCKET, UNKNOWN, _ANCILLARY, "", False, "SO_TIMESTAMP=29 SO_TIMESTAMPNS=35 SO_TIMESTAMPING=37 SO_RXQ_OVFL=40 "
     "SO_WIFI_STATUS=41 SO_SELECT_ERR_QUEUE=45 SO_TIMESTAMP_NEW=63 SO_TIMESTAMPNS_NEW=64 SO_TIMESTAMPING_NEW=65 "
     "SO_RCVMARK=75 SO_RCVPRIORITY=82 SO_INQ=84"),
    (SOCKET, UNKNOWN, _UNMETERED, "", False, "SO_PEEK_OFF=42 SO_ZEROCOPY=60 SO_TXTIME=61"),
    (SOCKET, UNKNOWN, "it is the form of 32-bit programs", "use SO_RCVTIMEO", False, "SO_RCVTIMEO_NEW=66"),
    (SOCKET, UNKNOWN, "it is the form of 32-bit programs", "use SO_SNDTIMEO", False, "SO_SNDTIMEO_NEW=67"),
    (SOCKET, UNKNOWN, "it does nothing", "call getpeername()", False, "SO_PEERNAME=28"),
    (SOCKET, UNKNOWN, _NEEDLESS, "", False, "SO_NO_CHECK=11 SO_BSDCOMPAT=14 SO_SECURITY_AUTHENTICATION=22 "
     "SO_SECURITY_ENCRYPTION_TRANSPORT=23 SO_SECURITY_ENCRYPTION_NETWORK=24 SO_NOFCS=43 SO_BPF_EXTENSIONS=48 "
     "SO_CNX_ADVICE=53 SO_MEMINFO=55 SO_COOKIE=57 SO_NETNS_COOKIE=71 SO_TXREHASH=74"),
    (IP, DENIED, _ROUTE, "", False, "IP_OPTIONS=4 IP_ROUTER_ALERT=5 IP_IPSEC_POLICY=16 IP_XFRM_POLICY=17 "
     "IP_UNICAST_IF=50"),
    (IP, DENIED, _SOURCE, "", False, "IP_FREEBIND=15 IP_TRANSPARENT=19 IP_LOCAL_PORT_RANGE=51"),
    (IP, DENIED, _HEADERS, "", False, "IP_HDRINCL=3 IP_RETOPTS=7 IP_NODEFRAG=22 IP_CHECKSUM=23 IP_PROTOCOL=52"),
    (IP, DENIED, _GROUPS, "", False, "IP_MULTICAST_IF=32 IP_MULTICAST_TTL=33 IP_MULTICAST_LOOP=34 IP_ADD_MEMBERSHIP=35 "
     "IP_DROP_MEMBERSHIP=36 IP_UNBLOCK_SOURCE=37 IP_BLOCK_SOURCE=38 IP_ADD_SOURCE_MEMBERSHIP=39 "
     "IP_DROP_SOURCE_MEMBERSHIP=40 IP_MSFILTER=41 MCAST_JOIN_GROUP=42 MCAST_BLOCK_SOURCE=43 MCAST_UNBLOCK_SOURCE=44 "
     "MCAST_LEAVE_GROUP=45 MCAST_JOIN_SOURCE_GROUP=46 MCAST_LEAVE_SOURCE_GROUP=47 MCAST_MSFILTER=48 "
     "IP_MULTICAST_ALL=49"),
    (IP, UNKNOWN, _ANCILLARY, _DEV, True, "IP_PKTINFO=8 IP_RECVTTL=12 IP_RECVTOS=13"),
    (IP, UNKNOWN, _ANCILLARY, "", False, "IP_RECVOPTS=6 IP_PKTOPTIONS=9 IP_RECVERR=11 IP_PASSSEC=18 "
     "IP_ORIGDSTADDR=20 IP_RECVFRAGSIZE=25 IP_RECVERR_RFC4884=26"),
    (IP, UNKNOWN, _NEEDLESS, "", False, "IP_MINTTL=21"),
    (TCP, DENIED, _OPENER, "call connect() first", False, "TCP_FASTOPEN_CONNECT=30 TCP_FASTOPEN_NO_COOKIE=34"),
    (TCP, DENIED, "it would make a connection out of numbers, where nobody was asked", "", False, "TCP_REPAIR=19 "
     "TCP_REPAIR_QUEUE=20 TCP_QUEUE_SEQ=21 TCP_REPAIR_OPTIONS=22 TCP_TIMESTAMP=24 TCP_REPAIR_WINDOW=29 "
     "TCP_AO_REPAIR=42"),
    (TCP, DENIED, "it would hand the connection to another protocol of the kernel", "", False, "TCP_ULP=31"),
    (TCP, DENIED, "it would sign the packets of the gate's host", "", False, "TCP_MD5SIG=14 TCP_MD5SIG_EXT=32 "
     "TCP_AO_ADD_KEY=38 TCP_AO_DEL_KEY=39 TCP_AO_INFO=40 TCP_AO_GET_KEYS=41"),
    (TCP, UNKNOWN, _SERVER, _DEV, True, "TCP_FASTOPEN=23"),
    (TCP, UNKNOWN, _SERVER, "", False, "TCP_SAVE_SYN=27 TCP_SAVED_SYN=28 TCP_FASTOPEN_KEY=33"),
    (TCP, UNKNOWN, _UNMETERED, "", False, "TCP_ZEROCOPY_RECEIVE=35"),
    (TCP, UNKNOWN, _ANCILLARY, "", False, "TCP_INQ=36"),
    (TCP, UNKNOWN, _NEEDLESS, "", False, "TCP_COOKIE_TRANSACTIONS=15 TCP_THIN_LINEAR_TIMEOUTS=16 TCP_THIN_DUPACK=17 "
     "TCP_CC_INFO=26 TCP_TX_DELAY=37 TCP_IS_MPTCP=43 TCP_RTO_MAX_MS=44 TCP_RTO_MIN_US=45 TCP_DELACK_MAX_US=46"),
    (UDP, UNKNOWN, "it would make one datagram of several, or several of one, after they were judged and counted", "",
     False, "UDP_CORK=1 UDP_SEGMENT=103 UDP_GRO=104"),
    (UDP, DENIED, "it would carry another protocol in datagrams", "", False, "UDP_ENCAP=100"),
    (UDP, UNKNOWN, _NEEDLESS, "", False, "UDP_NO_CHECK6_TX=101 UDP_NO_CHECK6_RX=102"),
    (IPV6, DENIED, _ROUTE, "", False, "IPV6_2292RTHDR=5 IPV6_NEXTHOP=9 IPV6_ROUTER_ALERT=22 "
     "IPV6_ROUTER_ALERT_ISOLATE=30 IPV6_IPSEC_POLICY=34 IPV6_XFRM_POLICY=35 IPV6_RTHDR=57 IPV6_UNICAST_IF=76"),
    (IPV6, DENIED, _SOURCE, "", False, "IPV6_2292PKTINFO=2 IPV6_PKTINFO=50 IPV6_ADDR_PREFERENCES=72 "
     "IPV6_TRANSPARENT=75 IPV6_FREEBIND=78"),
    (IPV6, DENIED, _HEADERS, "", False, "IPV6_2292HOPOPTS=3 IPV6_2292DSTOPTS=4 IPV6_2292PKTOPTIONS=6 IPV6_CHECKSUM=7 "
     "IPV6_AUTHHDR=10 IPV6_HDRINCL=36 IPV6_HOPOPTS=54 IPV6_RTHDRDSTOPTS=55 IPV6_DSTOPTS=59"),
    (IPV6, DENIED, "it would make another socket of this one", "make a socket of AF_INET", False, "IPV6_ADDRFORM=1"),
    (IPV6, DENIED, _GROUPS, "", False, "IPV6_MULTICAST_IF=17 IPV6_MULTICAST_HOPS=18 IPV6_MULTICAST_LOOP=19 "
     "IPV6_JOIN_GROUP=20 IPV6_LEAVE_GROUP=21 IPV6_JOIN_ANYCAST=27 IPV6_LEAVE_ANYCAST=28 IPV6_MULTICAST_ALL=29 "
     "MCAST_JOIN_GROUP=42 MCAST_BLOCK_SOURCE=43 MCAST_UNBLOCK_SOURCE=44 MCAST_LEAVE_GROUP=45 "
     "MCAST_JOIN_SOURCE_GROUP=46 MCAST_LEAVE_SOURCE_GROUP=47 MCAST_MSFILTER=48"),
    (IPV6, UNKNOWN, _ANCILLARY, _DEV, True, "IPV6_RECVPKTINFO=49 IPV6_RECVHOPLIMIT=51 IPV6_RECVHOPOPTS=53 "
     "IPV6_RECVRTHDR=56 IPV6_RECVDSTOPTS=58 IPV6_RECVPATHMTU=60 IPV6_RECVTCLASS=66"),
    (IPV6, UNKNOWN, _ANCILLARY, "", False, "IPV6_2292HOPLIMIT=8 IPV6_RECVERR=25 IPV6_RECVERR_RFC4884=31 "
     "IPV6_PATHMTU=61 IPV6_ORIGDSTADDR=74 IPV6_RECVFRAGSIZE=77"),
    (IPV6, UNKNOWN, "it is set on one datagram", "use IPV6_UNICAST_HOPS", False, "IPV6_HOPLIMIT=52"),
    (IPV6, UNKNOWN, _NEEDLESS, "", False, "IPV6_FLOWINFO=11 IPV6_FLOWLABEL_MGR=32 IPV6_FLOWINFO_SEND=33 "
     "IPV6_USE_MIN_MTU=63 IPV6_AUTOFLOWLABEL=70 IPV6_MINHOPCOUNT=73"),
)  # fmt: skip


def _numbered(names: str) -> List[Tuple[str, int]]:
    pairs = [entry.partition("=") for entry in names.split()]
    return [(name, int(number)) for name, _, number in pairs]


#: What may be set, and what may be read: (level, number). What a program does all day is decided by these alone.
SETTABLE: FrozenSet[Tuple[int, int]] = frozenset([(row[0], row[2]) for row in _ALLOWED if row[4] == "rw"])
GETTABLE: FrozenSet[Tuple[int, int]] = frozenset([(row[0], row[2]) for row in _ALLOWED])
#: What ``--dev`` adds to both.
DEVELOPMENT: FrozenSet[Tuple[int, int]] = frozenset(
    [(row[0], number) for row in _REFUSED if row[4] for _, number in _numbered(row[5])]
)
_options: Dict[Tuple[int, int], Option] = {}


def options() -> Dict[Tuple[int, int], Option]:
    """Return every option there is a word about, by (level, number). Made when it is first asked for."""
    if not _options:
        made = {}
        for level, name, number, type, access, kinds, relay, means, users in _ALLOWED:
            option = made[level, number] = Option(level, name, number)
            option.type, option.kinds, option.relay, option.means, option.users = type, kinds, relay, means, users
            option.can_get, option.can_set = True, access == "rw"
        for level, code, why, cure, dev, names in _REFUSED:
            for name, number in _numbered(names):
                option = made[level, number] = Option(level, name, number)
                option.code, option.means, option.cure, option.dev = code, why, cure, dev
        _options.update(made)  # in one step: another thread may be here too
    return _options


#: What may ride beside the data of one ``sendmsg``: fields of the packet, and never where it goes or comes from.
ANCILLARY: Dict[Tuple[int, int], str] = {
    (IP, 1): "IP_TOS",
    (IP, 2): "IP_TTL",
    (IPV6, 52): "IPV6_HOPLIMIT",
    (IPV6, 62): "IPV6_DONTFRAG",
    (IPV6, 67): "IPV6_TCLASS",
}
#: Ancillary data of the socket level have numbers of their own.
_PASSED = {1: "SCM_RIGHTS", 2: "SCM_CREDENTIALS"}

MSG_OOB, MSG_DONTROUTE, MSG_FASTOPEN = 0x1, 0x4, 0x20000000


class Refusal:
    """Why not: the code of a row in :data:`outgate.errors.TABLE` and the facts of its sentence."""

    __slots__ = ("code", "facts")

    def __init__(self, code: str, facts: Mapping[str, object]) -> None:
        self.code = code
        self.facts = facts


def name_of(level: int, number: int) -> str:
    """Return an option's name, or its numbers where it has none."""
    option = options().get((level, number))
    return option.name if option is not None else f"option {number} of {LEVELS.get(level, f'level {level}')}"


def _refuse(call: str, name: str, option: Optional[Option]) -> Refusal:
    if option is None:
        why, cure, code = "it is not in the table of options", "", UNKNOWN
    elif option.can_get and call == "setsockopt":
        why, cure, code = "it can only be read", "", UNKNOWN
    else:
        why, cure, code = option.means, option.cure, option.code
    return Refusal(code, {"call": call, "option": name, "why": why, "cure": cure})


def may_set(level: int, number: int, dev: bool = False) -> Optional[Refusal]:
    """Decide on ``setsockopt``: ``None`` if the program may, else why not.

    :param level: any integer that C takes for an ``int``; so is ``number``.
    :param dev: whether the gate runs the development policy.
    """
    key = (level, number)
    if key in SETTABLE or (dev and key in DEVELOPMENT):
        return None
    return _refuse("setsockopt", name_of(level, number), options().get(key))


def may_get(level: int, number: int, dev: bool = False) -> Optional[Refusal]:
    """Decide on ``getsockopt``, as :func:`may_set` does on the other."""
    key = (level, number)
    if key in GETTABLE or (dev and key in DEVELOPMENT):
        return None
    return _refuse("getsockopt", name_of(level, number), options().get(key))


def may_accompany(level: int, number: int) -> Optional[Refusal]:
    """Decide on ancillary data of ``sendmsg`` over TCP or UDP (ip(7), ipv6(7); RFC 3542 section 6)."""
    if (level, number) in ANCILLARY:
        return None
    if level == SOCKET and number in _PASSED:
        why = "files and credentials do not leave over TCP or UDP"
        return Refusal(UNKNOWN, {"call": "sendmsg", "option": _PASSED[number], "why": why, "cure": ""})
    option = options().get((level, number))
    if (level, number) == (IP, 8):  # to ask for it is harmless, to send it is not
        return Refusal(DENIED, {"call": "sendmsg", "option": "IP_PKTINFO", "why": _SOURCE, "cure": ""})
    if option is None or option.can_get:
        why = "it is not among the ancillary data that may be sent"
        return Refusal(UNKNOWN, {"call": "sendmsg", "option": name_of(level, number), "why": why, "cure": ""})
    return _refuse("sendmsg", option.name, option)


def may_send(flags: int, is_udp: bool = False, is_relay: bool = False) -> Optional[Refusal]:
    """Decide on the flags of ``send``, ``sendto`` and ``sendmsg`` (send(2)).

    :param is_udp: TCP takes no notice of MSG_DONTROUTE, UDP goes by it.
    :param is_relay: whether the program holds one end of a pair, which has no urgent data.
    """
    if flags & MSG_FASTOPEN:
        return Refusal("fast-open", {})
    if flags & MSG_DONTROUTE and is_udp:
        return Refusal("flag", {"flag": "MSG_DONTROUTE", "why": _ROUTE})
    if flags & MSG_OOB and is_relay:
        return Refusal("flag", {"flag": "MSG_OOB", "why": "urgent data do not pass a relay"})
    return None


# --- App Engine, to the letter ----------------------------------------------------------------------------------------

#: The eight, and the value that a get always gave (the bytes of the development server's specification).
MOCKED: Dict[Tuple[int, int], bytes] = {
    (SOCKET, 9): b"\0\0\0\0",  # SO_KEEPALIVE
    (SOCKET, 1): b"\x80\0\0\0",  # SO_DEBUG
    (TCP, 1): b"\0\0\0\0",  # TCP_NODELAY
    (SOCKET, 13): b"\0" * 8,  # SO_LINGER
    (SOCKET, 10): b"\0\0\0\0",  # SO_OOBINLINE
    (SOCKET, 7): b"\0\0\x20\0",  # SO_SNDBUF
    (SOCKET, 8): b"\0\0\x20\0",  # SO_RCVBUF
    (SOCKET, 2): b"\x01\0\0\0",  # SO_REUSEADDR
}
_SO_ERROR = (SOCKET, 4)


def app_engine_set(level: int, number: int) -> Optional[Refusal]:
    """Decide on ``setsockopt`` as App Engine did: one of the eight is validated and ignored, all else is refused."""
    if (level, number) in MOCKED:
        return None
    return Refusal(BLOCKED, {"verb": "set", "option": name_of(level, number)})


def app_engine_get(level: int, number: int) -> Optional[Refusal]:
    """Decide on ``getsockopt`` as App Engine did: one of the eight gives :func:`mocked`, ``SO_ERROR`` the true one."""
    if (level, number) in MOCKED or (level, number) == _SO_ERROR:
        return None
    return Refusal(BLOCKED, {"verb": "get", "option": name_of(level, number)})


def mocked(level: int, number: int, size: int = 0) -> Union[int, bytes]:
    """Return the mock value of one of the eight: an ``int``, or at most ``size`` bytes where they were asked for.

    Raises ``KeyError`` for any other. The number of ``SO_LINGER``, which App Engine could not give, is its first four
    bytes, as everywhere else.
    """
    value = MOCKED[level, number]
    return value[:size] if size else int.from_bytes(value[:4], "little")
