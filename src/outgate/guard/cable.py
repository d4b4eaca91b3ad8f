"""Make the one interface of a guarded program's network, whose other end the guard has.

The calling process is in its empty network already, and has its rights there. The sockets stay with it, for the guard
to take; they are closed by the exec.
"""

from __future__ import annotations

import errno
import os
import time
from _socket import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOL_SOCKET,
    if_nametoindex,
)
from _socket import socket as native

from outgate.core import netlink, notices
from outgate.core.guard import rtnetlink

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
#: Bytes of datagrams that wait for the guard, beyond which they are lost as in any network.
_BUFFER = 1 << 20
_DNS = 53
#: Seconds until the cable carries something: the kernel looks once a second at the latest. And between looks at that.
_PATIENCE, _PAUSE = 1.5, 0.002


def plug_in() -> list[native]:
    """Make the interface, and return the guard's two ends of it: IPv4's packets and IPv6's.

    :raises OSError: the kernel has no veth, or no packet sockets; IPv6 may be missing from it.
    """
    kernel = native(AF_NETLINK, SOCK_RAW, 0)
    try:
        _ask(kernel, rtnetlink.make_cable())
        index = if_nametoindex(rtnetlink.NEAR_SIDE)
        ends = (if_nametoindex(rtnetlink.FAR_SIDE), index)
        for each in ends:
            _ask(kernel, rtnetlink.raise_link(each))
        for each in ends:
            _wait_for(kernel, each)
        _ask(kernel, rtnetlink.add_address(rtnetlink.NEAR4, index))
        _ask(kernel, rtnetlink.add_default_route(rtnetlink.GATEWAY4, index))
        try:
            _ask(kernel, rtnetlink.add_address(rtnetlink.NEAR6, index))
            _ask(kernel, rtnetlink.add_default_route(rtnetlink.GATEWAY6, index))
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EACCES):
                raise  # else switched off on this host: datagrams over it say so
    finally:
        kernel.close()
    return [_end(_ETH_P_IP), _end(_ETH_P_IPV6)]


def _end(protocol: int) -> native:
    # Without a protocol it gets nothing until it is bound, and there is nothing to take back then, for which the kernel
    # would wait until no core has it in hand (packet(7), synchronize_net): 10 to 25 ms.
    end = native(AF_PACKET, SOCK_DGRAM, 0)
    end.bind((rtnetlink.FAR_SIDE, protocol))
    end.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
    return end


def name_servers(addresses: list[str]) -> list[native]:
    """Return sockets that get the questions to those of the host's name servers that are addresses of its loopback.

    To the program they are addresses of its own loopback, where nobody else answers.

    :param addresses: what resolv.conf(5) names.
    """
    made = []
    for address in addresses:
        is_6 = ":" in address
        if address != "::1" and (is_6 or not address.startswith("127.")):
            continue
        sock = native(AF_INET6 if is_6 else AF_INET, SOCK_DGRAM)
        try:
            sock.bind((address, _DNS))
        except OSError:  # no such family here
            sock.close()
            continue
        made.append(sock)
    return made


def closes() -> list[native]:
    """Return a socket that is told of each UDP socket of this network that is no more (:mod:`outgate.core.notices`).

    None where the kernel does not tell: then the guard looks.
    """
    try:
        sock = native(AF_NETLINK, SOCK_RAW, netlink.SOCK_DIAG)
    except OSError:
        return []
    try:
        sock.bind((0, 0))  # who has no number of its own there is told nothing
        for group in notices.UDP:
            sock.setsockopt(netlink.SOL_NETLINK, netlink.ADD_MEMBERSHIP, group)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, _BUFFER)
    except OSError:
        sock.close()
        return []
    return [sock]


def _wait_for(kernel: native, index: int) -> None:
    """Wait until an end of the cable carries what it is given, for a while."""
    until = time.monotonic() + _PATIENCE
    while True:
        kernel.sendto(rtnetlink.ask_for_link(index), (0, 0))  # since Linux 6.8 being asked is enough to have it look
        if rtnetlink.carries(kernel.recv(8192)) or time.monotonic() >= until:
            return
        time.sleep(_PAUSE)


def _ask(kernel: native, request: bytes) -> None:
    kernel.sendto(request, (0, 0))
    number = rtnetlink.error_of(kernel.recv(4096))
    if number:
        raise OSError(number, os.strerror(number))
