"""Move files over SFTP with paramiko: python paramiko_sftp.py HOST KEY KNOWN_HOSTS FOLDER."""

import hashlib
import io
import os
import sys

import paramiko

host, key, known, folder = sys.argv[1:]
data = hashlib.shake_128(b"sftp").digest(2_000_000)
name = f"{folder}/sftp-{os.getpid()}"
with paramiko.SSHClient() as client:
    client.load_host_keys(known)  # a host that is not in it is rejected
    client.connect(host, username="root", key_filename=key, look_for_keys=False, allow_agent=False, timeout=30)
    with client.open_sftp() as files:
        print(files.putfo(io.BytesIO(data), name).st_size)
        back = io.BytesIO()
        print(files.getfo(name, back), back.getvalue() == data)
        files.rename(name, name + ".moved")
        print(os.path.basename(name) + ".moved" in files.listdir(folder))
        files.remove(name + ".moved")
