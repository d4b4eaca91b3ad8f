"""Move megabytes over SSH both ways with paramiko: python paramiko_transfer.py HOST KEY KNOWN_HOSTS."""

import hashlib
import sys
import threading

import paramiko

host, key, known = sys.argv[1:]
data = hashlib.shake_128(b"paramiko").digest(3_000_000)
with paramiko.SSHClient() as client:
    client.load_host_keys(known)  # a host that is not in it is rejected
    client.connect(host, username="root", key_filename=key, look_for_keys=False, allow_agent=False, timeout=30)
    into, out, _ = client.exec_command("sha256sum", timeout=30)
    into.write(data)
    into.channel.shutdown_write()
    print(out.read().split()[0].decode() == hashlib.sha256(data).hexdigest())
    into, out, _ = client.exec_command("cat; exit 7", timeout=30)

    def feed():
        into.write(data)
        into.channel.shutdown_write()

    feeder = threading.Thread(target=feed)
    feeder.start()
    print(out.read() == data, out.channel.recv_exit_status())
    feeder.join()
    print(client.get_transport().getpeername()[1], client.get_transport().remote_version.startswith("SSH-2.0-OpenSSH"))
