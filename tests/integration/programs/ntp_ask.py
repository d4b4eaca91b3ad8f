"""Ask for the time: python ntp_ask.py HOST; prints stratum, version, and whether the clock is the same."""

import sys

import ntplib

answer = ntplib.NTPClient().request(sys.argv[1], version=4, timeout=5)
print(answer.stratum, answer.version, abs(answer.offset) < 1)
