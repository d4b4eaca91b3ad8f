"""Ask a time server how far off this host's clock is (NTP, RFC 5905: UDP port 123). Nothing in here knows of outgate.

outgate run -- python clock.py pool.ntp.org
outgate run --allow udp://public:123 -- python clock.py pool.ntp.org                  # time, and nothing else
"""

import socket
import struct
import sys
import time

#: Seconds from 1900, from when NTP counts, to 1970.
EPOCH = 2_208_988_800
#: Version 4, mode "client"; the rest of a question is zero but for the time it is sent.
QUESTION = 0x23


def stamp(seconds, fraction):
    """Return seconds since 1970 of a timestamp."""
    return seconds - EPOCH + fraction / 2**32


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.connect((sys.argv[1], 123))
    sent = time.time()
    packet = struct.pack(">B39xII", QUESTION, int(sent) + EPOCH, int(sent % 1 * 2**32))
    sock.send(packet)
    while True:
        answer = sock.recv(512)
        received = time.time()
        if len(answer) >= 48 and answer[24:32] == packet[40:48]:  # it answers this question, and no forged one
            break

stratum = answer[1]
arrived, answered = (stamp(*struct.unpack_from(">II", answer, at)) for at in (32, 40))
offset = ((arrived - sent) + (answered - received)) / 2
print(f"{sys.argv[1]}, stratum {stratum}: this clock is {abs(offset):.3f} s {'behind' if offset > 0 else 'ahead'}")
