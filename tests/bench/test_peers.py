"""What else is run beside outgate."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from bench import peers


def test_what_is_shown_of_a_configuration_is_the_same_each_time():
    """Ports and the scratch folder, which differ from run to run, are left out; of many sections one is shown."""
    scratch = Path("/tmp/outgate-bench-x")
    assert peers.anonymous(peers._danted(34567, scratch, ()), scratch) == peers.anonymous(
        peers._danted(45678, scratch, ()), scratch
    )
    shown = peers.anonymous(peers._haproxy(40000, scratch, (50001, 50002, 50003)), scratch)
    assert shown.count("listen ") == 1
    assert "5000" not in shown
    assert "4000" not in shown
    assert "timeout connect 5s" in shown


def test_every_destination_of_a_fixed_proxy_has_a_port():
    """haproxy gets a section for each of the target's ports, on ports in a row."""
    text = peers._haproxy(40000, Path("/tmp"), (50001, 50002))
    assert "listen to-50001\n    bind 127.0.0.1:40000\n    server target 127.0.0.1:50001\n" in text
    assert "listen to-50002\n    bind 127.0.0.1:40001\n    server target 127.0.0.1:50002\n" in text


def test_free_ports_are_free():
    """All ports of the row can be bound."""
    first = peers.free_ports(4)
    socks = [socket.socket() for _ in range(4)]
    for at, sock in enumerate(socks):
        with sock:
            sock.bind(("127.0.0.1", first + at))


def test_the_processor_time_of_a_session_has_its_children():
    """What a child has used counts for the session that it is in."""
    burn = "import time\nwhile time.process_time() < 0.05: pass\n"
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint(flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert peers.session_cpu(process.pid) >= 0.05
        process.communicate(b"\n")
    assert peers.session_cpu(process.pid) == 0
    assert os.getsid(0) != process.pid
