"""What ends is freed at once: the collector, which holds the loop while it looks, has nothing to find."""

from __future__ import annotations

import gc

from outgate.testing.running import ThreadGate
from support import peers
from support.raw import RawChannel

OPENS = 20


def opened_and_closed(gate: ThreadGate, port: int) -> None:
    """Have a process open connections, and some that are refused, and close them; end with the process gone."""
    with RawChannel(gate.socket) as channel:
        for number in range(OPENS):
            ((id, sock),) = channel.new()
            if number % 2:
                assert "lease" in channel.ask("connect", sock=id, host="127.0.0.1", port=port)
            else:
                assert "error" in channel.ask("connect", sock=id, host="169.254.169.254", port=80)
            sock.close()
            channel.ask("close", sock=id, shared=False)
    gate.wait_for_counts(held=0, open=0)


def test_a_connection_leaves_nothing_to_the_collector() -> None:
    """No circle of ours is left of a connection, a refusal, a channel or a process."""
    with peers.echo() as peer, ThreadGate() as gate:
        port = peer.address[1]
        opened_and_closed(gate, port)
        gc.collect()
        gc.disable()
        try:
            opened_and_closed(gate, port)
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            left = [repr(each) for each in gc.garbage if type(each).__module__.startswith("outgate.gate")]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
        assert left == []
