"""Fetch by requests on gevent, patched before or after the imports: python use_gevent.py WHEN HOST TCP UDP [DENIED].

WHEN is ``before``, ``after`` (with what was imported before still in use) or ``unpatched``; its resolver is set by the
environment (GEVENT_RESOLVER).
"""

import sys
import warnings

WHEN, HOST, TCP, UDP, *DENIED = sys.argv[1:]

if WHEN == "before":
    from gevent import monkey

    monkey.patch_all()

import socket  # noqa: E402

import requests  # noqa: E402

if WHEN == "after":
    from gevent import monkey

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ssl was imported before, which is what this is about
        monkey.patch_all()

import gevent  # noqa: E402
import gevent.pool  # noqa: E402
import gevent.socket  # noqa: E402
import telling  # noqa: E402

DATA = bytes(range(256)) * 4000


def stream(module):
    """Send and read at once, in two greenlets."""
    with module.create_connection((HOST, int(TCP)), timeout=20) as sock:

        def feed():
            sock.sendall(DATA)
            sock.shutdown(socket.SHUT_WR)

        feeder = gevent.spawn(feed)
        received = bytearray()
        while chunk := sock.recv(65536):
            received += chunk
        feeder.get()
    return received == DATA


def datagrams(module):
    address = module.getaddrinfo(HOST, int(UDP), socket.AF_INET, socket.SOCK_DGRAM)[0][4]
    with module.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.sendto(b"hello", address)
        return sock.recvfrom(100) == (b"hello", address)


print(stream(gevent.socket), datagrams(gevent.socket))
if WHEN != "unpatched":
    print(stream(socket), datagrams(socket), socket.socket.__module__.startswith("gevent"))
    urls = [f"http://{HOST}/hello", f"https://{HOST}/hello"] * 10
    if WHEN == "after":
        urls = urls[::2]  # the ssl module that urllib3 has taken is not gevent's
    got = gevent.pool.Pool(10).map(lambda url: requests.get(url, timeout=20).text, urls)
    print(set(got))
for host in DENIED:
    try:
        gevent.socket.create_connection((host, 80), timeout=20)
    except OSError as error:
        telling.tell_refusal(error)
