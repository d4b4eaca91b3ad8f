"""What client and gate say to each other: operations, keys and limits of the channel.

The channel is a ``SOCK_SEQPACKET`` Unix socket. One packet is one JSON object, with fds in its ancillary data where
the operation says so. This leaf is loaded into other people's interpreters: standard library only, Python 3.9+, and no
import at all, so that it costs nothing. The gate validates what arrives with the types of ``gate/wire.py``, which a
test holds against the names below.

A **request** is ``{"op": …, …}``. The first one on a channel carries ``"hello"`` as well::

    {"op": "new", "hello": {"v": [1, 1], "token": "…", "pid": 7, "python": "3.11.7", "program": "agent.py"}, …}

The pid counts where somebody else speaks for the process, its guard, and is in no network of its own. Beside these a
hello has ``identity`` where a token file says which app the program is, and ``narrow``, the list of what
the process and those that started it have narrowed themselves to, each as the operation has it; and ``labels``, as in
``job=17,team=web``, under which its bytes are booked.

A **reply** is ``{}`` with the fields of its operation, ``"hello"`` if the request had one, and on a refusal
``{"error": {"code": …, "facts": {…}}}`` (a row of :data:`outgate.errors.TABLE`) or ``{"errno": 111}`` where the
network or the kernel, not the gate, said no.

===========  ===============================================  ====================================================
op           request                                          reply
===========  ===============================================  ====================================================
hello        (anchor only, one-way) role="anchor"             none
new          family (4|6), count, kind ("tcp"|"udp")          ids [int], cookies [int], and ``count`` fds
connect      sock (id), host, port, flow, scope               lease, addr [ip, port, flow, scope], connected (bool)
resolve      call, and its arguments                          answer
fetch                                                         one fd: the line (:mod:`.fetchline`)
harvest      sock, claim (bool)                               own, peer: [ip, port, flow, scope]; or errno
reach        sock, host, port, flow, scope, connect           addr [ip, port, flow, scope]
name         sock                                             own, peer: [ip, port, flow, scope], peer perhaps null
bind         sock, host                                       {}
option       sock, level, number, value | size                value (int, or hex digits of bytes) of a get
close        sock, shared (one-way on the anchor, else waits) {} where it waits
adopt        cookie                                           sock (id), kind, family (4|6)
share        sock                                             descriptor (text); or hand (true): send the socket
hand         sock, and the program's end as an fd             descriptor (text)
offer        cookies [int]: held, of a gate that died         wanted [int]
give         as many fds as were wanted                       taken [int]
redeem       descriptor (text), exclusive                     sock, cookie, kind, family, state, addr, and one fd
have         descriptor, came (bool) (one-way on the anchor)  {} elsewhere
touch        socks [id]; wait (1 begins, -1 ends); one-way    {} where not on the anchor
list         after (id), app, holders (bool)                  sockets, next (id or null)
kill         lease (its name)                                 ok, error
narrow       allow [str] or null, deny [str], names as allow  {}; or invalid (what is wrong with a rule)
why          host, port, transport, app                       decision
last         pid, 0 for any                                   what was last refused to it
refused      call, transport, host, port (a guard's, one-way) none
stat                                                          stats
quota        app, after (app)                                 apps, next (app or null)
fleet        after (gate), or shares, after (app)             gates or shares, next
policy       app, after (rows seen)                           what is in force for it: rules, next (rows or null), …
drain        on (bool)                                        draining, open
takeover     version                                          fds (int) and that many fds, in several packets
reload                                                        policy (number), warnings [str]
===========  ===============================================  ====================================================
"""

#: The newest and oldest protocol version this tree speaks. Gate N serves clients N-2 and the reverse.
VERSION = 1
OLDEST = 1


def agreed(oldest: int, newest: int) -> int:
    """Return the newest version that this side and one that speaks from ``oldest`` to ``newest`` have in common.

    Both sides count on it: a gate answers in it, and asks nothing of a client that came later. 0 is none.
    """
    version = min(newest, VERSION)
    return version if version >= oldest and version >= OLDEST else 0


