"""What a process has given up, or taken for itself alone, is so at the gate that takes the place of its own."""

from __future__ import annotations

from pathlib import Path

from gate.test_exclusive import Connected, receive
from gate.test_narrowing import connect, narrow_by
from gate.test_sharing import code_of
from support.commands import serving
from support.raw import RawChannel
from support.upgrades import config


def test_narrowings_and_void_descriptors_are_handed_over(tmp_path: Path) -> None:
    """After a takeover a channel is held to what it gave up before, and a descriptor of before is as void as it was."""
    options = ("--config", config(tmp_path, "relay"))
    with serving(tmp_path, *options) as first, Connected(first) as opener, RawChannel(first.socket) as other:
        texts = [opener.share(), opener.share()]
        opener.peer.sendall(b"unread")
        assert opener.sock.recv(1) == b"u"
        assert "error" not in other.ask("redeem", descriptor=texts[0], exclusive=True)
        with other.fds.pop() as sock:
            assert other.ask("have", descriptor=texts[0]) == {}
            narrow_by(other, deny=["127.0.0.1:1-1024"])
            with serving(tmp_path, *options, "--takeover") as second:
                assert first.process.wait(20) == 0
                sock.settimeout(20)
                assert receive(sock, 5) == b"nread"
                sock.sendall(b"goes on")
                assert receive(opener.peer, 7) == b"goes on"
                with RawChannel(second.socket) as third:
                    for channel in (opener.channel, other, third):
                        for text in texts:
                            assert code_of(channel.ask("redeem", descriptor=text)) == "unknown-descriptor"
                    assert code_of(opener.channel.ask("harvest", sock=opener.id)) == "unknown-descriptor"
                    assert connect(other, ("127.0.0.1", 7)) == "narrowed"
                    assert connect(third, ("127.0.0.1", 7)) == "narrowed"  # the same process, by the kernel's word
