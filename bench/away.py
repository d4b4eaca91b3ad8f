"""Carry packets to a far end and back, each after a while: a network with a delay, in a namespace of our own.

A TUN device leads to an address that nobody has. What goes out there comes back in with its addresses exchanged (which
leaves the checksums as they are), so whoever listens at this end of the device is also found at the other, one delay
away. It wants no queueing discipline, which many kernels come without.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque

#: This end of the device, and the far one: public, so that the policy asks for nothing. Nothing leaves the namespace.
HERE, AWAY = "93.184.215.1", "93.184.215.2"
_NAME = "away0"
#: ioctl(2) TUNSETIFF; flags: packets of IP, without a header before them (linux/if_tun.h).
_TUNSETIFF, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000
_LARGEST = 65536


def exchanged(packet: bytes) -> bytes:
    """Return an IPv4 packet with its source and destination exchanged (RFC 791: at 12 and 16)."""
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


def begin(seconds: float) -> None:
    """Make the device and carry its packets, each after so long, until this process ends.

    :raises OSError: there is no ``/dev/net/tun`` for us, or no right to make a device.
    """
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", _NAME.encode(), _TUN | _NO_HEADER))
    for argv in (["addr", "add", f"{HERE}/24", "dev", _NAME], ["link", "set", _NAME, "up"]):
        subprocess.run(["ip", *argv], check=True)
    threading.Thread(target=_carry, args=(fd, seconds), daemon=True).start()


def _carry(fd: int, seconds: float) -> None:
    waiting: deque[tuple[float, bytes]] = deque()
    while True:
        left = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        if select.select([fd], [], [], left)[0]:
            packet = os.read(fd, _LARGEST)
            if packet[0] >> 4 == 4:
                waiting.append((time.monotonic() + seconds, exchanged(packet)))
        while waiting and waiting[0][0] <= time.monotonic():
            os.write(fd, waiting.popleft()[1])