#: Bytes of one packet. A getaddrinfo answer of 60 records with names is below 10 KiB.
MAX_PACKET = 65536
#: Characters of a descriptor.
MAX_DESCRIPTOR = 160
#: Born sockets in one reply, and so fds in one packet.
MAX_BORN = 8
#: A client says up to so many times within the idle limit that a socket is in use, so that a word that comes late, or
#: is lost with its channel, costs nothing.
TOUCHES = 8
#: Sockets that one packet says are in use.
MAX_TOUCHED = 1000
#: Characters of a host name (RFC 1035 allows 253; a longer one is refused by every resolver).
MAX_HOST = 1025
#: Born sockets the client keeps ready per family; more would show in programs that count their fds to find leaks.
POOL = 6

#: Characters of a rule, rules of one narrowing, narrowings of one process, and characters of all of them together:
#: they travel with every hello, and in the environment.
MAX_RULE = 320
MAX_NARROW_RULES = 256
MAX_NARROWINGS = 16
MAX_NARROW_TEXT = 16384
#: Characters of the labels of a program.
MAX_LABELS = 1024
#: Characters of the token that says which app a program is; fewer could be guessed (32 of base64 are 192 bits).
MIN_IDENTITY, MAX_IDENTITY = 32, 256

#: SO_NO_CHECK, set on the program's end of a relayed TCP socket, where it means nothing to the kernel, and on hardly
#: any other Unix socket: who comes by the bare fd, over exec or from another process, asks the gate about it.
RELAY_MARK = 11

#: Sockets that one packet offers to a gate that has come after a dead one, and so fds in the next: half of SCM_MAX_FD.
MAX_OFFERED = 100

#: The profile in the answer to HELLO that changes what programs see.
APP_ENGINE = "app-engine"

HELLO = "hello"
NEW = "new"
CONNECT = "connect"
FETCH = "fetch"
HARVEST = "harvest"
REACH = "reach"
NAME = "name"
BIND = "bind"
OPTION = "option"
RESOLVE = "resolve"
CLOSE = "close"
ADOPT = "adopt"
SHARE = "share"
HAND = "hand"
OFFER = "offer"
GIVE = "give"
REDEEM = "redeem"
HAVE = "have"
TOUCH = "touch"
LIST = "list"
KILL = "kill"
NARROW = "narrow"
WHY = "why"
LAST = "last"
REFUSED = "refused"
STAT = "stat"
QUOTA = "quota"
FLEET = "fleet"
POLICY = "policy"
RELOAD = "reload"
DRAIN = "drain"
TAKE_OVER = "takeover"

#: Seconds a client waits for the answer. Look-ups wait for name servers, which resolv.conf lets take 30 s and more.
LIMITS = {
    HELLO: 10.0,
    NEW: 10.0,
    CONNECT: 60.0,
    FETCH: 10.0,
    HARVEST: 10.0,
    REACH: 60.0,
    NAME: 10.0,
    BIND: 10.0,
    OPTION: 10.0,
    RESOLVE: 60.0,
    CLOSE: 2.0,
    ADOPT: 10.0,
    SHARE: 10.0,
    HAND: 10.0,
    OFFER: 2.0,
    GIVE: 2.0,
    REDEEM: 10.0,
    HAVE: 10.0,
    TOUCH: 10.0,
    LIST: 10.0,
    KILL: 10.0,
    NARROW: 10.0,
    WHY: 60.0,
    LAST: 10.0,
    REFUSED: 10.0,
    STAT: 10.0,
    QUOTA: 10.0,
    FLEET: 10.0,
    POLICY: 10.0,
    RELOAD: 30.0,
    DRAIN: 10.0,
    TAKE_OVER: 30.0,
}

#: Seconds a channel may stay open without its first packet.
HELLO_LIMIT = 10.0
