"""Use Twisted's endpoints, web client, TLS and datagrams: python use_twisted.py REACTOR HOST HOST4 TCP UDP [DENIED].

REACTOR is ``epoll`` or ``asyncio``.
"""

import sys

import telling
from twisted.internet import asyncioreactor, epollreactor, task

(epollreactor if sys.argv[1] == "epoll" else asyncioreactor).install()

from twisted.internet import defer, endpoints, protocol, reactor, ssl  # noqa: E402
from twisted.web.client import Agent, HTTPConnectionPool, readBody  # noqa: E402

_, HOST, HOST4, TCP, UDP, *DENIED = sys.argv[1:]
DATA = bytes(range(256)) * 4000


class Back(protocol.Protocol):
    """Send everything and half-close, and collect until the end of file."""

    def __init__(self):
        self.received, self.done = bytearray(), defer.Deferred()

    def connectionMade(self):
        self.transport.write(DATA)
        self.transport.loseWriteConnection()

    def dataReceived(self, data):
        self.received += data

    def connectionLost(self, reason):
        self.done.callback(bytes(self.received))


class Datagrams(protocol.DatagramProtocol):
    """Wait for one datagram."""

    def __init__(self):
        self.done = defer.Deferred()

    def datagramReceived(self, data, address):
        self.done.callback((data, address))


async def main():
    back = await endpoints.HostnameEndpoint(reactor, HOST, int(TCP)).connect(protocol.Factory.forProtocol(Back))
    print("stream", await back.done == DATA)
    address = await reactor.resolve(HOST4)
    datagrams = Datagrams()
    port = reactor.listenUDP(0, datagrams)
    port.write(b"hello", (address, int(UDP)))
    print("datagrams", await datagrams.done == (b"hello", (address, int(UDP))))
    await port.stopListening()
    pool = HTTPConnectionPool(reactor, persistent=False)
    agent = Agent(reactor, ssl_policy(), pool=pool)
    response = await agent.request(b"GET", f"https://{HOST}/hello".encode())
    print(response.code, (await readBody(response)).decode().strip())
    both = await defer.gatherResults(defer.ensureDeferred(body(agent, f"http://{HOST}/hello")) for _ in range(20))
    print(len(both), set(both))
    for host in DENIED:
        try:
            await endpoints.HostnameEndpoint(reactor, host, 80).connect(protocol.Factory.forProtocol(Back))
        except Exception as error:
            telling.tell_refusal(error)


async def body(agent, url):
    return await readBody(await agent.request(b"GET", url.encode()))


def ssl_policy():
    """Trust the authority that SSL_CERT_FILE names, as the platform's would be trusted."""
    from twisted.web.client import BrowserLikePolicyForHTTPS

    return BrowserLikePolicyForHTTPS(ssl.platformTrust())


task.react(lambda _: defer.ensureDeferred(main()))
