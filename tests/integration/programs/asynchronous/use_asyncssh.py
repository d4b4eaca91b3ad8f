"""Run commands and move files over SSH: python use_asyncssh.py LOOP HOST KEY KNOWN_HOSTS FOLDER [DENIED]."""

import hashlib
import sys
from pathlib import Path

import asyncssh
import telling

LOOP, HOST, KEY, KNOWN, FOLDER, *DENIED = sys.argv[1:]
DATA = hashlib.shake_128(b"asyncssh").digest(2_000_000)


async def main():
    options = {"username": "root", "client_keys": [KEY], "known_hosts": KNOWN, "config": None}
    async with asyncssh.connect(HOST, **options) as connection:
        done = await connection.run("cat; exit 7", input=DATA, encoding=None)
        print(done.exit_status, done.stdout == DATA)
        path = Path(FOLDER, f"asyncssh-{LOOP}")
        async with connection.start_sftp_client() as sftp:
            async with sftp.open(str(path), "wb") as file:
                await file.write(DATA)
            async with sftp.open(str(path), "rb") as file:
                print(await file.read() == DATA)
            await sftp.remove(str(path))
    for host in DENIED:
        try:
            await asyncssh.connect(host, 80, **options)
        except OSError as error:
            telling.tell_refusal(error)


telling.run(main())
