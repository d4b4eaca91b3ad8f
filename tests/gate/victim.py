"""Be a client in a process of its own: take a step with the gate, say so, and wait to be killed.

Run as ``python -IS victim.py SOCKET UID STEP HOST PORT TOKEN ID``. Says one JSON object on standard output, then waits
for the end of standard input; with UID (or UID:GID) other than its own it becomes that user first, which only root can.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from support.raw import RawChannel


def say(**facts: Any) -> None:
    """Tell the test."""
    print(json.dumps(facts), flush=True)


def step(name: str, path: str, address: tuple[str, int]) -> Any:
    """Take the step, and return what must stay referenced."""
    channel = RawChannel(path)
    kept: list[Any] = [channel]
    if name == "connected":  # to the gate's socket, nothing said
        return kept
    if name == "anchored":
        channel.hello["role"] = "anchor"
        channel.post("hello")
        return kept
    if name == "half a hello":
        channel.send(b'{"op":"new","hello":{"v":[1,')
        return kept
    channel.ask("stat")
    if name == "greeted":
        return kept
    if name == "asked for sockets":  # and did not read the answer
        channel.post("new", family=4, count=8)
        return kept
    born = channel.new(8)
    kept.append(born)
    if name == "born":
        return kept
    id, sock = born[0]
    if name == "asked to connect":  # and did not read the answer
        channel.post("connect", sock=id, host=address[0], port=address[1])
        return kept
    reply = channel.connect(id, address)
    assert "lease" in reply or "error" in reply, reply
    if name == "dialled":  # and did not harvest
        return kept
    if sock.family == socket.AF_INET:  # a relayed one is one end of a pair
        sock.connect(address)
    sock.sendall(bytes(1_234))
    if name == "closed, not said":
        sock.close()
    if name == "shared":
        kept.append(channel.share(id, sock)["descriptor"])
    if name == "closing":
        sock.close()
        channel.post("close", sock=id, shared=False)
    return kept


def flood(path: str) -> list[Any]:
    """Ask for sockets on one channel after another, each a process of its own, and read no answer."""
    kept = []
    for _ in range(80):
        channel = RawChannel(path)
        channel.post("new", family=4, count=8)
        kept.append(channel)
    return kept


def main(argv: list[str]) -> None:
    """Do as the arguments say."""
    path, uid, name, host, port, token, id = argv
    user, group = (int(part) for part in (uid if ":" in uid else f"{uid}:{uid}").split(":"))
    if user != os.getuid():
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    if name == "steal":  # a socket of another process, by its token and id
        kept: Any = RawChannel(path, token=token)
        say(reply=kept.connect(int(id), (host, int(port))), closed=kept.ask("close", sock=int(id), shared=False))
    elif name == "redeem":  # what TOKEN describes, and say a word over it
        channel = RawChannel(path)
        reply = channel.ask("redeem", descriptor=token)
        kept = [channel, *channel.fds]
        if channel.fds:
            channel.ask("have", descriptor=token)
            channel.fds[0].sendall(b"redeemed")
        say(reply=reply)
    else:
        kept = flood(path) if name == "flood" else step(name, path, (host, int(port)))
        say(step=name, text=kept[-1] if name == "shared" else "")
    sys.stdin.read()
    del kept


if __name__ == "__main__":
    main(sys.argv[1:])
