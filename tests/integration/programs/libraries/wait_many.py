"""Fetch over many sockets that do not block, with select, poll, epoll and selectors: python wait_many.py HOST."""

import errno
import hashlib
import select
import selectors
import socket
import sys

COUNT = 4
request = f"GET /large HTTP/1.0\r\nHost: {sys.argv[1]}\r\n\r\n".encode()
family, kind, proto, _, address = socket.getaddrinfo(sys.argv[1], 80, type=socket.SOCK_STREAM)[0]


class BySelect:
    def __init__(self):
        self.wants = {}

    def want(self, sock, write):
        self.wants[sock] = write

    def drop(self, sock):
        del self.wants[sock]

    def ready(self):
        writers = [sock for sock, write in self.wants.items() if write]
        readers = [sock for sock, write in self.wants.items() if not write]
        return [sock for some in select.select(readers, writers, [], 30)[:2] for sock in some]


class ByPoll:
    make, read, write, patience = "poll", "POLLIN", "POLLOUT", 30_000

    def __init__(self):
        self.poll = getattr(select, self.make)()
        self.socks = {}

    def want(self, sock, write):
        mask = getattr(select, self.write if write else self.read)
        if sock.fileno() in self.socks:
            self.poll.modify(sock, mask)
        else:
            self.poll.register(sock, mask)
        self.socks[sock.fileno()] = sock

    def drop(self, sock):
        self.poll.unregister(sock)
        del self.socks[sock.fileno()]

    def ready(self):
        return [self.socks[fd] for fd, _ in self.poll.poll(self.patience)]


class ByEpoll(ByPoll):
    make, read, write, patience = "epoll", "EPOLLIN", "EPOLLOUT", 30


class BySelectors:
    def __init__(self):
        self.selector = selectors.DefaultSelector()

    def want(self, sock, write):
        event = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        known = sock in self.selector.get_map()
        (self.selector.modify if known else self.selector.register)(sock, event)

    def drop(self, sock):
        self.selector.unregister(sock)

    def ready(self):
        return [key.fileobj for key, _ in self.selector.select(30)]


def connected(waiter):
    sock = socket.socket(family, kind, proto)
    sock.setblocking(False)
    number = sock.connect_ex(address)
    assert number in (0, errno.EINPROGRESS), errno.errorcode[number]
    waiter.want(sock, True)
    return sock


for make in (BySelect, ByPoll, ByEpoll, BySelectors):
    waiter = make()
    left = {connected(waiter): request for _ in range(COUNT)}
    got = {sock: bytearray() for sock in left}
    while got.keys() & left.keys():
        events = waiter.ready()
        assert events, "nothing happens"
        for sock in events:
            if left[sock]:
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
                left[sock] = left[sock][sock.send(left[sock]) :]
                waiter.want(sock, bool(left[sock]))
                continue
            part = sock.recv(65536)
            got[sock] += part
            if not part:
                waiter.drop(sock)
                del left[sock]
                sock.close()
    bodies = {hashlib.sha256(data.partition(b"\r\n\r\n")[2]).hexdigest()[:16] for data in got.values()}
    print(make.__name__, len(got), *bodies)
